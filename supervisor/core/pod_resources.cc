// Limits of containers of pods, and what they use.
#include <dirent.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/core/pod_entry.h"
#include "supervisor/core/pod_plugins.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/stores.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

// Walking a big container's files takes its time.
constexpr absl::Duration kDiskUseKept = absl::Seconds(10);
constexpr size_t kMostUses = 8192;

// Entries of /proc/PID/fd; sockets are links that say so.
void CountFiles(int32_t pid, ProcessUse& use) {
  const std::string path = absl::StrCat("/proc/", pid, "/fd");
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) return;  // it has ended
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    ++use.files;
    char target[16] = {};
    const ssize_t n =
        readlink(absl::StrCat(path, "/", entry->d_name).c_str(), target, sizeof target);
    if (n > 0 && absl::StartsWith(absl::string_view(target, static_cast<size_t>(n)), "socket:"))
      ++use.sockets;
  }
  closedir(directory);
}

uint64_t Threads(int32_t pid) {
  const absl::StatusOr<std::string> status =
      ReadFile(absl::StrCat("/proc/", pid, "/status"), 64 << 10);
  if (!status.ok()) return 0;
  for (absl::string_view line : absl::StrSplit(*status, '\n')) {
    uint64_t threads = 0;
    if (absl::ConsumePrefix(&line, "Threads:") && absl::SimpleAtoi(line, &threads)) return threads;
  }
  return 0;
}

uint64_t OpenFilesLimit(int32_t pid) {
  const absl::StatusOr<std::string> limits =
      ReadFile(absl::StrCat("/proc/", pid, "/limits"), 64 << 10);
  if (!limits.ok()) return 0;
  for (absl::string_view line : absl::StrSplit(*limits, '\n')) {
    if (!absl::ConsumePrefix(&line, "Max open files")) continue;
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t soft = 0;
    return !words.empty() && absl::SimpleAtoi(words[0], &soft) ? soft : 0;
  }
  return 0;
}

}  // namespace

absl::Status PodService::UpdateContainer(const CallContext& context, const std::string& container,
                                         const oci::Resources& change,
                                         const std::string& extension_name,
                                         const std::string& extension) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer found, Container(context, container));
  const std::unique_ptr<PluginRound> round = BeginMaking();
  GANTRY_ASSIGN_OR_RETURN(const oci::Resources wanted,
                          AskToUpdate(context, round.get(), found, change));
  const std::pair<std::string, std::string> kept(extension_name, extension);
  GANTRY_RETURN_IF_ERROR(ChangeLimits(context, found.id(), wanted, &kept));
  TellUpdated(context, round.get(), found.id());
  return absl::OkStatus();
}

absl::Status PodService::ChangeLimits(const CallContext& context, const std::string& container,
                                      const oci::Resources& change,
                                      const std::pair<std::string, std::string>* extension) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer found, Container(context, container));
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, found.id(), lock));
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec,
                          oci::RuntimeSpec::Parse(loaded.record.spec().value()));
  nlohmann::json& linux_part = spec.document()["linux"];
  oci::Resources merged;
  if (linux_part.contains("resources")) {
    GANTRY_ASSIGN_OR_RETURN(merged, oci::ResourcesFromJson(linux_part["resources"]));
  }
  oci::MergeResources(merged, change);
  GANTRY_RETURN_IF_ERROR(oci::CheckResources(merged));
  const nlohmann::json printed = oci::ResourcesToJson(merged);
  for (auto it = printed.begin(); it != printed.end(); ++it)
    linux_part["resources"][it.key()] = it.value();
  // The running container first: a limit that the kernel refuses must not be on record.
  const absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    GANTRY_RETURN_IF_ERROR(
        parts_.tasks->Update(lock.Within(context), loaded.id(), oci::PrintResources(change)));
  }
  loaded.record.mutable_spec()->set_value(spec.Print());
  if (extension != nullptr) {
    google::protobuf::Any& kept = (*loaded.record.mutable_extensions())[extension->first];
    kept.set_type_url(extension->first);
    kept.set_value(extension->second);
  }
  return parts_.stores->containers.Update(loaded.scope, loaded.record, {"spec", "extensions"})
      .status();
}

absl::StatusOr<DiskUse> PodService::DiskUseOf(const CallContext& context,
                                              const LoadedContainer& container) {
  const Key key(context.ns, container.id());
  const absl::Time now = parts_.stores->clock.Now();
  {
    absl::MutexLock lock(&mu_);
    const auto known = disk_uses_.find(key);
    if (known != disk_uses_.end() && now - known->second.at < kDiskUseKept) return known->second;
  }
  GANTRY_ASSIGN_OR_RETURN(
      metadata::SnapshotNamespace snapshots,
      parts_.stores->Snapshots(container.record.snapshotter(), {context.ns, ""}));
  GANTRY_ASSIGN_OR_RETURN(const snapshot::Usage usage,
                          snapshots.Usage(container.record.snapshot_key()));
  const DiskUse use = {usage.size_bytes, usage.inodes, now};
  absl::MutexLock lock(&mu_);
  if (disk_uses_.size() >= kMostUses) disk_uses_.clear();
  disk_uses_[key] = use;
  return use;
}

absl::StatusOr<DiskUse> PodService::ImageUse(const CallContext& context) {
  const Key key(context.ns, "");
  const absl::Time now = parts_.stores->clock.Now();
  {
    absl::MutexLock lock(&mu_);
    const auto known = disk_uses_.find(key);
    if (known != disk_uses_.end() && now - known->second.at < kDiskUseKept) return known->second;
  }
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots("", {context.ns, ""}));
  std::vector<std::string> layers;
  GANTRY_RETURN_IF_ERROR(snapshots.Walk([&layers](const snapshot::Info& info) {
    if (info.kind == snapshot::Kind::kCommitted) layers.push_back(info.name);
    return absl::OkStatus();
  }));
  DiskUse use;
  use.at = now;
  for (const std::string& layer : layers) {
    const absl::StatusOr<snapshot::Usage> one = snapshots.Usage(layer);
    if (absl::IsNotFound(one.status())) continue;  // it was collected meanwhile
    GANTRY_RETURN_IF_ERROR(one.status());
    use.bytes += one->size_bytes;
    use.inodes += one->inodes;
  }
  absl::MutexLock lock(&mu_);
  disk_uses_[key] = use;
  return use;
}

absl::StatusOr<ProcessUse> PodService::ProcessUseOf(const CallContext& context,
                                                    const std::string& id) const {
  GANTRY_ASSIGN_OR_RETURN(const Process init, parts_.tasks->Get(context.ns, id, ""));
  GANTRY_ASSIGN_OR_RETURN(const shim::v1::PidsResponse pids, parts_.tasks->Pids(context, id));
  ProcessUse use;
  for (const shim::v1::PidsResponse::Process& process : pids.processes()) {
    ++use.processes;
    use.threads += Threads(process.pid());
    CountFiles(process.pid(), use);
  }
  use.open_files_limit = OpenFilesLimit(init.pid);
  return use;
}

}  // namespace gantry::core
