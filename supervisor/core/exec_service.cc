#include "supervisor/core/exec_service.h"

#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/start_failure.h"
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

}  // namespace

absl::StatusOr<ExecService::StartedExec> ExecService::Exec(
    const CallContext& context, const v1::ExecInput::Open& open,
    runtime::AttachStream::Handler* handler) {
  parts_.tasks->AnnounceStart();
  const v1::ExecConfig& config = open.config();
  if (config.command().empty()) return absl::InvalidArgumentError("exec: no command given");
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, open.container()));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped ||
      task->status == ProcessStatus::kCreated) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", open.container(), " is not running"));
  }
  if (task->status == ProcessStatus::kPaused) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", open.container(), " is paused; unpause it before exec"));
  }
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
    // The container's HOME is that of its own user, unless somebody chose it.
    const auto& env = loaded.config.env();
    if (std::none_of(env.begin(), env.end(),
                     [](const std::string& entry) { return absl::StartsWith(entry, "HOME="); })) {
      exec.env.insert(exec.env.begin(), absl::StrCat("HOME=", user->home));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(oci::ProcessSpec process,
                          oci::BuildExecProcess(spec, exec, user, *parts_.host));

  StartedExec started;
  GANTRY_ASSIGN_OR_RETURN(started.exec_id, NewExecId());
  shim::v1::Stdio stdio;
  stdio.set_terminal(config.tty());
  stdio.set_attachable(handler != nullptr);
  stdio.set_await_client(handler != nullptr);
  stdio.set_attach_stdin(config.attach_stdin() && handler != nullptr);
  stdio.set_stdin_once(true);
  stdio.set_width(config.console_size().width());
  stdio.set_height(config.console_size().height());
  if (handler == nullptr) {
    absl::StatusOr<int32_t> pid = parts_.tasks->Exec(
        context, loaded.id(), started.exec_id, oci::PrintProcess(process), stdio, /*start=*/true);
    if (!pid.ok()) return NamingTheContainer(pid.status(), loaded.ShownName(), process);
    started.pid = *pid;
    return started;
  }
  GANTRY_RETURN_IF_ERROR(parts_.tasks
                             ->Exec(context, loaded.id(), started.exec_id,
                                    oci::PrintProcess(process), stdio, /*start=*/false)
                             .status());
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<runtime::Shim> shim,
                          parts_.tasks->Shim(context.ns, loaded.id()));
  shim::v1::AttachInput::Open request;
  request.set_exec_id(started.exec_id);
  request.set_stdin(config.attach_stdin());
  request.set_stdout(config.attach_stdout());
  request.set_stderr(config.attach_stderr());
  started.stream = shim->client().Attach(request, handler);
  absl::StatusOr<int32_t> pid = parts_.tasks->Start(context, loaded.id(), started.exec_id);
  if (!pid.ok()) {
    started.stream.reset();
    // Also when the client is gone, which ended the start: nobody else would remove it.
    CallContext undo;
    undo.ns = context.ns;
    absl::StatusOr<core::Exit> gone =
        parts_.tasks->Delete(undo, loaded.id(), started.exec_id, /*force=*/true);
    return NamingTheContainer(pid.status(), loaded.ShownName(), process);
  }
  started.pid = *pid;
  return started;
}

absl::Status ExecService::SignalExec(const CallContext& context, const std::string& container,
                                     const std::string& exec_id, const std::string& signal) {
  GANTRY_ASSIGN_OR_RETURN(int number, ParseSignal(signal));
  GANTRY_ASSIGN_OR_RETURN(std::string id, parts_.records->ResolveId(context, container));
  return parts_.tasks->Kill(context, id, exec_id, static_cast<uint32_t>(number), false);
}

}  // namespace gantry::core
