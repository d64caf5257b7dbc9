// What the daemon tells Prometheus of itself: the process, its calls, collections, containers and
// tasks.
//
// Thread-safe. Counts calls, collections and events from its construction on; everything else is
// looked up when asked for, tasks' numbers from their shims, which get a few seconds all together.
#ifndef GANTRY_SUPERVISOR_DAEMON_METRICS_H_
#define GANTRY_SUPERVISOR_DAEMON_METRICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/api/metrics/call_recorder.h"
#include "supervisor/api/metrics/metric_text.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_view.h"
#include "supervisor/gc/collector.h"

namespace gantry {

class DaemonMetrics {
 public:
  // None is owned, both outlive this.
  DaemonMetrics(core::Stores& stores, const core::TaskView& tasks, const core::ImagePull& pulls,
                core::EventBus& events, std::string version);

  api::CallRecorder& calls() { return calls_; }

  // One run of the collector that ended.
  void NoteCollection(const absl::StatusOr<gc::Collection>& run);

  // All of it in Prometheus' text format.
  std::string Text() const;

 private:
  struct EventCounts {
    absl::Mutex mu;
    std::map<std::string, int64_t> by_topic ABSL_GUARDED_BY(mu);  // topics that we publish
  };

  void WriteProcess(api::MetricText& out) const;
  void WriteCollections(api::MetricText& out) const;
  void WriteContainers(api::MetricText& out) const;
  void WriteImages(api::MetricText& out) const;
  void WriteEvents(api::MetricText& out) const;
  void WriteTasks(api::MetricText& out) const;

  core::Stores& stores_;
  const core::TaskView& tasks_;
  const core::ImagePull& pulls_;
  const std::string version_;
  api::CallRecorder calls_;

  mutable absl::Mutex mu_;
  int64_t collections_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t failed_collections_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t freed_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t removed_records_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t looked_at_ ABSL_GUARDED_BY(mu_) = 0;  // by the last one
  absl::Duration collecting_ ABSL_GUARDED_BY(mu_);
  absl::Duration paused_ ABSL_GUARDED_BY(mu_);

  // Shared with the bus, whose publishers may be counting when this goes.
  const std::shared_ptr<EventCounts> events_;
  std::shared_ptr<core::Subscription> subscription_;  // const after construction
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_DAEMON_METRICS_H_
