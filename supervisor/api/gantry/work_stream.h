// Long calls as streams: work that blocks runs on an executor's thread, what it says goes out as gRPC takes it, and a client that
// leaves cancels it.
//
//   WorkStream<Response>         the request is there from the start
//   UploadStream<In, Out>        an opening message, then bytes, which the work reads as a ByteSource; answers go out meanwhile
//
// Each reactor owns itself: it lives until gRPC is done with it and the work has returned. No gRPC thread ever blocks.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_WORK_STREAM_H_
#define GANTRY_SUPERVISOR_API_GANTRY_WORK_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/executor.h"
#include "supervisor/api/gantry/call.h"
#include "supervisor/api/grpc_status.h"

namespace gantry::api::gantry_v1 {

// Where work puts its messages. Thread-safe.
template <class Response>
class Emitter {
 public:
  virtual ~Emitter() = default;
  // Waits while too much is queued. kCancelled: the client has gone.
  virtual absl::Status Send(Response response) = 0;
  // Like Send(), but into the last message that waits if `merge` takes it there (and says so). For many small things.
  virtual absl::Status SendMerging(Response response,
                                   bool (*merge)(Response& last, Response& next)) = 0;
  // Never waits: dropped while much is queued, unless it is to be kept. For progress, which the next message brings up to date.
  virtual void Offer(Response response, bool keep) = 0;
};

// The outgoing half that both kinds of reactor share. `Reactor` is the gRPC base class.
template <class Reactor, class Response>
class EmittingReactor : public Reactor, public Emitter<Response> {
 public:
  explicit EmittingReactor(grpc::CallbackServerContext* context)
      : cancel_(TimeLeft(*context)), call_(MakeCallContext(*context, &cancel_)) {}

  absl::Status Send(Response response) override {
    absl::MutexLock lock(&mu_);
    const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return gone_ || queue_.size() < kMaxQueued;
    };
    mu_.Await(absl::Condition(&room));
    if (gone_) return absl::CancelledError("the client has gone");
    queue_.push_back(std::move(response));
    WriteNext();
    return absl::OkStatus();
  }

  absl::Status SendMerging(Response response,
                           bool (*merge)(Response& last, Response& next)) override {
    {
      absl::MutexLock lock(&mu_);
      // The front is gRPC's while it is being written.
      if (!gone_ && queue_.size() > 1 && merge(queue_.back(), response)) return absl::OkStatus();
    }
    return Send(std::move(response));
  }

  void Offer(Response response, bool keep) override {
    absl::MutexLock lock(&mu_);
    if (gone_ || (!keep && queue_.size() >= kMaxQueued)) return;
    queue_.push_back(std::move(response));
    WriteNext();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    queue_.pop_front();
    writing_ = false;
    if (!ok) gone_ = true;
    WriteNext();
  }

  void OnCancel() override {
    {
      // First: work that the token wakes must find nobody to send to.
      absl::MutexLock lock(&mu_);
      gone_ = true;
    }
    cancel_.Cancel("the client has gone");
  }

  const core::CallContext& call() const { return call_; }
  CancelToken& cancel() { return cancel_; }

 protected:
  static constexpr size_t kMaxQueued = 16;

  // No more messages; the call ends once what is queued is out.
  void End(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    if (ended_) return;
    ended_ = true;
    status_ = status;
    WriteNext();
  }

  absl::Mutex mu_;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;

 private:
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
      this->Finish(
          ToGrpc(gone_ && status_.ok() ? absl::CancelledError("the client has gone") : status_));
    }
  }

  CancelToken cancel_;
  const core::CallContext call_;
  std::deque<Response> queue_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

template <class Response>
class WorkStream final : public EmittingReactor<grpc::ServerWriteReactor<Response>, Response>,
                         public std::enable_shared_from_this<WorkStream<Response>> {
 public:
  using Work = std::function<absl::Status(const core::CallContext&, Emitter<Response>&)>;

  static grpc::ServerWriteReactor<Response>* Start(grpc::CallbackServerContext* context,
                                                   Executor& executor, Work work) {
    auto stream = std::make_shared<WorkStream>(context);
    stream->self_ = stream;
    const bool scheduled = executor.Schedule(
        [stream, work = std::move(work)] { stream->End(work(stream->call(), *stream)); });
    if (!scheduled) stream->End(absl::UnavailableError("gantryd is stopping"));
    return stream.get();
  }

  explicit WorkStream(grpc::CallbackServerContext* context)
      : EmittingReactor<grpc::ServerWriteReactor<Response>, Response>(context) {}

  void OnDone() override { auto last = std::move(self_); }

 private:
  std::shared_ptr<WorkStream> self_;  // until gRPC is done; the work holds another
};

