// What the pod service asks plugins of NRI. Private to it and to PodContainers.
#ifndef GANTRY_SUPERVISOR_CORE_POD_PLUGINS_H_
#define GANTRY_SUPERVISOR_CORE_POD_PLUGINS_H_

#include <memory>

#include "supervisor/core/pod_service.h"
#include "supervisor/nri/plugins.h"

namespace gantry::core {

// One round (nri::Plugins::Round). Not made where there is nobody to ask.
struct PodService::PluginRound {
  PluginRound(nri::Plugins& plugins, nri::Plugins::Round::Of what) : round(plugins, what) {}
  nri::Plugins::Round round;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_PLUGINS_H_
