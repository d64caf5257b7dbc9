#include "supervisor/api/gantry/system.h"

#include <grpcpp/alarm.h>

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/executor.h"
#include "proto/gantry/v1/system.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/system_service.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 32;

// One listener. Events wait in its feed, which is bounded; no thread waits for them.
class EventsReactor final : public grpc::ServerWriteReactor<v1::Event> {
 public:
  static EventsReactor* Start(grpc::CallbackServerContext* context, core::SystemService& system,
                              Executor& work, const v1::EventsRequest& request) {
    auto reactor = std::make_shared<EventsReactor>(context, system, work, request);
    reactor->self_ = reactor;
    reactor->Begin(reactor);
    return reactor.get();
  }

  EventsReactor(grpc::CallbackServerContext* context, core::SystemService& system, Executor& work,
                const v1::EventsRequest& request)
      : system_(system), work_(work), request_(request), call_(*context, Scoped::kDefault) {}

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) over_ = true;
    WriteNext();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    over_ = true;
    WriteNext();
  }

  void OnDone() override {
    std::shared_ptr<EventsReactor> last = std::move(self_);
    if (feed_ != nullptr) feed_->Close();
    alarm_.Cancel();
  }

 private:
  void Begin(const std::weak_ptr<EventsReactor>& weak) {
    // Called under the bus's locks: the work itself is done elsewhere.
    const auto ready = [weak, &work = work_] {
      work.Schedule([weak] {
        const std::shared_ptr<EventsReactor> reactor = weak.lock();
        if (reactor == nullptr) return;
        absl::MutexLock lock(&reactor->mu_);
        reactor->WriteNext();
      });
    };
    auto feed = [&]() -> absl::StatusOr<std::unique_ptr<core::EventFeed>> {
      if (absl::Status valid = call_.Validate(); !valid.ok()) return valid;
      return system_.Listen(call_, request_, ready);
    }();
    absl::MutexLock lock(&mu_);
    if (!feed.ok()) {
      finished_ = true;
      Finish(ToGrpc(feed.status()));
      return;
    }
    feed_ = *std::move(feed);
    ready_ = true;
    if (request_.has_until()) {
      const absl::Time until = absl::FromUnixSeconds(request_.until().seconds()) +
                               absl::Nanoseconds(request_.until().nanos());
      alarm_.Set(absl::ToChronoTime(until), [weak](bool) {
        const std::shared_ptr<EventsReactor> reactor = weak.lock();
        if (reactor == nullptr) return;
        absl::MutexLock lock(&reactor->mu_);
        reactor->past_until_ = true;
        reactor->WriteNext();
      });
    }
    WriteNext();
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!ready_ || writing_ || finished_) return;
    while (!over_) {
      std::optional<v1::Event> event = feed_->Next();
      if (!event.has_value()) break;
      outgoing_ = *std::move(event);
      writing_ = true;
      StartWrite(&outgoing_);
      return;
    }
    absl::Status status = feed_->status();
    if (!over_ && !past_until_ && status.ok()) return;
    finished_ = true;
    Finish(ToGrpc(status.ok() && over_ ? absl::CancelledError("the client has gone") : status));
  }

  core::SystemService& system_;
  Executor& work_;
  const v1::EventsRequest request_;
  const Call call_;
  std::shared_ptr<EventsReactor> self_;    // until gRPC is done
  std::unique_ptr<core::EventFeed> feed_;  // set once, before ready_
  grpc::Alarm alarm_;

  absl::Mutex mu_;
  v1::Event outgoing_;  // gRPC's while writing_
  bool ready_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  bool past_until_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class SystemDoor final : public v1::System::CallbackService {
 public:
  SystemDoor(core::SystemService& system, Executor& work)
      : system_(system), work_(work, kShare, Scoped::kDefault), executor_(work) {}

  grpc::ServerUnaryReactor* Ping(grpc::CallbackServerContext* context,
                                 const v1::PingRequest* request,
                                 v1::PingResponse* response) override {
    return Quick(context);
  }
  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context,
                                    const v1::VersionRequest* request,
                                    v1::VersionResponse* response) override {
    *response = system_.Version();
    return Quick(context);
  }
  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context,
                                 const v1::InfoRequest* request,
                                 v1::InfoResponse* response) override {
    return HandleOn(work_, *context,
                    [=, this](Call& call) { return Answer(system_.Info(call), response); });
  }
  grpc::ServerUnaryReactor* DiskUsage(grpc::CallbackServerContext* context,
                                      const v1::DiskUsageRequest* request,
                                      v1::DiskUsageResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(system_.DiskUsage(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Gc(grpc::CallbackServerContext* context, const v1::GcRequest* request,
                               v1::GcResponse* response) override {
    return HandleOn(work_, *context,
                    [=, this](Call& call) { return Answer(system_.Gc(call, *request), response); });
  }
  grpc::ServerWriteReactor<v1::Event>* Events(grpc::CallbackServerContext* context,
                                              const v1::EventsRequest* request) override {
    return EventsReactor::Start(context, system_, executor_, *request);
  }

 private:
  static grpc::ServerUnaryReactor* Quick(grpc::CallbackServerContext* context) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  core::SystemService& system_;
  Lane work_;
  Executor& executor_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewSystemDoor(core::SystemService& system, Executor& work) {
  return std::make_unique<SystemDoor>(system, work);
}

}  // namespace gantry::api::gantry_v1
