#include "shim/shim_service.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/errno_status.h"
#include "proto/shim/v1/shim.grpc.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "shim/output_backlog.h"
#include "shim/shim_log.h"
#include "shim/worker_threads.h"

namespace gantry::shim {
namespace {

using Async = v1::Shim::AsyncService;

constexpr int kMaxMessageBytes = 16 << 20;
// A call without a deadline still has one, and the answer must be there before the caller's own
// runs out.
constexpr absl::Duration kDefaultLimit = absl::Minutes(2);
constexpr absl::Duration kAnswerReserve = absl::Milliseconds(200);
constexpr absl::Duration kMinLimit = absl::Milliseconds(100);
// The last events go out before the shim does.
constexpr absl::Duration kFinishGrace = absl::Milliseconds(50);

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

absl::Duration LimitOf(const grpc::ServerContext& context) {
  const absl::Duration left = absl::FromChrono(context.deadline()) - absl::Now();
  return std::clamp(left - kAnswerReserve, kMinLimit, kDefaultLimit);
}

// What comes back from the completion queue.
class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Proceed(bool ok) = 0;
};

// A tag that is a function; owned by the code that started the operation, as long as that runs.
class FunctionTag final : public Tag {
 public:
  explicit FunctionTag(std::function<void(bool)> function) : function_(std::move(function)) {}
  void Proceed(bool ok) override { function_(ok); }

 private:
  const std::function<void(bool)> function_;
};

}  // namespace

// Everything, so that the header stays free of gRPC.
class ShimService::State {
 public:
  State(Options options, EventLog* events, WorkerThreads* workers)
      : options_(std::move(options)), events_(events), workers_(workers) {}

  absl::Status StartServer();
  void StopServer();
  void Serve(Container* container) { container_ = container; }
  void AddConnection(UniqueFd connection) {
    if (server_ != nullptr) grpc::AddInsecureChannelFromFd(server_.get(), connection.release());
  }

 private:
  template <typename Request, typename Response>
  class UnaryCall;
  class EventsCall;
  class AttachCall;

  template <typename Request, typename Response>
  using RequestMethod = void (Async::*)(grpc::ServerContext*, Request*,
                                        grpc::ServerAsyncResponseWriter<Response>*,
                                        grpc::CompletionQueue*, grpc::ServerCompletionQueue*,
                                        void*);
  // Answers once through `call`, from any thread.
  template <typename Request, typename Response>
  using Handler = void (State::*)(UnaryCall<Request, Response>* call);

  template <typename Request, typename Response>
  void Accept(std::type_identity_t<RequestMethod<Request, Response>> method,
              Handler<Request, Response> handler) {
    UnaryCall<Request, Response>::Begin(this, method, handler);
  }
  void AcceptAll();
  void Loop();
  // The last answer is out: tells the owner when attached clients have what they are owed, if they
  // are to be waited for, and after a moment for the event streams.
  void FinishSoon(bool wait_for_clients);

  void Info(UnaryCall<v1::InfoRequest, v1::InfoResponse>* call);
  void Create(UnaryCall<v1::CreateRequest, v1::CreateResponse>* call);
  void Start(UnaryCall<v1::StartRequest, v1::StartResponse>* call);
  void Exec(UnaryCall<v1::ExecRequest, v1::ExecResponse>* call);
  void ProcessState(UnaryCall<v1::StateRequest, v1::ProcessState>* call);
  void Wait(UnaryCall<v1::WaitRequest, v1::WaitResponse>* call);
  void Kill(UnaryCall<v1::KillRequest, v1::KillResponse>* call);
  void Delete(UnaryCall<v1::DeleteRequest, v1::DeleteResponse>* call);
  void Pids(UnaryCall<v1::PidsRequest, v1::PidsResponse>* call);
  void Pause(UnaryCall<v1::PauseRequest, v1::PauseResponse>* call);
  void Resume(UnaryCall<v1::ResumeRequest, v1::ResumeResponse>* call);
  void Update(UnaryCall<v1::UpdateRequest, v1::UpdateResponse>* call);
  void Stats(UnaryCall<v1::StatsRequest, v1::StatsResponse>* call);
  void Checkpoint(UnaryCall<v1::CheckpointRequest, v1::CheckpointResponse>* call);
  void ResizePty(UnaryCall<v1::ResizePtyRequest, v1::ResizePtyResponse>* call);
  void CloseStdin(UnaryCall<v1::CloseStdinRequest, v1::CloseStdinResponse>* call);
  void ReopenLog(UnaryCall<v1::ReopenLogRequest, v1::ReopenLogResponse>* call);
  void Shutdown(UnaryCall<v1::ShutdownRequest, v1::ShutdownResponse>* call);

