#include "supervisor/core/removal_waits.h"

#include <vector>

namespace gantry::core {

void PendingAnswer::Answer(absl::StatusOr<v1::WaitContainerResponse> response) {
  std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done;
  {
    absl::MutexLock lock(&mu_);
    done = std::exchange(done_, nullptr);
  }
  if (done) done(std::move(response));
}

void RemovalWaits::Add(const std::string& ns, const std::string& id,
                       std::shared_ptr<PendingAnswer> wait) {
  absl::MutexLock lock(&mu_);
  waits_.emplace(std::make_pair(ns, id), std::move(wait));
}

void RemovalWaits::Drop(const std::string& ns, const std::string& id,
                        const std::shared_ptr<PendingAnswer>& wait) {
  absl::MutexLock lock(&mu_);
  auto [begin, end] = waits_.equal_range({ns, id});
  for (auto it = begin; it != end; ++it) {
    if (it->second == wait) {
      waits_.erase(it);
      break;
    }
  }
}

void RemovalWaits::Answer(const std::string& ns, const std::string& id,
                          const v1::WaitContainerResponse& response) {
  std::vector<std::shared_ptr<PendingAnswer>> answered;
  {
    absl::MutexLock lock(&mu_);
    auto [begin, end] = waits_.equal_range({ns, id});
    for (auto it = begin; it != end; ++it) answered.push_back(it->second);
    waits_.erase(begin, end);
  }
  for (auto& wait : answered) wait->Answer(response);
}

}  // namespace gantry::core
