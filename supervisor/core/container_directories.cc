#include "supervisor/core/container_directories.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "glog/logging.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"

namespace gantry::core {

ContainerDirectories::Making::~Making() {
  if (owner_ == nullptr) return;
  absl::MutexLock lock(&owner_->mu_);
  owner_->making_.erase(key_);
}

ContainerDirectories::Making ContainerDirectories::Announce(const std::string& ns,
                                                            const std::string& id) {
  absl::MutexLock lock(&mu_);
  making_.emplace(ns, id);
  return Making(this, {ns, id});
}

absl::Status ContainerDirectories::Sweep() {
  // In this order: a directory that is seen here is being made, or has its record by then.
  std::vector<std::pair<std::string, Making::Key>> found;
  std::set<std::string> namespaces;
  absl::Status first;
  for (const std::string& top : tops_) {
    const absl::StatusOr<std::vector<std::string>> names = ListDirectory(top);
    if (absl::IsNotFound(names.status())) continue;
    if (!names.ok()) {
      first.Update(names.status());
      continue;
    }
    for (const std::string& ns : *names) {
      const std::string directory = absl::StrCat(top, "/", ns);
      const absl::StatusOr<std::vector<std::string>> ids = ListDirectory(directory);
      first.Update(ids.status());
      if (!ids.ok()) continue;
      for (const std::string& id : *ids)
        found.emplace_back(absl::StrCat(directory, "/", id), Making::Key(ns, id));
      namespaces.insert(ns);
    }
  }
  if (found.empty()) return first;
  std::set<Making::Key> known;
  {
    absl::MutexLock lock(&mu_);
    known = making_;
  }
  for (const std::string& ns : namespaces) {
    GANTRY_RETURN_IF_ERROR(containers_.ListStates(
        {ns, ""}, [&](absl::string_view id, const record::v1::ContainerState*) {
          known.emplace(ns, std::string(id));
          return absl::OkStatus();
        }));
  }
  for (const auto& [path, key] : found) {
    if (known.count(key) > 0) continue;
    const absl::Status removed = RemoveTree(path);
    LOG(INFO) << "ns=" << key.first << " id=" << key.second
              << " files of a container that is not there: " << removed;
    first.Update(removed);
  }
  return first;
}

}  // namespace gantry::core
