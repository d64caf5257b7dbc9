#include "shim/container.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "shim/exit_record.h"
#include "shim/kernel_log.h"
#include "shim/proto_time.h"
#include "shim/shim_log.h"
#include "snapshotter/mount.h"

namespace gantry::shim {
namespace {

constexpr size_t kMaxConfigBytes = 16 << 20;
// Between the kernel's clock of its log and ours of when a process started.
constexpr absl::Duration kClockSlack = absl::Seconds(2);
constexpr absl::Duration kMaxWaitForExecs = absl::Seconds(5);
constexpr absl::Duration kMaxWaitForOutput = absl::Seconds(10);
// Of the time a create may take, what is kept for cleaning up after a runtime that hangs.
constexpr double kCleanUpShare = 0.25;

absl::string_view StatusWord(v1::Status status) {
  switch (status) {
    case v1::STATUS_EMPTY:
      return "not created";
    case v1::STATUS_CREATED:
      return "created, not started";
    case v1::STATUS_RUNNING:
      return "running";
    case v1::STATUS_STOPPED:
      return "stopped";
    case v1::STATUS_PAUSED:
      return "paused";
    case v1::STATUS_PAUSING:
      return "being paused";
    default:
      return "in an unknown state";
  }
}

std::string NameOf(absl::string_view exec_id) {
  return exec_id.empty() ? "container" : absl::StrCat("exec ", exec_id);
}

absl::Status WrongState(absl::string_view exec_id, v1::Status status, absl::string_view what) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot ", what, ": ", NameOf(exec_id), " is ", StatusWord(status)));
}

UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// Interfaces as the process sees them; none when it shares the host's.
void ReadNetworks(pid_t pid, v1::StatsResponse* stats) {
  struct stat theirs;
  struct stat ours;
  if (stat(absl::StrCat("/proc/", pid, "/ns/net").c_str(), &theirs) != 0 ||
      stat("/proc/self/ns/net", &ours) != 0 || theirs.st_ino == ours.st_ino) {
    return;
  }
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat("/proc/", pid, "/net/dev"), 1 << 20);
  if (!text.ok()) return;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;  // the two head lines
    const absl::string_view name = absl::StripAsciiWhitespace(line.substr(0, colon));
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line.substr(colon + 1), ' ', absl::SkipEmpty());
    if (name == "lo" || fields.size() < 12) continue;
    uint64_t values[12] = {};
    for (int i = 0; i < 12; ++i) {
      if (!absl::SimpleAtoi(fields[i], &values[i])) values[i] = 0;
    }
    v1::StatsResponse::Network* network = stats->add_networks();
    network->set_name(std::string(name));
    network->set_rx_bytes(values[0]);
    network->set_rx_packets(values[1]);
    network->set_rx_errors(values[2]);
    network->set_rx_dropped(values[3]);
    network->set_tx_bytes(values[8]);
    network->set_tx_packets(values[9]);
    network->set_tx_errors(values[10]);
    network->set_tx_dropped(values[11]);
  }
}

}  // namespace

Container::Container(Options options, EventLoop* loop, Reaper* reaper, EventLog* events,
                     WorkerThreads* workers)
    : options_(std::move(options)),
      loop_(loop),
      reaper_(reaper),
      events_(events),
      workers_(workers),
      init_(std::make_shared<Process>("")) {
  init_->io = MakeIo();
}

Container::~Container() = default;

std::shared_ptr<ProcessIo> Container::MakeIo() {
  ProcessIo::Context context;
  context.loop = loop_;
  context.reaper = reaper_;
  context.name_space = options_.name_space;
  context.container_id = options_.id;
  absl::MutexLock lock(&mu_);
  context.console_socket = absl::StrCat("console-", next_console_++);
  return ProcessIo::Make(std::move(context));
}

absl::StatusOr<Container::ProcessPtr> Container::Find(const std::string& exec_id) const {
  if (exec_id.empty()) return init_;
  absl::MutexLock lock(&mu_);
  auto it = execs_.find(exec_id);
  if (it == execs_.end()) {
    return absl::NotFoundError(absl::StrCat("container ", options_.id, ": no exec ", exec_id));
  }
  return it->second;
}

absl::StatusOr<OciRuntime*> Container::RuntimeWhen(std::initializer_list<v1::Status> states,
                                                   absl::string_view what) const {
  absl::MutexLock lock(&mu_);
  for (const v1::Status status : states) {
    if (init_->status == status && runtime_ != nullptr) return runtime_.get();
  }
  return WrongState("", init_->status, what);
}

// --- Create and start ----------------------------------------------------------------------------------------------

