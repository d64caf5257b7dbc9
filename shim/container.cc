// Create, start and exec. The end of processes and the deletion are in container_end.cc, what else
// may be asked of a container in container_control.cc.
#include "shim/container.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "shim/mask_check.h"
#include "shim/mount_check.h"
#include "shim/port_forward.h"
#include "shim/process_words.h"
#include "shim/proto_time.h"
#include "shim/resolver.h"
#include "shim/shim_log.h"
#include "snapshotter/mount.h"

namespace gantry::shim {
namespace {

constexpr size_t kMaxPortsBytes = 16 << 20;

constexpr uint32_t kNeverStartedStatus = 255;
constexpr size_t kMaxConfigBytes = 16 << 20;
// From the end of a process to the notice of it here, at most.
constexpr absl::Duration kEndNoticeDelay = absl::Seconds(1);
// Of the time a create may take, what is kept for cleaning up after a runtime that hangs.
constexpr double kCleanUpShare = 0.25;

absl::Status LimitOpenFiles(pid_t pid, const v1::OpenFiles& limit) {
  const rlimit wanted = {limit.soft(), limit.hard()};
  if (prlimit(pid, RLIMIT_NOFILE, &wanted, nullptr) == 0) return absl::OkStatus();
  return ErrnoToStatus(errno,
                       absl::StrCat("limit open files to ", limit.soft(), ":", limit.hard()));
}

UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// The working directory may be a link of the image that leads nowhere. Runtimes make a directory
// that is missing, but not through a link, so it is made here, inside the root file system. What
// fails is left to the runtime, whose message says what is wrong.
void MakeLinkedDirectory(const std::string& rootfs, const std::string& path) {
  if (path.empty() || path == "/") return;
  const UniqueFd root(open(rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid() || OpenInRoot(root.get(), path, O_PATH).valid() || errno != ENOENT) return;
  const absl::StatusOr<std::string> real = FollowLinksInRoot(root.get(), path);
  if (!real.ok() || *real == path) return;
  [[maybe_unused]] const absl::StatusOr<UniqueFd> made =
      OpenOrMakeInRoot(root.get(), path, /*directory=*/true);
}

// Of the file that the supervisor put beside the network namespace. Empty: there is none.
absl::StatusOr<std::vector<ForwardedPort>> PortsBeside(const std::string& netns) {
  if (netns.empty()) return std::vector<ForwardedPort>();
  absl::StatusOr<std::string> text = ReadFile(absl::StrCat(netns, ".ports"), kMaxPortsBytes);
  if (absl::IsNotFound(text.status())) return std::vector<ForwardedPort>();
  GANTRY_RETURN_IF_ERROR(text.status());
  return ParseForwardedPorts(*text);
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

absl::Status Container::UnlessEnded(const absl::Status& status, absl::string_view what) {
  if (status.ok()) return status;
  // The runtime may see the end before we do.
  const absl::Duration patience =
      SaysNotRunning(status.message()) ? kEndNoticeDelay : absl::ZeroDuration();
  absl::MutexLock lock(&mu_);
  const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return init_->reaped; };
  return mu_.AwaitWithTimeout(absl::Condition(&ended), patience)
             ? WrongState("", v1::STATUS_STOPPED, what)
             : status;
}

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
  // The link has the program's name, because that is what `ps` shows.
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

// The group of all containers, and those of the namespaces of containerd's clients, are there to
// stay.
bool Container::HasOwnParents() const {
  const std::string group = CgroupPath();
  const absl::string_view above = absl::string_view(group).substr(0, group.rfind('/'));
  return !above.empty() && above != "/gantry" && above != absl::StrCat("/", options_.name_space);
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
    absl::StatusOr<std::unique_ptr<OomWatch>> watch =
        OomWatch::Start(loop_, cgroup, [this] { TellOom(); });
    if (watch.ok()) {
      oom_watch_ = *std::move(watch);
    } else {
      ShimLog(LogLevel::kInfo, absl::StrCat("no notice of memory shortage, only at the exit: ",
                                            watch.status().message()));
    }
  });
}

void Container::TellOom() {
  oom_told_ = true;
  v1::Event event;
  event.mutable_oom();
  events_->Append(std::move(event));
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

bool Container::HasEnded() {
  absl::MutexLock lock(&mu_);
  return init_->status == v1::STATUS_STOPPED;
}

void Container::ForwardPorts(std::unique_ptr<PortForward> forward) {
  // Posted tasks are copied.
  auto handed = std::make_shared<std::unique_ptr<PortForward>>(std::move(forward));
  loop_->Post([this, handed] {
    // A process that ended at once was announced before this; its ports are free again. A change of
    // its networks may have come before this as well.
    if (HasEnded() || forward_ != nullptr) return;
    forward_ = std::move(*handed);
    if (const absl::Status started = forward_->Start(loop_); !started.ok())
      ShimLog(LogLevel::kError, absl::StrCat("ports are not forwarded: ", started.message()));
  });
}

void Container::ReadForwardedPorts() {
  std::string netns;
  {
    absl::MutexLock lock(&mu_);
    // Before its start it reads the file anyway; after its end its ports are free.
    if (init_->status != v1::STATUS_RUNNING && init_->status != v1::STATUS_PAUSED &&
        init_->status != v1::STATUS_CREATED)
      return;
    netns = facts_.network_namespace;
  }
  const absl::Status changed = [&]() -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ForwardedPort> ports, PortsBeside(netns));
    if (forward_ != nullptr) return forward_->Replace(ports);
    if (ports.empty()) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(forward_, PortForward::Open(ports));
    return forward_->Start(loop_);
  }();
  if (!changed.ok())
    ShimLog(LogLevel::kError, absl::StrCat("forwarded ports changed: ", changed.message()));
}

