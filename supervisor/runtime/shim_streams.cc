#include "supervisor/runtime/shim_streams.h"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/alarm.h"
#include "grpcpp/grpcpp.h"

#include "proto/shim/v1/shim.grpc.pb.h"

namespace gantry::runtime {
namespace {

constexpr size_t kWriteMarkBytes = 256 << 10;
constexpr absl::Duration kFirstRetry = absl::Milliseconds(10);
constexpr absl::Duration kLastRetry = absl::Seconds(1);
constexpr int kMaxRetries = 12;  // without any event in between: some seven seconds

// The state of one event stream, kept alive by whatever call or timer is under way.
class EventFeed : public std::enable_shared_from_this<EventFeed> {
 public:
  EventFeed(TaskKey key, std::shared_ptr<ShimDialler> dialler, uint64_t after,
            std::function<void(const pb::Event&)> on_event,
            std::function<void(const absl::Status&)> on_end)
      : key_(std::move(key)),
        dialler_(std::move(dialler)),
        on_event_(std::move(on_event)),
        on_end_(std::move(on_end)),
        last_(after) {}

  void Subscribe() {
    std::shared_ptr<Link> link = dialler_->Get();
    absl::MutexLock lock(&mu_);
    if (closed_) return;
    pb::EventsRequest request;
    request.set_after(last_);
    call_ = new Call(shared_from_this(), std::move(link),
                     std::move(request));  // NOLINT: owns itself until OnDone
    call_->Begin();
  }

  // Nothing is called back once this returns.
  void Close() {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    if (call_ != nullptr) call_->context.TryCancel();
    if (retry_ != nullptr) retry_->Cancel();
    mu_.Await(absl::Condition(this, &EventFeed::Quiet));
  }

  uint64_t last() const {
    absl::MutexLock lock(&mu_);
    return last_;
  }

 private:
  struct Call : public grpc::ClientReadReactor<pb::Event> {
    Call(std::shared_ptr<EventFeed> owner, std::shared_ptr<Link> over, pb::EventsRequest asked)
        : feed(std::move(owner)), link(std::move(over)), request(std::move(asked)) {}
    void Begin() {
      link->stub->async()->Events(&context, &request, this);
      StartRead(&event);
      StartCall();
    }
    void OnReadDone(bool ok) override {
      if (!ok) return;
      if (feed->Deliver(event)) {
        StartRead(&event);
      } else {
        context.TryCancel();
      }
    }
    void OnDone(const grpc::Status& status) override {
      if (!status.ok()) feed->dialler_->Lost(link);
      // In this order: until Ended() has forgotten this call, Close() may try to cancel it.
      feed->Ended(status);
      delete this;  // NOLINT: the last callback
    }
    std::shared_ptr<EventFeed> feed;
    const std::shared_ptr<Link> link;
    grpc::ClientContext context;
    const pb::EventsRequest request;
    pb::Event event;
  };

  bool Quiet() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return call_ == nullptr && retry_ == nullptr && !ending_;
  }

  bool Deliver(const pb::Event& event) {
    {
      absl::MutexLock lock(&mu_);
      if (closed_) return false;
      if (event.number() <= last_) return true;  // sent again after a reconnect
      if (event.number() != last_ + 1) {
        broken_ =
            absl::DataLossError(absl::StrCat("shim of ", key_.ToString(), ": events ", last_ + 1,
                                             " to ", event.number() - 1, " are missing"));
        return false;
      }
      last_ = event.number();
      failures_ = 0;
    }
    on_event_(event);
    return true;
  }

  void Ended(const grpc::Status& status) {
    absl::Status end;
    {
      absl::MutexLock lock(&mu_);
      call_ = nullptr;
      if (closed_) return;
      ending_ = true;
      end = broken_.ok() ? ToAbsl(status, absl::StrCat("shim of ", key_.ToString(), ": Events"))
                         : broken_;
    }
    const bool transient = absl::IsUnavailable(end) || absl::IsInternal(end) ||
                           absl::IsUnknown(end) || absl::IsCancelled(end) ||
                           absl::IsDeadlineExceeded(end);
    // Asked without the lock: it is a system call or two.
    const bool retry = transient && SomebodyListens(dialler_->path());
    {
      absl::MutexLock lock(&mu_);
      if (retry && !closed_ && ++failures_ <= kMaxRetries) {
        ending_ = false;
        ScheduleRetry();
        return;
      }
      if (closed_) {
        ending_ = false;
        return;
      }
    }
    if (transient) end = absl::UnavailableError(end.message());
    on_end_(end);
    absl::MutexLock lock(&mu_);
    ending_ = false;
  }

  void ScheduleRetry() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const absl::Duration delay = std::min(kFirstRetry * (1 << (failures_ - 1)), kLastRetry);
    retry_ = std::make_unique<grpc::Alarm>();
    retry_->Set(After(delay), [feed = shared_from_this()](bool) {
      std::unique_ptr<grpc::Alarm> done;  // destroyed after the lock is free
      {
        absl::MutexLock lock(&feed->mu_);
        done = std::move(feed->retry_);
      }
      feed->Subscribe();
    });
  }

  const TaskKey key_;
  const std::shared_ptr<ShimDialler> dialler_;
  const std::function<void(const pb::Event&)> on_event_;
  const std::function<void(const absl::Status&)> on_end_;

  mutable absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;  // on_end_ runs, or is about to
  uint64_t last_ ABSL_GUARDED_BY(mu_);
  int failures_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status broken_ ABSL_GUARDED_BY(mu_);
  Call* call_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::unique_ptr<grpc::Alarm> retry_ ABSL_GUARDED_BY(mu_);
};