  const Options options_;
  EventLog* const events_;
  WorkerThreads* const workers_;
  // Set before there is a connection, so before any call reads it.
  Container* container_ = nullptr;
  Async service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> finished_{false};
  absl::Mutex attached_mu_;
  int attached_ ABSL_GUARDED_BY(attached_mu_) = 0;  // Attach calls that have been opened
};

// --- Unary calls
// ---------------------------------------------------------------------------------------------------

// One call from its acceptance to the end of its answer. Owns itself until both that and the notice
// of the client's leaving are through the queue.
template <typename Request, typename Response>
class ShimService::State::UnaryCall final {
 public:
  static void Begin(State* state, RequestMethod<Request, Response> method,
                    Handler<Request, Response> handler) {
    auto call = std::make_shared<UnaryCall>(state, method, handler);
    call->self_ = call;
    call->context_.AsyncNotifyWhenDone(&call->done_);
    (state->service_.*method)(&call->context_, &call->request_, &call->responder_,
                              state->queue_.get(), state->queue_.get(), &call->accepted_);
  }

  UnaryCall(State* state, RequestMethod<Request, Response> method,
            Handler<Request, Response> handler)
      : state_(state),
        method_(method),
        handler_(handler),
        responder_(&context_),
        accepted_([this](bool ok) { OnAccepted(ok); }),
        done_([this](bool) { OnDone(); }),
        answered_([this](bool) { Release(); }) {}

  const Request& request() const { return request_; }
  State* state() const { return state_; }
  absl::Duration limit() const { return LimitOf(context_); }

  // Any thread, once. `after` runs when the answer is on its way.
  void Answer(const absl::Status& status, const Response& response,
              std::function<void()> after = nullptr) {
    after_ = std::move(after);
    // For the trace that the caller keeps: when the shim worked.
    if (accepted_at_ != absl::InfinitePast()) {
      context_.AddTrailingMetadata(
          "gantry-served",
          absl::StrCat(absl::ToUnixNanos(accepted_at_), " ", absl::ToUnixNanos(absl::Now())));
    }
    if (status.ok()) {
      responder_.Finish(response, grpc::Status::OK, &answered_);
    } else {
      responder_.FinishWithError(ToGrpc(status), &answered_);
    }
  }
  void Answer(const absl::StatusOr<Response>& result) {
    result.ok() ? Answer(absl::OkStatus(), *result) : Answer(result.status(), Response());
  }

  // `work` runs on a worker thread and must answer.
  void Work(std::function<void()> work) { state_->workers_->Run(std::move(work)); }

  // Called on the queue's thread when the client has gone before the answer. Set before the handler
  // returns.
  void set_on_cancelled(std::function<void()> on_cancelled) {
    absl::MutexLock lock(&mu_);
    on_cancelled_ = std::move(on_cancelled);
  }

 private:
  void OnAccepted(bool ok) {
    if (!ok) {
      // Shutting down; the notice of done does not come for a call that never was.
      self_.reset();
      return;
    }
    if (!state_->stopping_) state_->Accept(method_, handler_);
    if (context_.client_metadata().count("traceparent") != 0) accepted_at_ = absl::Now();
    (state_->*handler_)(this);
  }
  void OnDone() {
    if (context_.IsCancelled()) {
      std::function<void()> on_cancelled;
      {
        absl::MutexLock lock(&mu_);
        on_cancelled.swap(on_cancelled_);
      }
      if (on_cancelled) on_cancelled();
    }
    Release();
  }
  void Release() {
    if (--references_ > 0) return;
    const std::shared_ptr<UnaryCall> keep = std::move(self_);
    if (after_) after_();
  }

  State* const state_;
  const RequestMethod<Request, Response> method_;
  const Handler<Request, Response> handler_;
  grpc::ServerContext context_;
  Request request_;
  grpc::ServerAsyncResponseWriter<Response> responder_;
  FunctionTag accepted_;
  FunctionTag done_;
  FunctionTag answered_;
  std::function<void()> after_;
  absl::Time accepted_at_ = absl::InfinitePast();  // of calls that are traced
  // Queue thread only.
  int references_ = 2;
  std::shared_ptr<UnaryCall> self_;

  absl::Mutex mu_;
  std::function<void()> on_cancelled_ ABSL_GUARDED_BY(mu_);
};

void ShimService::State::Info(UnaryCall<v1::InfoRequest, v1::InfoResponse>* call) {
  v1::InfoResponse response;
  container_->FillInfo(&response);
  response.set_shim_pid(getpid());
  response.set_version(options_.version);
  call->Answer(absl::OkStatus(), response);
}

