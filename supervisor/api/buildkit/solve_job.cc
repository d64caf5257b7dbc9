#include "supervisor/api/buildkit/solve_job.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"

namespace gantry::api::buildkit {
namespace {

// Progress that is kept for those who come late, and how far behind they may be.
constexpr size_t kMostBytes = 1 << 20;
constexpr size_t kEndedJobs = 16;

// Wakes a wait on `mu` when the token is cancelled: sets `gone`.
CancelToken::Registration WakeOn(CancelToken* cancel, absl::Mutex& mu, bool& gone) {
  if (cancel == nullptr) return {};
  return cancel->OnCancel([&mu, &gone] {
    absl::MutexLock lock(&mu);
    gone = true;
  });
}

}  // namespace

void SolveJob::Trim() {
  uint64_t taken = first_ + statuses_.size();
  for (const auto& [id, next] : followers_) taken = std::min(taken, next);
  while (bytes_ > kMostBytes && first_ < taken) {
    bytes_ -= std::min(bytes_, statuses_.front().ByteSizeLong());
    statuses_.pop_front();
    ++first_;
  }
}

void SolveJob::Publish(Status status) {
  const size_t bytes = status.ByteSizeLong();
  if (bytes == 0) return;
  absl::MutexLock lock(&mu_);
  const auto room = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return bytes_ <= kMostBytes || followers_.empty() || closed_;
  };
  mu_.Await(absl::Condition(&room));
  if (closed_) return;
  statuses_.push_back(std::move(status));
  bytes_ += bytes;
  Trim();
}

void SolveJob::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
}

absl::Status SolveJob::Follow(CancelToken* cancel,
                              const std::function<absl::Status(const Status&)>& take) {
  bool gone = false;
  const CancelToken::Registration wake = WakeOn(cancel, mu_, gone);
  absl::Status result;
  absl::MutexLock lock(&mu_);
  const uint64_t id = follower_ids_++;
  followers_[id] = first_;
  while (result.ok()) {
    uint64_t& next = followers_[id];
    const auto something = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return gone || closed_ || next < first_ + statuses_.size();
    };
    mu_.Await(absl::Condition(&something));
    if (gone) {
      result = cancel->Check();
      break;
    }
    if (next >= first_ + statuses_.size()) break;
    const Status status = statuses_[next - first_];
    mu_.Unlock();
    result = take(status);
    mu_.Lock();
    ++next;
    Trim();
  }
  followers_.erase(id);
  Trim();
  return result;
}

std::string SolveJob::Plan(Solve solve) {
  absl::MutexLock lock(&mu_);
  std::string name = absl::StrCat(ref_, "/", plans_.size() + 1);
  plans_.emplace(name, std::move(solve));
  return name;
}

bool SolveJob::HasPlan(const std::string& name) {
  absl::MutexLock lock(&mu_);
  return plans_.count(name) > 0;
}

void SolveJob::Return(absl::StatusOr<std::string> result) {
  absl::MutexLock lock(&mu_);
  if (!returned_.has_value()) returned_ = std::move(result);
}

absl::StatusOr<std::optional<Solve>> SolveJob::AwaitReturn(CancelToken* cancel) {
  bool gone = false;
  const CancelToken::Registration wake = WakeOn(cancel, mu_, gone);
  absl::MutexLock lock(&mu_);
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return gone || returned_.has_value();
  };
  mu_.Await(absl::Condition(&over));
  if (!returned_.has_value()) return cancel->Check();
  if (!returned_->ok()) return returned_->status();
  if ((**returned_).empty()) return std::optional<Solve>();
  const auto found = plans_.find(**returned_);
  if (found == plans_.end())
    return absl::InvalidArgumentError(absl::StrCat("build ", ref_, ": no result ", **returned_));
  return std::optional<Solve>(found->second);
}

absl::StatusOr<std::shared_ptr<SolveJob>> SolveJobs::Begin(const std::string& ref,
                                                           const std::string& session) {
  auto job = std::make_shared<SolveJob>(ref, session);
  absl::MutexLock lock(&mu_);
  const auto ended = std::find(ended_.begin(), ended_.end(), ref);
  if (ended != ended_.end()) {
    ended_.erase(ended);
    jobs_.erase(ref);
  }
  if (!jobs_.emplace(ref, job).second)
    return absl::AlreadyExistsError(absl::StrCat("build ", ref, " is under way"));
  return job;
}

absl::StatusOr<std::shared_ptr<SolveJob>> SolveJobs::Find(const std::string& ref,
                                                          CancelToken* cancel,
                                                          absl::Duration patience) {
  bool gone = false;
  const CancelToken::Registration wake = WakeOn(cancel, mu_, gone);
  absl::MutexLock lock(&mu_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return gone || jobs_.count(ref) > 0;
  };
  if (!mu_.AwaitWithTimeout(absl::Condition(&there), patience))
    return absl::NotFoundError(absl::StrCat("no such build ", ref));
  if (jobs_.count(ref) == 0) return cancel->Check();
  return jobs_.at(ref);
}

void SolveJobs::End(const std::shared_ptr<SolveJob>& job) {
  job->Close();
  absl::MutexLock lock(&mu_);
  ended_.push_back(job->ref());
  if (ended_.size() <= kEndedJobs) return;
  jobs_.erase(ended_.front());
  ended_.pop_front();
}

}  // namespace gantry::api::buildkit
