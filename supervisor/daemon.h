// The composition root: makes every part, connects them, starts them in the order in which they
// recover, stops them in reverse.
//
// The only place that knows the concrete classes. Start() is docs/flows.md (c). Not thread-safe;
// lives on the main thread.
#ifndef GANTRY_SUPERVISOR_DAEMON_H_
#define GANTRY_SUPERVISOR_DAEMON_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/config.h"
#include "supervisor/service_manager.h"

namespace gantry {

class Daemon {
 public:
  // Opens the stores, recovers what a former daemon left, and serves. Everything answers once this
  // returns.
  //   kUnavailable         another daemon has the root directory or the socket; it is named
  //   kFailedPrecondition  the machine or a directory does not allow it; says what to change
  // Doors whose socket is among `sockets` serve that one, and those named "docker" are served as
  // docker's too; the others make theirs.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config,
                                                       InheritedSockets sockets);

  // Stops serving and closes the stores. Containers run on. Where that takes more than a few
  // seconds, whatever the reason, it ends the process with status 0: nothing that was acknowledged
  // depends on an orderly end.
  ~Daemon();

  // Takes over what can change while it runs: runtimes, log level. The rest is named in the log.
  void Reload(const Config& config);

 private:
  Daemon();
  struct Parts;

  // ---- the steps of Start(), in their order; each uses what those before it made ----
  // Directories, the locks on them, and the questions to the shims that live, which answer while
  // the rest gets on.
  static absl::Status TakePlaces(Parts& p);
  static void PrepareRuntimes(Parts& p);
  static absl::Status OpenStores(Parts& p);
  static absl::Status OpenSnapshotters(Parts& p);
  static absl::Status OpenRegistries(Parts& p);
  static void MakeCollector(Parts& p);
  static absl::Status MakeServices(Parts& p);
  static void MakeNetworks(Parts& p);
  static void MakeContainerLife(Parts& p);
  static void MakeContainerUse(Parts& p);
  static absl::Status MakeSystemService(Parts& p);
  static void MakeHealthMonitor(Parts& p);
  static absl::Status MakePodService(Parts& p);
  static absl::Status Recover(Parts& p);
  static absl::Status MakeDoors(Parts& p);
  static void StartTracing(Parts& p);
  static absl::Status Serve(Parts& p);
  static void ServeNri(Parts& p);
  static absl::Status ServeDocker(Parts& p);
  static absl::Status ServeDockerAt(Parts& p, const std::string& path);

  // ---- the stop, in reverse ----
  static void StopServing(Parts& p);
  static void StopServices(Parts& p);
  void Close(Parts& p);

  std::unique_ptr<Parts> parts_;
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_DAEMON_H_
