// One client of a process's streams: moves messages between gRPC and the shim, one output message in flight at a time, so that a slow
// client slows nobody but itself.
//
// What differs between Run, Attach and Exec is in two hooks that run on an executor's thread: Begin() and Exited().
// Owns itself until gRPC is done with it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_ATTACH_REACTOR_H_
#define GANTRY_SUPERVISOR_API_GANTRY_ATTACH_REACTOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "base/executor.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/api/gantry/call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/container_streams.h"

namespace gantry::api::gantry_v1 {

template <class In, class Out>
class AttachReactor : public grpc::ServerBidiReactor<In, Out>,
                      public runtime::AttachStream::Handler,
                      public std::enable_shared_from_this<AttachReactor<In, Out>> {
 public:
  AttachReactor(grpc::CallbackServerContext* context, Executor& executor)
      : cancel_(TimeLeft(*context)),
        executor_(executor),
        call_(MakeCallContext(*context, &cancel_)) {}

  // Before anything else, once it is owned by a shared_ptr.
  void Open() {
    self_ = this->shared_from_this();
    this->StartRead(&incoming_);
  }

  // ---- from gRPC ----

  void OnReadDone(bool ok) override {
    if (!opened_) {
      opened_ = true;
      if (!ok || !incoming_.has_open()) {
        End(absl::InvalidArgumentError("the first message must be `open`"));
        return;
      }
      open_ = std::move(incoming_);
      if (!Later([this] { Begin(open_); })) End(absl::UnavailableError("gantryd is stopping"));
      return;
    }
    if (!ok) {
      // Half closed, or gone: no more input, output goes on.
      absl::MutexLock lock(&mu_);
      if (stream_ != nullptr) stream_->WritesDone();
      return;
    }
    bool more = true;
    switch (incoming_.input_case()) {
      case In::kStdin: {
        shim::v1::AttachInput input;
        input.set_stdin(std::move(*incoming_.mutable_stdin()));
        more = Forward(std::move(input));
        break;
      }
      case In::kCloseStdin: {
        shim::v1::AttachInput input;
        input.set_close_stdin(true);
        more = Forward(std::move(input));
        break;
      }
      case In::kResize: {
        shim::v1::AttachInput input;
        input.mutable_resize()->set_width(incoming_.resize().width());
        input.mutable_resize()->set_height(incoming_.resize().height());
        more = Forward(std::move(input));
        break;
      }
      case In::kSignal:
        Later([this, signal = incoming_.signal()] { Signal(signal); });
        break;
      case In::kOpen:
        End(absl::InvalidArgumentError("`open` comes once"));
        return;
      case In::INPUT_NOT_SET:
        break;
    }
    if (more) this->StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) gone_ = true;
    WriteNext();
    if (queue_.empty() && !gone_) AskForOutput();
  }

  void OnCancel() override {
    {
      absl::MutexLock lock(&mu_);
      gone_ = true;
      if (stream_ != nullptr) stream_->Cancel();
      if (begun_) EndLocked(absl::CancelledError("the client has gone"));
    }
    cancel_.Cancel("the client has gone");
  }

  // The shim's stream must not be taken down on gRPC's own thread: that waits for its handler.
  void OnDone() override {
    std::shared_ptr<AttachReactor> last = std::move(self_);
    executor_.Schedule([last] { last->DropStream(); });
  }

  // ---- from the shim ----

  void OnOutput(shim::v1::AttachOutput output) override {
    {
      absl::MutexLock lock(&mu_);
      output_asked_ = false;
    }
    Out out;
    switch (output.output_case()) {
      case shim::v1::AttachOutput::kStdout:
        out.set_stdout(std::move(*output.mutable_stdout()));
        break;
      case shim::v1::AttachOutput::kStderr:
        out.set_stderr(std::move(*output.mutable_stderr()));
        break;
      case shim::v1::AttachOutput::kExited: {
        v1::ProcessExited exited;
        exited.set_exit_code(output.exited().exit_status());
        *exited.mutable_exited_at() = output.exited().exited_at();
        exited.set_oom_killed(output.exited().oom_killed());
        {
          absl::MutexLock lock(&mu_);
          exit_seen_ = true;
        }
        Later([this, exited = std::move(exited)] { Exited(exited); });
        return;
      }
      case shim::v1::AttachOutput::kAttached: {
        absl::MutexLock lock(&mu_);
        attached_ = true;
        if (queue_.empty()) AskForOutput();
        return;
      }
      case shim::v1::AttachOutput::OUTPUT_NOT_SET: {
        absl::MutexLock lock(&mu_);
        AskForOutput();
        return;
      }
    }
    Send(std::move(out));
  }

