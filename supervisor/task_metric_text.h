// What the kernel counts of containers, in the names that containerd gives it:
// container_memory_usage_bytes and so on, with the labels container_id and namespace, so that what
// is built on containerd's metrics finds them here. The names differ between cgroup v1 and v2, as
// they do there.
//
// Pure.
#ifndef GANTRY_SUPERVISOR_TASK_METRIC_TEXT_H_
#define GANTRY_SUPERVISOR_TASK_METRIC_TEXT_H_

#include <string>
#include <vector>

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/api/metrics/metric_text.h"

namespace gantry {

struct TaskStats {
  std::string ns;
  std::string id;
  shim::v1::StatsResponse stats;
};

void WriteTaskStats(const std::vector<TaskStats>& tasks, api::MetricText& out);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_TASK_METRIC_TEXT_H_
