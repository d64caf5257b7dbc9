// grpc.health.v1. The daemon serves from the moment it listens.
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "proto/containerd/grpc/health/v1/health.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"

namespace gantry::api::containerd_api {
namespace {

using namespace ::grpc::health::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

class Watcher;

class Watchers {
 public:
  void Add(Watcher* watcher) {
    absl::MutexLock lock(&mu_);
    all_.insert(watcher);
  }
  void Remove(Watcher* watcher) {
    absl::MutexLock lock(&mu_);
    all_.erase(watcher);
  }
  void Stop();

 private:
  absl::Mutex mu_;
  std::set<Watcher*> all_ ABSL_GUARDED_BY(mu_);
};

// One Watch call: says how it stands, and then waits for the client or the daemon to go.
class Watcher final : public ::grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthCheckResponse::ServingStatus status, Watchers& all) : all_(all) {
    answer_.set_status(status);
    all_.Add(this);
    StartWrite(&answer_);
  }
  void End(const ::grpc::Status& status) {
    absl::MutexLock lock(&mu_);
    if (ended_) return;
    ended_ = true;
    Finish(status);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) End(::grpc::Status(::grpc::StatusCode::CANCELLED, "the client has gone"));
  }
  void OnCancel() override {
    End(::grpc::Status(::grpc::StatusCode::CANCELLED, "the client has gone"));
  }
  void OnDone() override {
    all_.Remove(this);
    delete this;  // NOLINT(cppcoreguidelines-owning-memory): made for this call
  }

 private:
  Watchers& all_;
  HealthCheckResponse answer_;
  absl::Mutex mu_;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

void Watchers::Stop() {
  // A watcher leaves the list in OnDone, which waits for this lock: none is destroyed in between.
  absl::MutexLock lock(&mu_);
  for (Watcher* watcher : all_)
    watcher->End(::grpc::Status(::grpc::StatusCode::UNAVAILABLE, "the daemon is stopping"));
}

class HealthService final : public Health::CallbackService, public DoorService {
 public:
  ::grpc::Service* service() override { return this; }
  void Stop() override { watchers_.Stop(); }

  ::grpc::ServerUnaryReactor* Check(::grpc::CallbackServerContext* context,
                                    const HealthCheckRequest* request,
                                    HealthCheckResponse* response) override {
    return HandleQuick(
        *context,
        [&](Call&) -> absl::Status {
          if (!request->service().empty()) return absl::NotFoundError("unknown service");
          response->set_status(HealthCheckResponse::SERVING);
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

  ::grpc::ServerUnaryReactor* List(::grpc::CallbackServerContext* context, const HealthListRequest*,
                                   HealthListResponse* response) override {
    return HandleQuick(
        *context,
        [&](Call&) {
          (*response->mutable_statuses())[""].set_status(HealthCheckResponse::SERVING);
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

  ::grpc::ServerWriteReactor<HealthCheckResponse>* Watch(
      ::grpc::CallbackServerContext*, const HealthCheckRequest* request) override {
    return new Watcher(
        request->service().empty()
            ? HealthCheckResponse::SERVING
            : HealthCheckResponse::SERVICE_UNKNOWN,  // NOLINT(cppcoreguidelines-owning-memory)
        watchers_);
  }

 private:
  Watchers watchers_;
};

}  // namespace

std::unique_ptr<DoorService> NewHealthService(const Room&) {
  return std::make_unique<HealthService>();
}

}  // namespace gantry::api::containerd_api