absl::Status Container::MountControllers(const v1::Runtime& runtime) {
  for (const std::string& controller : runtime.mount_v1_controllers()) {
    if (controller.empty() || absl::StrContains(controller, '/')) {
      return absl::InvalidArgumentError(absl::StrCat("cgroup controller \"", controller, "\""));
    }
    const std::string target = absl::StrCat(options_.bundle, "/cgroup-", controller);
    GANTRY_RETURN_IF_ERROR(MakeDirectories(target, 0700));
    const auto ready = options_.controllers.find(controller);
    if (ready != options_.controllers.end() &&
        move_mount(ready->second.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) ==
            0) {
      continue;
    }
    if (mount("cgroup", target.c_str(), "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              controller.c_str()) != 0) {
      // The runtime may do without; if not, its message comes after this one.
      const absl::Status status =
          ErrnoToStatus(errno, absl::StrCat("mount cgroup v1 controller ", controller));
      ShimLog(LogLevel::kWarning, status.message());
    }
  }
  return absl::OkStatus();
}

std::string Container::RuntimeProgram(const v1::Runtime& runtime) const {
  if (!options_.sealed_runtime.valid() || runtime.path() != options_.runtime_path) return "";
  // By a name of its own, which is what `ps` shows of it.
  const std::string link = absl::StrCat(options_.bundle, "/runtime-",
                                        runtime.path().substr(runtime.path().rfind('/') + 1));
  const std::string copy = absl::StrCat("/proc/", getpid(), "/fd/", options_.sealed_runtime.get());
  return symlink(copy.c_str(), link.c_str()) == 0 || errno == EEXIST ? link : "";
}

void Container::Adopt(const ProcessPtr& process, pid_t pid) {
  {
    absl::MutexLock lock(&mu_);
    process->pid = pid;
    process->pidfd = OpenPidfd(pid);
  }
  const Reaper::Rank rank = process->exec_id.empty() ? Reaper::Rank::kInit : Reaper::Rank::kExec;
  reaper_->Claim(pid, rank, [this, process](int wait_status, absl::Time at) {
    OnReaped(process, {wait_status, at});
  });
}

void Container::FindCgroup(pid_t pid) {
  absl::StatusOr<Cgroup> found = Cgroup::Find(pid);
  Cgroup cgroup = found.ok() ? *std::move(found) : Cgroup();
  if (cgroup.empty()) cgroup = Cgroup::AtPath(CgroupPath());
  absl::MutexLock lock(&mu_);
  cgroup_ = std::move(cgroup);
}

std::string Container::CgroupPath() const {
  absl::MutexLock lock(&mu_);
  return facts_.cgroups_path.empty() ? absl::StrCat("/", options_.id) : facts_.cgroups_path;
}

void Container::WatchForOom() {
  loop_->Post([this] {
    Cgroup cgroup;
    {
      absl::MutexLock lock(&mu_);
      if (init_->reaped) return;
      cgroup = cgroup_;
    }
    absl::StatusOr<std::unique_ptr<OomWatch>> watch = OomWatch::Start(loop_, cgroup, [this] {
      v1::Event event;
      event.mutable_oom();
      events_->Append(std::move(event));
    });
    if (watch.ok()) {
      oom_watch_ = *std::move(watch);
    } else {
      ShimLog(LogLevel::kInfo, absl::StrCat("no notice of memory shortage, only at the exit: ",
                                            watch.status().message()));
    }
  });
}

void Container::StartIsOver(const ProcessPtr& process) {
  std::optional<Ended> end;
  {
    absl::MutexLock lock(&mu_);
    process->starting = false;
    end.swap(process->early_end);
  }
  if (end.has_value()) loop_->Post([this, process, end] { HandleEnd(process, *end); });
}

void Container::EmitStarted(const ProcessPtr& process) {
  v1::Event event;
  {
    absl::MutexLock lock(&mu_);
    process->status = v1::STATUS_RUNNING;
    process->started_at = absl::Now();
    event.mutable_started()->set_exec_id(process->exec_id);
    event.mutable_started()->set_pid(process->pid);
  }
  events_->Append(std::move(event));
}

absl::StatusOr<pid_t> Container::CreateInit(const v1::CreateRequest& request,
                                            const ProcessPtr& init, absl::Duration limit) {
  GANTRY_ASSIGN_OR_RETURN(const std::string config,
                          ReadFile(absl::StrCat(options_.bundle, "/config.json"), kMaxConfigBytes));
  GANTRY_ASSIGN_OR_RETURN(SpecFacts facts, ParseSpecFacts(config));
  if (facts.terminal != request.stdio().terminal()) {
    return absl::InvalidArgumentError(
        absl::StrCat("terminal is ", request.stdio().terminal() ? "asked for" : "not asked for",
                     ", but process.terminal of the spec says otherwise"));
  }
  OciRuntime* runtime;
  std::shared_ptr<ProcessIo> io;
  {
    absl::MutexLock lock(&mu_);
    facts_ = std::move(facts);
    // The runtime of an earlier, failed attempt is not used by anybody any more: op_mu is held.
    runtime_ =
        std::make_unique<OciRuntime>(request.runtime(), RuntimeProgram(request.runtime()),
                                     options_.bundle, options_.id, facts_.oom_score_adj, reaper_);
    runtime = runtime_.get();
    io = init->io;
  }
  GANTRY_RETURN_IF_ERROR(MountControllers(request.runtime()));

  const std::string rootfs = absl::StrCat(options_.bundle, "/rootfs");
  bool mounted = false;
  absl::Cleanup unmount = [&] {
    if (!mounted) return;
    [[maybe_unused]] const absl::Status ignored = snapshot::UnmountAll(rootfs, /*lazy=*/true);
  };
  if (request.rootfs_size() > 0) {
    std::vector<snapshot::Mount> mounts;
    for (const v1::Mount& mount : request.rootfs()) {
      mounts.push_back({mount.type(),
                        mount.source(),
                        mount.target(),
                        {mount.options().begin(), mount.options().end()}});
    }
    GANTRY_RETURN_IF_ERROR(MakeDirectories(rootfs, 0755));
    GANTRY_RETURN_IF_ERROR(WithContext(request.discard_rootfs()
                                           ? snapshot::MountAllUnsynced(mounts, rootfs)
                                           : snapshot::MountAll(mounts, rootfs),
                                       "mount the root file system"));
    mounted = true;
  }

  absl::Cleanup close_io = [&] {
    io->CloseChildEnds();
    io->Close(absl::FailedPreconditionError("the container could not be created"));
    absl::MutexLock lock(&mu_);
    init->io = nullptr;  // made anew by Create()
  };
  GANTRY_RETURN_IF_ERROR(io->Open(request.stdio()));

  pid_t pid = 0;
  if (request.restore_image_path().empty()) {
    if (!request.stdio().terminal()) io->Begin();
    const Reaper::Hold hold(reaper_);
    absl::Cleanup delete_container = [&] {
      [[maybe_unused]] const absl::Status ignored =
          runtime->Delete(/*force=*/true, limit * kCleanUpShare);
    };
    const absl::StatusOr<pid_t> created =
        runtime->Create(request.start(), io->child_stdio(), limit * (1 - 2 * kCleanUpShare));
    if (!created.ok()) {
      // Somebody else's container of this name is not ours to delete.
      if (absl::IsAlreadyExists(created.status())) std::move(delete_container).Cancel();
      return created.status();
    }
    pid = *created;
    if (request.stdio().terminal()) GANTRY_RETURN_IF_ERROR(io->TakeConsole());
    FindCgroup(pid);
    {
      absl::MutexLock lock(&mu_);
      init->starting = true;
    }
    Adopt(init, pid);
    std::move(delete_container).Cancel();
  }
  io->CloseChildEnds();
  {
    absl::MutexLock lock(&mu_);
    rootfs_mounted_ = mounted;
    if (!request.restore_image_path().empty()) restore_ = request;
  }
  std::move(unmount).Cancel();
  std::move(close_io).Cancel();
  return pid;
}

absl::StatusOr<v1::CreateResponse> Container::Create(const v1::CreateRequest& request,
                                                     absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  {
    absl::MutexLock lock(&mu_);
    if (init_->status != v1::STATUS_EMPTY || init_->deleted) {
      return absl::AlreadyExistsError(
          absl::StrCat("container ", options_.id, " was created already"));
    }
    init_->stdio = request.stdio();
  }
  if (request.runtime().path().empty() || request.runtime().path()[0] != '/') {
    return absl::InvalidArgumentError("runtime: its path is not absolute");
  }
  const absl::StatusOr<pid_t> pid = CreateInit(request, init_, limit);
  if (!pid.ok()) {
    // Whoever attached ahead has been told; the next attempt starts afresh.
    std::shared_ptr<ProcessIo> io = MakeIo();
    absl::MutexLock lock(&mu_);
    if (init_->io == nullptr) init_->io = std::move(io);
    return WithContext(pid.status(), absl::StrCat("create container ", options_.id));
  }
  {
    absl::MutexLock lock(&mu_);
    init_->status = v1::STATUS_CREATED;
  }
  v1::Event event;
  event.mutable_created()->set_pid(*pid);
  events_->Append(std::move(event));

  v1::CreateResponse response;
  response.set_pid(*pid);
  if (!request.restore_image_path().empty()) {
    if (request.start()) {
      GANTRY_ASSIGN_OR_RETURN(const pid_t restored, RestoreInit(init_, limit));
      response.set_pid(restored);
    }
    return response;
  }
  WatchForOom();
  if (request.start()) EmitStarted(init_);
  StartIsOver(init_);
  return response;
}

absl::StatusOr<pid_t> Container::RestoreInit(const ProcessPtr& init, absl::Duration limit) {
  OciRuntime* runtime;
  std::shared_ptr<ProcessIo> io;
  v1::CreateRequest request;
  {
    absl::MutexLock lock(&mu_);
    runtime = runtime_.get();
    io = init->io;
    request = restore_;
    init->starting = true;
  }
  absl::Cleanup over = [&] { StartIsOver(init); };
  // Only pipes and FIFOs were opened at create; the runtime hands them to the restored process.
  if (!request.stdio().terminal()) io->Begin();
  const Reaper::Hold hold(reaper_);
  GANTRY_ASSIGN_OR_RETURN(
      const pid_t pid, runtime->Restore(request.restore_image_path(), request.restore_work_path(),
                                        io->child_stdio(), limit));
  if (request.stdio().terminal()) GANTRY_RETURN_IF_ERROR(io->TakeConsole());
  FindCgroup(pid);
  {
    absl::MutexLock lock(&mu_);
    restore_.Clear();
  }
  Adopt(init, pid);
  WatchForOom();
  EmitStarted(init);
  return pid;
}

absl::StatusOr<v1::StartResponse> Container::Start(const std::string& exec_id,
                                                   absl::Duration limit) {
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(exec_id));
  absl::MutexLock op_lock(&process->op_mu);
  v1::StartResponse response;
  OciRuntime* runtime;
  bool restore;
  {
    absl::MutexLock lock(&mu_);
    if (process->status != v1::STATUS_CREATED) return WrongState(exec_id, process->status, "start");
    runtime = runtime_.get();
    restore = exec_id.empty() && !restore_.restore_image_path().empty();
  }
  if (!exec_id.empty() || restore) {
    GANTRY_ASSIGN_OR_RETURN(const pid_t pid, restore ? RestoreInit(process, limit)
                                                     : StartExec(process, limit, std::nullopt));
    response.set_pid(pid);
    return response;
  }
  {
    absl::MutexLock lock(&mu_);
    process->starting = true;
  }
  absl::Cleanup over = [&] { StartIsOver(process); };
  GANTRY_RETURN_IF_ERROR(
      WithContext(runtime->Start(limit), absl::StrCat("start container ", options_.id)));
  EmitStarted(process);
  absl::MutexLock lock(&mu_);
  response.set_pid(process->pid);
  return response;
}

