// The calls that stream: Events and Attach.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/errno_status.h"
#include "shim/output_backlog.h"
#include "shim/shim_service_state.h"
#include "shim/stdio.h"

namespace gantry::shim {

// Pumps the event log into one client. Owns itself until the client has gone and the last write is
// through the queue.
class ShimService::State::EventsCall final : public std::enable_shared_from_this<EventsCall> {
 public:
  static void Begin(State* state) {
    auto call = std::make_shared<EventsCall>(state);
    call->self_ = call;
    call->context_.AsyncNotifyWhenDone(&call->done_);
    state->service_.RequestEvents(&call->context_, &call->request_, &call->writer_,
                                  state->queue_.get(), state->queue_.get(), &call->accepted_);
  }

  explicit EventsCall(State* state)
      : state_(state),
        writer_(&context_),
        accepted_([this](bool ok) { OnAccepted(ok); }),
        done_([this](bool) { OnDone(); }),
        written_([this](bool ok) { OnWritten(ok); }) {}

 private:
  void OnAccepted(bool ok) {
    if (!ok) {
      self_.reset();
      return;
    }
    if (!state_->stopping_) Begin(state_);
    state_->events_->Confirm(request_.after());
    {
      absl::MutexLock lock(&mu_);
      last_ = request_.after();
    }
    listener_ = state_->events_->Listen([weak = weak_from_this()] {
      if (const std::shared_ptr<EventsCall> call = weak.lock()) call->Pump();
    });
    Pump();
  }

  void Pump() {
    absl::MutexLock lock(&mu_);
    if (writing_ || over_) return;
    const std::optional<v1::Event> event = state_->events_->NextAfter(last_);
    if (!event.has_value()) return;
    last_ = event->number();
    writing_ = true;
    writer_.Write(*event, &written_);
  }

  void OnWritten(bool ok) {
    // Outlives the lock.
    std::shared_ptr<EventsCall> keep;
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (over_) {
        keep = std::move(self_);
        return;
      }
      // The client's leaving is on its way to OnDone().
      if (!ok) return;
    }
    Pump();
  }

  void OnDone() {
    state_->events_->Unlisten(listener_);
    std::shared_ptr<EventsCall> keep;
    absl::MutexLock lock(&mu_);
    over_ = true;
    if (!writing_) keep = std::move(self_);
  }

  State* const state_;
  grpc::ServerContext context_;
  v1::EventsRequest request_;
  grpc::ServerAsyncWriter<v1::Event> writer_;
  FunctionTag accepted_;
  FunctionTag done_;
  FunctionTag written_;
  // Queue thread only.
  uint64_t listener_ = 0;
  std::shared_ptr<EventsCall> self_;

  absl::Mutex mu_;
  uint64_t last_ ABSL_GUARDED_BY(mu_) = 0;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
};

