// One shim's calls, its event stream and its attached streams, over its unix socket.
//
// Holds one channel, made small: no TLS, no retries, no resolver, no balancer. Dialling is lazy;
// the first call connects, and so does the first after the connection broke. Streams are served by
// gRPC's callback threads, so that hundreds of shims cost no thread each.
//
// Every unary call blocks until it is answered, its timeout has passed or its token is cancelled.
// Codes are the shim's own (proto/shim/v1/shim.proto), and besides:
//   kUnavailable       the shim does not answer at its socket (dead, or not listening yet)
//   kDeadlineExceeded  it took the call and did not answer in time; it may still carry it out
//   kCancelled         the caller's token
// Messages name the task and the call.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_CLIENT_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/task_key.h"

namespace gantry {
class CancelToken;
}

namespace gantry::runtime {

struct CallOptions {
  absl::Duration timeout = absl::Seconds(30);
  CancelToken* cancel = nullptr;  // outlives the call; null: only the timeout ends it
};

// Events of one shim, in order, each number once, resumed by itself when the connection breaks.
// Destruction cancels and waits for a callback that is running; never destroy it from inside its
// own callback.
class EventStream {
 public:
  virtual ~EventStream() = default;
  virtual uint64_t last_number() const = 0;
};

// One attached client. Thread-safe. Destruction cancels the call and waits for a running handler
// call.
class AttachStream {
 public:
  // Called one at a time, from a gRPC thread; must not block.
  class Handler {
   public:
    virtual ~Handler() = default;
    // The next message comes only after Read(). What a handler does not read is kept by the shim
    // beside the container's log; without a log the process waits. kResourceExhausted at the end:
    // the disk had no room to keep more.
    virtual void OnOutput(shim::v1::AttachOutput output) = 0;
    // The write queue has room again after Write() returned false.
    virtual void OnWritable() = 0;
    // Last call. OK after `exited` was delivered.
    virtual void OnDone(const absl::Status& status) = 0;
  };

  virtual ~AttachStream() = default;
  // Asks for the next message; exactly one OnOutput or OnDone follows. One is asked for when the
  // stream is opened.
  virtual void Read() = 0;
  // Queues. False: queued, but the queue is over its mark; wait for OnWritable(). Dropped silently
  // after OnDone.
  virtual bool Write(shim::v1::AttachInput input) = 0;
  // No more input will come; output goes on.
  virtual void WritesDone() = 0;
  // Ends it; OnDone(kCancelled) follows unless it came already.
  virtual void Cancel() = 0;
};

class ShimClient {
 public:
  ShimClient(TaskKey key, const std::string& socket_path);
  ~ShimClient();
  ShimClient(const ShimClient&) = delete;
  ShimClient& operator=(const ShimClient&) = delete;

  const TaskKey& key() const { return key_; }

  absl::StatusOr<shim::v1::InfoResponse> Info(CallOptions options = {});
  // Without blocking; `done` runs once, on a gRPC thread, also when the client is gone by then.
  void InfoAsync(absl::Duration timeout,
                 std::function<void(absl::StatusOr<shim::v1::InfoResponse>)> done);
  void DeleteAsync(const shim::v1::DeleteRequest& request, absl::Duration timeout,
                   std::function<void(absl::StatusOr<shim::v1::DeleteResponse>)> done);
  void StatsAsync(absl::Duration timeout,
                  std::function<void(absl::StatusOr<shim::v1::StatsResponse>)> done);
  absl::StatusOr<shim::v1::CreateResponse> Create(const shim::v1::CreateRequest& request,
                                                  CallOptions options = {});
  absl::StatusOr<shim::v1::StartResponse> Start(const shim::v1::StartRequest& request,
                                                CallOptions options = {});
  absl::StatusOr<shim::v1::ExecResponse> Exec(const shim::v1::ExecRequest& request,
                                              CallOptions options = {});
  absl::StatusOr<shim::v1::ProcessState> State(const shim::v1::StateRequest& request,
                                               CallOptions options = {});
  // Blocks a thread; those who wait for many processes listen to Events() instead.
  absl::StatusOr<shim::v1::WaitResponse> Wait(const shim::v1::WaitRequest& request,
                                              CallOptions options = {});
  absl::Status Kill(const shim::v1::KillRequest& request, CallOptions options = {});
  absl::StatusOr<shim::v1::DeleteResponse> Delete(const shim::v1::DeleteRequest& request,
                                                  CallOptions options = {});
  absl::StatusOr<shim::v1::PidsResponse> Pids(CallOptions options = {});
  absl::Status Pause(CallOptions options = {});
  absl::Status Resume(CallOptions options = {});
  absl::Status Update(const shim::v1::UpdateRequest& request, CallOptions options = {});
  absl::StatusOr<shim::v1::StatsResponse> Stats(CallOptions options = {});
  absl::Status Checkpoint(const shim::v1::CheckpointRequest& request, CallOptions options = {});
  absl::Status ResizePty(const shim::v1::ResizePtyRequest& request, CallOptions options = {});
  absl::Status CloseStdin(const shim::v1::CloseStdinRequest& request, CallOptions options = {});
  absl::Status ReopenLog(CallOptions options = {});
  absl::Status Shutdown(const shim::v1::ShutdownRequest& request, CallOptions options = {});

  // on_event: in order, from a gRPC thread, one at a time; must not block for long (it holds up
  // this shim's events only). on_end: the stream has ended: OK, the shim said there is
  // nothing more to come; kUnavailable, the shim cannot be reached any more (its death is the
  // registry reports its death, by pidfd); kDataLoss, the shim no longer has the events asked for.
  std::unique_ptr<EventStream> Events(uint64_t after,
                                      std::function<void(const shim::v1::Event&)> on_event,
                                      std::function<void(const absl::Status&)> on_end);

  // `handler` outlives the stream; its first call is the answer to `open`.
  std::unique_ptr<AttachStream> Attach(const shim::v1::AttachInput::Open& open,
                                       AttachStream::Handler* handler);

 private:
  struct Connection;
  const TaskKey key_;
  const std::shared_ptr<Connection>
      connection_;  // shared with streams, which may outlive the client
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_CLIENT_H_
