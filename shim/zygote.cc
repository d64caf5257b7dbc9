#include "shim/zygote.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "proto/shim/v1/shim.pb.h"
#include "shim/exit_record.h"
#include "shim/log_sink.h"
#include "shim/sealed_program.h"
#include "shim/shim_process.h"
#include "shim/spec_facts.h"
#include "shim/zygote_protocol.h"

namespace gantry::shim {
namespace {

// Runs the code, and touches the tables, that each shim will need: what is set up lazily is set up
// once, here, and shared.
void Warm() {
  v1::CreateRequest request;
  request.add_rootfs()->add_options("ro");
  request.mutable_stdio()->mutable_log()->set_path("/");
  v1::CreateRequest copy;
  copy.ParseFromString(request.SerializeAsString());
  v1::Event event;
  event.mutable_exited()->mutable_exited_at()->set_seconds(1);
  v1::Event event_copy;
  event_copy.ParseFromString(event.SerializeAsString());
  [[maybe_unused]] const std::string time = FormatLogTime(absl::Now());
  [[maybe_unused]] const auto facts =
      ParseSpecFacts(R"({"linux":{"namespaces":[{"type":"pid"}]}})");
  [[maybe_unused]] const auto record = DecodeExitRecord(EncodeExitRecord(ExitRecord()));
}

// Fills the holes in the heap permanently. A shim would put its first objects there, each into a
// page of ours that it would have to copy; from now on they come from fresh pages, side by side.
void FillHeapHoles() {
  for (size_t size = 4096; size >= 16; size -= size > 512 ? 256 : 16) {
    for (;;) {
      const char* top = static_cast<char*>(sbrk(0)) - mallinfo2().keepcost;
      const char* block = static_cast<char*>(malloc(size));
      if (block == nullptr || block >= top) break;
    }
  }
}

// What `ps` shows. The strings of argv and of the environment lie behind each other; the kernel
// shows what is written over them, into the environment too when the last byte of argv is not NUL.
class ProcessTitle {
 public:
  ProcessTitle(int argc, char** argv) {
    if (argc < 1) return;
    begin_ = argv[0];
    argv_size_ = static_cast<size_t>(argv[argc - 1] + std::strlen(argv[argc - 1]) + 1 - begin_);
    size_ = argv_size_;
    for (char** variable = environ; *variable != nullptr; ++variable) {
      if (*variable != begin_ + size_) break;
      size_ += std::strlen(*variable) + 1;
    }
  }
  // Lets the environment go, but for PATH, so that there is room. In a child, before it has
  // threads.
  void GiveUpEnvironment() const {
    const char* path = getenv("PATH");
    const std::string saved = path == nullptr ? "" : path;
    clearenv();
    if (!saved.empty()) setenv("PATH", saved.c_str(), 1);
  }
  void Set(const std::string& title) const {
    if (begin_ == nullptr || title.size() + 1 > size_) return;
    std::memset(begin_, 0, size_);
    std::memcpy(begin_, title.data(), title.size());
    if (title.size() < argv_size_) std::memset(begin_ + title.size(), 0, argv_size_ - title.size());
  }

