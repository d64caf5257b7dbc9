// Mounts that the daemon performs for clients before a container can use the rest: loop devices,
// file systems made on first use, mounts that others refer to (mount_plan.h).
//
// Directory: <state>/activations/<n>/ with record.json, the mount points <i> (or symbolic links to
// loop devices, with <i>.backing naming their files). The record is written before anything is
// mounted. Open() undoes what a crash left half made; complete activations outlive the daemon and
// end with the boot.
//
// An activation is kept by the lease that it was made under, by labels containerd.io/gc.bref.* of
// its own, by labels containerd.io/gc.ref.mount of others, or by containerd.io/gc.root; otherwise
// the next collection ends it.
//
// Thread-safe; calls for one name wait for each other. Semantics: containerd 2.4 "mounts" service.
#ifndef GANTRY_SUPERVISOR_CORE_MOUNT_ACTIVATIONS_H_
#define GANTRY_SUPERVISOR_CORE_MOUNT_ACTIVATIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"
#include "snapshotter/mount.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/mount_plan.h"
#include "supervisor/gc/edges.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/key_locks.h"

namespace gantry::core {

struct MountActivation {
  std::string name;
  std::vector<ActiveMount> active;      // performed
  std::vector<snapshot::Mount> system;  // left to the client
  std::map<std::string, std::string> labels;
  std::string lease;  // "" for none
};

class MountActivations final : public gc::MountSource {
 public:
  struct Parts {
    metadata::Database* db = nullptr;
    std::string root_directory;   // mkdir/ and mkfs/ work below it
    std::string state_directory;  // and below <state>/activations
    std::string boot_id;
  };
  explicit MountActivations(const Parts& parts);

  // Reads what there is and ends what is half made. A failure to end one is logged.
  absl::Status Open();

  struct Request {
    std::string name;
    std::vector<snapshot::Mount> mounts;
    std::map<std::string, std::string> labels;
    bool temporary = false;  // perform all; `system` is then one bind mount of the last
  };
  //   kUnimplemented   no mount needs the daemon: the client mounts by itself; or mkdir/ and mkfs/ name
  //                    a path outside their directories
  //   kAlreadyExists   the name is active
  //   kInvalidArgument malformed name, label, template or option
  //   others           of the mount that failed; nothing stays mounted
  absl::StatusOr<MountActivation> Activate(const CallContext& context, Request request);

  // Unmounts. kNotFound: no such activation; kFailedPrecondition: something is in use, try again.
  absl::Status Deactivate(const CallContext& context, const std::string& name);

  absl::StatusOr<MountActivation> Info(const CallContext& context, const std::string& name);
  // Of the namespace, by name.
  std::vector<MountActivation> List(const CallContext& context);
  // Only labels change; `fields` as with other objects.
  absl::StatusOr<MountActivation> Update(const CallContext& context, const std::string& name,
                                         const std::map<std::string, std::string>& labels,
                                         const std::vector<std::string>& fields);

  // gc::MountSource
  std::vector<Activation> Activations() override;
  absl::Status Remove(const std::string& ns, const std::string& name) override;

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, name
  struct Entry {
    uint64_t id = 0;
    MountActivation activation;
  };

  std::string DirectoryOf(uint64_t id) const;
  absl::Status WriteRecord(const std::string& ns, const Entry& entry, size_t count,
                           bool complete) const;
  absl::StatusOr<ActiveMount> Perform(const std::string& directory, size_t index,
                                      snapshot::Mount mount) const;
  absl::StatusOr<snapshot::Mount> Apply(const std::vector<MountStep>& steps, snapshot::Mount mount,
                                        const std::vector<ActiveMount>& before) const;
  // Opens the directory that is to hold `path`, beneath one of ours; `name` is its last part.
  absl::StatusOr<UniqueFd> OpenParent(const std::string& path, std::string* name) const;
  absl::Status MakeDirectoryAt(const MkdirOption& option) const;
  absl::Status MakeFileSystem(const std::string& path, const MkfsOption& option) const;
  // Unmounts 0 to `count` in reverse order and removes the directory.
  absl::Status End(uint64_t id, size_t count) const;

  const Parts parts_;
  metadata::KeyLocks names_;

  absl::Mutex mu_;
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mu_);  // complete ones
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_MOUNT_ACTIVATIONS_H_
