#include "shim/reaper.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

// Descriptor numbers of a child end here; ours are moved above while they are shuffled.
constexpr int kFirstFreeFd = 16;

absl::StatusOr<pid_t> PosixSpawn(const SpawnRequest& request) {
  std::vector<char*> argv;
  for (const std::string& arg : request.argv) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> env;
  for (const std::string& variable : request.env)
    env.push_back(const_cast<char*>(variable.c_str()));
  env.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  absl::Cleanup free_actions = [&] { posix_spawn_file_actions_destroy(&actions); };
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  absl::Cleanup free_attributes = [&] { posix_spawnattr_destroy(&attributes); };

  // dup2 of one stream must not overwrite the source of the next.
  std::vector<UniqueFd> moved;
  int limit = 3;
  bool given[3] = {false, false, false};
  for (const auto& [ours, theirs] : request.fds) {
    int source = ours;
    if (source < kFirstFreeFd) {
      moved.emplace_back(fcntl(source, F_DUPFD_CLOEXEC, kFirstFreeFd));
      if (!moved.back().valid()) return ErrnoToStatus(errno, "duplicate a descriptor");
      source = moved.back().get();
    }
    posix_spawn_file_actions_adddup2(&actions, source, theirs);
    if (theirs < 3) given[theirs] = true;
    limit = std::max(limit, theirs + 1);
  }
  for (int fd = 0; fd < 3; ++fd) {
    if (!given[fd]) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  }
  // Whatever a library forgot to mark close-on-exec must not reach a container.
  posix_spawn_file_actions_addclosefrom_np(&actions, limit);

  sigset_t none;
  sigemptyset(&none);
  sigset_t all;
  sigfillset(&all);
  if (request.ignore_sigpipe) sigdelset(&all, SIGPIPE);  // ignored here, so it stays ignored
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  pid_t pid;
  const char* program = request.program.empty() ? argv[0] : request.program.c_str();
  const int error = posix_spawn(&pid, program, &actions, &attributes, argv.data(), env.data());
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("run ", request.argv[0]));
  return pid;
}

// Gives this process another oom_score_adj for as long as it takes to make a child, which inherits
// it: crun leaves alone what the spec calls 0, and an exec's altogether. Not thread-safe.
class ScopedOomScore {
 public:
  explicit ScopedOomScore(int score) {
    const absl::StatusOr<std::string> own = ReadFile(kFile, 64);
    if (!own.ok() || !absl::SimpleAtoi(*own, &own_) || own_ == score) return;
    changed_ = WriteScore(score);
  }
  ~ScopedOomScore() {
    if (changed_) (void)WriteScore(own_);
  }
  ScopedOomScore(const ScopedOomScore&) = delete;
  ScopedOomScore& operator=(const ScopedOomScore&) = delete;

 private:
  static constexpr char kFile[] = "/proc/self/oom_score_adj";
  // False where the host does not allow it; the spec was fitted to that before.
  static bool WriteScore(int score) {
    const UniqueFd file(open(kFile, O_WRONLY | O_CLOEXEC));
    const std::string text = absl::StrCat(score);
    return file.valid() &&
           write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }

  int own_ = 0;
  bool changed_ = false;
};

// All children of this process. A child is listed under the thread that made it or was given it.
std::vector<pid_t> Children() {
  std::vector<pid_t> children;
  DIR* threads = opendir("/proc/self/task");
  if (threads == nullptr) return children;
  absl::Cleanup close_threads = [&] { closedir(threads); };
  while (const dirent* entry = readdir(threads)) {
    if (entry->d_name[0] == '.') continue;
    const absl::StatusOr<std::string> list =
        ReadFile(absl::StrCat("/proc/self/task/", entry->d_name, "/children"), 1 << 20);
    if (!list.ok()) continue;
    for (absl::string_view text : absl::StrSplit(*list, ' ', absl::SkipEmpty())) {
      pid_t pid;
      if (absl::SimpleAtoi(text, &pid)) children.push_back(pid);
    }
  }
  return children;
}

}  // namespace

uint32_t ExitStatusOf(int wait_status) {
  if (WIFSIGNALED(wait_status)) return 128 + static_cast<uint32_t>(WTERMSIG(wait_status));
  return static_cast<uint32_t>(WEXITSTATUS(wait_status));
}

absl::StatusOr<std::unique_ptr<Reaper>> Reaper::Create(EventLoop* loop) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  UniqueFd signals(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.valid()) return ErrnoToStatus(errno, "signalfd");
  std::unique_ptr<Reaper> reaper(new Reaper(loop, std::move(signals)));
  GANTRY_RETURN_IF_ERROR(loop->Watch(reaper->signals_.get(), EPOLLIN,
                                     [raw = reaper.get()](uint32_t) { raw->Reap(); }));
  return reaper;
}