absl::StatusOr<v1::ExecResponse> Container::Exec(const v1::ExecRequest& request,
                                                 absl::Duration limit) {
  if (request.exec_id().empty()) return absl::InvalidArgumentError("exec: no id");
  GANTRY_RETURN_IF_ERROR(RuntimeWhen({v1::STATUS_RUNNING}, "exec").status());
  auto process = std::make_shared<Process>(request.exec_id());
  process->status = v1::STATUS_CREATED;
  process->stdio = request.stdio();
  process->process_json = request.process_json();
  process->io = MakeIo();
  {
    absl::MutexLock lock(&mu_);
    if (!execs_.emplace(request.exec_id(), process).second) {
      return absl::AlreadyExistsError(
          absl::StrCat("container ", options_.id, ": exec ", request.exec_id(), " exists"));
    }
  }
  absl::MutexLock op_lock(&process->op_mu);
  absl::Cleanup forget = [&] {
    process->io->CloseChildEnds();
    process->io->Close();
    absl::MutexLock lock(&mu_);
    execs_.erase(request.exec_id());
  };
  GANTRY_RETURN_IF_ERROR(
      WithContext(process->io->Open(request.stdio()), absl::StrCat("exec ", request.exec_id())));
  if (!request.stdio().terminal()) process->io->Begin();
  std::move(forget).Cancel();

  v1::Event added;
  added.mutable_exec_added()->set_exec_id(request.exec_id());
  v1::ExecResponse response;
  if (!request.start()) {
    events_->Append(std::move(added));
    return response;
  }
  const absl::StatusOr<pid_t> pid = StartExec(process, limit, std::move(added));
  if (!pid.ok()) {
    // One call, one outcome: what could not be started was never there.
    absl::MutexLock lock(&mu_);
    execs_.erase(request.exec_id());
    return pid.status();
  }
  response.set_pid(*pid);
  return response;
}

