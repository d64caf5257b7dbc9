// The outgoing half of a call that streams: a bounded queue which the work fills on its own thread
// and which empties from one write's completion to the next, so that the work is woken once for
// many messages.
//
// A client that reads nothing is waited for within a patience, then its call is cancelled: it never
// holds a thread longer.
#ifndef GANTRY_SUPERVISOR_API_GRPC_OUTGOING_H_
#define GANTRY_SUPERVISOR_API_GRPC_OUTGOING_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "base/trace/span.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"

namespace gantry::api {

// How long a stream waits for a client that takes nothing, or, in an upload, sends nothing.
constexpr absl::Duration kPatience = absl::Minutes(5);
// For streams that people look at, perhaps through a pager that they leave open.
constexpr absl::Duration kViewerPatience = absl::Hours(1);

// Where work puts its messages. Thread-safe.
template <class Response>
class Sender {
 public:
  virtual ~Sender() = default;
  // Waits while too much is queued. kCancelled: the client has gone, or has read nothing for as
  // long as the stream's patience.
  virtual absl::Status Send(Response response) = 0;
  // Like Send(), but into the last message that waits if `merge` takes it there (and says so). For
  // many small things.
  virtual absl::Status SendMerging(Response response,
                                   bool (*merge)(Response& last, Response& next)) = 0;
  // Never waits: dropped while much is queued, unless it is to be kept. For progress, which the
  // next message brings up to date.
  virtual void Offer(Response response, bool keep) = 0;
};

// What all streaming calls have: the call, an end that comes once, and a life until gRPC is done
// with it. `Reactor` is the gRPC base class. Derived classes are made by std::make_shared and then
// Owned().
template <class Reactor>
class StreamingCall : public Reactor {
 public:
  StreamingCall(grpc::CallbackServerContext* context, Lane& lane)
      : context_(*context),
        lane_(lane),
        connection_(context->peer()),
        call_(*context, lane.scoped()) {}

  void OnCancel() override {
    {
      // First: work that the token wakes must see that the client is gone.
      absl::MutexLock lock(&mu_);
      gone_ = true;
    }
    call_.cancel().Cancel("the client has gone");
  }
  void OnDone() override {
    const std::shared_ptr<void> last = std::move(self_);
    if (entered_) lane_.Leave(connection_);
  }

  Call& call() { return call_; }

  // Keeps this alive until OnDone(). Work holds a share of its own.
  void Owned(std::shared_ptr<void> self) { self_ = std::move(self); }

  // Once: `work` runs on a thread of the lane and ends the call. The call keeps its place in the
  // lane until it is over.
  void Enter(absl::AnyInvocable<void()> work) {
    entered_ = true;
    const trace::ScopedContext scope(trace_);
    if (lane_.Enter(connection_, std::move(work))) return;
    entered_ = false;
    End(DaemonStopping());
  }

  // No more messages; the call ends once what is queued is out. Later ends are ignored.
  void End(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    EndLocked(status);
  }

 protected:
  void EndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (ended_) return;
    ended_ = true;
    status_ = status;
    Advance();
  }
  // Starts what can be started: a write, or the end.
  virtual void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { FinishIfEnded(); }

  void FinishIfEnded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!ended_ || finished_) return;
    finished_ = true;
    this->Finish(call_.Ended(gone_ && status_.ok() ? ClientGone() : status_));
  }

  // The client has been waited for long enough.
  absl::Status GiveUp(absl::string_view what, absl::Duration patience)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    gone_ = true;
    // Ends reads and writes that are under way; their completions let the call end.
    context_.TryCancel();
    return absl::CancelledError(
        absl::StrCat("the client ", what, " for ", absl::FormatDuration(patience)));
  }

  // gRPC knows that the client has gone; OnCancel() may be yet to come.
  bool cancelled() const { return context_.IsCancelled(); }
  bool finished() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return finished_; }

  // A step of the call on a thread of the lane, for those that hold none in between. False: the
  // daemon is stopping.
  bool Later(absl::AnyInvocable<void()> work) {
    const trace::ScopedContext scope(trace_);
    return lane_.Schedule(connection_, std::move(work));
  }

  absl::Mutex mu_;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;

 private:
  grpc::CallbackServerContext& context_;
  Lane& lane_;
  const std::string connection_;
  // Of the call's handler; messages come on any thread.
  const trace::SpanContext trace_ = trace::Current();
  bool entered_ = false;  // set before the work can end the call
  Call call_;
  std::shared_ptr<void> self_;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

// A streaming call that answers with messages.
template <class Reactor, class Response>
class OutgoingCall : public StreamingCall<Reactor>, public Sender<Response> {
 public:
  OutgoingCall(grpc::CallbackServerContext* context, Lane& lane, absl::Duration patience)
      : StreamingCall<Reactor>(context, lane), patience_(patience) {}

