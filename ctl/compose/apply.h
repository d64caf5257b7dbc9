// Does the steps of a plan, several at a time, each once those that it waits for are done.
//
// The first failure stops what has not begun; steps under way are waited for. What was done stays,
// and the next plan goes on from there: every step is idempotent in that sense.
#ifndef GANTRY_CTL_COMPOSE_APPLY_H_
#define GANTRY_CTL_COMPOSE_APPLY_H_

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "ctl/compose/engine.h"
#include "ctl/compose/plan.h"
#include "ctl/compose/progress_board.h"

namespace gantry::compose {

struct ApplyOptions {
  int parallel = 8;
  std::optional<int> timeout_seconds;  // of stops
  bool renew_anonymous_volumes = false;
  // Fetches or makes one image. Called from several threads, one call per image.
  std::function<absl::Status(const Step& step)> pull;
  std::function<absl::Status(const Step& step)> build;
  // Where it is set: no container is started before all are made, and this is called in between,
  // with the ids of those that are there. Its failure ends the work.
  std::function<absl::Status(const std::vector<std::string>& ids)> before_starts;
};

// `cancelled`: no further step is begun, kCancelled. `started` gets the ids of containers that were
// started or run already, in the order of the plan.
absl::Status Apply(const Project& project, const Plan& plan, Engine& engine, ProgressBoard& board,
                   const ApplyOptions& options, const std::atomic<bool>& cancelled,
                   std::vector<std::string>* started);

// Runs `work` for every item, at most `parallel` at a time, each after those that `after` names (by
// index, lower than its own). Stops beginning at the first failure, which is returned.
absl::Status InOrder(size_t count, int parallel, const std::atomic<bool>& cancelled,
                     const std::function<const std::vector<size_t>&(size_t)>& after,
                     const std::function<absl::Status(size_t)>& work);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_APPLY_H_