void Container::AnswerNames(std::unique_ptr<Resolver> resolver) {
  // Posted tasks are copied.
  auto handed = std::make_shared<std::unique_ptr<Resolver>>(std::move(resolver));
  loop_->Post([this, handed] {
    if (HasEnded()) return;
    resolver_ = std::move(*handed);
    if (const absl::Status started = resolver_->Start(loop_); !started.ok())
      ShimLog(LogLevel::kError, absl::StrCat("names are not answered: ", started.message()));
  });
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
  const std::vector<PlannedMount> planned = std::move(facts.mounts);
  std::vector<std::string> doubtful_masks = std::move(facts.masked_paths);
  const bool fresh_dev = facts.fresh_dev;
  const std::string spec_root = facts.root_path;
  const std::string working_directory = facts.working_directory;
  GANTRY_ASSIGN_OR_RETURN(const std::vector<ForwardedPort> ports,
                          PortsBeside(facts.network_namespace));
  std::unique_ptr<PortForward> forward;
  if (!ports.empty()) {
    GANTRY_ASSIGN_OR_RETURN(forward, PortForward::Open(ports));
  }
  OciRuntime* runtime;
  std::shared_ptr<ProcessIo> io;
  {
    absl::MutexLock lock(&mu_);
    facts_ = std::move(facts);
    // No operation uses the runtime of an earlier, failed attempt any more, because op_mu is held.
    runtime_ =
        std::make_unique<OciRuntime>(request.runtime(), RuntimeProgram(request.runtime()),
                                     options_.bundle, options_.id, facts_.oom_score_adj, reaper_);
    runtime = runtime_.get();
    io = init->io;
  }
  std::unique_ptr<Resolver> resolver;
  if (request.has_resolver()) {
    GANTRY_ASSIGN_OR_RETURN(resolver,
                            Resolver::Open(request.resolver().netns(), request.resolver().file()));
  }
  if (request.has_bounded_files()) {
    const v1::BoundedFiles& wanted = request.bounded_files();
    // Those that a container sees, and what lies beside them for the supervisor
    // (core/name_files.h).
    GANTRY_ASSIGN_OR_RETURN(
        BoundedFiles files,
        BoundedFiles::Make(wanted.directory(),
                           {"hostname", "hosts", "resolv.conf", "resolv.conf.hash"},
                           wanted.max_bytes(), absl::StrCat(options_.bundle, "/files")));
    absl::MutexLock lock(&mu_);
    bounded_files_ = std::move(files);
    keep_bounded_files_ = !request.discard_rootfs();
  }
  absl::Cleanup end_bounded_files = [this] { EndBoundedFiles(); };
  GANTRY_RETURN_IF_ERROR(MountControllers(request.runtime()));
  const bool own_parents = HasOwnParents();
  if (own_parents) Cgroup::MakeParents(CgroupPath());

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
    MakeLinkedDirectory(rootfs, working_directory);
  }

  GANTRY_ASSIGN_OR_RETURN(const bool may_move,
                          MountsMayMove(absl::StartsWith(spec_root, "/")
                                            ? spec_root
                                            : absl::StrCat(options_.bundle, "/", spec_root),
                                        planned));
  if (fresh_dev && !may_move) doubtful_masks.clear();

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
    if (request.start()) io->TakeInput();
    const Reaper::Hold hold(reaper_);
    absl::Cleanup delete_container = [&] {
      [[maybe_unused]] const absl::Status ignored =
          runtime->Delete(/*force=*/true, limit * kCleanUpShare);
      // A runtime that fails at a limit leaves the groups that it has made by then. The caller gets
      // the runtime's error; a group that stays is one that `ctl doctor` names.
      if (!runtime->config().systemd_cgroup())
        Cgroup::AtPath(CgroupPath()).Remove(CgroupPath()).IgnoreError();
      if (own_parents) Cgroup::RemoveParents(CgroupPath());
    };
    GANTRY_RETURN_IF_ERROR(io->AwaitClient(limit * kCleanUpShare));
    // What has to be seen to between the making of the process and its start takes two calls.
    const bool limited = request.has_open_files();
    const bool in_one_go = request.start() && !limited && doubtful_masks.empty();
    const absl::StatusOr<pid_t> created =
        runtime->Create(in_one_go, io->child_stdio(), limit * (1 - 2 * kCleanUpShare));
    if (!created.ok()) {
      // The existing container of this name was made by another program and must not be deleted.
      if (absl::IsAlreadyExists(created.status())) std::move(delete_container).Cancel();
      return created.status();
    }
    pid = *created;
    if (request.stdio().terminal()) GANTRY_RETURN_IF_ERROR(io->TakeConsole());
    FindCgroup(pid);
    if (limited) GANTRY_RETURN_IF_ERROR(LimitOpenFiles(pid, request.open_files()));
    if (!doubtful_masks.empty()) GANTRY_RETURN_IF_ERROR(CheckMasks(pid, doubtful_masks));
    if (request.start() && !in_one_go)
      GANTRY_RETURN_IF_ERROR(StartInit(*runtime, limit * kCleanUpShare));
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
  std::move(end_bounded_files).Cancel();
  std::move(close_io).Cancel();
  if (forward != nullptr) ForwardPorts(std::move(forward));
  if (resolver != nullptr) AnswerNames(std::move(resolver));
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
    // Clients that attached ahead have their error; the next attempt starts with new streams.
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
  io->TakeInput();
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

