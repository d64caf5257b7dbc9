#include "shim/shim_service.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdint>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.grpc.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "shim/shim_service_state.h"
#include "shim/worker_threads.h"

namespace gantry::shim {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;
// A call without a deadline still has one, and the answer must be there before the caller's own
// runs out.
constexpr absl::Duration kDefaultLimit = absl::Minutes(2);
constexpr absl::Duration kAnswerReserve = absl::Milliseconds(200);
constexpr absl::Duration kMinLimit = absl::Milliseconds(100);
// The last events go out before the shim does.
constexpr absl::Duration kFinishGrace = absl::Milliseconds(50);

absl::Duration LimitOf(const grpc::ServerContext& context) {
  const absl::Duration left = absl::FromChrono(context.deadline()) - absl::Now();
  return std::clamp(left - kAnswerReserve, kMinLimit, kDefaultLimit);
}

}  // namespace

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
  AcceptEvents();
  AcceptAttach();
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