absl::StatusOr<pid_t> Container::StartExec(const ProcessPtr& process, absl::Duration limit,
                                           std::optional<v1::Event> added) {
  GANTRY_ASSIGN_OR_RETURN(OciRuntime * runtime, RuntimeWhen({v1::STATUS_RUNNING}, "exec"));
  std::shared_ptr<ProcessIo> io;
  std::string process_json;
  {
    absl::MutexLock lock(&mu_);
    process->starting = true;
    io = process->io;
    process_json.swap(process->process_json);
  }
  absl::Cleanup over = [&] { StartIsOver(process); };
  // A process that could not be started has ended, with a status of its own: it is not tried again.
  absl::Cleanup failed = [&] {
    io->Close(absl::FailedPreconditionError("the process could not be started"));
    std::vector<WaitCallback> callbacks;
    v1::WaitResponse answer;
    {
      absl::MutexLock lock(&mu_);
      process->reaped = true;
      process->exit_status = 255;
      process->exited_at = absl::Now();
      callbacks = MarkStopped(*process, &answer);
    }
    for (const WaitCallback& callback : callbacks) callback(answer);
  };
  absl::Cleanup close_child_ends = [&] { io->CloseChildEnds(); };
  const Reaper::Hold hold(reaper_);
  absl::StatusOr<pid_t> pid = runtime->Exec(process_json, io->child_stdio(), limit);
  if (!pid.ok()) {
    return WithContext(pid.status(), absl::StrCat("exec ", process->exec_id));
  }
  if (process->stdio.terminal()) {
    if (const absl::Status status = io->TakeConsole(); !status.ok()) {
      kill(*pid, SIGKILL);  // held as a zombie at worst: the number is still its own
      return WithContext(status, absl::StrCat("exec ", process->exec_id));
    }
  }
  std::move(failed).Cancel();
  Adopt(process, *pid);
  if (added.has_value()) events_->Append(*std::move(added));
  EmitStarted(process);
  return *pid;
}

// --- The end of a process: event loop ------------------------------------------------------------------------------

void Container::OnReaped(const ProcessPtr& process, Ended end) {
  {
    absl::MutexLock lock(&mu_);
    process->reaped = true;
    process->pidfd.reset();
    if (process->starting) {
      process->early_end = end;
      return;
    }
  }
  HandleEnd(process, end);
}

bool Container::AnyExecRuns() const {
  absl::MutexLock lock(&mu_);
  return std::any_of(execs_.begin(), execs_.end(), [](const auto& entry) {
    return entry.second->pid != 0 && entry.second->status != v1::STATUS_STOPPED;
  });
}

