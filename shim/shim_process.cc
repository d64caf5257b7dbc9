#include "shim/shim_process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "shim/container.h"
#include "shim/event_log.h"
#include "shim/event_loop.h"
#include "shim/reaper.h"
#include "shim/shim_log.h"
#include "shim/shim_service.h"
#include "shim/state_record.h"
#include "shim/version.h"
#include "shim/worker_threads.h"

namespace gantry::shim {
namespace {

constexpr int kListenBacklog = 64;
constexpr int kMaxOomScore = 1000;
// Calls that block run side by side; more than these queue.
constexpr int kMaxWorkers = 16;
// Above whatever a parent leaves open below.
constexpr int kFirstFreeFd = 64;

// Descriptors 0, 1, 2 stay, and those of `kept` that are valid, moved to 3 and up; nothing of the
// parent's may be held open for the life of a container.
absl::Status CleanDescriptors(std::initializer_list<UniqueFd*> kept) {
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return ErrnoToStatus(errno, "open /dev/null");
  for (int fd = 0; fd < 3; ++fd) {
    if (dup2(null.get(), fd) < 0) return ErrnoToStatus(errno, "redirect standard streams");
  }
  // Out of the way first, so that moving one down does not close another.
  for (UniqueFd* fd : kept) {
    if (!fd->valid()) continue;
    *fd = UniqueFd(fcntl(fd->get(), F_DUPFD_CLOEXEC, kFirstFreeFd));
    if (!fd->valid()) return ErrnoToStatus(errno, "move a descriptor");
  }
  [[maybe_unused]] const int closed_below = null.release();
  int next = 3;
  for (UniqueFd* fd : kept) {
    if (!fd->valid()) continue;
    if (dup3(fd->get(), next, O_CLOEXEC) < 0) return ErrnoToStatus(errno, "move a descriptor");
    *fd = UniqueFd(next++);
  }
  if (close_range(static_cast<unsigned>(next), ~0U, 0) != 0) {
    return ErrnoToStatus(errno, "close inherited descriptors");
  }
  return absl::OkStatus();
}

// When memory runs out, a shim is chosen a little sooner than the daemon whose score it inherited;
// the container's processes begin with the score of their spec. Best effort: a process may always
// raise its own score.
void RaiseOomScore() {
  constexpr char kFile[] = "/proc/self/oom_score_adj";
  const absl::StatusOr<std::string> text = ReadFile(kFile, 32);
  int score;
  if (!text.ok() || !absl::SimpleAtoi(*text, &score) || score >= kMaxOomScore) return;
  const UniqueFd file(open(kFile, O_WRONLY | O_CLOEXEC));
  const std::string raised = absl::StrCat(score + 1);
  [[maybe_unused]] const ssize_t written = write(file.get(), raised.data(), raised.size());
}

void SetSignals() {
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  for (const int signal : {SIGPIPE, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU}) {
    sigaction(signal, &ignore, nullptr);
  }
  // Read from descriptors; blocked here, before there are threads, so that all of them inherit it.
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGHUP);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
}

absl::StatusOr<UniqueFd> Listen(const std::string& path) {
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoToStatus(errno, "socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
  unlink(path.c_str());
  const mode_t old_umask = umask(0177);
  const int bound =
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  umask(old_umask);
  if (bound != 0) return ErrnoToStatus(error, absl::StrCat("bind ", path));
  if (listen(listener.get(), kListenBacklog) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("listen on ", path));
  }
  return listener;
}

// Only the supervisor's user may call the shim, even if others can reach the socket.
bool PeerIsTrusted(int connection) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == geteuid() || peer.uid == 0;
}

