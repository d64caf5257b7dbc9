#include "supervisor/core/container_ids.h"

#include <errno.h>
#include <unistd.h>

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/errno_status.h"
#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/pods.pb.h"
#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {
namespace {

using Ranges = google::protobuf::RepeatedPtrField<v1::IdRange>;

std::vector<IdRange> Read(const Ranges& in) {
  std::vector<IdRange> out;
  for (const v1::IdRange& one : in)
    out.push_back({one.container_id(), one.host_id(), one.length()});
  return out;
}

void Write(const std::vector<IdRange>& in, Ranges& out) {
  out.Clear();
  for (const IdRange& one : in) {
    v1::IdRange& range = *out.Add();
    range.set_container_id(one.container_id);
    range.set_host_id(one.host_id);
    range.set_length(one.length);
  }
}

}  // namespace

absl::StatusOr<UsernsMode> ParseUsernsMode(absl::string_view text) {
  UsernsMode mode;
  const absl::Status bad = FieldError(
      "userns_mode",
      absl::StrCat("\"", absl::Utf8SafeCEscape(text.substr(0, 128)),
                   "\" is not valid; use host, remap, remap:USER[:GROUP], auto or auto:size=N"));
  if (text.empty()) return mode;
  if (text == "host") {
    mode.kind = UsernsMode::Kind::kHost;
    return mode;
  }
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "remap")) {
    mode.kind = UsernsMode::Kind::kRemap;
    if (rest.empty()) return mode;
    if (!absl::ConsumePrefix(&rest, ":") || rest.empty()) return bad;
    mode.user = std::string(rest);
    return mode;
  }
  if (absl::ConsumePrefix(&rest, "auto")) {
    mode.kind = UsernsMode::Kind::kAuto;
    if (rest.empty()) return mode;
    if (!absl::ConsumePrefix(&rest, ":size=") || !absl::SimpleAtoi(rest, &mode.size) ||
        mode.size == 0) {
      return bad;
    }
    return mode;
  }
  return bad;
}

IdMaps IdsOf(const v1::ContainerConfig& config) {
  return {Read(config.uids()), Read(config.gids())};
}

IdMaps IdsOf(const v1::PodConfig& config) { return {Read(config.uids()), Read(config.gids())}; }

void SetIds(const IdMaps& ids, v1::ContainerConfig& config) {
  Write(ids.uids, *config.mutable_uids());
  Write(ids.gids, *config.mutable_gids());
}

absl::Status GiveNameFilesTo(const IdMaps& ids, const std::string& directory) {
  if (ids.empty()) return absl::OkStatus();
  for (const char* name : {"/hostname", "/hosts", "/resolv.conf"}) {
    const std::string path = directory + name;
    if (lchown(path.c_str(), HostIdOf(ids.uids, 0).value_or(0),
               HostIdOf(ids.gids, 0).value_or(0)) != 0)
      return ErrnoToStatus(errno, absl::StrCat("chown ", path));
  }
  return absl::OkStatus();
}

absl::Status CheckWithIds(const v1::ContainerConfig& config) {
  if (config.privileged()) {
    return FieldError("privileged",
                      "privileged mode is incompatible with user namespaces. You must run the "
                      "container in the host namespace when running privileged mode");
  }
  if (config.network_mode() == "host") {
    return FieldError("network_mode",
                      "cannot share the host's network namespace when user namespaces are enabled");
  }
  if (config.pid_mode() == "host") {
    return FieldError("pid_mode",
                      "cannot share the host PID namespace when user namespaces are enabled");
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
