// The gRPC face of one container: takes calls, hands them to Container, answers.
//
// The completion-queue API with one thread, because each further thread and each polling loop costs
// memory in every shim. Calls that block run on worker threads; Wait, Events and Attach hold no
// thread. Clients that vanish are forgotten at once.
//
// gRPC may be started before the container is known: Start(), then Serve(), then
// connections, which are accepted elsewhere and handed over by AddConnection().
//
// Thread-safe once it serves.
#ifndef GANTRY_SHIM_SHIM_SERVICE_H_
#define GANTRY_SHIM_SHIM_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

#include "base/unique_fd.h"
#include "shim/container.h"
#include "shim/event_log.h"
#include "shim/worker_threads.h"

namespace gantry::shim {

class ShimService {
 public:
  struct Options {
    std::string version;
    // The shim has nothing left to do, and the answer that said so is on its way. Called once, on
    // any thread.
    std::function<void()> on_finished;
  };

  // `events` and `workers`, where calls that block are carried out, outlive the service.
  ShimService(Options options, EventLog* events, WorkerThreads* workers);
  // Cancels all calls and ends the thread.
  ~ShimService();
  ShimService(const ShimService&) = delete;
  ShimService& operator=(const ShimService&) = delete;

  // kInternal: gRPC could not be started.
  absl::Status Start();

  // The container that calls are about; it outlives the service. Before the first connection, once.
  void Serve(Container* container);

  // A connected stream socket, non-blocking.
  void AddConnection(UniqueFd connection);

 private:
  class State;
  const std::unique_ptr<State> state_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SHIM_SERVICE_H_