void ShimService::State::Create(UnaryCall<v1::CreateRequest, v1::CreateResponse>* call) {
  call->Work([this, call] {
    call->Answer(container_->Create(call->request(), call->limit()));
    // Nothing a shim does takes as much memory as reading the spec; not before the answer, for it
    // takes time too.
    malloc_trim(0);
  });
}

void ShimService::State::Start(UnaryCall<v1::StartRequest, v1::StartResponse>* call) {
  call->Work(
      [this, call] { call->Answer(container_->Start(call->request().exec_id(), call->limit())); });
}

void ShimService::State::Exec(UnaryCall<v1::ExecRequest, v1::ExecResponse>* call) {
  call->Work([this, call] { call->Answer(container_->Exec(call->request(), call->limit())); });
}

void ShimService::State::ProcessState(UnaryCall<v1::StateRequest, v1::ProcessState>* call) {
  call->Answer(container_->State(call->request().exec_id()));
}

void ShimService::State::Wait(UnaryCall<v1::WaitRequest, v1::WaitResponse>* call) {
  // The exit and the client's leaving race for the answer.
  auto answered = std::make_shared<std::atomic<bool>>(false);
  auto id = std::make_shared<std::atomic<uint64_t>>(0);
  call->set_on_cancelled([this, call, answered, id] {
    if (answered->exchange(true)) return;
    container_->CancelWait(*id);
    call->Answer(absl::CancelledError("the caller has gone"), v1::WaitResponse());
  });
  const absl::StatusOr<uint64_t> waiter = container_->Wait(
      call->request().exec_id(), [call, answered](const v1::WaitResponse& response) {
        if (!answered->exchange(true)) call->Answer(absl::OkStatus(), response);
      });
  if (!waiter.ok()) {
    answered->store(true);
    call->Answer(waiter.status(), v1::WaitResponse());
    return;
  }
  // Before the queue's thread, which this is, can tell of the client's leaving.
  id->store(*waiter);
}

void ShimService::State::Kill(UnaryCall<v1::KillRequest, v1::KillResponse>* call) {
  call->Work([this, call] {
    call->Answer(container_->Kill(call->request(), call->limit()), v1::KillResponse());
  });
}

void ShimService::State::Delete(UnaryCall<v1::DeleteRequest, v1::DeleteResponse>* call) {
  call->Work([this, call] {
    const absl::StatusOr<v1::DeleteResponse> result =
        container_->Delete(call->request(), call->limit());
    if (!result.ok()) {
      call->Answer(result);
      return;
    }
    std::function<void()> after;
    // A client that reads slowly has the rest of the output from us, however long it takes: the
    // container is gone meanwhile.
    if (container_->IsDeleted()) after = [this] { FinishSoon(/*wait_for_clients=*/true); };
    call->Answer(absl::OkStatus(), *result, std::move(after));
  });
}

void ShimService::State::Pids(UnaryCall<v1::PidsRequest, v1::PidsResponse>* call) {
  call->Work([this, call] { call->Answer(container_->Pids(call->limit())); });
}

void ShimService::State::Pause(UnaryCall<v1::PauseRequest, v1::PauseResponse>* call) {
  call->Work([this, call] { call->Answer(container_->Pause(call->limit()), v1::PauseResponse()); });
}

void ShimService::State::Resume(UnaryCall<v1::ResumeRequest, v1::ResumeResponse>* call) {
  call->Work(
      [this, call] { call->Answer(container_->Resume(call->limit()), v1::ResumeResponse()); });
}

void ShimService::State::Update(UnaryCall<v1::UpdateRequest, v1::UpdateResponse>* call) {
  call->Work([this, call] {
    call->Answer(container_->Update(call->request().resources_json(), call->limit()),
                 v1::UpdateResponse());
  });
}

void ShimService::State::Stats(UnaryCall<v1::StatsRequest, v1::StatsResponse>* call) {
  call->Work([this, call] { call->Answer(container_->Stats()); });
}

void ShimService::State::Checkpoint(
    UnaryCall<v1::CheckpointRequest, v1::CheckpointResponse>* call) {
  call->Work([this, call] {
    call->Answer(container_->Checkpoint(call->request(), call->limit()), v1::CheckpointResponse());
  });
}

void ShimService::State::ResizePty(UnaryCall<v1::ResizePtyRequest, v1::ResizePtyResponse>* call) {
  const v1::ResizePtyRequest& request = call->request();
  call->Answer(container_->ResizePty(request.exec_id(), request.width(), request.height()),
               v1::ResizePtyResponse());
}

