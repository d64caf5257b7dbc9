#include "supervisor/daemon_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/api/containerd/event_message.h"
#include "supervisor/core/call_context.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/task_metric_text.h"

namespace gantry {
namespace {

// Clients may publish under any topic; these are ours, and no more than these are kept count of.
constexpr const char* kCountedTopics[] = {
    "/containers/create", "/containers/delete", "/images/create",   "/images/update",
    "/images/delete",     "/snapshot/prepare",  "/snapshot/commit", "/snapshot/remove",
    "/tasks/create",      "/tasks/start",       "/tasks/exit",      "/tasks/oom",
    "/tasks/delete",      "/tasks/exec-added",  "/tasks/paused",    "/tasks/checkpointed",
};

// For all tasks together; a scrape has a deadline of its own.
constexpr absl::Duration kStatsPatience = absl::Seconds(3);

absl::string_view NameOf(core::ProcessStatus status) {
  switch (status) {
    case core::ProcessStatus::kUnknown:
      return "unknown";
    case core::ProcessStatus::kCreated:
      return "created";
    case core::ProcessStatus::kRunning:
      return "running";
    case core::ProcessStatus::kStopped:
      return "stopped";
    case core::ProcessStatus::kPaused:
      return "paused";
    case core::ProcessStatus::kPausing:
      return "pausing";
  }
  return "unknown";
}

double Number(absl::string_view text) {
  double value = 0;
  return absl::SimpleAtod(text, &value) ? value : 0;
}

int OpenDescriptors() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  int count = -3;  // ".", ".." and this one
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

// Seconds since the epoch at which the machine started.
double BootSeconds() {
  absl::StatusOr<std::string> stat = ReadFile("/proc/stat", 1 << 20);
  if (!stat.ok()) return 0;
  const size_t at = stat->find("\nbtime ");
  if (at == std::string::npos) return 0;
  return Number(absl::string_view(*stat).substr(at + 7, stat->find('\n', at + 1) - at - 7));
}

}  // namespace

DaemonMetrics::DaemonMetrics(core::Stores& stores, const core::TaskView& tasks,
                             const core::ImagePull& pulls, core::EventBus& events,
                             std::string version)
    : stores_(stores),
      tasks_(tasks),
      pulls_(pulls),
      version_(std::move(version)),
      events_(std::make_shared<EventCounts>()) {
  {
    absl::MutexLock lock(&events_->mu);
    for (const char* topic : kCountedTopics) events_->by_topic[topic] = 0;
  }
  // Counted on the publisher's thread; nothing is ever queued.
  subscription_ = events.Subscribe(
      [counts = events_](const core::Event& event) {
        absl::MutexLock lock(&counts->mu);
        const auto count = counts->by_topic.find(std::string(api::containerd_api::TopicOf(event)));
        if (count != counts->by_topic.end()) ++count->second;
        return false;
      },
      nullptr);
}

void DaemonMetrics::NoteCollection(const absl::StatusOr<gc::Collection>& run) {
  absl::MutexLock lock(&mu_);
  if (!run.ok()) {
    ++failed_collections_;
    return;
  }
  ++collections_;
  freed_bytes_ += run->freed_bytes();
  removed_records_ += static_cast<int64_t>(run->removed.size());
  looked_at_ = run->objects;
  collecting_ += run->total;
  paused_ += run->pause;
}

std::string DaemonMetrics::Text() const {
  api::MetricText out;
  out.Family("gantry_build_info", "gauge", "1; the label says which version runs.");
  out.Sample("gantry_build_info", {{"version", version_}}, 1);
  WriteContainers(out);
  WriteImages(out);
  WriteEvents(out);
  WriteTasks(out);
  WriteCollections(out);
  calls_.Write(out);
  WriteProcess(out);
  return out.text();
}

void DaemonMetrics::WriteContainers(api::MetricText& out) const {
  std::map<std::string, int64_t> containers;
  std::map<std::string, int64_t> images;
  std::vector<std::string> namespaces;
  (void)stores_.namespaces.List([&](const record::v1::Namespace& ns) {
    namespaces.push_back(ns.name());
    return absl::OkStatus();
  });
  for (const std::string& ns : namespaces) {
    int64_t& count = containers[ns];
    (void)stores_.containers.ListStates({ns, ""},
                                        [&](absl::string_view, const record::v1::ContainerState*) {
                                          ++count;
                                          return absl::OkStatus();
                                        });
    int64_t& image_count = images[ns];
    (void)stores_.images.List({ns, ""}, metadata::Filter(), [&](const record::v1::Image&) {
      ++image_count;
      return absl::OkStatus();
    });
  }
  out.Family("gantry_containers", "gauge", "Container records, running or not.");
  for (const auto& [ns, count] : containers)
    out.Sample("gantry_containers", {{"namespace", ns}}, static_cast<double>(count));
  out.Family("gantry_images", "gauge", "Image records.");
  for (const auto& [ns, count] : images)
    out.Sample("gantry_images", {{"namespace", ns}}, static_cast<double>(count));

  std::map<std::pair<std::string, absl::string_view>, int64_t> tasks;
  for (const auto& [ns, process] : tasks_.List("")) ++tasks[{ns, NameOf(process.status)}];
  out.Family("gantry_tasks", "gauge", "Tasks, each behind a shim of its own, by state.");
  for (const auto& [key, count] : tasks) {
    out.Sample("gantry_tasks", {{"namespace", key.first}, {"state", key.second}},
               static_cast<double>(count));
  }
}

void DaemonMetrics::WriteImages(api::MetricText& out) const {
  const core::PullCounts pulls = pulls_.pull_counts();
  out.Single("gantry_image_pulls_running", "gauge", "Pulls under way.",
             static_cast<double>(pulls.running));
  out.Family("gantry_image_pulls_total", "counter", "Pulls that ended.");
  out.Sample("gantry_image_pulls_total", {{"status", "success"}},
             static_cast<double>(pulls.succeeded));
  out.Sample("gantry_image_pulls_total", {{"status", "failure"}},
             static_cast<double>(pulls.failed));
  out.Single("gantry_image_pull_bytes_total", "counter", "Bytes that successful pulls fetched.",
             static_cast<double>(pulls.fetched_bytes));
  out.Single("gantry_image_pull_seconds_total", "counter",
             "Time that pulls took, unpacking included.", absl::ToDoubleSeconds(pulls.took));
}

void DaemonMetrics::WriteEvents(api::MetricText& out) const {
  absl::MutexLock lock(&events_->mu);
  out.Family("gantry_events_total", "counter",
             "Events by topic: starts, exits and kills for memory of tasks, and what became of the "
             "rest.");
  for (const auto& [topic, count] : events_->by_topic)
    out.Sample("gantry_events_total", {{"topic", topic}}, static_cast<double>(count));
}

void DaemonMetrics::WriteTasks(api::MetricText& out) const {
  CancelToken patience(kStatsPatience);
  std::vector<TaskStats> all;
  for (const auto& [ns, process] : tasks_.List("")) {
    core::CallContext context;
    context.ns = ns;
    context.cancel = &patience;
    // One that has just ended has no numbers, and a shim that does not answer must not keep us from
    // telling of the others.
    absl::StatusOr<shim::v1::StatsResponse> stats = tasks_.Stats(context, process.container_id);
    if (stats.ok()) all.push_back({ns, process.container_id, *std::move(stats)});
  }
  WriteTaskStats(all, out);
}

void DaemonMetrics::WriteCollections(api::MetricText& out) const {
  absl::MutexLock lock(&mu_);
  out.Single("gantry_gc_runs_total", "counter", "Garbage collections that succeeded.",
             static_cast<double>(collections_));
  out.Single("gantry_gc_failures_total", "counter", "Garbage collections that failed.",
             static_cast<double>(failed_collections_));
  out.Single("gantry_gc_freed_bytes_total", "counter", "Bytes of blobs that collections removed.",
             static_cast<double>(freed_bytes_));
  out.Single("gantry_gc_removed_records_total", "counter", "Records that collections removed.",
             static_cast<double>(removed_records_));
  out.Single("gantry_gc_seconds_total", "counter", "Time spent collecting.",
             absl::ToDoubleSeconds(collecting_));
  out.Single("gantry_gc_pause_seconds_total", "counter",
             "Time in which collections blocked other writers.", absl::ToDoubleSeconds(paused_));
  out.Single("gantry_gc_objects", "gauge", "Objects that the last collection looked at.",
             static_cast<double>(looked_at_));
}

void DaemonMetrics::WriteProcess(api::MetricText& out) const {
  absl::StatusOr<std::string> stat = ReadFile("/proc/self/stat", 4096);
  if (stat.ok() && stat->rfind(')') != std::string::npos) {
    // From the third field on; the second is a name in brackets that may hold anything.
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::string_view(*stat).substr(stat->rfind(')') + 2), ' ');
    if (fields.size() > 21) {
      const double tick = static_cast<double>(sysconf(_SC_CLK_TCK));
      out.Single("process_cpu_seconds_total", "counter", "User and system CPU time.",
                 (Number(fields[11]) + Number(fields[12])) / tick);
      out.Single("process_start_time_seconds", "gauge", "Start time since the epoch.",
                 BootSeconds() + Number(fields[19]) / tick);
      out.Single("process_virtual_memory_bytes", "gauge", "Virtual memory.", Number(fields[20]));
      out.Single("process_resident_memory_bytes", "gauge", "Resident memory.",
                 Number(fields[21]) * static_cast<double>(sysconf(_SC_PAGESIZE)));
      out.Single("process_threads", "gauge", "Threads.", Number(fields[17]));
    }
  }
  out.Single("process_open_fds", "gauge", "Open file descriptors.", OpenDescriptors());
  struct rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    out.Single("process_max_fds", "gauge", "Open file descriptors that are allowed.",
               static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace gantry
