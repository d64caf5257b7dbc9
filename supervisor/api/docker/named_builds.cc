#include "supervisor/api/docker/named_builds.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"

namespace gantry::api::docker {

void NamedBuilds::Enter(const std::string& id, CancelToken* token) {
  if (id.empty()) return;
  absl::MutexLock lock(&mu_);
  builds_.emplace(id, token);
}

void NamedBuilds::Leave(const std::string& id, CancelToken* token) {
  absl::MutexLock lock(&mu_);
  for (auto [it, end] = builds_.equal_range(id); it != end; ++it) {
    if (it->second != token) continue;
    builds_.erase(it);
    return;
  }
}

void NamedBuilds::Cancel(const std::string& id) {
  // Under the lock, since a build that leaves ends its token. What is called takes no lock of this
  // class.
  absl::MutexLock lock(&mu_);
  for (auto [it, end] = builds_.equal_range(id); it != end; ++it)
    it->second->Cancel("the build was cancelled");
}

absl::Status NamedBuilds::Upload(const std::string& id, ByteSource& body) {
  auto meeting = std::make_shared<Meeting>();
  meeting->body = &body;
  absl::MutexLock lock(&mu_);
  if (!uploads_.emplace(id, meeting).second)
    return absl::AlreadyExistsError(absl::StrCat("build ", id, " has a context already"));
  mu_.AwaitWithTimeout(absl::Condition(&meeting->taken), patience_);
  if (meeting->taken) mu_.Await(absl::Condition(&meeting->over));
  uploads_.erase(id);
  if (!meeting->taken)
    return absl::NotFoundError(absl::StrCat("no build ", id, " asks for a context"));
  return meeting->result;
}

absl::Status NamedBuilds::ReadUpload(const std::string& id,
                                     const std::function<absl::Status(ByteSource&)>& read) {
  absl::MutexLock lock(&mu_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = uploads_.find(id);
    return found != uploads_.end() && !found->second->taken;
  };
  if (!mu_.AwaitWithTimeout(absl::Condition(&there), patience_))
    return absl::NotFoundError(absl::StrCat("build ", id, ": its context does not come"));
  const std::shared_ptr<Meeting> meeting = uploads_.at(id);
  meeting->taken = true;
  mu_.Unlock();
  absl::Status result = read(*meeting->body);
  mu_.Lock();
  meeting->result = result;
  meeting->over = true;
  return result;
}

}  // namespace gantry::api::docker
