#include "ctl/commands/commands.h"
#include "ctl/commands/each_container.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
Verb StopVerb() {
  return {.name = "stop",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Stop running containers: the stop signal, then SIGKILL after a while",
          .examples =
              "  ctl stop web\n"
              "  ctl stop -t 30 web db\n",
          .min_args = 1,
          .completes = "running",
          .make = [] {
            return std::make_unique<
                StopEachAction<v1::StopContainerRequest, v1::StopContainerResponse>>();
          }};
}

}  // namespace gantry::ctl