// `In` is a message with `open` and `data`.
template <class In, class Out>
class UploadStream final : public EmittingReactor<grpc::ServerBidiReactor<In, Out>, Out>,
                           public ByteSource {
 public:
  using Work = std::function<absl::Status(const core::CallContext&, const In& open, ByteSource&,
                                          Emitter<Out>&)>;

  static grpc::ServerBidiReactor<In, Out>* Start(grpc::CallbackServerContext* context,
                                                 Executor& executor, Work work) {
    auto stream = std::make_shared<UploadStream>(context, executor, std::move(work));
    stream->self_ = stream;
    stream->StartRead(&stream->incoming_);
    return stream.get();
  }

  UploadStream(grpc::CallbackServerContext* context, Executor& executor, Work work)
      : EmittingReactor<grpc::ServerBidiReactor<In, Out>, Out>(context),
        executor_(executor),
        work_(std::move(work)) {}

  void OnReadDone(bool ok) override {
    if (!opened_) {
      opened_ = true;
      if (!ok || !incoming_.has_open()) {
        this->End(absl::InvalidArgumentError("the first message must be `open`"));
        return;
      }
      open_ = std::move(incoming_);
      auto self = self_;
      if (!executor_.Schedule(
              [self] { self->End(self->work_(self->call(), self->open_, *self, *self)); })) {
        this->End(absl::UnavailableError("gantryd is stopping"));
        return;
      }
      this->StartRead(&incoming_);
      return;
    }
    absl::MutexLock lock(&this->mu_);
    if (!ok) {
      at_end_ = true;
      return;
    }
    // One message waits here while gRPC holds the next back: that is the flow control.
    chunk_ = std::move(*incoming_.mutable_data());
    chunk_offset_ = 0;
    has_chunk_ = true;
  }

  // For the work, on its own thread.
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::MutexLock lock(&this->mu_);
    while (true) {
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
        return has_chunk_ || at_end_ || this->gone_;
      };
      this->mu_.Await(absl::Condition(&something));
      if (has_chunk_) {
        const size_t taken = std::min(n, chunk_.size() - chunk_offset_);
        std::memcpy(buffer, chunk_.data() + chunk_offset_, taken);
        chunk_offset_ += taken;
        if (chunk_offset_ == chunk_.size()) {
          has_chunk_ = false;
          if (!this->gone_ && !at_end_) this->StartRead(&incoming_);
        }
        if (taken == 0 && n > 0) continue;
        return taken;
      }
      if (this->gone_) return absl::CancelledError("the client has gone");
      return 0;
    }
  }

  void OnDone() override { auto last = std::move(self_); }

 private:
  Executor& executor_;
  const Work work_;
  In incoming_;  // gRPC's while a read is under way
  In open_;
  bool opened_ = false;
  std::string chunk_ ABSL_GUARDED_BY(this->mu_);
  size_t chunk_offset_ ABSL_GUARDED_BY(this->mu_) = 0;
  bool has_chunk_ ABSL_GUARDED_BY(this->mu_) = false;
  bool at_end_ ABSL_GUARDED_BY(this->mu_) = false;
  std::shared_ptr<UploadStream> self_;  // until gRPC is done; the work holds another
};

// What work writes as bytes, in messages of a useful size.
template <class Response>
class EmitterSink final : public ByteSink {
 public:
  using Wrap = std::function<Response(std::string)>;
  EmitterSink(Emitter<Response>& emitter, Wrap wrap) : emitter_(emitter), wrap_(std::move(wrap)) {}

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
    return emitter_.Send(wrap_(std::exchange(pending_, std::string())));
  }

 private:
  static constexpr size_t kMessageBytes = 256 << 10;
  Emitter<Response>& emitter_;
  const Wrap wrap_;
  std::string pending_;
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_WORK_STREAM_H_
