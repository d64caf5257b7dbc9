#include "supervisor/runtime/fake_launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::runtime {

absl::StatusOr<LaunchedShim> FakeLauncher::Launch(const Bundle& bundle, const std::string&) {
  std::unique_ptr<FakeShim>
      former;  // destroyed without the lock, and before its socket is used again
  {
    absl::MutexLock lock(&mu_);
    const auto found = launched_.find(bundle.key());
    if (found != launched_.end()) former = std::move(found->second.shim);
  }
  former.reset();
  Command command;
  command.argv = {"sleep", "600"};
  command.cwd = bundle.path();
  Launched launched;
  GANTRY_ASSIGN_OR_RETURN(launched.process, Spawn(command));
  GANTRY_ASSIGN_OR_RETURN(const uint64_t start, ReadStartTime(launched.process.pid()));
  launched.name = ShimProcess{launched.process.pid(), start};
  GANTRY_RETURN_IF_ERROR(bundle.WriteShimProcess(launched.name));
  launched.shim = std::make_unique<FakeShim>(bundle.key(), bundle.socket_path());
  LaunchedShim answer;
  answer.process = launched.name;
  answer.pidfd = UniqueFd(fcntl(launched.process.pidfd(), F_DUPFD_CLOEXEC, 3));
  if (!answer.pidfd.valid()) return ErrnoToStatus(errno, "pidfd of a fake shim");
  std::function<void(FakeShim&)> hook;
  FakeShim* shim = launched.shim.get();
  shim->OnShutdown([pidfd = launched.process.pidfd()] {
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  });
  {
    absl::MutexLock lock(&mu_);
    hook = hook_;
    launched_[bundle.key()] = std::move(launched);
  }
  if (hook) hook(*shim);
  return answer;
}

void FakeLauncher::OnLaunch(std::function<void(FakeShim&)> hook) {
  absl::MutexLock lock(&mu_);
  hook_ = std::move(hook);
}

FakeShim& FakeLauncher::Find(const TaskKey& key) {
  absl::MutexLock lock(&mu_);
  return *launched_.at(key).shim;
}

bool FakeLauncher::Ended(const TaskKey& key) {
  absl::MutexLock lock(&mu_);
  pollfd wait = {launched_.at(key).process.pidfd(), POLLIN, 0};
  return poll(&wait, 1, 0) != 0;
}

void FakeLauncher::Kill(const TaskKey& key) {
  std::unique_ptr<FakeShim> shim;
  {
    absl::MutexLock lock(&mu_);
    Launched& launched = launched_.at(key);
    shim = std::move(launched.shim);
    (void)launched.process.Kill(SIGKILL);
  }
}

std::shared_ptr<Shim> FakeLauncher::Adopt(const Bundle& bundle) {
  absl::MutexLock lock(&mu_);
  const Launched& launched = launched_.at(bundle.key());
  return std::make_shared<Shim>(bundle, launched.name,
                                UniqueFd(fcntl(launched.process.pidfd(), F_DUPFD_CLOEXEC, 3)));
}

}  // namespace gantry::runtime
