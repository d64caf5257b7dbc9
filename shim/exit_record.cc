#include "shim/exit_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxRecordBytes = 64 * 1024;
constexpr int kVersion = 1;
constexpr char kTimeFormat[] = "%Y-%m-%d%ET%H:%M:%E9SZ";

std::string RecordPath(const std::string& bundle) { return absl::StrCat(bundle, "/exit.json"); }
std::string DeletedPath(const std::string& bundle) { return absl::StrCat(bundle, "/deleted"); }

std::string FormatInstant(absl::Time time) {
  if (time == absl::InfinitePast()) return "";
  return absl::FormatTime(kTimeFormat, time, absl::UTCTimeZone());
}

bool ParseInstant(const std::string& text, absl::Time* time) {
  if (text.empty()) {
    *time = absl::InfinitePast();
    return true;
  }
  std::string error;
  return absl::ParseTime(absl::RFC3339_full, text, time, &error);
}

}  // namespace

std::string EncodeExitRecord(const ExitRecord& record) {
  const Json json = {
      {"version", kVersion},
      {"namespace", record.name_space},
      {"id", record.id},
      {"pid", record.pid},
      {"exit_status", record.exit_status},
      {"started_at", FormatInstant(record.started_at)},
      {"exited_at", FormatInstant(record.exited_at)},
      {"oom_killed", record.oom_killed},
      {"reason", record.reason},
  };
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<ExitRecord> DecodeExitRecord(absl::string_view text) {
  const absl::Status damaged = absl::DataLossError("exit record: damaged or of another version");
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return damaged;
  try {
    ExitRecord record;
    if (json.at("version").get<int>() != kVersion) return damaged;
    record.name_space = json.at("namespace").get<std::string>();
    record.id = json.at("id").get<std::string>();
    record.pid = json.at("pid").get<pid_t>();
    record.exit_status = json.at("exit_status").get<uint32_t>();
    record.oom_killed = json.at("oom_killed").get<bool>();
    record.reason = json.at("reason").get<std::string>();
    if (!ParseInstant(json.at("started_at").get<std::string>(), &record.started_at) ||
        !ParseInstant(json.at("exited_at").get<std::string>(), &record.exited_at)) {
      return damaged;
    }
    return record;
  } catch (const Json::exception&) {
    return damaged;
  }
}

absl::Status WriteExitRecord(const std::string& bundle, const ExitRecord& record) {
  const std::string path = RecordPath(bundle);
  const std::string aside = absl::StrCat(path, ".new");
  // Not WriteFileAtomic: no sync, see the header.
  GANTRY_RETURN_IF_ERROR(WriteFile(aside, EncodeExitRecord(record), 0600));
  if (rename(aside.c_str(), path.c_str()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("exit record: rename to ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<ExitRecord> ReadExitRecord(const std::string& bundle) {
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(RecordPath(bundle), kMaxRecordBytes));
  return DecodeExitRecord(text);
}

absl::Status MarkDeleted(const std::string& bundle) {
  return WriteFile(DeletedPath(bundle), "", 0600);
}

bool IsDeleted(const std::string& bundle) { return access(DeletedPath(bundle).c_str(), F_OK) == 0; }

}  // namespace gantry::shim
