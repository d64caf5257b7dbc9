#include "supervisor/runtime/shim_client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpcpp/alarm.h"
#include "grpcpp/create_channel_posix.h"
#include "grpcpp/grpcpp.h"

#include "base/cancel_token.h"
#include "base/trace/span.h"
#include "base/unique_fd.h"
#include "proto/shim/v1/shim.grpc.pb.h"

namespace gantry::runtime {
namespace {

// One call as two spans: the daemon's, and the shim's, which says with its answer from when to when
// it worked.
class CallSpan {
 public:
  CallSpan(const char* name, const TaskKey& key, grpc::ClientContext& context) {
    span_.context = trace::NewContext(trace::Current());
    span_.parent_span_id = trace::Current().span_id;
    span_.name = absl::StrCat("shim ", name);
    span_.kind = trace::SpanKind::kClient;
    span_.start = absl::Now();
    span_.attributes = {{"container.id", key.container_id}, {"gantry.namespace", key.ns}};
    context.AddMetadata(kTraceparent, trace::FormatTraceparent(span_.context));
  }

  void End(const grpc::Status& status, const grpc::ClientContext& context) {
    trace::SpanSink* const sink = trace::Sink();
    if (sink == nullptr || !span_.context.sampled) return;
    span_.end = absl::Now();
    span_.failed = !status.ok();
    span_.error = status.error_message();
    const auto& metadata = context.GetServerTrailingMetadata();
    const auto it = metadata.find(kServed);
    if (it != metadata.end()) {
      const std::pair<absl::string_view, absl::string_view> times =
          absl::StrSplit(absl::string_view(it->second.data(), it->second.size()), ' ');
      int64_t start = 0;
      int64_t end = 0;
      if (absl::SimpleAtoi(times.first, &start) && absl::SimpleAtoi(times.second, &end)) {
        trace::Span served = span_;
        served.context = trace::NewContext(span_.context);
        served.parent_span_id = span_.context.span_id;
        served.kind = trace::SpanKind::kServer;
        served.service = "gantry-shim";
        served.start = absl::FromUnixNanos(start);
        served.end = absl::FromUnixNanos(end);
        sink->Add(std::move(served));
      }
    }
    sink->Add(std::move(span_));
  }

 private:
  static constexpr char kTraceparent[] = "traceparent";
  static constexpr char kServed[] = "gantry-served";  // of the shim's answer: UNIX-NANOS UNIX-NANOS

  trace::Span span_;
};

namespace pb = ::gantry::shim::v1;

constexpr size_t kWriteMarkBytes = 256 << 10;
constexpr absl::Duration kFirstRetry = absl::Milliseconds(10);
constexpr absl::Duration kLastRetry = absl::Seconds(1);
constexpr int kMaxRetries = 12;  // without any event in between: some seven seconds

// gRPC's words for a connection that has ended, or for one that cannot be made. A client of ours
// that hears them would take them for its own connection to gantryd.
bool SaysThatTheShimIsGone(const grpc::Status& status) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return false;
  const std::string message = status.error_message();
  for (const absl::string_view words :
       {"Socket closed", "Connection reset", "Broken pipe", "GOAWAY", "failed to connect",
        "Transport closed", "Endpoint closing"}) {
    if (absl::StrContains(message, words)) return true;
  }
  return false;
}

absl::Status ToAbsl(const grpc::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  if (SaysThatTheShimIsGone(status)) {
    return absl::UnavailableError(
        absl::StrCat(what, ": the shim has ended, and its container with it"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(what, ": ", status.error_message()));
}

gpr_timespec After(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(duration), GPR_TIMESPAN));
}

// A connected, non-blocking socket; invalid, with errno set, when that cannot be had at once.
UniqueFd ConnectNow(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return UniqueFd();
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.valid() &&
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    fd.reset();
    errno = error;
  }
  return fd;
}