  absl::Status Send(Response response) override {
    absl::MutexLock lock(&this->mu_);
    if (absl::Status room = WaitRoom(); !room.ok()) return room;
    Push(std::move(response));
    return absl::OkStatus();
  }

  absl::Status SendMerging(Response response,
                           bool (*merge)(Response& last, Response& next)) override {
    {
      absl::MutexLock lock(&this->mu_);
      // The front is gRPC's while it is being written.
      if (!this->gone_ && queue_.size() > 1) {
        Queued& last = queue_.back();
        if (merge(last.message, response)) {
          const size_t bytes = BytesOf(last.message);
          queued_bytes_ += bytes - last.bytes;
          last.bytes = bytes;
          return absl::OkStatus();
        }
      }
    }
    return Send(std::move(response));
  }

  void Offer(Response response, bool keep) override {
    absl::MutexLock lock(&this->mu_);
    if (this->gone_ || (!keep && queue_.size() >= kMostOffered)) return;
    Push(std::move(response));
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&this->mu_);
    queued_bytes_ -= queue_.front().bytes;
    queue_.pop_front();
    writing_ = false;
    ++written_;
    if (!ok) this->gone_ = true;
    if (queued_bytes_ <= kQueueBytes / 2) full_ = false;
    Advance();
    if (queue_.empty() && !this->gone_) Drained();
  }

 protected:
  // All that was queued is out, and the client is still there.
  virtual void Drained() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {}

  bool idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) { return queue_.empty(); }

  void Push(Response response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    const size_t bytes = BytesOf(response);
    queue_.push_back({std::move(response), bytes});
    queued_bytes_ += bytes;
    if (queued_bytes_ >= kQueueBytes) full_ = true;
    Advance();
  }

  void Advance() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (writing_ || this->finished()) return;
    if (this->gone_) {
      queue_.clear();
      queued_bytes_ = 0;
      full_ = false;
    } else if (!queue_.empty()) {
      writing_ = true;
      grpc::WriteOptions options;
      // What has others behind it goes out with them.
      if (queue_.size() > 1) options.set_buffer_hint();
      this->StartWrite(&queue_.front().message, options);
      return;
    }
    this->FinishIfEnded();
  }

 private:
  struct Queued {
    Response message;
    size_t bytes;
  };
  // Work waits once this much is queued, until half of it is out.
  static constexpr size_t kQueueBytes = 1 << 20;
  static constexpr size_t kMostOffered = 16;
  // Of a message besides its bytes: many empty ones are not free.
  static constexpr size_t kOverheadBytes = 256;

  static size_t BytesOf(const google::protobuf::MessageLite& message) {
    return kOverheadBytes + message.ByteSizeLong();
  }
  static size_t BytesOf(const grpc::ByteBuffer& message) {
    return kOverheadBytes + message.Length();
  }

  absl::Status WaitRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
      return this->gone_ || !full_;
    };
    while (!room()) {
      const uint64_t before = written_;
      if (this->mu_.AwaitWithTimeout(absl::Condition(&room), patience_) || written_ != before)
        continue;
      return this->GiveUp("read nothing", patience_);
    }
    return this->gone_ ? ClientGone() : absl::OkStatus();
  }

  const absl::Duration patience_;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(this->mu_);
  size_t queued_bytes_ ABSL_GUARDED_BY(this->mu_) = 0;
  uint64_t written_ ABSL_GUARDED_BY(this->mu_) = 0;
  bool full_ ABSL_GUARDED_BY(this->mu_) = false;
  bool writing_ ABSL_GUARDED_BY(this->mu_) = false;  // the first of queue_
};

// What work writes as bytes, in messages of a useful size.
template <class Response>
class SenderSink final : public ByteSink {
 public:
  using Wrap = std::function<Response(std::string)>;
  SenderSink(Sender<Response>& sender, Wrap wrap) : sender_(sender), wrap_(std::move(wrap)) {}

  absl::Status Write(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const size_t taken = std::min(bytes.size(), kMessageBytes - pending_.size());
      pending_.append(bytes.data(), taken);
      bytes.remove_prefix(taken);
      if (pending_.size() == kMessageBytes) {
        if (absl::Status sent = Flush(); !sent.ok()) return sent;
      }
    }
    return absl::OkStatus();
  }
  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    return sender_.Send(wrap_(std::exchange(pending_, std::string())));
  }

 private:
  static constexpr size_t kMessageBytes = 256 << 10;
  Sender<Response>& sender_;
  const Wrap wrap_;
  std::string pending_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_OUTGOING_H_