void ShimService::State::CloseStdin(
    UnaryCall<v1::CloseStdinRequest, v1::CloseStdinResponse>* call) {
  call->Answer(container_->CloseStdin(call->request().exec_id()), v1::CloseStdinResponse());
}

void ShimService::State::ReopenLog(UnaryCall<v1::ReopenLogRequest, v1::ReopenLogResponse>* call) {
  container_->ReopenLog(
      [call](const absl::Status& status) { call->Answer(status, v1::ReopenLogResponse()); });
}

void ShimService::State::Shutdown(UnaryCall<v1::ShutdownRequest, v1::ShutdownResponse>* call) {
  call->Work([this, call] {
    if (container_->HasLiveProcess() && !call->request().force()) {
      call->Answer(absl::FailedPreconditionError("cannot end the shim: its container runs"),
                   v1::ShutdownResponse());
      return;
    }
    if (call->request().force()) {
      v1::DeleteRequest request;
      request.set_force(true);
      if (const absl::Status status = container_->Delete(request, call->limit()).status();
          !status.ok()) {
        call->Answer(status, v1::ShutdownResponse());
        return;
      }
    }
    call->Answer(absl::OkStatus(), v1::ShutdownResponse(),
                 [this] { FinishSoon(/*wait_for_clients=*/false); });
  });
}

// --- Events
// --------------------------------------------------------------------------------------------------------

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

// --- Attach
// --------------------------------------------------------------------------------------------------------

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

// --- The server
// ----------------------------------------------------------------------------------------------------

void ShimService::State::AcceptAll() {
  Accept(&Async::RequestInfo, &State::Info);
  Accept(&Async::RequestCreate, &State::Create);
  Accept(&Async::RequestStart, &State::Start);
  Accept(&Async::RequestExec, &State::Exec);
  Accept(&Async::RequestState, &State::ProcessState);
  Accept(&Async::RequestWait, &State::Wait);
  Accept(&Async::RequestKill, &State::Kill);
  Accept(&Async::RequestDelete, &State::Delete);
  Accept(&Async::RequestPids, &State::Pids);
  Accept(&Async::RequestPause, &State::Pause);
  Accept(&Async::RequestResume, &State::Resume);
  Accept(&Async::RequestUpdate, &State::Update);
  Accept(&Async::RequestStats, &State::Stats);
  Accept(&Async::RequestCheckpoint, &State::Checkpoint);
  Accept(&Async::RequestResizePty, &State::ResizePty);
  Accept(&Async::RequestCloseStdin, &State::CloseStdin);
  Accept(&Async::RequestReopenLog, &State::ReopenLog);
  Accept(&Async::RequestShutdown, &State::Shutdown);
  EventsCall::Begin(this);
  AttachCall::Begin(this);
}

absl::Status ShimService::State::StartServer() {
  grpc::ServerBuilder builder;
  builder.RegisterService(&service_);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  // No timers, and so no thread for them (third_party/grpc_few_threads.cc). A call whose deadline
  // has passed is cancelled by its client; LimitOf() reads the deadline all the same.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
  builder.AddChannelArgument(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0);
  queue_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return absl::InternalError("the gRPC server does not start");
  AcceptAll();
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

void ShimService::State::Loop() {
  void* tag;
  bool ok;
  while (queue_->Next(&tag, &ok)) static_cast<Tag*>(tag)->Proceed(ok);
}

void ShimService::State::StopServer() {
  if (server_ == nullptr) return;
  stopping_ = true;
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  queue_->Shutdown();
  thread_.join();
  server_.reset();
}

void ShimService::State::FinishSoon(bool wait_for_clients) {
  if (finished_.exchange(true)) return;
  workers_->Run([this, wait_for_clients] {
    if (wait_for_clients) {
      const auto none = [this]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(attached_mu_) { return attached_ == 0; };
      absl::MutexLock lock(&attached_mu_);
      attached_mu_.Await(absl::Condition(&none));
    }
    absl::SleepFor(kFinishGrace);
    options_.on_finished();
  });
}

ShimService::ShimService(Options options, EventLog* events, WorkerThreads* workers)
    : state_(std::make_unique<State>(std::move(options), events, workers)) {}

ShimService::~ShimService() { state_->StopServer(); }

absl::Status ShimService::Start() { return state_->StartServer(); }

void ShimService::Serve(Container* container) { state_->Serve(container); }

void ShimService::AddConnection(UniqueFd connection) {
  state_->AddConnection(std::move(connection));
}

}  // namespace gantry::shim
