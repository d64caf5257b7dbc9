#include "supervisor/core/exec_service.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/start_failure.h"
#include "supervisor/core/terminal_size.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/spec_builder.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

absl::StatusOr<std::string> NewExecId() {
  std::string bytes(8, '\0');
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return absl::UnavailableError("exec: the kernel gives no random numbers");
  }
  return absl::StrCat(kExecPrefix, absl::BytesToHexString(bytes));
}

bool IsOurs(const std::string& exec_id) { return absl::StartsWith(exec_id, kExecPrefix); }

// What a process document says of what its exec was asked for.
std::shared_ptr<const v1::ExecConfig> ConfigOf(const Process& exec) {
  auto config = std::make_shared<v1::ExecConfig>();
  config->set_tty(exec.terminal);
  if (exec.process_json == nullptr) return config;
  const auto process =
      nlohmann::json::parse(*exec.process_json, nullptr, /*allow_exceptions=*/false);
  if (!process.is_object()) return config;
  if (const auto args = process.find("args"); args != process.end() && args->is_array()) {
    for (const nlohmann::json& argument : *args) {
      if (argument.is_string()) config->add_command(argument.get<std::string>());
    }
  }
  if (const auto cwd = process.find("cwd"); cwd != process.end() && cwd->is_string())
    config->set_working_dir(cwd->get<std::string>());
  if (const auto user = process.find("user"); user != process.end() && user->is_object()) {
    const auto id = [&user](const char* name) {
      const auto found = user->find(name);
      return found != user->end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
    };
    config->set_user(absl::StrCat(id("uid"), ":", id("gid")));
  }
  return config;
}

ExecState StateOfProcess(const Process& exec) {
  ExecState state;
  state.exec_id = exec.exec_id;
  state.container_id = exec.container_id;
  state.config = ConfigOf(exec);
  state.started = exec.status != ProcessStatus::kCreated;
  state.pid = exec.pid;
  if (exec.status == ProcessStatus::kStopped) {
    state.exit_code = exec.exit_status;
    state.ended_at = exec.exited_at;
  }
  return state;
}

}  // namespace

absl::StatusOr<LoadedContainer> ExecService::LoadRunning(const CallContext& context,
                                                         const std::string& container) const {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  const v1::ContainerState state =
      StateOf(loaded.state, loaded.config.restart_policy(), task.ok() ? &*task : nullptr);
  GANTRY_RETURN_IF_ERROR(CheckRuns(state, container, "exec"));
  return loaded;
}

void ExecService::DropOld() {
  const absl::Time now = parts_.clock->Now();
  std::erase_if(execs_, [now](const auto& entry) {
    return entry.second.exit_code.has_value() && now - entry.second.ended_at > kKept;
  });
  while (execs_.size() >= kMaxKept) {
    auto oldest = execs_.end();
    for (auto it = execs_.begin(); it != execs_.end(); ++it) {
      if (it->second.running()) continue;
      if (oldest == execs_.end() || it->second.created_at < oldest->second.created_at) oldest = it;
    }
    if (oldest == execs_.end()) return;
    execs_.erase(oldest);
  }
}

absl::StatusOr<std::string> ExecService::Create(const CallContext& context,
                                                const std::string& container,
                                                const v1::ExecConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded, LoadRunning(context, container));
  return Register(loaded, config);
}

absl::StatusOr<std::string> ExecService::Register(const LoadedContainer& loaded,
                                                  const v1::ExecConfig& config) {
  if (config.command().empty()) return absl::InvalidArgumentError("exec: no command given");
  ExecState state;
  GANTRY_ASSIGN_OR_RETURN(state.exec_id, NewExecId());
  state.container_id = loaded.id();
  state.config = std::make_shared<const v1::ExecConfig>(config);
  state.created_at = parts_.clock->Now();
  const std::string id = state.exec_id;
  absl::MutexLock lock(&mu_);
  DropOld();
  execs_.emplace(Key(loaded.scope.ns, id, loaded.id()), std::move(state));
  return id;
}

absl::StatusOr<ExecState> ExecService::Startable(const CallContext& context,
                                                 const std::string& exec_id) const {
  GANTRY_ASSIGN_OR_RETURN(ExecState state, Inspect(context, exec_id));
  if (state.started || state.exit_code.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("exec ", exec_id, " has already been started"));
  }
  GANTRY_RETURN_IF_ERROR(LoadRunning(context, state.container_id).status());
  return state;
}

