// What the daemon tells Prometheus of itself: the process, its calls, collections, containers and tasks.
//
// Thread-safe. Counts calls and collections from its construction on; everything else is looked up when asked for.
#ifndef GANTRY_SUPERVISOR_DAEMON_METRICS_H_
#define GANTRY_SUPERVISOR_DAEMON_METRICS_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/api/metrics/call_recorder.h"
#include "supervisor/api/metrics/metric_text.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/gc/collector.h"

namespace gantry {

class DaemonMetrics {
 public:
  // None is owned, both outlive this.
  DaemonMetrics(core::Stores& stores, const core::TaskService& tasks, std::string version)
      : stores_(stores), tasks_(tasks), version_(std::move(version)) {}

  api::CallRecorder& calls() { return calls_; }

  // One run of the collector that ended.
  void NoteCollection(const absl::StatusOr<gc::Collection>& run);

  // All of it in Prometheus' text format.
  std::string Text() const;

 private:
  void WriteProcess(api::MetricText& out) const;
  void WriteCollections(api::MetricText& out) const;
  void WriteContainers(api::MetricText& out) const;

  core::Stores& stores_;
  const core::TaskService& tasks_;
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
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_DAEMON_METRICS_H_
