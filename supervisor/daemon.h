// The composition root: makes every part, connects them, starts them in the order in which they recover, stops them in reverse.
//
// The only place that knows the concrete classes. Start() is docs/flows.md (c). Not thread-safe; lives on the main thread.
#ifndef GANTRY_SUPERVISOR_DAEMON_H_
#define GANTRY_SUPERVISOR_DAEMON_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/config.h"

namespace gantry {

class Daemon {
 public:
  // Opens the stores, recovers what a former daemon left, and serves. Everything answers once this returns.
  //   kUnavailable         another daemon has the root directory or the socket; it is named
  //   kFailedPrecondition  the machine or a directory does not allow it; says what to change
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config);

  // Stops serving and closes the stores. Containers run on. Takes at most a few seconds.
  ~Daemon();

  // Takes over what can change while it runs: runtimes, log level. The rest is named in the log.
  void Reload(const Config& config);

 private:
  Daemon();
  struct Parts;
  // Core's container classes, of the parts that are there already.
  static void MakeContainerClasses(Parts& p);
  std::unique_ptr<Parts> parts_;
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_DAEMON_H_
