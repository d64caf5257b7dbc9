#include "supervisor/runtime/shim_launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "shim/zygote_protocol.h"

namespace gantry::runtime {
namespace {

constexpr absl::Duration kForkTimeout = absl::Seconds(5);
constexpr int kKillMillis = 2000;
constexpr int kZygoteFd = 3;
constexpr int kReadyFd = 3;

void AddOpenFiles(uint64_t most, std::vector<std::string>& argv) {
  if (most != 0) argv.insert(argv.end(), {"--open-files", absl::StrCat(most)});
}

void KillByPidfd(int pidfd) { (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0); }

}  // namespace

absl::StatusOr<UniqueFd> OpenShimPidfd(const ShimProcess& process) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  if (!pidfd.valid()) {
    if (errno == ESRCH || errno == EINVAL) {
      return absl::NotFoundError(absl::StrCat("process ", process.pid, " has ended"));
    }
    return ErrnoToStatus(errno, absl::StrCat("pidfd of ", process.pid));
  }
  // Read after the descriptor was opened: if the number was reused before, the start time tells.
  const absl::StatusOr<uint64_t> start = ReadStartTime(process.pid);
  pollfd ended = {pidfd.get(), POLLIN, 0};
  if (!start.ok() || *start != process.start_time_ticks || poll(&ended, 1, 0) != 0) {
    return absl::NotFoundError(absl::StrCat("process ", process.pid, " has ended"));
  }
  return pidfd;
}

void ReapIfChild(int pidfd) {
  siginfo_t info = {};
  // ECHILD, when the zygote or an earlier supervisor made it, is the usual case.
  (void)waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
}

// A running zygote and the socket to it.
class ShimLauncher::Zygote {
 public:
  static absl::StatusOr<std::unique_ptr<Zygote>> Start(const Options& options) {
    GANTRY_ASSIGN_OR_RETURN(shim::ZygoteSockets sockets, shim::MakeZygoteSockets());
    Command command;
    command.argv = {options.shim_path,       "--zygote",    "--fd",
                    absl::StrCat(kZygoteFd), "--log-level", options.log_level};
    AddOpenFiles(options.open_files, command.argv);
    command.cwd = std::string(
        "/");  // not assigned from a literal: GCC 12 warns of an overlap there that does not exist
    command.stderr_fd = STDERR_FILENO;
    command.extra_fds = {{sockets.zygote.get(), kZygoteFd}};
    command.new_session = true;
    absl::StatusOr<Process> process = Spawn(command);
    if (!process.ok()) return WithContext(process.status(), "start zygote");
    return std::unique_ptr<Zygote>(new Zygote(std::move(*process), std::move(sockets.supervisor)));
  }

  // Process ends the zygote's group when it is destroyed; the shims have sessions of their own.
  pid_t pid() const { return process_.pid(); }
  bool ended() const {
    pollfd wait = {process_.pidfd(), POLLIN, 0};
    return poll(&wait, 1, 0) != 0;
  }

  absl::StatusOr<shim::LaunchReply> Fork(const shim::LaunchRequest& request, int ready_write) {
    GANTRY_RETURN_IF_ERROR(shim::SendLaunchRequest(socket_.get(), request, ready_write));
    return shim::ReceiveLaunchReply(socket_.get(), kForkTimeout);
  }

 private:
  Zygote(Process process, UniqueFd socket)
      : process_(std::move(process)), socket_(std::move(socket)) {}

  Process process_;
  UniqueFd socket_;
};

struct ShimLauncher::State {
  explicit State(Options given) : options(std::move(given)) {}

  absl::StatusOr<shim::LaunchReply> ForkFromZygote(const shim::LaunchRequest& request,
                                                   int ready_write);
  absl::StatusOr<shim::LaunchReply> SpawnDirectly(const shim::LaunchRequest& request,
                                                  int ready_write);

  const Options options;

  // Held across one request and its answer, which takes as long as a fork: answers come in the
  // order of requests.
  absl::Mutex mu;
  std::unique_ptr<Zygote> zygote ABSL_GUARDED_BY(mu);
  bool fallback_logged ABSL_GUARDED_BY(mu) = false;
};

absl::StatusOr<shim::LaunchReply> ShimLauncher::State::ForkFromZygote(
    const shim::LaunchRequest& request, int ready_write) {
  absl::MutexLock lock(&mu);
  absl::Status last;
  // A zygote that died since the last launch is noticed here, or by the first try.
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (zygote != nullptr && zygote->ended()) {
      LOG(WARNING) << "zygote " << zygote->pid() << " has ended; starting another";
      zygote.reset();
    }
    if (zygote == nullptr) {
      absl::StatusOr<std::unique_ptr<Zygote>> started = Zygote::Start(options);
      if (!started.ok()) {
        last = started.status();
        break;
      }
      zygote = *std::move(started);
    }
    absl::StatusOr<shim::LaunchReply> reply = zygote->Fork(request, ready_write);
    if (reply.ok() || absl::IsInvalidArgument(reply.status())) return reply;
    last = reply.status();
    // Out of step or gone; either way this one is of no more use. A request that it took but did
    // not answer may have made a shim: that one finds its bundle served or gone, and ends by
    // itself.
    zygote.reset();
    if (!absl::IsUnavailable(last)) break;
  }
  if (!fallback_logged) {
    LOG(WARNING) << "no zygote, shims are started directly: " << last;
    fallback_logged = true;
  }
  return last;
}