 private:
  char* begin_ = nullptr;
  size_t argv_size_ = 0;
  size_t size_ = 0;
};

// Mounts seldom change alone: the next shim is made when they have been left alone for so long.
constexpr int kSettleMillis = 1000;

std::string TitleOf(const LaunchRequest& request) {
  return absl::StrCat("gantry-shim --namespace ", request.name_space, " --id ", request.id);
}

UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// A shim made ahead: forked, out of its parent's namespaces, gRPC started. It gets its container
// by an assignment, and until then ends with the zygote.
//
// It has a copy of the host's mounts from when it was made. A host whose mounts have changed since
// needs a new one: volumes on a disk that was mounted since then would be missing from it wherever
// mounts do not propagate.
class Standby {
 public:
  // Invalid if no process could be made.
  static Standby Fork(const std::vector<std::string>& v1_controllers, const ProcessTitle& title) {
    Standby standby;
    // Before the fork: a change in between is one too many, never one too few.
    standby.mounts_ = UniqueFd(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    absl::StatusOr<ZygoteSockets> sockets = MakeZygoteSockets();
    if (!standby.mounts_.valid() || !sockets.ok()) return standby;
    const pid_t pid = fork();
    if (pid < 0) return standby;
    if (pid == 0) {
      title.GiveUpEnvironment();
      title.Set("gantry-shim --standby");
      RunStandbyShim(std::move(sockets->zygote), v1_controllers,
                     [&title](const LaunchRequest& request) { title.Set(TitleOf(request)); });
    }
    standby.pid_ = pid;
    standby.pidfd_ = OpenPidfd(pid);
    standby.socket_ = std::move(sockets->supervisor);
    return standby;
  }

  bool Usable() const {
    if (!pidfd_.valid()) return false;
    pollfd news[2] = {{pidfd_.get(), POLLIN, 0}, {mounts_.get(), POLLPRI, 0}};
    return poll(news, 2, 0) == 0;
  }
  // Gives POLLPRI when the host's mounts have changed; -1 if there is no standby shim.
  int mounts_fd() const { return pidfd_.valid() ? mounts_.get() : -1; }
  // On success it is a shim like any other, and this object empty.
  bool Assign(const LaunchRequest& request, int ready_write, int sealed_runtime,
              LaunchReply* reply) {
    if (!SendLaunchRequest(socket_.get(), request, ready_write, sealed_runtime).ok()) return false;
    reply->pid = std::exchange(pid_, 0);
    reply->pidfd = std::move(pidfd_);
    socket_.reset();
    return true;
  }

 private:
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd socket_;
  UniqueFd mounts_;
};

LaunchReply Fork(const ReceivedLaunchRequest& received, int sealed_runtime,
                 const ProcessTitle& title) {
  LaunchReply reply;
  const pid_t pid = fork();
  if (pid < 0) {
    reply.error = absl::StrCat("fork: ", std::strerror(errno));
    return reply;
  }
  if (pid == 0) {
    const LaunchRequest request = *received.request;
    title.GiveUpEnvironment();
    title.Set(TitleOf(request));
    RunShim(request, UniqueFd(dup(received.ready_write.get())), UniqueFd(dup(sealed_runtime)));
  }
  reply.pid = pid;
  // Children are reaped by the loop below and not before: the pid still means this child.
  reply.pidfd = OpenPidfd(pid);
  if (!reply.pidfd.valid()) {
    reply.error = absl::StrCat("pidfd_open: ", std::strerror(errno));
    reply.pid = 0;
    kill(pid, SIGKILL);
  }
  return reply;
}

LaunchReply Launch(const ReceivedLaunchRequest& received, Standby& standby,
                   SealedPrograms& programs, const ProcessTitle& title) {
  LaunchReply reply;
  if (!received.request.ok()) {
    reply.error = std::string(received.request.status().message());
    return reply;
  }
  const LaunchRequest& request = *received.request;
  const int sealed_runtime =
      request.runtime_path.empty() ? -1 : programs.Find(request.runtime_path);
  if (standby.Usable() &&
      standby.Assign(request, received.ready_write.get(), sealed_runtime, &reply)) {
    return reply;
  }
  return Fork(received, sealed_runtime, title);
}

}  // namespace

void RunZygote(UniqueFd socket, int argc, char** argv) {
  prctl(PR_SET_NAME, "gantry-zygote");
  // A terminal's Ctrl-C is for the supervisor; the end of the socket is our signal.
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  const UniqueFd children(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  const ProcessTitle title(argc, argv);
  SealedPrograms programs;
  std::vector<std::string> v1_controllers;
  Warm();
  FillHeapHoles();
  Standby standby = Standby::Fork(v1_controllers, title);
  for (;;) {
    pollfd fds[3] = {
        {socket.get(), POLLIN, 0}, {children.get(), POLLIN, 0}, {standby.mounts_fd(), POLLPRI, 0}};
    const int ready = poll(fds, 3, standby.mounts_fd() < 0 ? kSettleMillis : -1);
    if (ready < 0 && errno != EINTR) return;
    if (ready == 0) standby = Standby::Fork(v1_controllers, title);
    if (ready <= 0) continue;
    // At once, and not when the next container comes: until then it would keep busy what the host
    // has unmounted.
    if (fds[2].revents != 0) standby = Standby();
    if (fds[1].revents != 0) {
      signalfd_siginfo ignored;
      while (read(children.get(), &ignored, sizeof(ignored)) > 0) {
      }
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    }
    if (fds[0].revents == 0) continue;
    absl::StatusOr<ReceivedLaunchRequest> received = ReceiveLaunchRequest(socket.get());
    if (!received.ok()) return;
    {
      const LaunchReply reply = Launch(*received, standby, programs, title);
      received->ready_write.reset();
      if (!SendLaunchReply(socket.get(), reply).ok()) return;
    }
    // The next container most likely needs the same. Done after the answer, so that no call waits
    // for it.
    if (received->request.ok()) v1_controllers = received->request->v1_controllers;
    standby = Standby::Fork(v1_controllers, title);
  }
}

}  // namespace gantry::shim