void Container::HandleEnd(const ProcessPtr& process, Ended end) {
  if (process != init_) {
    AnnounceEnd(process, end);
    if (init_end_.has_value() && !AnyExecRuns()) {
      const Ended init_end = *init_end_;
      init_end_.reset();
      loop_->CancelTimer(init_end_timer_);
      AnnounceEnd(init_, init_end);
    }
    return;
  }
  if (oom_watch_ != nullptr) oom_watch_->Check();
  Cgroup cgroup;
  bool private_pid_namespace;
  bool oom_killed;
  pid_t pid;
  absl::Duration age;
  {
    absl::MutexLock lock(&mu_);
    cgroup = cgroup_;
    private_pid_namespace = facts_.private_pid_namespace;
    pid = init_->pid;
    age = absl::Now() - init_->started_at;
    oom_killed = init_->oom_killed = cgroup_.ReadOomKills() > 0;
  }
  if (!oom_killed && ExitStatusOf(end.wait_status) == 128 + SIGKILL && cgroup.Gone() &&
      KernelLogTellsOomKill(pid, Clock::Real().Monotonic() - age - kClockSlack)) {
    {
      absl::MutexLock lock(&mu_);
      init_->oom_killed = true;
    }
    v1::Event event;
    event.mutable_oom();
    events_->Append(std::move(event));
  }
  oom_watch_.reset();
  if (!private_pid_namespace) {
    if (const absl::Status status = cgroup.KillAll(); !status.ok()) {
      ShimLog(LogLevel::kWarning, status.message());
    }
  }
  if (AnyExecRuns()) {
    init_end_ = end;
    init_end_timer_ = loop_->After(kMaxWaitForExecs, [this] {
      if (!init_end_.has_value()) return;
      const Ended init_end = *init_end_;
      init_end_.reset();
      AnnounceEnd(init_, init_end);
    });
    return;
  }
  AnnounceEnd(process, end);
}

std::vector<Container::WaitCallback> Container::MarkStopped(Process& process,
                                                            v1::WaitResponse* answer) {
  process.status = v1::STATUS_STOPPED;
  answer->set_exit_status(process.exit_status);
  SetTimestamp(process.exited_at, answer->mutable_exited_at());
  answer->set_oom_killed(process.oom_killed);
  std::vector<WaitCallback> callbacks;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    if (it->second.process.get() == &process) {
      callbacks.push_back(std::move(it->second.callback));
      it = waiters_.erase(it);
    } else {
      ++it;
    }
  }
  return callbacks;
}

void Container::AnnounceEnd(const ProcessPtr& process, Ended end) {
  const uint32_t exit_status = ExitStatusOf(end.wait_status);
  std::shared_ptr<ProcessIo> io;
  ExitRecord record;
  v1::Event event;
  v1::Event::Exited& exited = *event.mutable_exited();
  {
    absl::MutexLock lock(&mu_);
    io = process->io;
    record.pid = process->pid;
    record.started_at = process->started_at;
    record.oom_killed = process->oom_killed;
    if (process != init_ && exit_status == 128 + SIGKILL) {
      // Whether it was this one that the kernel chose cannot be told; that it chose one here can.
      process->oom_killed = record.oom_killed = cgroup_.ReadOomKills() > 0;
    }
  }
  if (io != nullptr) io->ProcessExited();
  if (process == init_) {
    record.name_space = options_.name_space;
    record.id = options_.id;
    record.exit_status = exit_status;
    record.exited_at = end.at;
    if (const absl::Status status = WriteExitRecord(options_.bundle, record); !status.ok()) {
      ShimLog(LogLevel::kError, status.message());
    }
  }
  std::vector<WaitCallback> callbacks;
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    process->exit_status = exit_status;
    // A start is told when the runtime says so, which may be after the process has come and gone.
    process->exited_at = std::max(end.at, process->started_at);
    callbacks = MarkStopped(*process, &answer);
    exited.set_exec_id(process->exec_id);
    exited.set_pid(process->pid);
    exited.set_exit_status(exit_status);
    *exited.mutable_exited_at() = answer.exited_at();
    exited.set_oom_killed(process->oom_killed);
  }
  events_->Append(std::move(event));
  for (const WaitCallback& callback : callbacks) callback(answer);
  if (process == init_) workers_->Run([this] { UnmountRootfsEarly(); });
}

// --- Waiting and asking --------------------------------------------------------------------------------------------

absl::StatusOr<uint64_t> Container::Wait(const std::string& exec_id, WaitCallback callback) {
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(exec_id));
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    if (process->status != v1::STATUS_STOPPED) {
      const uint64_t id = next_waiter_++;
      waiters_.emplace(id, Waiter{process, std::move(callback)});
      return id;
    }
    answer.set_exit_status(process->exit_status);
    SetTimestamp(process->exited_at, answer.mutable_exited_at());
    answer.set_oom_killed(process->oom_killed);
  }
  callback(answer);
  return 0;
}

void Container::CancelWait(uint64_t id) {
  absl::MutexLock lock(&mu_);
  waiters_.erase(id);
}

