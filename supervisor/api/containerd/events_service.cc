// containerd.services.events.v1. Subscribers of all namespaces; a slow one is ended, never waited
// for.
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/executor.h"
#include "proto/containerd/services/events/v1/events.grpc.pb.h"
#include "supervisor/api/containerd/event_fields.h"
#include "supervisor/api/containerd/event_message.h"
#include "supervisor/api/containerd/forward_event.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::events::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using containerd::types::Envelope;

class Subscriber;

// The subscribers there are, so that the door can end them.
class Subscribers {
 public:
  // False: the door is stopping.
  bool Add(std::shared_ptr<Subscriber> subscriber) {
    absl::MutexLock lock(&mu_);
    if (stopping_) return false;
    all_.insert(std::move(subscriber));
    return true;
  }
  void Remove(const std::shared_ptr<Subscriber>& subscriber) {
    absl::MutexLock lock(&mu_);
    all_.erase(subscriber);
  }
  void Stop();

 private:
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::set<std::shared_ptr<Subscriber>> all_ ABSL_GUARDED_BY(mu_);
};

// One Subscribe call. Writes one event at a time; the bus fills the queue behind it. Shared by gRPC
// (until OnDone), by the list of subscribers and by whatever pump is under way.
class Subscriber final : public grpc::ServerWriteReactor<Envelope>,
                         public std::enable_shared_from_this<Subscriber> {
 public:
  Subscriber(Executor& pumps, Subscribers& all) : pumps_(pumps), all_(all) {}

  void Refuse(const absl::Status& status) {
    self_ = shared_from_this();
    End(status);
  }

  void Begin(core::EventBus& bus, metadata::Filter filter) {
    self_ = shared_from_this();
    if (!all_.Add(self_)) return End(absl::UnavailableError("the daemon is stopping"));
    auto wanted = [filter = std::move(filter)](const core::Event& event) {
      if (TopicOf(event).empty()) return false;
      return filter.matches_everything() || filter.Matches(FieldsOf(event));
    };
    // Answered before the first event, so that a client knows that from here on it misses nothing.
    StartSendInitialMetadata();
    std::weak_ptr<Subscriber> weak = self_;
    std::shared_ptr<core::Subscription> subscription =
        bus.Subscribe(std::move(wanted), [weak, pumps = &pumps_] {
          // On the publisher's thread, under its locks: the work is scheduled, not done here.
          pumps->Schedule([weak] {
            if (std::shared_ptr<Subscriber> strong = weak.lock()) strong->Pump();
          });
        });
    {
      absl::MutexLock lock(&mu_);
      subscription_ = std::move(subscription);
    }
    Pump();
  }

  void End(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    EndLocked(status);
  }

  void OnSendInitialMetadataDone(bool) override {}
  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) EndLocked(absl::CancelledError("the client has gone"));
    }
    Pump();
  }
  void OnCancel() override { End(absl::CancelledError("the client has gone")); }
  void OnDone() override {
    std::shared_ptr<Subscriber> self = std::move(self_);
    all_.Remove(self);
  }

 private:
  void Pump() {
    absl::MutexLock lock(&mu_);
    if (ended_ || writing_ || !subscription_) return;
    core::EventPtr event = subscription_->Pop();
    if (!event) {
      absl::Status status = subscription_->status();
      if (!status.ok()) EndLocked(status);
      return;
    }
    FillEnvelope(*event, envelope_);  // what has no topic is not subscribed to
    writing_ = true;
    StartWrite(&envelope_);
  }

  void EndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (ended_) return;
    ended_ = true;
    if (subscription_) subscription_->Close();
    Finish(ToGrpcWithClass(status));
  }

  Executor& pumps_;
  Subscribers& all_;
  std::shared_ptr<Subscriber> self_;  // gRPC's share; set before the call begins, dropped in OnDone

  absl::Mutex mu_;
  std::shared_ptr<core::Subscription> subscription_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  Envelope envelope_;  // of the write under way
};

void Subscribers::Stop() {
  std::set<std::shared_ptr<Subscriber>> all;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    all = all_;
  }
  for (const std::shared_ptr<Subscriber>& subscriber : all)
    subscriber->End(absl::UnavailableError("the daemon is stopping"));
}

class EventsService final : public Events::CallbackService, public DoorService {
 public:
  explicit EventsService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }
  void Stop() override { subscribers_.Stop(); }

  grpc::ServerUnaryReactor* Publish(grpc::CallbackServerContext* context,
                                    const PublishRequest* request,
                                    google::protobuf::Empty*) override {
    return HandleQuick(*context, [&](Call& call) {
      return room_.events->PublishForeign(
          call.ns(), {request->topic(), request->event().type_url(), request->event().value()},
          absl::Now());
    });
  }

  grpc::ServerUnaryReactor* Forward(grpc::CallbackServerContext* context,
                                    const ForwardRequest* request,
                                    google::protobuf::Empty*) override {
    return HandleQuick(
        *context, [&](Call&) { return ForwardEvent(*room_.events, request->envelope()); },
        Scoped::kNo);
  }

  grpc::ServerWriteReactor<Envelope>* Subscribe(grpc::CallbackServerContext*,
                                                const SubscribeRequest* request) override {
    auto subscriber = std::make_shared<Subscriber>(*room_.pumps, subscribers_);
    absl::StatusOr<metadata::Filter> filter = metadata::Filter::Parse(TextsOf(request->filters()));
    if (filter.ok()) {
      subscriber->Begin(*room_.events, *std::move(filter));
    } else {
      // Of no class, as with containerd.
      subscriber->Refuse(absl::UnknownError(filter.status().message()));
    }
    return subscriber.get();
  }

 private:
  const Room& room_;
  Subscribers subscribers_;
};

}  // namespace

std::unique_ptr<DoorService> NewEventsService(const Room& room) {
  return std::make_unique<EventsService>(room);
}

}  // namespace gantry::api::containerd_api
