// Waiting, asking, signals, freezer and limits.
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "shim/container.h"
#include "shim/process_session.h"
#include "shim/process_words.h"
#include "shim/proto_time.h"
#include "shim/shim_log.h"

namespace gantry::shim {
namespace {

// Between the signal that asks an exec and what it started to end, and the one that ends them.
constexpr absl::Duration kSessionGrace = absl::Seconds(3);

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
  for (const auto& [id, process] : execs_) {
    v1::ProcessState* exec = info->add_execs();
    FillState(*process, exec);
    exec->set_process_json(process->process_json);
  }
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

void Container::ReopenLog(std::function<void(absl::Status)> done) {
  const absl::StatusOr<std::shared_ptr<ProcessIo>> io = Streams("");
  if (!io.ok()) {
    done(io.status());
    return;
  }
  (*io)->ReopenLog(std::move(done));
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

absl::Status Container::SignalSession(const Process& process, int signal) {
  pid_t leader;
  Cgroup cgroup;
  {
    absl::MutexLock lock(&mu_);
    leader = process.pid;
    cgroup = cgroup_;
  }
  // Before the first signal: the children of what has ended belong to somebody else.
  std::vector<ProcessId> members = SessionOf(leader, cgroup.Processes());
  // Fails for one that was reaped, whose pid may have been another's in the line above.
  GANTRY_RETURN_IF_ERROR(SignalDirectly(process, signal));
  for (const ProcessId& member : members) {
    if (member.pid != leader) (void)SignalProcess(member, signal);
  }
  if (signal == SIGKILL) {
    KillSession(std::move(members), cgroup);
  } else if (signal == SIGTERM || signal == SIGHUP) {
    loop_->Post([this, cgroup, members = std::move(members)] {
      loop_->After(kSessionGrace, [this, cgroup, members] {
        workers_->Run([members, cgroup] { KillSession(members, cgroup); });
      });
    });
  }
  return absl::OkStatus();
}

void Container::KillSession(std::vector<ProcessId> members, const Cgroup& cgroup) {
  // What it starts meanwhile comes in a later round. What starts faster than this needs the
  // container's limit of processes.
  constexpr int kRounds = 16;
  for (int round = 0; round < kRounds && !members.empty(); ++round) {
    std::vector<ProcessId> now = SessionSince(members, cgroup.Processes());
    bool met = false;
    for (const ProcessId& member : now) met |= SignalProcess(member, SIGKILL);
    if (!met) return;
    members.insert(members.end(), now.begin(), now.end());
    std::sort(members.begin(), members.end(),
              [](const ProcessId& a, const ProcessId& b) { return a.pid < b.pid; });
    members.erase(std::unique(members.begin(), members.end()), members.end());
  }
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
  if (process != init_) {
    return request.all() ? SignalSession(*process, signal) : SignalDirectly(*process, signal);
  }

  // Not by another start of the runtime, which would do the same.
  absl::Status result = !request.all() && runtime->InitIsOnHost()
                            ? SignalDirectly(*process, signal)
                            : runtime->Kill(request.signal(), request.all(), limit);
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

// The outcome of a pause or resume is what the kernel says: the runtime may have done its work and
// then been killed because time was up (a shim that is itself stopped for a while), or may refuse
// because there is nothing to do. Otherwise status and processes would differ from then on, and
// neither pause nor resume would be possible.
absl::Status Container::FreezeOutcome(const absl::Status& status, bool frozen,
                                      absl::string_view what) {
  if (status.ok()) return status;
  Cgroup cgroup;
  {
    absl::MutexLock lock(&mu_);
    if (init_->reaped) return WrongState("", v1::STATUS_STOPPED, what);
    cgroup = cgroup_;
  }
  if (cgroup.Frozen() != frozen) return UnlessEnded(status, what);
  ShimLog(LogLevel::kWarning,
          absl::StrCat(status.message(), "; the ", what, " is done all the same"));
  return absl::OkStatus();
}

absl::Status Container::Pause(absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  GANTRY_ASSIGN_OR_RETURN(OciRuntime * runtime, RuntimeWhen({v1::STATUS_RUNNING}, "pause"));
  GANTRY_RETURN_IF_ERROR(FreezeOutcome(runtime->Pause(limit), /*frozen=*/true, "pause"));
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
  GANTRY_RETURN_IF_ERROR(FreezeOutcome(runtime->Resume(limit), /*frozen=*/false, "resume"));
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
  return UnlessEnded(runtime->Update(resources_json, limit), "update");
}

absl::Status Container::Checkpoint(const v1::CheckpointRequest& request, absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  GANTRY_ASSIGN_OR_RETURN(OciRuntime * runtime,
                          RuntimeWhen({v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "checkpoint"));
  if (request.image_path().empty()) return absl::InvalidArgumentError("checkpoint: no image path");
  GANTRY_RETURN_IF_ERROR(UnlessEnded(runtime->Checkpoint(request, limit), "checkpoint"));
  v1::Event event;
  event.mutable_checkpointed()->set_image_path(request.image_path());
  events_->Append(std::move(event));
  return absl::OkStatus();
}

}  // namespace gantry::shim
