// What the pod service knows of one pod. Private to it and to PodContainers.
#ifndef GANTRY_SUPERVISOR_CORE_POD_ENTRY_H_
#define GANTRY_SUPERVISOR_CORE_POD_ENTRY_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/pod_service.h"

namespace gantry::core {

struct PodService::Entry {
  enum class Phase {
    kMaking,
    kReady,
    kStopping,  // nothing is started in it any more
    kStopped,
  };

  Entry(Key pod, v1::PodConfig pod_config, std::string door, absl::Time created)
      : key(std::move(pod)),
        config(std::make_shared<const v1::PodConfig>(std::move(pod_config))),
        extension(std::make_shared<const std::string>(std::move(door))),
        created_at(created) {}

  const Key key;
  const std::shared_ptr<const v1::PodConfig> config;
  const std::shared_ptr<const std::string> extension;
  const absl::Time created_at;

  // Of its making; cancelled by a stop.
  CancelToken making;

  mutable absl::Mutex mu;
  bool busy ABSL_GUARDED_BY(mu) = false;  // it is being made, stopped or removed
  Phase phase ABSL_GUARDED_BY(mu) = Phase::kMaking;
  int starting ABSL_GUARDED_BY(mu) = 0;  // starts of containers that are under way
  std::vector<std::string> addresses ABSL_GUARDED_BY(mu);
  std::string network_json ABSL_GUARDED_BY(mu);
  // Plugins of NRI know of it; and that it stops.
  bool shown_to_plugins ABSL_GUARDED_BY(mu) = false;
  bool stop_told ABSL_GUARDED_BY(mu) = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_ENTRY_H_