// A cgroup v1 hierarchy that is mounted nowhere yet; invalid if it cannot be made. Making one
// takes more than a millisecond, moving it to its place almost nothing.
UniqueFd DetachedController(const std::string& controller) {
  const UniqueFd context(fsopen("cgroup", FSOPEN_CLOEXEC));
  if (!context.valid() ||
      fsconfig(context.get(), FSCONFIG_SET_FLAG, controller.c_str(), nullptr, 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return UniqueFd();
  }
  return UniqueFd(fsmount(context.get(), FSMOUNT_CLOEXEC,
                          MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
}

// The steps of a shim's life, in the order in which one that is launched takes them. One that
// stands by starts its service before it takes on a container.
class ShimProcess {
 public:
  // From here on nothing of the parent's is shared but `kept`.
  absl::Status LeaveParent(std::initializer_list<UniqueFd*> kept);
  // The socket listens afterwards: connections wait in the backlog until StartService().
  absl::Status TakeOn(const LaunchRequest& request);
  absl::Status StartService();
  // Returns only if it cannot.
  absl::Status Serve(const LaunchRequest& request, UniqueFd sealed_runtime,
                     std::map<std::string, UniqueFd> controllers);

 private:
  void Accept();

  UniqueFd listener_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Reaper> reaper_;
  EventLog events_;
  WorkerThreads workers_{kMaxWorkers};
  std::unique_ptr<ShimService> service_;
};

absl::Status ShimProcess::LeaveParent(std::initializer_list<UniqueFd*> kept) {
  setsid();  // fails when we lead a group already, which is as good
  GANTRY_RETURN_IF_ERROR(CleanDescriptors(kept));
  SetSignals();
  RaiseOomScore();
  umask(0022);
  prctl(PR_SET_NAME, "gantry-shim");
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return ErrnoToStatus(errno, "become subreaper");
  if (unshare(CLONE_NEWNS) != 0) return ErrnoToStatus(errno, "mount namespace");
  return absl::OkStatus();
}

absl::Status ShimProcess::TakeOn(const LaunchRequest& request) {
  if (chdir(request.bundle.c_str()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("bundle ", request.bundle));
  }
  GANTRY_ASSIGN_OR_RETURN(listener_, Listen(request.socket_path));
  return absl::OkStatus();
}

absl::Status ShimProcess::StartService() {
  GANTRY_ASSIGN_OR_RETURN(loop_, EventLoop::Create());
  GANTRY_ASSIGN_OR_RETURN(reaper_, Reaper::Create(loop_.get()));
  const auto leave = [loop = loop_.get()] { loop->Stop(); };
  service_ =
      std::make_unique<ShimService>(ShimService::Options{kVersion, leave}, &events_, &workers_);
  return service_->Start();
}

void ShimProcess::Accept() {
  UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) return;
  if (!PeerIsTrusted(connection.get())) {
    ShimLog(LogLevel::kWarning, "a connection of another user was refused");
    return;
  }
  service_->AddConnection(std::move(connection));
}

absl::Status ShimProcess::Serve(const LaunchRequest& request, UniqueFd sealed_runtime,
                                std::map<std::string, UniqueFd> controllers) {
  Container container({request.name_space, request.id, request.bundle, request.runtime_path,
                       std::move(sealed_runtime), std::move(controllers)},
                      loop_.get(), reaper_.get(), &events_, &workers_);
  service_->Serve(&container);
  const StateRecorder recorder(request.bundle, &events_, [&container](v1::InfoResponse* state) {
    // The bundle goes once the deletion is announced.
    if (container.IsDeleted()) return;
    container.FillInfo(state);
    state->set_shim_pid(getpid());
    state->set_version(kVersion);
  });
  GANTRY_RETURN_IF_ERROR(loop_->Watch(listener_.get(), EPOLLIN, [&](uint32_t) { Accept(); }));

  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  const UniqueFd term_signals(signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK));
  GANTRY_RETURN_IF_ERROR(loop_->Watch(term_signals.get(), EPOLLIN, [&](uint32_t) {
    signalfd_siginfo ignored;
    [[maybe_unused]] const ssize_t got = read(term_signals.get(), &ignored, sizeof(ignored));
    // SIGTERM to all processes of a host must not end containers; that is asked of the supervisor.
    if (!container.HasLiveProcess()) loop_->Stop();
  }));

  // The supervisor has written another file of forwarded ports. A shim of an earlier version
  // ignores it.
  sigset_t changed;
  sigemptyset(&changed);
  sigaddset(&changed, SIGHUP);
  const UniqueFd changes(signalfd(-1, &changed, SFD_CLOEXEC | SFD_NONBLOCK));
  GANTRY_RETURN_IF_ERROR(loop_->Watch(changes.get(), EPOLLIN, [&](uint32_t) {
    signalfd_siginfo ignored;
    [[maybe_unused]] const ssize_t got = read(changes.get(), &ignored, sizeof(ignored));
    container.ReadForwardedPorts();
  }));

  if (request.idle_exit_seconds > 0) {
    loop_->After(absl::Seconds(request.idle_exit_seconds), [&] {
      if (!container.IsEmpty()) return;
      ShimLog(LogLevel::kWarning, "nobody asked for a container; leaving");
      loop_->Stop();
    });
  }
  loop_->Run();
  // Not by way of the destructors: nothing is left to be saved, and threads may be in calls that
  // take long. The socket stays: it goes with the bundle, and a new shim of the same name may have
  // one there by now.
  _exit(0);
}

void OpenLogOf(const LaunchRequest& request) {
  OpenShimLog(absl::StrCat(request.bundle, "/shim.log"), request.log_level,
              absl::StrCat("ns=", request.name_space, " id=", request.id));
}

void Report(UniqueFd& ready, const absl::Status& status) {
  if (ready.valid()) WriteReadyReport(ready.get(), status);
  ready.reset();
}

[[noreturn]] void Die(const absl::Status& status) {
  ShimLog(LogLevel::kError, status.message());
  _exit(1);
}

}  // namespace

void RunShim(const LaunchRequest& request, UniqueFd ready, UniqueFd sealed_runtime) {
  OpenLogOf(request);
  ShimProcess shim;
  absl::Status status = shim.LeaveParent({&ready, &sealed_runtime});
  if (status.ok()) status = shim.TakeOn(request);
  Report(ready, status);
  if (status.ok()) status = shim.StartService();
  if (!status.ok()) Die(status);
  Die(shim.Serve(request, std::move(sealed_runtime), {}));
}

void RunStandbyShim(UniqueFd assignment, const std::vector<std::string>& v1_controllers,
                    const std::function<void(const LaunchRequest&)>& on_assigned) {
  ShimProcess shim;
  absl::Status status = shim.LeaveParent({&assignment});
  if (status.ok()) status = shim.StartService();
  // There is no log yet, and no call waits: the zygote forks the next shim when it is needed.
  if (!status.ok()) _exit(1);
  std::map<std::string, UniqueFd> controllers;
  for (const std::string& controller : v1_controllers) {
    if (UniqueFd mount = DetachedController(controller); mount.valid()) {
      controllers.emplace(controller, std::move(mount));
    }
  }
  absl::StatusOr<ReceivedLaunchRequest> received = ReceiveLaunchRequest(assignment.get());
  if (!received.ok()) _exit(0);
  assignment.reset();
  if (!received->request.ok()) {
    Report(received->ready_write, received->request.status());
    _exit(1);
  }
  const LaunchRequest& request = *received->request;
  on_assigned(request);
  OpenLogOf(request);
  status = shim.TakeOn(request);
  Report(received->ready_write, status);
  if (!status.ok()) Die(status);
  Die(shim.Serve(request, std::move(received->sealed_runtime), std::move(controllers)));
}

}  // namespace gantry::shim