void Container::FillState(const Process& process, v1::ProcessState* state) const {
  state->set_exec_id(process.exec_id);
  state->set_status(process.status);
  state->set_pid(process.pid);
  state->set_exit_status(process.exit_status);
  SetTimestamp(process.exited_at, state->mutable_exited_at());
  SetTimestamp(process.started_at, state->mutable_started_at());
  state->set_oom_killed(process.oom_killed);
  state->set_terminal(process.stdio.terminal());
  state->set_stdin(process.stdio.stdin());
  state->set_stdout(process.stdio.stdout());
  state->set_stderr(process.stdio.stderr());
}

absl::StatusOr<v1::ProcessState> Container::State(const std::string& exec_id) const {
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(exec_id));
  absl::MutexLock lock(&mu_);
  v1::ProcessState state;
  FillState(*process, &state);
  return state;
}

void Container::FillInfo(v1::InfoResponse* info) const {
  info->set_namespace_(options_.name_space);
  info->set_container_id(options_.id);
  info->set_last_event(events_->last_number());
  absl::MutexLock lock(&mu_);
  FillState(*init_, info->mutable_init());
  for (const auto& [id, process] : execs_) FillState(*process, info->add_execs());
}

bool Container::IsEmpty() const {
  absl::MutexLock lock(&mu_);
  return init_->status == v1::STATUS_EMPTY && !init_->deleted;
}

bool Container::IsDeleted() const {
  absl::MutexLock lock(&mu_);
  return init_->deleted;
}

bool Container::HasLiveProcess() const {
  absl::MutexLock lock(&mu_);
  return init_->pid != 0 && init_->status != v1::STATUS_STOPPED;
}

absl::StatusOr<std::shared_ptr<ProcessIo>> Container::Streams(const std::string& exec_id) const {
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(exec_id));
  absl::MutexLock lock(&mu_);
  if (process->io == nullptr) return WrongState(exec_id, process->status, "attach");
  return process->io;
}

absl::Status Container::ResizePty(const std::string& exec_id, uint32_t width, uint32_t height) {
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<ProcessIo> io, Streams(exec_id));
  io->Resize(width, height);
  return absl::OkStatus();
}

absl::Status Container::CloseStdin(const std::string& exec_id) {
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<ProcessIo> io, Streams(exec_id));
  io->CloseStdin();
  return absl::OkStatus();
}

absl::Status Container::ReopenLog() {
  GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<ProcessIo> io, Streams(""));
  return io->ReopenLog();
}

