#include "ctl/commands/commands.h"
#include "ctl/commands/each_container.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
Verb PauseVerb() {
  return {.name = "pause",
          .arguments = "CONTAINER [CONTAINER...]",
          .summary = "Freeze every process of containers",
          .examples = "  ctl pause web\n",
          .min_args = 1,
          .completes = "running",
          .make = [] {
            return std::make_unique<
                AskEachAction<v1::PauseContainerRequest, v1::PauseContainerResponse>>();
          }};
}

}  // namespace gantry::ctl
