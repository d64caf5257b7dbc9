// One client of a process's streams: moves messages between gRPC and the shim, one output message
// in flight at a time, so that a slow client slows only itself.
//
// What differs between Run, Attach and Exec is in two hooks that run on a thread of a lane: Begin()
// and Exited(). Owns itself until gRPC is done with it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_ATTACH_REACTOR_H_
#define GANTRY_SUPERVISOR_API_GANTRY_ATTACH_REACTOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/core/container_streams.h"

namespace gantry::api::gantry_v1 {

template <class In, class Out>
class AttachReactor : public OutgoingCall<grpc::ServerBidiReactor<In, Out>, Out>,
                      public runtime::AttachStream::Handler,
                      public std::enable_shared_from_this<AttachReactor<In, Out>> {
  using Base = OutgoingCall<grpc::ServerBidiReactor<In, Out>, Out>;

 public:
  AttachReactor(grpc::CallbackServerContext* context, Lane& lane)
      : Base(context, lane, kPatience) {}

  // Before anything else, once it is owned by a shared_ptr.
  void Open() {
    this->Owned(this->shared_from_this());
    this->StartRead(&incoming_);
  }

  // ---- from gRPC ----

  void OnReadDone(bool ok) override {
    if (!opened_) {
      opened_ = true;
      absl::Status status = this->call().Validate();
      if (status.ok() && !(ok && incoming_.has_open()))
        status = absl::InvalidArgumentError("the first message must be `open`");
      if (!status.ok()) return this->End(status);
      open_ = std::move(incoming_);
      if (!WithSelf([this] { Begin(open_); })) this->End(DaemonStopping());
      return;
    }
    if (!ok) {
      // Half closed, or gone: no more input, output goes on.
      absl::MutexLock lock(&this->mu_);
      if (stream_ != nullptr) stream_->WritesDone();
      return;
    }
    if constexpr (requires(const In& in) { in.detach(); }) {
      if (incoming_.input_case() == In::kDetach) {
        {
          absl::MutexLock lock(&this->mu_);
          left_on_purpose_ = true;
          if (stream_ != nullptr) stream_->Cancel();
        }
        return this->End(absl::OkStatus());
      }
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
        WithSelf([this, signal = incoming_.signal()] { Signal(signal); });
        break;
      case In::kOpen:
        this->End(absl::InvalidArgumentError("`open` comes once"));
        return;
      default:  // INPUT_NOT_SET, and what only some calls have, which is above
        break;
    }
    if (more) this->StartRead(&incoming_);
  }

  void OnCancel() override {
    Base::OnCancel();
    Withdraw();
    absl::MutexLock lock(&this->mu_);
    if (stream_ != nullptr) stream_->Cancel();
    if (begun_) this->EndLocked(ClientGone());
  }

  // The shim's stream must not be taken down on gRPC's own thread: that waits for its handler.
  void OnDone() override {
    const std::shared_ptr<AttachReactor> last = this->shared_from_this();
    this->Later([last] { last->DropStream(); });
    Base::OnDone();
  }

  // ---- from the shim ----

  void OnOutput(shim::v1::AttachOutput output) override {
    {
      absl::MutexLock lock(&this->mu_);
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
          absl::MutexLock lock(&this->mu_);
          exit_seen_ = true;
        }
        WithSelf([this, exited = std::move(exited)] { Exited(exited); });
        return;
      }
      case shim::v1::AttachOutput::kAttached: {
        absl::MutexLock lock(&this->mu_);
        attached_ = true;
        if (this->idle()) AskForOutput();
        return;
      }
      case shim::v1::AttachOutput::OUTPUT_NOT_SET: {
        absl::MutexLock lock(&this->mu_);
        AskForOutput();
        return;
      }
    }
    Post(std::move(out));
  }

  void OnWritable() override {
    absl::MutexLock lock(&this->mu_);
    if (!std::exchange(input_held_, false) || this->finished()) return;
    this->StartRead(&incoming_);
  }

  void OnDone(const absl::Status& status) override {
    absl::MutexLock lock(&this->mu_);
    stream_done_ = true;
    if (exit_seen_ || !begun_) return;  // Exited() or Begin() says how it ended
    this->EndLocked(status.ok() ? absl::UnavailableError("the stream ended before the process did")
                                : status);
  }

 protected:
  virtual void Begin(const In& open) = 0;
  virtual void Exited(const v1::ProcessExited& exited) = 0;
  virtual void Signal(const std::string& signal) = 0;
  // The client has gone: ends what waits without a thread and without a stream. On gRPC's thread.
  virtual void Withdraw() {}
  // The client has gone before the process ended, and did not say that it leaves.
  bool abandoned() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    return this->gone_ && !exit_seen_ && !left_on_purpose_;
  }

  // Waits until the shim has connected the streams: what is started after that loses no output.
  absl::Status WaitAttached() {
    absl::MutexLock lock(&this->mu_);
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
      return attached_ || stream_done_ || this->gone_;
    };
    if (!this->mu_.AwaitWithTimeout(absl::Condition(&settled), kAttachPatience)) {
      return absl::UnavailableError("attach: the shim does not answer");
    }
    if (attached_) return absl::OkStatus();
    return this->gone_ ? ClientGone() : absl::UnavailableError("attach: the shim ended the stream");
  }

  // Never waits; never dropped.
  void Post(Out out) { this->Offer(std::move(out), /*keep=*/true); }

  // The stream is there: input flows from now on.
  void Connected(std::unique_ptr<runtime::AttachStream> stream) {
    absl::MutexLock lock(&this->mu_);
    stream_ = std::move(stream);
    begun_ = true;
    // A short process may have ended before this, and its exit may have ended the call.
    if (this->finished()) return;
    if (std::exchange(output_wanted_, false)) AskForOutput();
    if (this->gone_) {
      stream_->Cancel();
      this->EndLocked(ClientGone());
      return;
    }
    if (stream_done_ && !exit_seen_) {
      this->EndLocked(absl::UnavailableError("the stream ended before the process did"));
      return;
    }
    this->StartRead(&incoming_);
  }

  // Begin() has failed: waits for the handler's last call, if there is a stream.
  void DropStream() {
    std::unique_ptr<runtime::AttachStream> dropped;
    {
      absl::MutexLock lock(&this->mu_);
      dropped = std::move(stream_);
    }
  }

 private:
  bool WithSelf(absl::AnyInvocable<void()> work) {
    return this->Later(
        [self = this->shared_from_this(), work = std::move(work)]() mutable { work(); });
  }

  // False: hold the next input back until OnWritable().
  bool Forward(shim::v1::AttachInput input) {
    absl::MutexLock lock(&this->mu_);
    if (stream_ == nullptr) return true;
    if (stream_->Write(std::move(input))) return true;
    input_held_ = true;
    return false;
  }

  void AskForOutput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (exit_seen_ || output_asked_) return;
    if (stream_ == nullptr) {
      output_wanted_ = true;
    } else {
      output_asked_ = true;
      stream_->Read();
    }
  }

  void Drained() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) { AskForOutput(); }

  static constexpr absl::Duration kAttachPatience = absl::Seconds(20);

  In incoming_;  // gRPC's while a read is under way
  In open_;      // const once opened_
  bool opened_ = false;

  std::unique_ptr<runtime::AttachStream> stream_ ABSL_GUARDED_BY(this->mu_);
  bool begun_ ABSL_GUARDED_BY(this->mu_) = false;
  bool exit_seen_ ABSL_GUARDED_BY(this->mu_) = false;
  bool left_on_purpose_ ABSL_GUARDED_BY(this->mu_) = false;
  bool input_held_ ABSL_GUARDED_BY(this->mu_) = false;
  bool output_wanted_ ABSL_GUARDED_BY(this->mu_) = false;
  bool output_asked_ ABSL_GUARDED_BY(this->mu_) = true;  // opening the stream asks for the first
  bool attached_ ABSL_GUARDED_BY(this->mu_) = false;
  bool stream_done_ ABSL_GUARDED_BY(this->mu_) = false;
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_ATTACH_REACTOR_H_