absl::StatusOr<ExecService::StartedExec> ExecService::Start(
    const CallContext& context, const std::string& exec_id,
    runtime::AttachStream::Handler* handler) {
  parts_.tasks->AnnounceStart();
  GANTRY_ASSIGN_OR_RETURN(const ExecState state, Inspect(context, exec_id));
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded, LoadRunning(context, state.container_id));
  if (!IsOurs(exec_id)) {
    if (handler != nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("exec ", exec_id,
                       ": its streams are those of the client that made it, start it detached"));
    }
    StartedExec started;
    started.exec_id = exec_id;
    started.container_id = state.container_id;
    GANTRY_ASSIGN_OR_RETURN(started.pid, parts_.tasks->Start(context, state.container_id, exec_id));
    return started;
  }
  return StartIn(context, loaded, exec_id, *state.config, handler, absl::InfiniteDuration());
}

absl::StatusOr<ExecService::StartedExec> ExecService::StartIn(
    const CallContext& context, const LoadedContainer& loaded, const std::string& exec_id,
    const v1::ExecConfig& config, runtime::AttachStream::Handler* handler,
    absl::Duration time_limit) {
  const Key key(context.ns, exec_id, loaded.id());
  {
    absl::MutexLock lock(&mu_);
    const auto found = execs_.find(key);
    if (found == execs_.end() || found->second.started) {
      return absl::FailedPreconditionError(
          absl::StrCat("exec ", exec_id, " has already been started"));
    }
    found->second.started = true;
  }
  absl::StatusOr<StartedExec> started =
      Launch(context, loaded, exec_id, config, handler, time_limit);
  absl::MutexLock lock(&mu_);
  const auto found = execs_.find(key);
  if (found == execs_.end()) return started;
  if (started.ok()) {
    found->second.pid = started->pid;
  } else {
    found->second.started = false;
  }
  return started;
}

absl::StatusOr<ExecService::StartedExec> ExecService::Exec(const CallContext& context,
                                                           const v1::ExecInput::Open& open,
                                                           runtime::AttachStream::Handler* handler,
                                                           absl::Duration time_limit) {
  parts_.tasks->AnnounceStart();
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded, LoadRunning(context, open.container()));
  GANTRY_ASSIGN_OR_RETURN(const std::string exec_id, Register(loaded, open.config()));
  absl::StatusOr<StartedExec> started =
      StartIn(context, loaded, exec_id, open.config(), handler, time_limit);
  if (!started.ok()) {
    absl::MutexLock lock(&mu_);
    execs_.erase(Key(context.ns, exec_id, loaded.id()));
  }
  return started;
}

absl::Status ExecService::Add(const CallContext& context, const std::string& container_id,
                              const std::string& exec_id, const std::string& process_json,
                              const shim::v1::Stdio& stdio) {
  if (IsOurs(exec_id)) {
    return absl::InvalidArgumentError(absl::StrCat("exec id \"", exec_id,
                                                   "\": ids that begin with \"", kExecPrefix,
                                                   "\" are given by gantryd, choose another"));
  }
  return parts_.tasks->Exec(context, container_id, exec_id, process_json, stdio, /*start=*/false)
      .status();
}

absl::StatusOr<ExecState> ExecService::Inspect(const CallContext& context,
                                               const std::string& exec_id,
                                               const std::string& container) const {
  std::string container_id;
  if (!container.empty()) {
    GANTRY_ASSIGN_OR_RETURN(container_id, parts_.records->ResolveId(context, container));
  }
  std::map<std::string, ExecState> found;  // by container
  {
    absl::MutexLock lock(&mu_);
    for (auto it = execs_.lower_bound(Key(context.ns, exec_id, container_id));
         it != execs_.end() && std::get<0>(it->first) == context.ns &&
         std::get<1>(it->first) == exec_id;
         ++it) {
      found.emplace(std::get<2>(it->first), it->second);
    }
  }
  // An id that a client chose may be in use again: what lives counts. Of our ids those of this
  // daemon have entries, unless they are forgotten.
  if (!IsOurs(exec_id) || found.empty()) {
    for (const Process& exec : parts_.tasks->view().FindExecs(context.ns, exec_id)) {
      if (!IsOurs(exec_id) || exec.of_former_daemon)
        found.insert_or_assign(exec.container_id, StateOfProcess(exec));
    }
  }
  if (!container_id.empty()) {
    const auto named = found.find(container_id);
    if (named != found.end()) return named->second;
  } else if (found.size() == 1) {
    return found.begin()->second;
  } else if (found.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("exec ", exec_id, ": ", found.size(),
                     " containers have an exec of this id, name the container"));
  }
  return absl::NotFoundError(absl::StrCat("exec ", exec_id, ": not found"));
}