Reaper::~Reaper() { loop_->Unwatch(signals_.get()); }

absl::StatusOr<pid_t> Reaper::Spawn(const SpawnRequest& request, OnExit on_exit) {
  // The lock is held across the spawn: Reap() must not meet the child before its claim is there. It
  // takes as long as an exec does.
  absl::MutexLock lock(&mu_);
  const ScopedOomScore score(request.oom_score_adj);
  GANTRY_ASSIGN_OR_RETURN(const pid_t pid, PosixSpawn(request));
  claims_[pid] = {Rank::kHelper, std::move(on_exit)};
  return pid;
}

absl::StatusOr<int> Reaper::Run(const SpawnRequest& request, absl::Duration timeout) {
  struct Wait {
    absl::Mutex mu;
    bool done ABSL_GUARDED_BY(mu) = false;
    int status ABSL_GUARDED_BY(mu) = 0;
  };
  // Shared: after a timeout the callback still comes, when we have gone.
  auto wait = std::make_shared<Wait>();
  GANTRY_ASSIGN_OR_RETURN(const pid_t pid, Spawn(request, [wait](int status, absl::Time) {
                            absl::MutexLock lock(&wait->mu);
                            wait->done = true;
                            wait->status = status;
                          }));
  absl::MutexLock lock(&wait->mu);
  const absl::Condition done(&wait->done);
  if (!wait->mu.AwaitWithTimeout(done, timeout)) {
    kill(-pid, SIGKILL);
    // Not reaped yet: a process in uninterruptible sleep may stay for long, and we do not wait for
    // it.
    wait->mu.AwaitWithTimeout(done, absl::Milliseconds(100));
    return absl::DeadlineExceededError(
        absl::StrCat(request.argv[0], ": no answer in time, killed"));
  }
  return wait->status;
}

void Reaper::Claim(pid_t pid, Rank rank, OnExit on_exit) {
  {
    absl::MutexLock lock(&mu_);
    claims_[pid] = {rank, std::move(on_exit)};
  }
  // Its SIGCHLD may have come and gone.
  loop_->Post([this] { Reap(); });
}

Reaper::Hold::Hold(Reaper* reaper) : reaper_(reaper) {
  absl::MutexLock lock(&reaper_->mu_);
  ++reaper_->holds_;
}

Reaper::Hold::~Hold() {
  {
    absl::MutexLock lock(&reaper_->mu_);
    if (--reaper_->holds_ > 0) return;
  }
  reaper_->loop_->Post([reaper = reaper_] { reaper->Reap(); });
}

void Reaper::KillUnclaimed() {
  absl::MutexLock lock(&mu_);
  // With another operation under way its new process cannot be told from what we are after.
  if (holds_ > 1) return;
  for (int round = 0; round < 8; ++round) {
    bool killed = false;
    for (const pid_t pid : Children()) {
      if (claims_.count(pid) != 0) continue;
      siginfo_t info = {};
      const bool zombie =
          waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid == pid;
      if (!zombie && kill(pid, SIGKILL) == 0) killed = true;
    }
    // What they had as children are ours now.
    if (!killed) return;
  }
}

void Reaper::Reap() {
  signalfd_siginfo ignored;
  while (read(signals_.get(), &ignored, sizeof(ignored)) > 0) {
  }
  struct Report {
    Rank rank;
    OnExit on_exit;
    int status;
  };
  std::vector<Report> reports;
  {
    absl::MutexLock lock(&mu_);
    for (auto it = claims_.begin(); it != claims_.end();) {
      int status;
      const pid_t pid = waitpid(it->first, &status, WNOHANG);
      if (pid == it->first) {
        reports.push_back({it->second.rank, std::move(it->second.on_exit), status});
        it = claims_.erase(it);
      } else {
        ++it;
      }
    }
    while (holds_ == 0) {
      int status;
      const pid_t pid = waitpid(-1, &status, WNOHANG);
      if (pid <= 0) break;
      auto it = claims_.find(pid);
      if (it == claims_.end()) continue;
      reports.push_back({it->second.rank, std::move(it->second.on_exit), status});
      claims_.erase(it);
    }
  }
  std::stable_sort(reports.begin(), reports.end(),
                   [](const Report& a, const Report& b) { return a.rank < b.rank; });
  const absl::Time now = absl::Now();
  for (Report& report : reports) {
    if (report.on_exit) report.on_exit(report.status, now);
  }
}

}  // namespace gantry::shim