// To start by hand saves another start of the runtime's program, a tenth of all that the container
// of a short command costs.
absl::Status Container::StartInit(OciRuntime& runtime, absl::Duration limit) {
  bool by_hand;
  {
    absl::MutexLock lock(&mu_);
    by_hand = !facts_.has_poststart_hooks;
  }
  return by_hand && runtime.StartByHand() ? absl::OkStatus() : runtime.Start(limit);
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
  std::shared_ptr<ProcessIo> io;
  {
    absl::MutexLock lock(&mu_);
    process->starting = true;
    io = process->io;
  }
  absl::Cleanup over = [&] { StartIsOver(process); };
  io->TakeInput();
  GANTRY_RETURN_IF_ERROR(
      WithContext(StartInit(*runtime, limit), absl::StrCat("start container ", options_.id)));
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
  if (request.time_limit_ms() > 0)
    process->time_limit = absl::Milliseconds(request.time_limit_ms());
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
  {
    absl::MutexLock lock(&mu_);
    process->io_open = true;
  }
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
  bool open;
  {
    absl::MutexLock lock(&mu_);
    process->starting = true;
    io = process->io;
    open = process->io_open;
    process_json = process->process_json;
  }
  absl::Cleanup over = [&] { StartIsOver(process); };
  // A process that could not be started is in the state "created" again. Calls that wait for its
  // end are answered with kNeverStartedStatus, because there may be no other attempt.
  absl::Cleanup failed = [&] {
    io->Close(absl::FailedPreconditionError("the process could not be started"));
    std::shared_ptr<ProcessIo> fresh = MakeIo();
    std::vector<WaitCallback> callbacks;
    v1::WaitResponse answer;
    answer.set_exit_status(kNeverStartedStatus);
    SetTimestamp(absl::Now(), answer.mutable_exited_at());
    {
      absl::MutexLock lock(&mu_);
      process->io = std::move(fresh);
      process->io_open = false;
      callbacks = TakeWaiters(*process);
    }
    for (const WaitCallback& callback : callbacks) callback(answer);
  };
  absl::Cleanup close_child_ends = [&] { io->CloseChildEnds(); };
  if (!open) {
    GANTRY_RETURN_IF_ERROR(
        WithContext(io->Open(process->stdio), absl::StrCat("exec ", process->exec_id)));
    if (!process->stdio.terminal()) io->Begin();
    absl::MutexLock lock(&mu_);
    process->io_open = true;
  }
  GANTRY_RETURN_IF_ERROR(io->AwaitClient(limit / 2));
  io->TakeInput();
  const Reaper::Hold hold(reaper_);
  absl::StatusOr<pid_t> pid = runtime->Exec(process_json, io->child_stdio(), limit);
  if (!pid.ok()) {
    return WithContext(UnlessEnded(pid.status(), "exec"), absl::StrCat("exec ", process->exec_id));
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
  if (process->time_limit < absl::InfiniteDuration()) EndInTime(process);
  return *pid;
}

void Container::EndInTime(const ProcessPtr& process) {
  loop_->Post([this, weak = std::weak_ptr<Process>(process), limit = process->time_limit] {
    loop_->After(limit, [this, weak] {
      workers_->Run([this, weak] {
        // Refused when it has ended by itself.
        if (const ProcessPtr late = weak.lock()) (void)SignalSession(*late, SIGKILL);
      });
    });
  });
}

}  // namespace gantry::shim