absl::Status ExecService::Resize(const CallContext& context, const std::string& exec_id,
                                 const v1::TerminalSize& size) {
  GANTRY_RETURN_IF_ERROR(CheckTerminalSize(size));
  GANTRY_ASSIGN_OR_RETURN(const ExecState state, Inspect(context, exec_id));
  if (!state.running())
    return absl::FailedPreconditionError(absl::StrCat("exec ", exec_id, " is not running"));
  return parts_.tasks->ResizePty(context, state.container_id, exec_id, size.width(), size.height());
}

ExecService::Execs::iterator ExecService::FindOurs(const std::string& ns,
                                                   const std::string& exec_id) {
  const auto found = execs_.lower_bound(Key(ns, exec_id, ""));
  const bool is_it = IsOurs(exec_id) && found != execs_.end() && std::get<0>(found->first) == ns &&
                     std::get<1>(found->first) == exec_id;
  return is_it ? found : execs_.end();
}

void ExecService::OnExit(const std::string& ns, const Process& exec) {
  absl::MutexLock lock(&mu_);
  const auto ours = FindOurs(ns, exec.exec_id);
  if (ours == execs_.end()) {
    if (IsOurs(exec.exec_id) && !exec.of_former_daemon) return;  // Forget() was here
    DropOld();
    execs_.insert_or_assign(Key(ns, exec.exec_id, exec.container_id), StateOfProcess(exec));
    return;
  }
  if (ours->second.exit_code.has_value()) return;
  ours->second.started = true;
  ours->second.exit_code = exec.exit_status;
  ours->second.ended_at = exec.exited_at;
}

void ExecService::NoteExit(const std::string& ns, const std::string& exec_id, uint32_t exit_code,
                           absl::Time ended_at) {
  absl::MutexLock lock(&mu_);
  const auto found = FindOurs(ns, exec_id);
  if (found == execs_.end() || found->second.exit_code.has_value()) return;
  found->second.started = true;
  found->second.exit_code = exit_code;
  found->second.ended_at = ended_at;
}

void ExecService::Forget(const std::string& ns, const std::string& exec_id) {
  absl::MutexLock lock(&mu_);
  const auto found = FindOurs(ns, exec_id);
  if (found != execs_.end()) execs_.erase(found);
}

