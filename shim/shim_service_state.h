// What the sources of ShimService share: the tags of the completion queue, and the state that calls
// work on. Used by them only.
//
// Each call is an object that owns itself: it begins as the acceptance of a call of its kind, makes
// its successor when that is accepted, and goes when nothing of it is in the queue. One thread, the
// queue's, runs all tags; what other threads touch besides has a lock.
#ifndef GANTRY_SHIM_SHIM_SERVICE_STATE_H_
#define GANTRY_SHIM_SHIM_SERVICE_STATE_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.grpc.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "shim/shim_service.h"

namespace gantry::shim {

using Async = v1::Shim::AsyncService;

inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
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
  void AcceptEvents();
  void AcceptAttach();
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

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SHIM_SERVICE_STATE_H_
