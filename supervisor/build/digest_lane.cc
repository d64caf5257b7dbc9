#include "supervisor/build/digest_lane.h"

#include "base/new_thread.h"

namespace gantry::build {
namespace {

// That wait, at most; a single piece may be larger.
constexpr size_t kMaxBytes = 4 << 20;
constexpr size_t kSpare = 8;

}  // namespace

DigestLane::~DigestLane() {
  {
    absl::MutexLock lock(&mu_);
    ended_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void DigestLane::Add(std::shared_ptr<content::Hasher> hasher, std::string piece) {
  if (piece.empty()) return;
  if (!std::exchange(tried_, true)) {
    absl::StatusOr<std::thread> thread = NewThread([this] { Run(); });
    if (thread.ok()) thread_ = *std::move(thread);
  }
  if (!thread_.joinable()) return hasher->Update(piece);
  absl::MutexLock lock(&mu_);
  const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return bytes_ < kMaxBytes; };
  mu_.Await(absl::Condition(&room));
  bytes_ += piece.size();
  queue_.emplace_back(std::move(hasher), std::move(piece));
}

void DigestLane::Settle() {
  absl::MutexLock lock(&mu_);
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return bytes_ == 0; };
  mu_.Await(absl::Condition(&done));
}

std::string DigestLane::Buffer() {
  absl::MutexLock lock(&mu_);
  if (spare_.empty()) return "";
  std::string spare = std::move(spare_.back());
  spare_.pop_back();
  return spare;
}

void DigestLane::Run() {
  absl::MutexLock lock(&mu_);
  while (true) {
    const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return !queue_.empty() || ended_;
    };
    mu_.Await(absl::Condition(&something));
    if (queue_.empty()) return;
    auto [hasher, piece] = std::move(queue_.front());
    queue_.pop_front();
    mu_.Unlock();
    hasher->Update(piece);
    const size_t size = piece.size();
    hasher.reset();
    mu_.Lock();
    bytes_ -= size;
    if (spare_.size() < kSpare) spare_.push_back(std::move(piece));
  }
}

}  // namespace gantry::build
