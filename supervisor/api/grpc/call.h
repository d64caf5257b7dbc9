// A containerd call as core wants it: namespace and lease from the metadata, a cancel token with the client's deadline.
#ifndef GANTRY_SUPERVISOR_API_GRPC_CALL_H_
#define GANTRY_SUPERVISOR_API_GRPC_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "base/executor.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/call_context.h"
#include "supervisor/metadata/scope.h"

namespace gantry::api {

// One call, for its length.
class Call {
 public:
  explicit Call(const grpc::ServerContextBase& context)
      : cancel_(TimeLeft(context)),
        scope_{Header(context, "containerd-namespace"), Header(context, "containerd-lease")} {
    context_.ns = scope_.ns;
    context_.lease = scope_.lease;
    context_.cancel = &cancel_;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Namespace and lease, for the stores.
  const metadata::Scope& scope() const { return scope_; }
  const std::string& ns() const { return scope_.ns; }
  const core::CallContext& context() const { return context_; }
  CancelToken& cancel() { return cancel_; }
  // When the client gives up; far away when it never does.
  absl::Time deadline() const { return absl::Now() + cancel_.remaining(); }

 private:
  static absl::Duration TimeLeft(const grpc::ServerContextBase& context) {
    const auto deadline = context.deadline();
    if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
    return std::max(absl::ZeroDuration(),
                    absl::FromChrono(deadline - std::chrono::system_clock::now()));
  }
  // The first value, if there are several.
  static std::string Header(const grpc::ServerContextBase& context, const char* name) {
    const auto& all = context.client_metadata();
    const auto it = all.lower_bound(name);
    return it == all.end() || it->first != name ? std::string()
                                                : std::string(it->second.data(), it->second.size());
  }

  CancelToken cancel_;
  metadata::Scope scope_;
  core::CallContext context_;
};

// Whether a call has to name a namespace. Those that do are refused without a valid one.
enum class Scoped { kYes, kNo };

// Runs a call's work, `absl::Status(Call&)`.
template <typename Work>
grpc::Status RunCall(Call& call, Scoped scoped, Work& work) {
  absl::Status status = scoped == Scoped::kYes ? call.scope().Validate() : absl::OkStatus();
  if (status.ok()) status = work(call);
  return ToGrpc(status);
}

// A unary call that is answered from memory: on gRPC's own thread, which saves handing it to another. Not for what may wait or takes
// more than some microseconds, because that thread serves all connections.
template <typename Work>
grpc::ServerUnaryReactor* HandleQuick(grpc::CallbackServerContext& context, Work work,
                                      Scoped scoped = Scoped::kYes) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  Call call(context);
  reactor->Finish(RunCall(call, scoped, work));
  return reactor;
}

// A unary call whose work may wait: it runs on a thread of an executor, and its token is cancelled when the client goes away.
template <typename Work>
class WorkCall final : public grpc::ServerUnaryReactor {
 public:
  static WorkCall* Start(Executor& executor, const grpc::CallbackServerContext& context, Work work,
                         Scoped scoped) {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): gRPC's; deleted in OnDone
    auto* self = new WorkCall(context, std::move(work), scoped);
    if (!executor.Schedule([self] { self->Run(); })) self->Finish(ToGrpc(Stopping()));
    return self;
  }
  static absl::Status Stopping() { return absl::UnavailableError("the daemon is stopping"); }
  void OnCancel() override { call_.cancel().Cancel("the client has gone"); }
  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

 private:
  WorkCall(const grpc::CallbackServerContext& context, Work work, Scoped scoped)
      : call_(context), work_(std::move(work)), scoped_(scoped) {}
  void Run() { Finish(RunCall(call_, scoped_, work_)); }

  Call call_;
  Work work_;
  const Scoped scoped_;
};

// The message of the request and of the answer live as long as the call: work captures their addresses.
template <typename Work>
grpc::ServerUnaryReactor* HandleOn(Executor& executor, const grpc::CallbackServerContext& context,
                                   Work work, Scoped scoped = Scoped::kYes) {
  return WorkCall<Work>::Start(executor, context, std::move(work), scoped);
}

// Where work puts the messages of a list.
template <typename Response>
class Sender {
 public:
  virtual ~Sender() = default;
  // Waits until gRPC has taken the message. kCancelled: the client has gone, or has read nothing for minutes.
  virtual absl::Status Send(const Response& message) = 0;
};

// A call that answers with a stream of messages, made by work, `absl::Status(Call&, Sender<Response>&)`, on a thread of an executor.
template <typename Response, typename Work>
class ListCall final : public grpc::ServerWriteReactor<Response>, public Sender<Response> {
 public:
  static ListCall* Start(Executor& executor, grpc::CallbackServerContext& context, Work work) {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): gRPC's; deleted in OnDone
    auto* self = new ListCall(context, std::move(work));
    if (!executor.Schedule([self] { self->Run(); }))
      self->Finish(ToGrpc(absl::UnavailableError("the daemon is stopping")));
    return self;
  }

  absl::Status Send(const Response& message) override {
    {
      absl::MutexLock lock(&mu_);
      if (gone_) return Gone();
      writing_ = true;
    }
    this->StartWrite(&message);
    absl::MutexLock lock(&mu_);
    const auto written = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !writing_; };
    if (!mu_.AwaitWithTimeout(absl::Condition(&written), kPatience)) {
      // The message is gRPC's until it says so; giving the call up makes it say so.
      context_.TryCancel();
      mu_.Await(absl::Condition(&written));
      gone_ = true;
    }
    return gone_ ? Gone() : absl::OkStatus();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) gone_ = true;
  }
  void OnCancel() override {
    {
      absl::MutexLock lock(&mu_);
      gone_ = true;
    }
    call_.cancel().Cancel("the client has gone");
  }
  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

 private:
  // A thread is held meanwhile.
  static constexpr absl::Duration kPatience = absl::Minutes(5);

  ListCall(grpc::CallbackServerContext& context, Work work)
      : context_(context), call_(context), work_(std::move(work)) {}
  static absl::Status Gone() { return absl::CancelledError("the client has gone"); }
  void Run() {
    const auto list = [this](Call& call) -> absl::Status { return work_(call, *this); };
    this->Finish(RunCall(call_, Scoped::kYes, list));
  }

  grpc::CallbackServerContext& context_;
  Call call_;
  Work work_;
  absl::Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
};

template <typename Response, typename Work>
grpc::ServerWriteReactor<Response>* HandleList(Executor& executor,
                                               grpc::CallbackServerContext& context, Work work) {
  return ListCall<Response, Work>::Start(executor, context, std::move(work));
}

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_CALL_H_
