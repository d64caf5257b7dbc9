// A cgroup's numbers as containerd's clients read them. Pure.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_TASK_METRICS_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_TASK_METRICS_H_

#include "google/protobuf/any.pb.h"

#include "proto/shim/v1/shim.pb.h"

namespace gantry::api::containerd_api {

// io.containerd.cgroups.v2.Metrics or io.containerd.cgroups.v1.Metrics, by the cgroup's version. v1
// counts CPU time in nanoseconds, v2 in microseconds.
google::protobuf::Any MetricsOf(const shim::v1::StatsResponse& stats);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_TASK_METRICS_H_