absl::StatusOr<ExecService::StartedExec> ExecService::Launch(
    const CallContext& context, const LoadedContainer& loaded, const std::string& exec_id,
    const v1::ExecConfig& config, runtime::AttachStream::Handler* handler,
    absl::Duration time_limit) {
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec,
                          oci::RuntimeSpec::Parse(loaded.record.spec().value()));
  oci::ExecConfig exec;
  exec.args.assign(config.command().begin(), config.command().end());
  exec.env.assign(config.env().begin(), config.env().end());
  exec.working_dir = config.working_dir();
  exec.terminal = config.tty();
  exec.privileged = config.privileged();
  exec.console_width = static_cast<int>(config.console_size().width());
  exec.console_height = static_cast<int>(config.console_size().height());
  std::optional<oci::User> user;
  if (!config.user().empty()) {
    exec.user = config.user();
    // The files as they are in the container now: users may have been added since it was made.
    // Only the handle is taken in there; they are read out here, where /proc is ours.
    UniqueFd root;
    GANTRY_RETURN_IF_ERROR(parts_.files->WithRootfs(
        context, loaded, /*writable=*/false, ContainerFiles::View::kRootOnly, [&root](int root_fd) {
          root.reset(fcntl(root_fd, F_DUPFD_CLOEXEC, 3));
          return root.valid() ? absl::OkStatus() : ErrnoToStatus(errno, "the container's root");
        }));
    GANTRY_ASSIGN_OR_RETURN(user,
                            oci::ResolveUser(oci::LoadUserDatabase(root.get()), config.user()));
    // The container's HOME is that of its own user, unless its configuration sets one.
    const auto& env = loaded.config.env();
    if (std::none_of(env.begin(), env.end(),
                     [](const std::string& entry) { return absl::StartsWith(entry, "HOME="); })) {
      exec.env.insert(exec.env.begin(), absl::StrCat("HOME=", user->home));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(oci::ProcessSpec process,
                          oci::BuildExecProcess(spec, exec, user, *parts_.host));

  StartedExec started;
  started.exec_id = exec_id;
  started.container_id = loaded.id();
  shim::v1::Stdio stdio;
  const IdMaps ids = IdsOf(loaded.config);
  stdio.set_owner_uid(HostIdOf(ids.uids, 0).value_or(0));
  stdio.set_owner_gid(HostIdOf(ids.gids, 0).value_or(0));
  stdio.set_terminal(config.tty());
  stdio.set_attachable(handler != nullptr);
  stdio.set_await_client(handler != nullptr);
  stdio.set_attach_stdin(config.attach_stdin() && handler != nullptr);
  stdio.set_stdin_once(true);
  stdio.set_width(config.console_size().width());
  stdio.set_height(config.console_size().height());
  if (handler == nullptr) {
    absl::StatusOr<int32_t> pid =
        parts_.tasks->Exec(context, loaded.id(), started.exec_id, oci::PrintProcess(process), stdio,
                           /*start=*/true, time_limit);
    if (!pid.ok()) return NamingTheContainer(pid.status(), loaded.ShownName(), process);
    started.pid = *pid;
    return started;
  }
  GANTRY_RETURN_IF_ERROR(parts_.tasks
                             ->Exec(context, loaded.id(), started.exec_id,
                                    oci::PrintProcess(process), stdio, /*start=*/false, time_limit)
                             .status());
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<runtime::Shim> shim,
                          parts_.tasks->view().Shim(context.ns, loaded.id()));
  shim::v1::AttachInput::Open request;
  request.set_exec_id(started.exec_id);
  request.set_stdin(config.attach_stdin());
  request.set_stdout(config.attach_stdout());
  request.set_stderr(config.attach_stderr());
  started.stream = shim->client().Attach(request, handler);
  absl::StatusOr<int32_t> pid = parts_.tasks->Start(context, loaded.id(), started.exec_id);
  if (!pid.ok()) {
    started.stream.reset();
    // With a context of its own: the client may be gone, and nothing else removes the exec.
    CallContext undo;
    undo.ns = context.ns;
    absl::StatusOr<core::Exit> gone =
        parts_.tasks->Delete(undo, loaded.id(), started.exec_id, /*force=*/true);
    return NamingTheContainer(pid.status(), loaded.ShownName(), process);
  }
  started.pid = *pid;
  return started;
}

void ExecService::ClientLeft(const std::string& ns, const std::string& container_id,
                             const std::string& exec_id) {
  if (!parts_.ends_with_client || stopping_ || exec_id.empty()) return;
  bool tty = false;
  {
    absl::MutexLock lock(&mu_);
    const auto ours = FindOurs(ns, exec_id);
    if (ours == execs_.end() || !ours->second.running()) return;
    tty = ours->second.config->tty();
  }
  CallContext context;
  context.ns = ns;
  // A terminal that is gone hangs up.
  const absl::Status ended = parts_.tasks->Kill(
      context, container_id, exec_id, static_cast<uint32_t>(tty ? SIGHUP : SIGTERM), /*all=*/true);
  if (ended.ok()) {
    LOG(INFO) << "ns=" << ns << " id=" << container_id << " exec " << exec_id
              << ": its client has gone; it is ended";
  } else if (!absl::IsNotFound(ended) && !absl::IsFailedPrecondition(ended)) {
    LOG(WARNING) << "ns=" << ns << " id=" << container_id << " exec " << exec_id
                 << ": its client has gone, and it goes on: " << ended;
  }
}

absl::Status ExecService::SignalExec(const CallContext& context, const std::string& container,
                                     const std::string& exec_id, const std::string& signal) {
  GANTRY_ASSIGN_OR_RETURN(const int number, ParseSignal(signal.empty() ? "KILL" : signal));
  GANTRY_ASSIGN_OR_RETURN(const ExecState state, Inspect(context, exec_id, container));
  if (!state.running())
    return absl::FailedPreconditionError(absl::StrCat("exec ", exec_id, " is not running"));
  return parts_.tasks->Kill(context, state.container_id, exec_id, static_cast<uint32_t>(number),
                            false);
}

}  // namespace gantry::core
