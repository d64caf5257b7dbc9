#include "supervisor/core/pod_figures.h"

#include <dirent.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/core/stores.h"

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

absl::StatusOr<DiskUse> PodFigures::DiskUseOf(const CallContext& context,
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

absl::StatusOr<DiskUse> PodFigures::ImageUse(const CallContext& context) {
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

absl::StatusOr<ProcessUse> PodFigures::ProcessUseOf(const CallContext& context,
                                                    const std::string& id) const {
  GANTRY_ASSIGN_OR_RETURN(const Process init, parts_.tasks->view().Get(context.ns, id, ""));
  GANTRY_ASSIGN_OR_RETURN(const shim::v1::PidsResponse pids,
                          parts_.tasks->view().Pids(context, id));
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