// Whether a process listens at a socket. None does once it is dead, however recently.
bool SomebodyListens(const std::string& path) {
  // Other errors, no descriptors left here for one, say nothing of the other side.
  return ConnectNow(path).valid() ||
         (errno != ECONNREFUSED && errno != ENOENT && errno != ENAMETOOLONG);
}

// One connection. As long as a call holds it, it stays.
struct Link {
  explicit Link(std::shared_ptr<grpc::Channel> made)
      : channel(std::move(made)), stub(pb::Shim::NewStub(channel)) {}
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<pb::Shim::Stub> stub;
};

// The connection to a shim's socket, made anew after it was lost. Thread-safe.
class ShimDialler {
 public:
  explicit ShimDialler(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  std::shared_ptr<Link> Get() {
    absl::MutexLock lock(&mu_);
    if (link_ == nullptr) link_ = std::make_shared<Link>(Dial());
    return link_;
  }
  // A call on it failed in a way that may mean that it is broken.
  void Lost(const std::shared_ptr<Link>& link) {
    absl::MutexLock lock(&mu_);
    if (link_ == link) link_ = nullptr;
  }

 private:
  std::shared_ptr<grpc::Channel> Dial() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    // How long a connect may take before the calls that wait for it fail, whatever their deadlines
    // say. On a machine with far more to do than cores, a shim that was just forked may need
    // seconds to its first answer.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    // Unless it is given, gRPC starts a timer for what it calls never.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
    arguments.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, 4096);
    arguments.SetInt(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, 256);
    arguments.SetInt(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, 64 << 10);
    arguments.SetInt(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 16 << 20);
    arguments.SetInt(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, INT_MAX);
    // The path would be sent as :authority, which a proxyless unix socket has no use for.
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    // A shim listens before we know of it, so that a connection is there at once. Given to gRPC as
    // it is, it spares the resolver, the balancer and a round trip. Where it is not there, gRPC
    // tries in its own way, and finds the words for the failure.
    if (UniqueFd fd = ConnectNow(path_); fd.valid()) {
      return grpc::CreateCustomInsecureChannelFromFd("localhost", fd.release(), arguments);
    }
    return grpc::CreateCustomChannel("unix:" + path_, grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  const std::string path_;
  absl::Mutex mu_;
  std::shared_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

struct ShimClient::Connection {
  explicit Connection(const std::string& path) : dialler(std::make_shared<ShimDialler>(path)) {}

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(const TaskKey& key, const char* name,
                                grpc::Status (pb::Shim::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                                const Request& request, const CallOptions& options,
                                const char* span_name = nullptr) {
    const auto what = [&] { return absl::StrCat("shim of ", key.ToString(), ": ", name); };
    grpc::ClientContext context;
    absl::Duration timeout = options.timeout;
    CancelToken::Registration registration;
    if (options.cancel != nullptr) {
      if (const absl::Status status = options.cancel->Check(); !status.ok()) return status;
      timeout = std::min(timeout, options.cancel->remaining());
      registration = options.cancel->OnCancel([&context] { context.TryCancel(); });
    }
    context.set_deadline(After(timeout));
    Response response;
    const std::shared_ptr<Link> link = dialler->Get();
    std::optional<CallSpan> span;
    if (trace::Sink() != nullptr && trace::Current().valid())
      span.emplace(span_name != nullptr ? span_name : name, key, context);
    const grpc::Status status = (link->stub.get()->*method)(&context, request, &response);
    if (span.has_value()) span->End(status, context);
    if (status.ok()) return response;
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) dialler->Lost(link);
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return absl::DeadlineExceededError(
          absl::StrCat(what(), ": no answer within ", absl::FormatDuration(timeout)));
    }
    if (status.error_code() == grpc::StatusCode::CANCELLED && options.cancel != nullptr) {
      if (const absl::Status reason = options.cancel->Check(); !reason.ok()) return reason;
    }
    return ToAbsl(status, what());
  }

  // `begin` starts the call on the stub; `self` is this, kept until `done` has run.
  template <typename Request, typename Response, typename Begin>
  static void CallAsync(const std::shared_ptr<Connection>& self, const TaskKey& key,
                        const char* name, const Request& request, absl::Duration timeout,
                        std::function<void(absl::StatusOr<Response>)> done, const Begin& begin) {
    struct Pending {
      grpc::ClientContext context;
      Request request;
      Response response;
      std::shared_ptr<Link> link;
    };
    auto call = std::make_shared<Pending>();
    call->request = request;
    call->link = self->dialler->Get();
    call->context.set_deadline(After(timeout));
    begin(*call->link->stub, &call->context, &call->request, &call->response,
          [call, self, what = absl::StrCat("shim of ", key.ToString(), ": ", name),
           done = std::move(done)](const grpc::Status& status) {
            if (!status.ok()) self->dialler->Lost(call->link);
            if (status.ok()) {
              done(std::move(call->response));
            } else {
              done(ToAbsl(status, what));
            }
          });
  }

  const std::shared_ptr<ShimDialler> dialler;
};

namespace {

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

ShimClient::ShimClient(TaskKey key, const std::string& socket_path)
    : key_(std::move(key)), connection_(std::make_shared<Connection>(socket_path)) {}
ShimClient::~ShimClient() = default;

absl::StatusOr<pb::InfoResponse> ShimClient::Info(CallOptions options) {
  return connection_->Call(key_, "Info", &pb::Shim::Stub::Info, pb::InfoRequest(), options);
}
absl::StatusOr<pb::CreateResponse> ShimClient::Create(const pb::CreateRequest& request,
                                                      CallOptions options) {
  return connection_->Call(key_, "Create", &pb::Shim::Stub::Create, request, options,
                           request.start() ? "Create and Start" : nullptr);
}
absl::StatusOr<pb::StartResponse> ShimClient::Start(const pb::StartRequest& request,
                                                    CallOptions options) {
  return connection_->Call(key_, "Start", &pb::Shim::Stub::Start, request, options);
}
absl::StatusOr<pb::ExecResponse> ShimClient::Exec(const pb::ExecRequest& request,
                                                  CallOptions options) {
  return connection_->Call(key_, "Exec", &pb::Shim::Stub::Exec, request, options);
}
absl::StatusOr<pb::ProcessState> ShimClient::State(const pb::StateRequest& request,
                                                   CallOptions options) {
  return connection_->Call(key_, "State", &pb::Shim::Stub::State, request, options);
}
absl::StatusOr<pb::WaitResponse> ShimClient::Wait(const pb::WaitRequest& request,
                                                  CallOptions options) {
  return connection_->Call(key_, "Wait", &pb::Shim::Stub::Wait, request, options);
}
absl::Status ShimClient::Kill(const pb::KillRequest& request, CallOptions options) {
  return connection_->Call(key_, "Kill", &pb::Shim::Stub::Kill, request, options).status();
}
absl::StatusOr<pb::DeleteResponse> ShimClient::Delete(const pb::DeleteRequest& request,
                                                      CallOptions options) {
  return connection_->Call(key_, "Delete", &pb::Shim::Stub::Delete, request, options);
}
absl::StatusOr<pb::PidsResponse> ShimClient::Pids(CallOptions options) {
  return connection_->Call(key_, "Pids", &pb::Shim::Stub::Pids, pb::PidsRequest(), options);
}
absl::Status ShimClient::Pause(CallOptions options) {
  return connection_->Call(key_, "Pause", &pb::Shim::Stub::Pause, pb::PauseRequest(), options)
      .status();
}
absl::Status ShimClient::Resume(CallOptions options) {
  return connection_->Call(key_, "Resume", &pb::Shim::Stub::Resume, pb::ResumeRequest(), options)
      .status();
}
absl::Status ShimClient::Update(const pb::UpdateRequest& request, CallOptions options) {
  return connection_->Call(key_, "Update", &pb::Shim::Stub::Update, request, options).status();
}
absl::StatusOr<pb::StatsResponse> ShimClient::Stats(CallOptions options) {
  return connection_->Call(key_, "Stats", &pb::Shim::Stub::Stats, pb::StatsRequest(), options);
}
absl::Status ShimClient::Checkpoint(const pb::CheckpointRequest& request, CallOptions options) {
  return connection_->Call(key_, "Checkpoint", &pb::Shim::Stub::Checkpoint, request, options)
      .status();
}
absl::Status ShimClient::ResizePty(const pb::ResizePtyRequest& request, CallOptions options) {
  return connection_->Call(key_, "ResizePty", &pb::Shim::Stub::ResizePty, request, options)
      .status();
}
absl::Status ShimClient::CloseStdin(const pb::CloseStdinRequest& request, CallOptions options) {
  return connection_->Call(key_, "CloseStdin", &pb::Shim::Stub::CloseStdin, request, options)
      .status();
}
absl::Status ShimClient::ReopenLog(CallOptions options) {
  return connection_
      ->Call(key_, "ReopenLog", &pb::Shim::Stub::ReopenLog, pb::ReopenLogRequest(), options)
      .status();
}
absl::Status ShimClient::Shutdown(const pb::ShutdownRequest& request, CallOptions options) {
  return connection_->Call(key_, "Shutdown", &pb::Shim::Stub::Shutdown, request, options).status();
}

void ShimClient::InfoAsync(absl::Duration timeout,
                           std::function<void(absl::StatusOr<pb::InfoResponse>)> done) {
  connection_->CallAsync<pb::InfoRequest, pb::InfoResponse>(
      connection_, key_, "Info", pb::InfoRequest(), timeout, std::move(done),
      [](pb::Shim::Stub& stub, auto* context, auto* request, auto* response, auto then) {
        stub.async()->Info(context, request, response, std::move(then));
      });
}

void ShimClient::DeleteAsync(const pb::DeleteRequest& request, absl::Duration timeout,
                             std::function<void(absl::StatusOr<pb::DeleteResponse>)> done) {
  connection_->CallAsync<pb::DeleteRequest, pb::DeleteResponse>(
      connection_, key_, "Delete", request, timeout, std::move(done),
      [](pb::Shim::Stub& stub, auto* context, auto* asked, auto* response, auto then) {
        stub.async()->Delete(context, asked, response, std::move(then));
      });
}

void ShimClient::StatsAsync(absl::Duration timeout,
                            std::function<void(absl::StatusOr<pb::StatsResponse>)> done) {
  connection_->CallAsync<pb::StatsRequest, pb::StatsResponse>(
      connection_, key_, "Stats", pb::StatsRequest(), timeout, std::move(done),
      [](pb::Shim::Stub& stub, auto* context, auto* request, auto* response, auto then) {
        stub.async()->Stats(context, request, response, std::move(then));
      });
}

std::unique_ptr<EventStream> ShimClient::Events(uint64_t after,
                                                std::function<void(const pb::Event&)> on_event,
                                                std::function<void(const absl::Status&)> on_end) {
  auto feed = std::make_shared<EventFeed>(key_, connection_->dialler, after, std::move(on_event),
                                          std::move(on_end));
  feed->Subscribe();
  return std::make_unique<EventStreamImpl>(std::move(feed));
}

std::unique_ptr<AttachStream> ShimClient::Attach(const pb::AttachInput::Open& open,
                                                 AttachStream::Handler* handler) {
  auto call = std::make_unique<AttachCall>(absl::StrCat("shim of ", key_.ToString(), ": Attach"),
                                           connection_->dialler->Get(), handler);
  call->Begin(open);
  return std::make_unique<AttachStreamImpl>(std::move(call));
}

}  // namespace gantry::runtime