absl::StatusOr<v1::StatsResponse> Container::Stats() {
  GANTRY_RETURN_IF_ERROR(
      RuntimeWhen({v1::STATUS_CREATED, v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "read statistics")
          .status());
  Cgroup cgroup;
  pid_t pid;
  {
    absl::MutexLock lock(&mu_);
    cgroup = cgroup_;
    pid = init_->reaped ? 0 : init_->pid;
  }
  v1::StatsResponse stats = cgroup.ReadStats();
  if (pid != 0) ReadNetworks(pid, &stats);
  return stats;
}

absl::StatusOr<v1::PidsResponse> Container::Pids(absl::Duration limit) {
  GANTRY_ASSIGN_OR_RETURN(
      OciRuntime * runtime,
      RuntimeWhen({v1::STATUS_CREATED, v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "list processes"));
  std::map<pid_t, std::string> exec_of;
  Cgroup cgroup;
  {
    absl::MutexLock lock(&mu_);
    cgroup = cgroup_;
    for (const auto& [id, process] : execs_) {
      if (!process->reaped && process->pid != 0) exec_of[process->pid] = id;
    }
  }
  std::vector<pid_t> pids = cgroup.Processes();
  if (pids.empty()) {
    GANTRY_ASSIGN_OR_RETURN(pids, runtime->Ps(limit));
  }
  v1::PidsResponse response;
  for (const pid_t pid : pids) {
    v1::PidsResponse::Process* process = response.add_processes();
    process->set_pid(pid);
    if (auto it = exec_of.find(pid); it != exec_of.end()) process->set_exec_id(it->second);
  }
  return response;
}

// --- Signals, freezer, limits --------------------------------------------------------------------------------------

absl::Status Container::SignalDirectly(const Process& process, int signal) const {
  absl::MutexLock lock(&mu_);
  if (process.reaped || process.pid == 0) {
    return absl::NotFoundError(absl::StrCat(NameOf(process.exec_id), ": process already finished"));
  }
  const int result = process.pidfd.valid()
                         ? static_cast<int>(syscall(SYS_pidfd_send_signal, process.pidfd.get(),
                                                    signal, nullptr, 0))
                         : kill(process.pid, signal);
  if (result == 0) return absl::OkStatus();
  if (errno == ESRCH) {
    return absl::NotFoundError(absl::StrCat(NameOf(process.exec_id), ": process already finished"));
  }
  return ErrnoToStatus(errno, absl::StrCat("signal ", signal, " to ", NameOf(process.exec_id)));
}

absl::Status Container::Kill(const v1::KillRequest& request, absl::Duration limit) {
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(request.exec_id()));
  if (request.signal() > static_cast<uint32_t>(SIGRTMAX)) {
    return absl::InvalidArgumentError(absl::StrCat("no such signal: ", request.signal()));
  }
  OciRuntime* runtime;
  v1::Status status;
  {
    absl::MutexLock lock(&mu_);
    status = process->status;
    runtime = runtime_.get();
    if (status == v1::STATUS_STOPPED || process->reaped || process->deleted) {
      return absl::NotFoundError(
          absl::StrCat(NameOf(request.exec_id()), ": process already finished"));
    }
    if (process->pid == 0) return WrongState(request.exec_id(), status, "signal");
  }
  const int signal = static_cast<int>(request.signal());
  if (process != init_) return SignalDirectly(*process, signal);

  absl::Status result = runtime->Kill(request.signal(), request.all(), limit);
  if (!result.ok() && signal == SIGKILL && !request.all() && !absl::IsNotFound(result)) {
    // A broken runtime must not keep a container alive.
    ShimLog(LogLevel::kWarning, absl::StrCat(result.message(), "; signalled directly"));
    result = SignalDirectly(*process, signal);
  }
  if (result.ok() && signal == SIGKILL && status == v1::STATUS_PAUSED) {
    // On cgroup v1 a frozen process does not die until it is thawed.
    Cgroup cgroup;
    {
      absl::MutexLock lock(&mu_);
      cgroup = cgroup_;
    }
    cgroup.Thaw();
  }
  return result;
}

absl::Status Container::Pause(absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  GANTRY_ASSIGN_OR_RETURN(OciRuntime * runtime, RuntimeWhen({v1::STATUS_RUNNING}, "pause"));
  GANTRY_RETURN_IF_ERROR(runtime->Pause(limit));
  {
    absl::MutexLock lock(&mu_);
    if (init_->status == v1::STATUS_RUNNING) init_->status = v1::STATUS_PAUSED;
  }
  v1::Event event;
  event.mutable_paused();
  events_->Append(std::move(event));
  return absl::OkStatus();
}

absl::Status Container::Resume(absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  GANTRY_ASSIGN_OR_RETURN(OciRuntime * runtime, RuntimeWhen({v1::STATUS_PAUSED}, "resume"));
  GANTRY_RETURN_IF_ERROR(runtime->Resume(limit));
  {
    absl::MutexLock lock(&mu_);
    if (init_->status == v1::STATUS_PAUSED) init_->status = v1::STATUS_RUNNING;
  }
  v1::Event event;
  event.mutable_resumed();
  events_->Append(std::move(event));
  return absl::OkStatus();
}

absl::Status Container::Update(const std::string& resources_json, absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  GANTRY_ASSIGN_OR_RETURN(
      OciRuntime * runtime,
      RuntimeWhen({v1::STATUS_CREATED, v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "update"));
  return runtime->Update(resources_json, limit);
}

absl::Status Container::Checkpoint(const v1::CheckpointRequest& request, absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  GANTRY_ASSIGN_OR_RETURN(OciRuntime * runtime,
                          RuntimeWhen({v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "checkpoint"));
  if (request.image_path().empty()) return absl::InvalidArgumentError("checkpoint: no image path");
  GANTRY_RETURN_IF_ERROR(runtime->Checkpoint(request, limit));
  v1::Event event;
  event.mutable_checkpointed()->set_image_path(request.image_path());
  events_->Append(std::move(event));
  return absl::OkStatus();
}

// --- Delete --------------------------------------------------------------------------------------------------------

absl::Status Container::WaitForEnd(const ProcessPtr& process, absl::Duration limit) {
  absl::MutexLock lock(&mu_);
  const auto stopped = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return process->status == v1::STATUS_STOPPED;
  };
  if (mu_.AwaitWithTimeout(absl::Condition(&stopped), limit)) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(NameOf(process->exec_id), ": pid ", process->pid,
                                             " does not end after SIGKILL; a process in "
                                             "uninterruptible sleep holds it up"));
}

void Container::WaitForOutput(const std::shared_ptr<ProcessIo>& io, absl::Duration limit) {
  if (io == nullptr) return;
  absl::Notification drained;
  io->WhenDrained(std::min(limit, kMaxWaitForOutput), [&drained] { drained.Notify(); });
  drained.WaitForNotification();
  io->Close();
}

absl::StatusOr<v1::DeleteResponse> Container::Delete(const v1::DeleteRequest& request,
                                                     absl::Duration limit) {
  if (request.exec_id().empty()) return DeleteInit(request.force(), limit);
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(request.exec_id()));
  return DeleteExec(process, request.force(), limit);
}

absl::StatusOr<v1::DeleteResponse> Container::DeleteExec(const ProcessPtr& process, bool force,
                                                         absl::Duration limit) {
  absl::MutexLock op_lock(&process->op_mu);
  v1::Status status;
  {
    absl::MutexLock lock(&mu_);
    status = process->status;
  }
  if (status == v1::STATUS_RUNNING) {
    if (!force) return WrongState(process->exec_id, status, "delete");
    const absl::Status killed = SignalDirectly(*process, SIGKILL);
    if (!killed.ok() && !absl::IsNotFound(killed)) return killed;
    GANTRY_RETURN_IF_ERROR(WaitForEnd(process, limit));
  }
  WaitForOutput(process->io, limit);
  v1::DeleteResponse response;
  v1::Event event;
  std::vector<WaitCallback> callbacks;
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    process->deleted = true;
    execs_.erase(process->exec_id);
    callbacks = MarkStopped(*process, &answer);  // of one that was never started
    response.set_pid(process->pid);
    response.set_exit_status(process->exit_status);
    SetTimestamp(process->exited_at, response.mutable_exited_at());
  }
  for (const WaitCallback& callback : callbacks) callback(answer);
  v1::Event::Deleted& deleted = *event.mutable_deleted();
  deleted.set_exec_id(process->exec_id);
  deleted.set_pid(response.pid());
  deleted.set_exit_status(response.exit_status());
  *deleted.mutable_exited_at() = response.exited_at();
  events_->Append(std::move(event));
  return response;
}