absl::StatusOr<shim::LaunchReply> ShimLauncher::State::SpawnDirectly(
    const shim::LaunchRequest& request, int ready_write) {
  Command command;
  command.argv = {options.shim_path,   "--namespace", request.name_space,     "--id",
                  request.id,          "--bundle",    request.bundle,         "--socket",
                  request.socket_path, "--ready-fd",  absl::StrCat(kReadyFd), "--log-level",
                  options.log_level};
  AddOpenFiles(options.open_files, command.argv);
  command.cwd = request.bundle;
  command.stderr_fd = STDERR_FILENO;
  command.extra_fds = {{ready_write, kReadyFd}};
  command.new_session = true;
  GANTRY_ASSIGN_OR_RETURN(Process process, Spawn(command));
  shim::LaunchReply reply;
  reply.pidfd = UniqueFd(fcntl(process.pidfd(), F_DUPFD_CLOEXEC, 3));
  if (!reply.pidfd.valid()) return ErrnoToStatus(errno, "pidfd of the shim");
  // It outlives the supervisor. If it ends before, ReapIfChild() sees to it.
  reply.pid = process.Detach();
  return reply;
}

ShimLauncher::ShimLauncher(Options options) : state_(std::make_unique<State>(std::move(options))) {}
ShimLauncher::~ShimLauncher() = default;

absl::Status ShimLauncher::WarmUp() {
  if (!state_->options.use_zygote) return absl::OkStatus();
  absl::MutexLock lock(&state_->mu);
  if (state_->zygote != nullptr && !state_->zygote->ended()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(state_->zygote, Zygote::Start(state_->options));
  return absl::OkStatus();
}

pid_t ShimLauncher::zygote_pid() const {
  absl::MutexLock lock(&state_->mu);
  return state_->zygote == nullptr || state_->zygote->ended() ? 0 : state_->zygote->pid();
}

absl::StatusOr<LaunchedShim> ShimLauncher::Launch(const Bundle& bundle,
                                                  const std::string& runtime_path) {
  const absl::Duration deadline = Clock::Real().Monotonic() + state_->options.timeout;
  const std::string what = absl::StrCat("launch shim of ", bundle.key().ToString());
  shim::LaunchRequest request;
  request.name_space = bundle.key().ns;
  request.id = bundle.key().container_id;
  request.bundle = bundle.path();
  request.socket_path = bundle.socket_path();
  request.runtime_path = runtime_path;
  const auto& controllers = bundle.launch().create.runtime().mount_v1_controllers();
  request.v1_controllers.assign(controllers.begin(), controllers.end());
  GANTRY_ASSIGN_OR_RETURN(request.log_level, shim::ParseLogLevel(state_->options.log_level));
  absl::StatusOr<shim::ReadyPipe> ready = shim::MakeReadyPipe();
  if (!ready.ok()) return WithContext(ready.status(), what);

  absl::StatusOr<shim::LaunchReply> reply = absl::UnavailableError("");
  if (state_->options.use_zygote) reply = state_->ForkFromZygote(request, ready->write.get());
  if (!reply.ok() && !absl::IsInvalidArgument(reply.status())) {
    reply = state_->SpawnDirectly(request, ready->write.get());
  }
  if (!reply.ok()) return WithContext(reply.status(), what);
  if (reply->pid == 0) return absl::InternalError(absl::StrCat(what, ": ", reply->error));
  ready->write.reset();
  CrashPoint("shim.forked");

  LaunchedShim launched;
  launched.pidfd = std::move(reply->pidfd);
  launched.process.pid = reply->pid;
  const absl::Status listens = shim::ReadReadyReport(
      ready->read.get(), std::max(deadline - Clock::Real().Monotonic(), absl::ZeroDuration()));
  CrashPoint("shim.listening");
  absl::Status failed = listens;
  if (listens.ok()) {
    // It listens, so it lives, so the number is still its own.
    absl::StatusOr<uint64_t> start = ReadStartTime(reply->pid);
    if (start.ok()) launched.process.start_time_ticks = *start;
    failed = start.ok() ? bundle.WriteShimProcess(launched.process) : start.status();
  }
  if (!failed.ok()) {
    KillByPidfd(launched.pidfd.get());
    pollfd ended = {launched.pidfd.get(), POLLIN, 0};
    (void)poll(&ended, 1, kKillMillis);
    ReapIfChild(launched.pidfd.get());
    if (absl::IsUnavailable(failed)) {
      failed = absl::InternalError(absl::StrCat("it died while starting: ", failed.message()));
    }
    return WithContext(failed, what);
  }
  CrashPoint("shim.recorded");
  return launched;
}

}  // namespace gantry::runtime