  void OnWritable() override {
    absl::MutexLock lock(&mu_);
    if (!std::exchange(input_held_, false) || finished_) return;
    this->StartRead(&incoming_);
  }

  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&mu_);
    stream_done_ = true;
    if (exit_seen_ || !begun_) return;  // Exited() or Begin() says how it ended
    EndLocked(status.ok() ? absl::UnavailableError("the stream ended before the process did")
                          : status);
  }

 protected:
  virtual void Begin(const In& open) = 0;
  virtual void Exited(const v1::ProcessExited& exited) = 0;
  virtual void Signal(const std::string& signal) = 0;

  // Waits until the shim has connected the streams: what is started after that loses no output.
  absl::Status WaitAttached() {
    absl::MutexLock lock(&mu_);
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return attached_ || stream_done_ || gone_;
    };
    if (!mu_.AwaitWithTimeout(absl::Condition(&settled), kAttachPatience)) {
      return absl::UnavailableError("attach: the shim does not answer");
    }
    if (attached_) return absl::OkStatus();
    return gone_ ? absl::CancelledError("the client has gone")
                 : absl::UnavailableError("attach: the shim ended the stream");
  }

  void Send(Out out) {
    absl::MutexLock lock(&mu_);
    if (gone_) return;
    queue_.push_back(std::move(out));
    WriteNext();
  }

  // Waits for room first. For a thread of the executor.
  absl::Status SendWhenRoom(Out out) {
    absl::MutexLock lock(&mu_);
    const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return gone_ || queue_.size() < kMaxQueued;
    };
    mu_.Await(absl::Condition(&room));
    if (gone_) return absl::CancelledError("the client has gone");
    queue_.push_back(std::move(out));
    WriteNext();
    return absl::OkStatus();
  }

  void End(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    EndLocked(status);
  }

  // The stream is there: input flows from now on.
  void Connected(std::unique_ptr<runtime::AttachStream> stream) {
    absl::MutexLock lock(&mu_);
    stream_ = std::move(stream);
    begun_ = true;
    if (std::exchange(output_wanted_, false)) AskForOutput();
    if (gone_) {
      stream_->Cancel();
      EndLocked(absl::CancelledError("the client has gone"));
      return;
    }
    this->StartRead(&incoming_);
  }

  // Begin() has failed: waits for the handler's last call, if there is a stream.
  void DropStream() {
    std::unique_ptr<runtime::AttachStream> dropped;
    {
      absl::MutexLock lock(&mu_);
      dropped = std::move(stream_);
    }
  }

  CancelToken cancel_;
  const core::CallContext& call() const { return call_; }

 private:
  bool Later(absl::AnyInvocable<void()> work) {
    return executor_.Schedule(
        [self = this->shared_from_this(), work = std::move(work)]() mutable { work(); });
  }

  // False: hold the next input back until OnWritable().
  bool Forward(shim::v1::AttachInput input) {
    absl::MutexLock lock(&mu_);
    if (stream_ == nullptr) return true;
    if (stream_->Write(std::move(input))) return true;
    input_held_ = true;
    return false;
  }

  void AskForOutput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (exit_seen_ || output_asked_) return;
    if (stream_ == nullptr) {
      output_wanted_ = true;
    } else {
      output_asked_ = true;
      stream_->Read();
    }
  }

  void EndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (ended_) return;
    ended_ = true;
    status_ = status;
    WriteNext();
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (gone_) {
      queue_.clear();
    } else if (!queue_.empty()) {
      writing_ = true;
      this->StartWrite(&queue_.front());
      return;
    }
    if (ended_) {
      finished_ = true;
      this->Finish(ToGrpc(status_));
    }
  }

  static constexpr size_t kMaxQueued = 16;
  static constexpr absl::Duration kAttachPatience = absl::Seconds(20);

  Executor& executor_;
  const core::CallContext call_;
  In incoming_;  // gRPC's while a read is under way
  In open_;      // const once opened_
  bool opened_ = false;
  std::shared_ptr<AttachReactor> self_;  // until gRPC is done

  absl::Mutex mu_;
  std::unique_ptr<runtime::AttachStream> stream_ ABSL_GUARDED_BY(mu_);
  std::deque<Out> queue_ ABSL_GUARDED_BY(mu_);
  bool begun_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool exit_seen_ ABSL_GUARDED_BY(mu_) = false;
  bool input_held_ ABSL_GUARDED_BY(mu_) = false;
  bool output_wanted_ ABSL_GUARDED_BY(mu_) = false;
  bool output_asked_ ABSL_GUARDED_BY(mu_) = true;  // opening the stream asks for the first
  bool attached_ ABSL_GUARDED_BY(mu_) = false;
  bool stream_done_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_ATTACH_REACTOR_H_