// One attached client. The event loop pushes output in, the queue's thread moves it out. Owns
// itself until the call is over and no operation of it is in the queue.
class ShimService::State::AttachCall final : public AttachedClient,
                                             public std::enable_shared_from_this<AttachCall> {
 public:
  static void Begin(State* state) {
    auto call = std::make_shared<AttachCall>(state);
    call->self_ = call;
    call->context_.AsyncNotifyWhenDone(&call->done_);
    state->service_.RequestAttach(&call->context_, &call->stream_, state->queue_.get(),
                                  state->queue_.get(), &call->accepted_);
  }

  explicit AttachCall(State* state)
      : state_(state),
        stream_(&context_),
        accepted_([this](bool ok) { OnAccepted(ok); }),
        done_([this](bool) { OnDone(); }),
        read_([this](bool ok) { OnRead(ok); }),
        written_([this](bool) { OnWritten(); }),
        finished_([this](bool) { OnFinished(); }) {}

  // AttachedClient, on the event loop.
  void OnAttached() override {
    absl::MutexLock lock(&mu_);
    announce_ = true;
    Pump();
  }
  void KeepIn(const std::string& directory) override {
    absl::MutexLock lock(&mu_);
    backlog_.set_directory(directory);
  }
  void OnOutput(LogStream stream, absl::string_view bytes) override {
    absl::MutexLock lock(&mu_);
    if (over_ || end_.has_value()) return;
    if (const absl::Status kept = backlog_.Append(stream, bytes); !kept.ok()) {
      end_ = WithContext(kept,
                         "attach: the client reads too slowly and is let go, the process runs on");
    }
    Pump();
  }
  bool HoldsUp() const override {
    absl::MutexLock lock(&mu_);
    return !over_ && !end_.has_value() && backlog_.over_mark();
  }
  void OnDetached(const absl::Status& status) override {
    if (!status.ok()) {
      End(status);
      return;
    }
    // All output is in; the exit follows.
    const absl::StatusOr<uint64_t> wait =
        state_->container_->Wait(exec_id_, [weak = weak_from_this()](const v1::WaitResponse& exit) {
          const std::shared_ptr<AttachCall> call = weak.lock();
          if (call == nullptr) return;
          absl::MutexLock lock(&call->mu_);
          call->exit_ = exit;
          call->end_ = absl::OkStatus();
          call->Pump();
        });
    if (!wait.ok()) {
      End(absl::OkStatus());
    } else if (*wait != 0) {
      absl::MutexLock lock(&mu_);
      wait_ = *wait;
    }
  }

 private:
  void OnAccepted(bool ok) {
    if (!ok) {
      self_.reset();
      return;
    }
    if (!state_->stopping_) Begin(state_);
    ReadNext();
  }

  // Any thread; one at a time.
  void ReadNext() {
    absl::MutexLock lock(&mu_);
    if (over_ || finishing_) return;
    reading_ = true;
    stream_.Read(&input_, &read_);
  }

  void OnRead(bool ok) {
    const std::shared_ptr<AttachCall> keep = shared_from_this();
    {
      absl::MutexLock lock(&mu_);
      reading_ = false;
      if (over_ || finishing_) {
        ReleaseIfIdle();
        return;
      }
    }
    if (!ok) {
      // The client sends no more. It may still want the output.
      if (io_ != nullptr) {
        io_->EndInput(this);
      } else {
        End(absl::InvalidArgumentError("attach: the first message must name the process"));
      }
      return;
    }
    switch (input_.input_case()) {
      case v1::AttachInput::kOpen:
        Open();
        return;
      case v1::AttachInput::kStdin:
        if (io_ == nullptr) break;
        io_->WriteStdin(this, std::move(*input_.mutable_stdin()), [weak = weak_from_this()] {
          if (const std::shared_ptr<AttachCall> call = weak.lock()) call->ReadNext();
        });
        return;
      case v1::AttachInput::kCloseStdin:
        if (io_ == nullptr) break;
        if (input_.close_stdin()) io_->CloseStdin();
        ReadNext();
        return;
      case v1::AttachInput::kResize:
        if (io_ == nullptr) break;
        io_->Resize(input_.resize().width(), input_.resize().height());
        ReadNext();
        return;
      case v1::AttachInput::INPUT_NOT_SET:
        // From a newer supervisor.
        if (io_ == nullptr) break;
        ReadNext();
        return;
    }
    End(absl::InvalidArgumentError("attach: the first message must name the process"));
  }

  void Open() {
    if (io_ != nullptr) {
      End(absl::InvalidArgumentError("attach: opened already"));
      return;
    }
    const v1::AttachInput::Open& open = input_.open();
    exec_id_ = open.exec_id();
    absl::StatusOr<std::shared_ptr<ProcessIo>> io = state_->container_->Streams(exec_id_);
    if (!io.ok()) {
      End(io.status());
      return;
    }
    {
      absl::MutexLock lock(&state_->attached_mu_);
      ++state_->attached_;
    }
    io_ = *std::move(io);
    ClientInterest interest;
    interest.stdin_bytes = open.stdin();
    interest.stdout_bytes = open.stdout();
    interest.stderr_bytes = open.stderr();
    io_->Attach(shared_from_this(), interest);
    ReadNext();
  }

  void End(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    if (!end_.has_value()) end_ = status;
    Pump();
  }

  std::optional<OutputBacklog::Piece> NextPiece() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    absl::StatusOr<std::optional<OutputBacklog::Piece>> piece = backlog_.Next();
    if (piece.ok()) return *std::move(piece);
    end_ = piece.status();
    exit_.reset();
    return std::nullopt;
  }

  // Starts the next write, or the end.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || over_ || finishing_) return;
    v1::AttachOutput output;
    if (announce_) {
      announce_ = false;
      output.mutable_attached();
    } else if (std::optional<OutputBacklog::Piece> piece = NextPiece()) {
      *(piece->stream == LogStream::kStdout ? output.mutable_stdout() : output.mutable_stderr()) =
          std::move(piece->bytes);
    } else if (!end_.has_value()) {
      return;
    } else if (exit_.has_value()) {
      v1::AttachOutput::Exited& exited = *output.mutable_exited();
      exited.set_exit_status(exit_->exit_status());
      *exited.mutable_exited_at() = exit_->exited_at();
      exited.set_oom_killed(exit_->oom_killed());
      exit_.reset();
    } else {
      finishing_ = true;
      stream_.Finish(ToGrpc(*end_), &finished_);
      return;
    }
    writing_ = true;
    stream_.Write(output, &written_);
  }

  void OnWritten() {
    const std::shared_ptr<AttachCall> keep = shared_from_this();
    bool drained;
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      const size_t before = backlog_.memory_bytes();
      Pump();
      drained = before > kDrainedBelow && backlog_.memory_bytes() <= kDrainedBelow;
      ReleaseIfIdle();
    }
    if (drained && io_ != nullptr) io_->ClientDrained();
  }

  void OnFinished() {
    const std::shared_ptr<AttachCall> keep = shared_from_this();
    absl::MutexLock lock(&mu_);
    finish_done_ = true;
    ReleaseIfIdle();
  }

  // The call is over, by Finish() or because the client has gone.
  void OnDone() {
    const std::shared_ptr<AttachCall> keep = shared_from_this();
    if (io_ != nullptr) io_->Detach(this);
    uint64_t wait;
    {
      absl::MutexLock lock(&mu_);
      over_ = true;
      backlog_ = OutputBacklog();
      wait = wait_;
      ReleaseIfIdle();
    }
    if (io_ != nullptr) {
      absl::MutexLock lock(&state_->attached_mu_);
      --state_->attached_;
    }
    if (wait != 0) state_->container_->CancelWait(wait);
  }

  void ReleaseIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (over_ && !reading_ && !writing_ && (!finishing_ || finish_done_)) self_.reset();
  }

  static constexpr size_t kDrainedBelow = OutputBacklog::kMemoryBytes / 2;

  State* const state_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<v1::AttachOutput, v1::AttachInput> stream_;
  FunctionTag accepted_;
  FunctionTag done_;
  FunctionTag read_;
  FunctionTag written_;
  FunctionTag finished_;
  // Queue thread only, but for input_ while a read is under way; exec_id_ and io_ are constant once
  // attached.
  v1::AttachInput input_;
  std::string exec_id_;
  std::shared_ptr<ProcessIo> io_;

  mutable absl::Mutex mu_;
  std::shared_ptr<AttachCall> self_;
  OutputBacklog backlog_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mu_);
  std::optional<v1::WaitResponse> exit_ ABSL_GUARDED_BY(mu_);
  uint64_t wait_ ABSL_GUARDED_BY(mu_) = 0;
  bool announce_ ABSL_GUARDED_BY(mu_) = false;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  bool finish_done_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
};

void ShimService::State::AcceptEvents() { EventsCall::Begin(this); }

void ShimService::State::AcceptAttach() { AttachCall::Begin(this); }

}  // namespace gantry::shim
