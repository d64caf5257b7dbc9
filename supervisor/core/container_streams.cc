#include "supervisor/core/container_streams.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/terminal_size.h"
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

// A stream whose shim has confirmed the attach: what is started after that loses no output.
class ReadyStream final : public runtime::AttachStream {
 public:
  static absl::StatusOr<std::unique_ptr<runtime::AttachStream>> Attach(
      runtime::ShimClient& client, const shim::v1::AttachInput::Open& open,
      runtime::AttachStream::Handler* handler) {
    constexpr absl::Duration kPatience = absl::Seconds(10);
    auto stream = std::make_unique<ReadyStream>(handler);
    stream->stream_ = client.Attach(open, &stream->gate_);
    if (!stream->gate_.confirmed.WaitForNotificationWithTimeout(kPatience))
      return absl::UnavailableError("attach: the shim does not answer");
    return std::unique_ptr<runtime::AttachStream>(std::move(stream));
  }

  explicit ReadyStream(runtime::AttachStream::Handler* handler) : gate_(handler) {}
  void Read() override { stream_->Read(); }
  bool Write(shim::v1::AttachInput input) override { return stream_->Write(std::move(input)); }
  void WritesDone() override { stream_->WritesDone(); }
  void Cancel() override { stream_->Cancel(); }

 private:
  // Notes the first call, which is the shim's answer, and passes all on.
  struct Gate final : public runtime::AttachStream::Handler {
    explicit Gate(runtime::AttachStream::Handler* to) : handler(to) {}
    void OnOutput(shim::v1::AttachOutput output) override {
      if (!confirmed.HasBeenNotified()) confirmed.Notify();
      handler->OnOutput(std::move(output));
    }
    void OnWritable() override { handler->OnWritable(); }
    void OnDone(const absl::Status& status) override {
      if (!confirmed.HasBeenNotified()) confirmed.Notify();
      handler->OnDone(status);
    }

    runtime::AttachStream::Handler* const handler;
    absl::Notification confirmed;
  };

  Gate gate_;  // outlives the stream
  std::unique_ptr<runtime::AttachStream> stream_;
};

}  // namespace

void ContainerStreams::AnnounceStart() { parts_.tasks->AnnounceStart(); }

absl::StatusOr<ContainerStreams::ConnectedStart> ContainerStreams::StartConnected(
    const CallContext& context, const v1::AttachInput::Open& open,
    runtime::AttachStream::Handler* handler, const std::function<void()>& before_start) {
  parts_.tasks->AnnounceStart();
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, open.container(), lock));
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
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
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  // A task that another client made and has not started yet has its streams already.
  if (!task.ok() || task->status != ProcessStatus::kCreated) {
    GANTRY_RETURN_IF_ERROR(CheckRuns(
        StateOf(loaded.state, loaded.config.restart_policy(), task.ok() ? &*task : nullptr),
        open.container(), "attach"));
  }
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<runtime::Shim> shim,
                          parts_.tasks->view().Shim(context.ns, loaded.id()));
  parts_.records->Publish(loaded, "attach");
  return shim->client().Attach(InitStreams(open), handler);
}

std::function<void()> ContainerStreams::AttachAtStart(const CallContext& context,
                                                      const v1::AttachInput::Open& open,
                                                      runtime::AttachStream::Handler* handler,
                                                      Connected connected) {
  const absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, open.container());
  if (!loaded.ok()) {
    connected(loaded.status());
    return [] {};
  }
  const std::string id = loaded->id();
  const auto attach = [streams = InitStreams(open), handler,
                       connected](absl::StatusOr<runtime::Shim*> shim) {
    if (!shim.ok()) return connected(shim.status());
    connected(ReadyStream::Attach((*shim)->client(), streams, handler));
  };
  const absl::StatusOr<StartWaits::Ticket> ticket = parts_.starts->Add({context.ns, id}, attach);
  if (!ticket.ok()) {
    connected(ticket.status());
    return [] {};
  }
  parts_.records->Publish(*loaded, "attach");
  // A start or a removal that is over by now did not answer this wait.
  const absl::StatusOr<std::shared_ptr<runtime::Shim>> shim =
      parts_.tasks->view().Shim(context.ns, id);
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, id, "");
  if (shim.ok() && task.ok() && task->status != ProcessStatus::kStopped) {
    parts_.starts->AnswerOne(*ticket, shim->get());
  } else if (absl::Status gone = parts_.records->Load(context, id).status();
             absl::IsNotFound(gone)) {
    parts_.starts->AnswerOne(*ticket, std::move(gone));
  }
  return [starts = parts_.starts, ticket = *ticket] {
    starts->AnswerOne(ticket, absl::CancelledError("the client has gone"));
  };
}

absl::Status ContainerStreams::Resize(const CallContext& context,
                                      const v1::ResizeRequest& request) {
  GANTRY_RETURN_IF_ERROR(CheckTerminalSize(request.size()));
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  GANTRY_RETURN_IF_ERROR(parts_.tasks->ResizePty(context, loaded.id(), request.exec_id(),
                                                 request.size().width(), request.size().height()));
  if (request.exec_id().empty()) {
    parts_.records->Publish(loaded, "resize",
                            {{"height", absl::StrCat(request.size().height())},
                             {"width", absl::StrCat(request.size().width())}});
  }
  return absl::OkStatus();
}

absl::Status ContainerStreams::Logs(const CallContext& context, const std::string& container,
                                    LogQuery query,
                                    const std::function<absl::Status(const LogEntry&)>& emit) {
  if (!query.want_stdout && !query.want_stderr)
    return absl::InvalidArgumentError("logs: neither stdout nor stderr is asked for");
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded, parts_.records->Load(context, container));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", container, " was made by another client, which keeps its output"));
  }
  const std::optional<LogTarget> target = LogTargetOf(*parts_.records, loaded);
  if (!target.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container, " keeps no log (its log driver is \"none\")"));
  }
  query.more_may_come = [&] { return MayWriteLog(context.ns, loaded.id()); };
  query.cancel = context.cancel;
  const absl::Status read = ReadLog(target->path, query, emit);
  // A container that was never started has written nothing.
  if (absl::IsNotFound(read)) return absl::OkStatus();
  return read.ok() && query.follow ? CheckLogEnd(context, loaded.id()) : read;
}

bool ContainerStreams::MayWriteLog(const std::string& ns, const std::string& id) const {
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(ns, id, "");
  return task.ok() && task->status != ProcessStatus::kStopped;
}

absl::Status ContainerStreams::CheckLogEnd(const CallContext& context, const std::string& id) {
  constexpr absl::Duration kRecordUnderWay = absl::Seconds(3);
  constexpr absl::Duration kPause = absl::Milliseconds(20);
  for (absl::Duration waited; waited < kRecordUnderWay; waited += kPause) {
    const absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, id);
    if (!loaded.ok()) return absl::OkStatus();  // removed with its end
    if (loaded->state.status() != record::v1::ContainerState::RUNNING) {
      if (!absl::StrContains(loaded->state.error(), "shim died")) return absl::OkStatus();
      return absl::AbortedError(absl::StrCat("container ", id, ": ", loaded->state.error(),
                                             "; its last output may be missing"));
    }
    if (MayWriteLog(context.ns, id)) return absl::OkStatus();  // it was started again
    if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Sleep(kPause));
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
