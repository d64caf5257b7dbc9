#include "supervisor/build/trash.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/file.h"
#include "base/new_thread.h"

namespace gantry::build {
namespace {

void Remove(const std::string& path) {
  if (absl::Status removed = RemoveTree(path); !removed.ok())
    LOG(WARNING) << "files of a build: " << removed;
}

}  // namespace

Trash::~Trash() {
  std::thread thread;
  {
    absl::MutexLock lock(&mu_);
    ending_ = true;
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

void Trash::Recover() {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory_);
  if (!names.ok()) return;  // there were no builds
  for (const std::string& name : *names) Add(absl::StrCat(directory_, "/", name));
}

void Trash::Take(const std::string& path) {
  std::string random(8, '\0');
  while (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
  }
  std::string to = absl::StrCat(directory_, "/trash-", absl::BytesToHexString(random));
  const absl::Status made = MakeDirectories(directory_, 0700);
  if (made.ok() && rename(path.c_str(), to.c_str()) == 0) return Add(std::move(to));
  if (made.ok() && errno == ENOENT) return;
  Remove(path);
}

void Trash::Drain() {
  absl::MutexLock lock(&mu_);
  const auto idle = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return waiting_.empty() && !busy_; };
  mu_.Await(absl::Condition(&idle));
}

void Trash::Add(std::string path) {
  absl::MutexLock lock(&mu_);
  if (ending_) return;
  waiting_.push_back(std::move(path));
  if (thread_.joinable()) return;
  absl::StatusOr<std::thread> thread = NewThread([this] { Work(); });
  // The next one tries again.
  if (thread.ok()) thread_ = *std::move(thread);
}

void Trash::Work() {
  mu_.Lock();
  while (true) {
    const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return ending_ || !waiting_.empty();
    };
    mu_.Await(absl::Condition(&something));
    if (ending_) break;
    const std::string path = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    mu_.Unlock();
    Remove(path);
    mu_.Lock();
    busy_ = false;
  }
  mu_.Unlock();
}

}  // namespace gantry::build
