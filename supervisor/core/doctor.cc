#include "supervisor/core/doctor.h"

#include <dirent.h>
#include <sys/stat.h>

#include <ctime>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/host/observer.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/cgroup_leftovers.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

using host::Leftover;

// Younger than this it may be in the making.
constexpr int64_t kMakingSeconds = 60;

// Names in a directory, without "." and ".."; none when it cannot be read.
std::vector<std::string> Names(const std::string& directory) {
  std::vector<std::string> names;
  DIR* const handle = opendir(directory.c_str());
  if (handle == nullptr) return names;
  absl::Cleanup close = [handle] { closedir(handle); };
  while (const dirent* const entry = readdir(handle)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

bool IsSettled(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && info.st_ctim.tv_sec + kMakingSeconds < time(nullptr);
}

// Entries <directory>/<namespace>/<id> of ids that are not in `known` ("NAMESPACE/ID").
void FindStrays(const std::string& directory, const std::set<std::string>& known,
                Leftover::Kind kind, host::Observation& seen) {
  for (const std::string& ns : Names(directory)) {
    for (const std::string& name : Names(absl::StrCat(directory, "/", ns))) {
      // "<id>.ports" lies beside "<id>".
      const std::string id = name.substr(0, name.find('.'));
      const std::string path = absl::StrCat(directory, "/", ns, "/", name);
      if (!known.contains(absl::StrCat(ns, "/", id)) && IsSettled(path))
        seen.leftovers.push_back({kind, path});
    }
  }
}

// Mounts of a moment that outlived it.
void FindMounts(const std::string& state, host::Observation& seen) {
  const absl::StatusOr<std::string> mounts = ReadFile("/proc/self/mountinfo", 16 << 20);
  if (!mounts.ok()) return;
  for (absl::string_view line : absl::StrSplit(*mounts, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() < 5 || !absl::StartsWith(words[4], absl::StrCat(state, "/mounts/"))) continue;
    const std::string at(words[4]);
    if (IsSettled(at)) seen.leftovers.push_back({Leftover::Kind::kMount, at});
  }
}

}  // namespace

std::vector<host::Finding> Doctor::Examine() {
  host::Places places;
  places.root_directory = parts_.root_directory;
  places.state_directory = parts_.state_directory;
  places.socket = parts_.address;
  host::Observation seen = host::Observe(places);
  LookAtRuntimes(seen);
  LookAtContainers(seen);
  LookAtNeeds(seen);
  FindMounts(parts_.state_directory, seen);
  return host::CheckHost(seen);
}

void Doctor::LookAtRuntimes(host::Observation& seen) {
  for (const std::string& name : parts_.runtimes->names()) {
    const absl::StatusOr<runtime::RuntimeInfo> info = parts_.runtimes->Resolve(name);
    host::SeenRuntime runtime;
    runtime.name = name;
    if (info.ok()) {
      runtime.path = info->path;
      runtime.version = info->version;
    } else {
      runtime.problem = std::string(info.status().message());
    }
    seen.runtimes.push_back(std::move(runtime));
  }
  seen.default_runtime_usable = parts_.runtimes->Resolve("").ok();
}

void Doctor::LookAtContainers(host::Observation& seen) {
  std::set<std::string> known;  // "NAMESPACE/ID" of all that has a record or a task
  const absl::Status listed =
      parts_.stores->namespaces.List([&](const record::v1::Namespace& name_space) {
        const metadata::Scope scope{name_space.name(), ""};
        GANTRY_RETURN_IF_ERROR(parts_.stores->containers.ListWithoutSpecs(
            scope, [&](absl::string_view id, absl::string_view bytes) {
              const std::string key = absl::StrCat(name_space.name(), "/", id);
              known.insert(key);
              record::v1::Container record;
              if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
                seen.damaged.push_back(key);
                return absl::OkStatus();
              }
              const std::optional<v1::ContainerConfig> config = ReadIntent(record);
              if (config.has_value() && config->storage_options().contains("size"))
                seen.wants_project_quotas = true;
              return absl::OkStatus();
            }));
        return parts_.stores->containers.ListStates(
            scope, [&](absl::string_view id, const record::v1::ContainerState* state) {
              if (state != nullptr && !state->removal_waits_for().empty())
                seen.stuck_removals.push_back(
                    absl::StrCat(name_space.name(), "/", id, ": ", state->removal_waits_for()));
              return absl::OkStatus();
            });
      });
  if (!listed.ok()) {
    seen.damaged.push_back(std::string(listed.message()));
    return;
  }
  const std::set<std::string> recorded = known;
  for (const auto& [ns, process] : parts_.tasks->List("")) {
    const std::string key = absl::StrCat(ns, "/", process.container_id);
    known.insert(key);
    if (process.status == ProcessStatus::kUnknown)
      seen.silent_shims.push_back(absl::StrCat(key, " (", process.reason, ")"));
    if (!recorded.contains(key))
      seen.leftovers.push_back({Leftover::Kind::kShim, absl::StrCat(key, ", pid ", process.pid)});
  }
  std::set<std::string> ids;
  for (const std::string& key : known) ids.insert(key.substr(key.find('/') + 1));
  for (std::string& group : CgroupLeftovers(parts_.cgroups, ids, time(nullptr) - kMakingSeconds))
    seen.leftovers.push_back({Leftover::Kind::kCgroup, std::move(group)});
  FindStrays(parts_.state_directory + "/tasks", known, Leftover::Kind::kBundle, seen);
  FindStrays(parts_.state_directory + "/netns", known, Leftover::Kind::kNetns, seen);
  FindStrays(parts_.root_directory + "/containers", known, Leftover::Kind::kDirectory, seen);
  for (const std::string& ns : Names(parts_.state_directory + "/netns")) {
    if (!Names(absl::StrCat(parts_.state_directory, "/netns/", ns)).empty())
      seen.uses_networks = true;
  }
}

void Doctor::LookAtNeeds(host::Observation& seen) {
  if (parts_.networks != nullptr) {
    const auto networks = parts_.networks->List("");
    for (const metadata::StoredNetwork& network :
         networks.ok() ? *networks : std::vector<metadata::StoredNetwork>()) {
      // Others forward nothing by the host's tables.
      if (network.record.driver() != "bridge" || !network.settings.ipv6() ||
          network.settings.internal() || network.settings.configuration_only())
        continue;
      const auto places = parts_.networks->Endpoints(network);
      if (places.ok() && !places->empty()) seen.uses_ipv6 = seen.uses_networks = true;
    }
  }
  if (parts_.volumes != nullptr) {
    const auto volumes = parts_.volumes->List("");
    for (const metadata::StoredVolume& volume :
         volumes.ok() ? *volumes : std::vector<metadata::StoredVolume>()) {
      // With a type, the size is an option of that file system.
      const auto& options = volume.record.options();
      if (options.contains("size") && !options.contains("type")) seen.wants_project_quotas = true;
    }
  }
}

}  // namespace gantry::core