class EventStreamImpl : public EventStream {
 public:
  explicit EventStreamImpl(std::shared_ptr<EventFeed> feed) : feed_(std::move(feed)) {}
  ~EventStreamImpl() override { feed_->Close(); }
  uint64_t last_number() const override { return feed_->last(); }

 private:
  const std::shared_ptr<EventFeed> feed_;
};

// One Attach call. Reads and writes are started from outside the reactor's own callbacks, so it
// keeps a hold until the reading side has ended.
class AttachCall : public grpc::ClientBidiReactor<pb::AttachInput, pb::AttachOutput> {
 public:
  AttachCall(std::string what, std::shared_ptr<Link> link, AttachStream::Handler* handler)
      : what_(std::move(what)), link_(std::move(link)), handler_(handler) {}

  void Begin(const pb::AttachInput::Open& open) {
    pb::AttachInput first;
    *first.mutable_open() = open;
    link_->stub->async()->Attach(&context_, this);
    AddHold();
    (void)Write(std::move(first));
    Read();
    StartCall();
  }

  void Read() {
    absl::MutexLock lock(&mu_);
    StartReading();
  }

  bool Write(pb::AttachInput input) {
    absl::MutexLock lock(&mu_);
    if (broken_ || half_closed_ || read_ended_) return true;
    queued_bytes_ += input.ByteSizeLong();
    queue_.push_back(std::move(input));
    if (!writing_) WriteNext();
    if (queued_bytes_ <= kWriteMarkBytes) return true;
    over_mark_ = true;
    return false;
  }

  void WritesDone() {
    absl::MutexLock lock(&mu_);
    if (half_closed_) return;
    half_closed_ = true;
    if (!writing_ && !broken_ && !read_ended_) StartWritesDone();
  }

  void Cancel() {
    absl::MutexLock lock(&mu_);
    if (done_) return;
    context_.TryCancel();
    StartReading();  // fails at once, which releases the hold
  }

  // Returns when no handler call runs or will run.
  void CancelAndWait() {
    absl::MutexLock lock(&mu_);
    if (!done_) {
      silent_ = true;
      context_.TryCancel();
      StartReading();
      mu_.Await(absl::Condition(&done_));
    }
  }

 private:
  void StartReading() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reading_ || read_ended_) return;
    reading_ = true;
    StartRead(&output_);
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    writing_ = true;
    StartWrite(&queue_.front());
  }

  void OnReadDone(bool ok) override {
    pb::AttachOutput output;
    {
      absl::MutexLock lock(&mu_);
      reading_ = false;
      if (!ok) {
        read_ended_ = true;
      } else {
        output.Swap(&output_);
        if (silent_) {
          StartReading();
          return;
        }
      }
    }
    if (ok) {
      handler_->OnOutput(std::move(output));
    } else {
      RemoveHold();
    }
  }

  void OnWriteDone(bool ok) override {
    bool writable = false;
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) {
        broken_ = true;
        queue_.clear();
        queued_bytes_ = 0;
        return;
      }
      queued_bytes_ -= std::min(queued_bytes_, queue_.front().ByteSizeLong());
      queue_.pop_front();
      if (over_mark_ && queued_bytes_ <= kWriteMarkBytes / 2) {
        over_mark_ = false;
        writable = !silent_;
      }
      if (!queue_.empty()) {
        WriteNext();
      } else if (half_closed_) {
        StartWritesDone();
      }
    }
    if (writable) handler_->OnWritable();
  }

  void OnDone(const grpc::Status& status) override {
    bool tell = false;
    {
      absl::MutexLock lock(&mu_);
      tell = !silent_;
    }
    if (tell) handler_->OnDone(ToAbsl(status, what_));
    absl::MutexLock lock(&mu_);
    done_ = true;
  }

  const std::string what_;
  const std::shared_ptr<Link> link_;
  AttachStream::Handler* const handler_;
  grpc::ClientContext context_;

  absl::Mutex mu_;
  pb::AttachOutput output_;            // gRPC's while reading_
  std::deque<pb::AttachInput> queue_;  // its front is gRPC's while writing_
  size_t queued_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  // The hold goes with it: from then on only a callback may begin an operation, since gRPC may be
  // done with the call.
  bool read_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool over_mark_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
  bool silent_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

class AttachStreamImpl : public AttachStream {
 public:
  explicit AttachStreamImpl(std::unique_ptr<AttachCall> call) : call_(std::move(call)) {}
  ~AttachStreamImpl() override { call_->CancelAndWait(); }
  void Read() override { call_->Read(); }
  bool Write(pb::AttachInput input) override { return call_->Write(std::move(input)); }
  void WritesDone() override { call_->WritesDone(); }
  void Cancel() override { call_->Cancel(); }

 private:
  const std::unique_ptr<AttachCall> call_;
};

}  // namespace

std::unique_ptr<EventStream> OpenEvents(TaskKey key, std::shared_ptr<ShimDialler> dialler,
                                        uint64_t after,
                                        std::function<void(const pb::Event&)> on_event,
                                        std::function<void(const absl::Status&)> on_end) {
  auto feed = std::make_shared<EventFeed>(std::move(key), std::move(dialler), after,
                                          std::move(on_event), std::move(on_end));
  feed->Subscribe();
  return std::make_unique<EventStreamImpl>(std::move(feed));
}

std::unique_ptr<AttachStream> OpenAttach(const TaskKey& key, ShimDialler& dialler,
                                         const pb::AttachInput::Open& open,
                                         AttachStream::Handler* handler) {
  auto call = std::make_unique<AttachCall>(absl::StrCat("shim of ", key.ToString(), ": Attach"),
                                           dialler.Get(), handler);
  call->Begin(open);
  return std::make_unique<AttachStreamImpl>(std::move(call));
}

}  // namespace gantry::runtime
