// A launcher of fake shims, for tests of everything that starts tasks.
//
// Each launch makes a FakeShim at the bundle's socket and, in place of the shim's process, a
// program that does nothing: what is killed and waited for is real. Thread-safe.
#ifndef GANTRY_SUPERVISOR_RUNTIME_FAKE_LAUNCHER_H_
#define GANTRY_SUPERVISOR_RUNTIME_FAKE_LAUNCHER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/subprocess.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/fake_shim.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::runtime {

class FakeLauncher : public Launcher {
 public:
  FakeLauncher() = default;
  // Ends the processes; shims go with it.
  ~FakeLauncher() override = default;

  absl::StatusOr<LaunchedShim> Launch(const Bundle& bundle,
                                      const std::string& runtime_path) override;

  // Called with each shim before its launch returns; may be empty.
  void OnLaunch(std::function<void(FakeShim&)> hook);

  // The shim that was launched last for this container. Must be there.
  FakeShim& Find(const TaskKey& key);
  // Whether the process that stands for it has ended.
  bool Ended(const TaskKey& key);
  // Kills the process and closes the socket, as SIGKILL to a shim does.
  void Kill(const TaskKey& key);
  // The shim as a supervisor finds it that did not launch it.
  std::shared_ptr<Shim> Adopt(const Bundle& bundle);

 private:
  struct Launched {
    std::unique_ptr<FakeShim> shim;
    Process process;
    ShimProcess name;
  };

  absl::Mutex mu_;
  std::map<TaskKey, Launched> launched_ ABSL_GUARDED_BY(mu_);
  std::function<void(FakeShim&)> hook_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_FAKE_LAUNCHER_H_
