#include "ctl/commands/commands.h"
#include "ctl/commands/each_container.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
Verb RestartVerb() {
  return {.name = "restart",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Stop containers and start them again",
          .examples = "  ctl restart -t 5 web\n",
          .min_args = 1,
          .completes = "containers",
          .make = [] {
            return std::make_unique<
                StopEachAction<v1::RestartContainerRequest, v1::RestartContainerResponse>>();
          }};
}

}  // namespace gantry::ctl
