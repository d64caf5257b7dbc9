// The directories of containers that no record names, and their removal.
//
// A daemon that dies between making a container's directory and writing its record, or between
// deleting the record and removing the directory, leaves the directory behind. The start of the next
// daemon and every garbage collection take such directories away. A directory is made before its
// record exists, so its maker announces it for that time.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_DIRECTORIES_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_DIRECTORIES_H_

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/metadata/container_store.h"

namespace gantry::core {

class ContainerDirectories {
 public:
  // `tops` hold a directory per namespace, with a directory per container id in it. The store
  // outlives the object.
  ContainerDirectories(metadata::ContainerStore& containers, std::vector<std::string> tops)
      : containers_(containers), tops_(std::move(tops)) {}

  // While it exists, the container's directories are not taken away.
  class Making {
   public:
    Making(Making&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), key_(std::move(other.key_)) {}
    Making& operator=(Making&&) = delete;
    ~Making();

   private:
    friend class ContainerDirectories;
    using Key = std::pair<std::string, std::string>;  // namespace, container id
    Making(ContainerDirectories* owner, Key key) : owner_(owner), key_(std::move(key)) {}
    ContainerDirectories* owner_;
    Key key_;
  };
  // Before the first directory is made; the record is written before it ends.
  Making Announce(const std::string& ns, const std::string& id);

  // Removes all directories that no record names. Returns the first failure, after trying the
  // others.
  absl::Status Sweep();

 private:
  metadata::ContainerStore& containers_;
  const std::vector<std::string> tops_;
  absl::Mutex mu_;
  std::set<Making::Key> making_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_DIRECTORIES_H_
