#include "supervisor/api/buildkit/build_history.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/engine/proto_time.h"
#include "base/status_macros.h"

namespace gantry::api::buildkit {
namespace {

namespace control = moby::buildkit::v1;

constexpr size_t kBuilds = 50;
constexpr size_t kEvents = 256;

bool Wanted(const BuildHistory::Request& request, const BuildHistory::Record& record) {
  if (!request.ref().empty() && record.ref() != request.ref()) return false;
  return !request.activeonly() || !record.has_completedat();
}

}  // namespace

BuildHistory::Build* BuildHistory::Find(const std::string& ref) {
  for (Build& build : builds_) {
    if (build.record.ref() == ref) return &build;
  }
  return nullptr;
}

void BuildHistory::Happened(control::BuildHistoryEventType type, const Record& record) {
  Event event;
  event.set_type(type);
  *event.mutable_record() = record;
  events_.push_back(std::move(event));
  if (events_.size() <= kEvents) return;
  events_.pop_front();
  ++first_event_;
}

void BuildHistory::Begin(Record record, absl::Time now) {
  engine::ToProto(now, record.mutable_createdat());
  absl::MutexLock lock(&mu_);
  builds_.erase(
      std::remove_if(builds_.begin(), builds_.end(),
                     [&](const Build& build) { return build.record.ref() == record.ref(); }),
      builds_.end());
  Happened(control::STARTED, record);
  builds_.push_front({std::move(record), {}, {}, {}});
  // The oldest that nobody needs.
  for (size_t i = builds_.size(); builds_.size() > kBuilds && i > 0; --i) {
    const Record& old = builds_[i - 1].record;
    if (old.pinned() || !old.has_completedat()) continue;
    Happened(control::DELETED, old);
    builds_.erase(builds_.begin() + static_cast<std::ptrdiff_t>(i - 1));
  }
}

void BuildHistory::Count(const std::string& ref, const control::StatusResponse& status) {
  absl::MutexLock lock(&mu_);
  Build* build = Find(ref);
  if (build == nullptr) return;
  for (const control::Vertex& vertex : status.vertexes()) {
    build->steps.insert(vertex.digest());
    if (vertex.cached()) build->cached.insert(vertex.digest());
    if (vertex.has_completed()) build->completed.insert(vertex.digest());
  }
  Record& record = build->record;
  record.set_numtotalsteps(static_cast<int32_t>(build->steps.size()));
  record.set_numcachedsteps(static_cast<int32_t>(build->cached.size()));
  record.set_numcompletedsteps(static_cast<int32_t>(build->completed.size()));
  record.set_numwarnings(record.numwarnings() + status.warnings_size());
}

void BuildHistory::End(const std::string& ref, const absl::Status& result,
                       const Attributes& results, absl::Time now) {
  absl::MutexLock lock(&mu_);
  Build* build = Find(ref);
  if (build == nullptr) return;
  engine::ToProto(now, build->record.mutable_completedat());
  if (!result.ok()) {
    build->record.mutable_error()->set_code(static_cast<int>(result.code()));
    build->record.mutable_error()->set_message(std::string(result.message()));
  }
  for (const auto& [key, value] : results) (*build->record.mutable_exporterresponse())[key] = value;
  Happened(control::COMPLETE, build->record);
}

absl::Status BuildHistory::Listen(const Request& request, CancelToken* cancel,
                                  const std::function<absl::Status(const Event&)>& take) {
  if (request.filter_size() > 0)
    return absl::InvalidArgumentError("filters of the build history are not supported");
  bool gone = false;
  CancelToken::Registration wake;
  if (cancel != nullptr) {
    wake = cancel->OnCancel([&] {
      absl::MutexLock lock(&mu_);
      gone = true;
    });
  }
  std::vector<Event> ready;
  uint64_t next = 0;
  {
    absl::MutexLock lock(&mu_);
    next = first_event_ + events_.size();
    for (const Build& build : builds_) {
      if (!Wanted(request, build.record)) continue;
      if (request.limit() > 0 && ready.size() >= static_cast<size_t>(request.limit())) break;
      Event event;
      event.set_type(build.record.has_completedat() ? control::COMPLETE : control::STARTED);
      *event.mutable_record() = build.record;
      ready.push_back(std::move(event));
    }
  }
  while (true) {
    for (const Event& event : ready) GANTRY_RETURN_IF_ERROR(take(event));
    if (request.earlyexit()) return absl::OkStatus();
    ready.clear();
    absl::MutexLock lock(&mu_);
    const auto something = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return gone || next < first_event_ + events_.size();
    };
    mu_.Await(absl::Condition(&something));
    if (gone) return cancel->Check();
    // Events that were dropped meanwhile are missed by one that is so slow.
    for (next = std::max(next, first_event_); next < first_event_ + events_.size(); ++next) {
      const Event& event = events_[next - first_event_];
      if (request.ref().empty() || event.record().ref() == request.ref()) ready.push_back(event);
    }
  }
}

absl::Status BuildHistory::Remove(const std::string& ref) {
  absl::MutexLock lock(&mu_);
  const Build* build = Find(ref);
  if (build == nullptr) return absl::NotFoundError(absl::StrCat("no such build ", ref));
  if (!build->record.has_completedat())
    return absl::FailedPreconditionError(absl::StrCat("build ", ref, " is under way"));
  if (build->record.pinned())
    return absl::FailedPreconditionError(absl::StrCat("build ", ref, " is pinned"));
  Happened(control::DELETED, build->record);
  builds_.erase(std::find_if(builds_.begin(), builds_.end(),
                             [&](const Build& one) { return one.record.ref() == ref; }));
  return absl::OkStatus();
}

absl::Status BuildHistory::Pin(const std::string& ref, bool pinned) {
  absl::MutexLock lock(&mu_);
  Build* build = Find(ref);
  if (build == nullptr) return absl::NotFoundError(absl::StrCat("no such build ", ref));
  build->record.set_pinned(pinned);
  return absl::OkStatus();
}

}  // namespace gantry::api::buildkit
