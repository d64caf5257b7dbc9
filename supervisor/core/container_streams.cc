#include "supervisor/core/container_streams.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_state.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

shim::v1::AttachInput::Open InitStreams(const v1::AttachInput::Open& open) {
  shim::v1::AttachInput::Open request;
  request.set_stdin(open.stdin());
  request.set_stdout(open.stdout());
  request.set_stderr(open.stderr());
  return request;
}

}  // namespace

void ContainerStreams::AnnounceStart() { parts_.tasks->AnnounceStart(); }

absl::StatusOr<ContainerStreams::ConnectedStart> ContainerStreams::StartConnected(
    const CallContext& context, const v1::AttachInput::Open& open,
    runtime::AttachStream::Handler* handler, const std::function<void()>& before_start) {
  parts_.tasks->AnnounceStart();
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, open.container(), lock));
  const absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (IsActive(
          StateOf(loaded.state, loaded.config.restart_policy(), task.ok() ? &*task : nullptr))) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", open.container(), " runs already"));
  }
  ConnectedStart started;
  GANTRY_ASSIGN_OR_RETURN(
      started.pid, parts_.steps->StartLocked(
                       lock.Within(context), loaded, /*restart_count=*/0, [&](runtime::Shim& shim) {
                         started.stream = shim.client().Attach(InitStreams(open), handler);
                         parts_.records->Publish(loaded, "attach");
                         before_start();
                       }));
  return started;
}

absl::StatusOr<std::unique_ptr<runtime::AttachStream>> ContainerStreams::Attach(
    const CallContext& context, const v1::AttachInput::Open& open,
    runtime::AttachStream::Handler* handler) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded,
                          parts_.records->Load(context, open.container()));
  const std::string id = loaded.id();
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, id, "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", open.container(), " is not running"));
  }
  if (task->status == ProcessStatus::kPaused) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", open.container(), " is paused; unpause it before attaching"));
  }
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<runtime::Shim> shim, parts_.tasks->Shim(context.ns, id));
  parts_.records->Publish(loaded, "attach");
  return shim->client().Attach(InitStreams(open), handler);
}

absl::Status ContainerStreams::Resize(const CallContext& context,
                                      const v1::ResizeRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  if (request.size().width() == 0 || request.size().height() == 0 ||
      request.size().width() > 65535 || request.size().height() > 65535) {
    return absl::InvalidArgumentError("resize: width and height are 1 to 65535 characters");
  }
  GANTRY_RETURN_IF_ERROR(parts_.tasks->ResizePty(context, loaded.id(), request.exec_id(),
                                                 request.size().width(), request.size().height()));
  if (request.exec_id().empty()) {
    parts_.records->Publish(loaded, "resize",
                            {{"height", absl::StrCat(request.size().height())},
                             {"width", absl::StrCat(request.size().width())}});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ContainerStreams::LogPath(const CallContext& context,
                                                      const std::string& container) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", container, " was made by another client, which keeps its output"));
  }
  if (loaded.config.log().driver() == "none") {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container, " keeps no log (its log driver is \"none\")"));
  }
  return parts_.records->Directory(context.ns, loaded.id()) + "/container.log";
}

absl::Status ContainerStreams::CheckLogEnd(const CallContext& context,
                                           const std::string& container) {
  constexpr absl::Duration kRecordUnderWay = absl::Seconds(3);
  constexpr absl::Duration kPause = absl::Milliseconds(20);
  for (absl::Duration waited; waited < kRecordUnderWay; waited += kPause) {
    const absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, container);
    if (!loaded.ok()) return absl::OkStatus();  // removed with its end
    if (loaded->state.status() != record::v1::ContainerState::RUNNING) {
      if (!absl::StrContains(loaded->state.error(), "shim died")) return absl::OkStatus();
      return absl::AbortedError(absl::StrCat("container ", container, ": ", loaded->state.error(),
                                             "; its last output may be missing"));
    }
    if (MayWriteLog(context, container)) return absl::OkStatus();  // it was started again
    if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Sleep(kPause));
  }
  return absl::OkStatus();
}

bool ContainerStreams::MayWriteLog(const CallContext& context, const std::string& container) {
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, container, "");
  return task.ok() && task->status != ProcessStatus::kStopped;
}

}  // namespace gantry::core