absl::Status Container::UnmountRootfs() {
  {
    absl::MutexLock lock(&mu_);
    if (!std::exchange(rootfs_mounted_, false)) return absl::OkStatus();
  }
  // Lazily if need be: nobody but this process sees the mount, and it ends soon.
  const std::string rootfs = absl::StrCat(options_.bundle, "/rootfs");
  if (snapshot::UnmountAll(rootfs, /*lazy=*/false).ok()) return absl::OkStatus();
  return snapshot::UnmountAll(rootfs, /*lazy=*/true);
}

void Container::UnmountRootfsEarly() {
  absl::MutexLock op_lock(&init_->op_mu);
  {
    absl::MutexLock lock(&mu_);
    // A hook may look at the files.
    if (facts_.has_poststop_hooks) return;
  }
  if (const absl::Status status = UnmountRootfs(); !status.ok()) {
    ShimLog(LogLevel::kWarning, status.message());
  }
}

absl::Status Container::DeleteRuntimeState(bool force, absl::Duration limit) {
  OciRuntime* runtime;
  Cgroup cgroup;
  SpecFacts facts;
  {
    absl::MutexLock lock(&mu_);
    runtime = runtime_.get();
    cgroup = cgroup_;
    facts = facts_;
  }
  if (runtime == nullptr) return absl::OkStatus();
  // The runtime's own delete costs as much again as half a start. Without hooks to run and resources we do not know, what it
  // does is little, and we do it ourselves; whatever is unexpected goes to the runtime.
  if (!force && !facts.has_poststop_hooks && !facts.has_intel_rdt &&
      !runtime->config().systemd_cgroup()) {
    if (cgroup.Remove(CgroupPath()).ok() && runtime->RemoveState()) return absl::OkStatus();
  }
  return runtime->Delete(force, limit);
}

absl::StatusOr<v1::DeleteResponse> Container::DeleteInit(bool force, absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  v1::Status status;
  bool deleted;
  bool never_ran;
  std::vector<ProcessPtr> execs;
  {
    absl::MutexLock lock(&mu_);
    status = init_->status;
    deleted = init_->deleted;
    never_ran = init_->pid == 0;
    for (const auto& [id, process] : execs_) execs.push_back(process);
  }
  if (!deleted) {
    const bool live = !never_ran && status != v1::STATUS_STOPPED;
    if (live && !force && status != v1::STATUS_CREATED) return WrongState("", status, "delete");
    if (live) {
      // Also thaws and kills what is in the cgroup.
      OciRuntime* runtime;
      Cgroup cgroup;
      {
        absl::MutexLock lock(&mu_);
        runtime = runtime_.get();
        cgroup = cgroup_;
      }
      const absl::Status runtime_status = runtime->Delete(/*force=*/true, limit);
      if (!runtime_status.ok()) ShimLog(LogLevel::kWarning, runtime_status.message());
      cgroup.Thaw();
      const absl::Status killed = SignalDirectly(*init_, SIGKILL);
      if (!killed.ok() && !absl::IsNotFound(killed)) return killed;
      GANTRY_RETURN_IF_ERROR(WaitForEnd(init_, limit));
    }
    for (const ProcessPtr& process : execs) {
      const absl::StatusOr<v1::DeleteResponse> gone = DeleteExec(process, /*force=*/true, limit);
      if (!gone.ok()) ShimLog(LogLevel::kWarning, gone.status().message());
    }
    std::shared_ptr<ProcessIo> io;
    {
      absl::MutexLock lock(&mu_);
      io = init_->io;
    }
    WaitForOutput(io, limit);
    if (!never_ran) GANTRY_RETURN_IF_ERROR(DeleteRuntimeState(live, limit));
    GANTRY_RETURN_IF_ERROR(UnmountRootfs());
    if (const absl::Status marked = MarkDeleted(options_.bundle); !marked.ok()) {
      ShimLog(LogLevel::kWarning, marked.message());
    }
  }
  v1::DeleteResponse response;
  std::vector<WaitCallback> callbacks;
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    init_->deleted = true;
    callbacks = MarkStopped(*init_, &answer);  // of one that never ran
    response.set_pid(init_->pid);
    response.set_exit_status(init_->exit_status);
    SetTimestamp(init_->exited_at, response.mutable_exited_at());
  }
  for (const WaitCallback& callback : callbacks) callback(answer);
  if (!deleted) {
    v1::Event event;
    event.mutable_deleted()->set_pid(response.pid());
    event.mutable_deleted()->set_exit_status(response.exit_status());
    *event.mutable_deleted()->mutable_exited_at() = response.exited_at();
    events_->Append(std::move(event));
  }
  return response;
}

}  // namespace gantry::shim
