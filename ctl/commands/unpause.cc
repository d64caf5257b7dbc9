#include "ctl/commands/commands.h"
#include "ctl/commands/each_container.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
Verb UnpauseVerb() {
  return {.name = "unpause",
          .arguments = "CONTAINER [CONTAINER...]",
          .summary = "Let frozen containers go on",
          .examples = "  ctl unpause web\n",
          .min_args = 1,
          .completes = "running",
          .make = [] {
            return std::make_unique<
                AskEachAction<v1::UnpauseContainerRequest, v1::UnpauseContainerResponse>>();
          }};
}

}  // namespace gantry::ctl
