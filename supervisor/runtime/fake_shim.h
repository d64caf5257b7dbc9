// A shim made of nothing but its gRPC face, for tests of everything above it.
//
// Serves shim.v1 on a real unix socket from this process. Keeps one init process and its execs as
// states in memory; processes "run" until Exit() is called or a KILL arrives. Thread-safe.
#ifndef GANTRY_SUPERVISOR_RUNTIME_FAKE_SHIM_H_
#define GANTRY_SUPERVISOR_RUNTIME_FAKE_SHIM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/task_key.h"

namespace gantry::runtime {

class FakeShim {
 public:
  // Listens at once. The socket's directory must exist.
  FakeShim(TaskKey key, std::string socket_path);
  // Closes the socket; streams break as if the shim had been killed.
  ~FakeShim();
  FakeShim(const FakeShim&) = delete;
  FakeShim& operator=(const FakeShim&) = delete;

  // Ends a process; "" is init. Emits the event.
  void Exit(const std::string& exec_id, uint32_t status, bool oom_killed = false);
  // Emits an arbitrary event, numbered.
  void Emit(shim::v1::Event event);
  // Output for attached clients.
  void Output(const std::string& bytes);
  // From now on attached clients are not told of ends: a child of the process keeps its streams
  // open.
  void HoldStreams();
  // The next calls of this name ("Create", "Kill", ...) fail with this; OK lifts it.
  void FailCalls(const std::string& method, absl::Status status);
  // Calls of this name ("" for all) are taken and not answered until Unfreeze(): a shim or its
  // runtime that hangs.
  void Freeze(const std::string& method = "");
  void Unfreeze();
  // Runs once, on the call's thread, after the next Create or Exec has had its effect and before it
  // is answered.
  void BeforeAnswer(std::function<void()> hook);
  // Called by each Shutdown, which a real shim does not survive. May be empty.
  void OnShutdown(std::function<void()> hook);
  // Returns once so many calls of this name have arrived. False after ten seconds.
  bool AwaitCalls(const std::string& method, int count = 1) const;
  // Breaks open event streams; the next subscription is served again.
  void BreakEventStreams();
  // The next process has this pid, the ones after it those that follow: for tests that look into
  // /proc.
  void SetNextPid(int pid);
  // What Stats answers from now on.
  void SetStats(shim::v1::StatsResponse stats);
  // Forgets events up to and including this number.
  void ForgetEvents(uint64_t number);

  std::vector<std::string> calls() const;  // names, in order
  shim::v1::CreateRequest create_request() const;
  std::string stdin_received() const;
  int event_streams() const;

 private:
  struct State;
  class Service;
  class Attached;
  const std::unique_ptr<State> state_;
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_FAKE_SHIM_H_
