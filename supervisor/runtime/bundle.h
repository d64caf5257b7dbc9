// The directory a task lives in, and what is written there so that a restarted supervisor can pick
// the task up.
//
//   <state>/tasks/                   a private mount (below); one directory per namespace, one per container in it:
//   <state>/tasks/<ns>/<id>/
//     config.json                    the OCI runtime spec, as handed in
//     launch.json                    LaunchRecord; renamed into place before any shim is forked
//     shim.json                      ShimProcess; pid and start time, written when the shim said it is ready
//     rootfs/                        mount point; only the shim's mount namespace ever mounts there
//     (the shim's own files: exit records, pid files, the runtime's log)
//   <state>/s/<16 hex digits>        the shim's socket, named by a hash of "<ns>/<id>" to fit sockaddr_un (108 bytes)
//
// The state directory holds what ends with the boot: processes do not outlive a power cut, so its
// files are renamed into place (a killed daemon leaves a whole file or none) but not synced. A
// record from an earlier boot is recognised by its boot id. <state>/tasks is bound onto itself and
// made private, so that no mount a shim makes below it reaches the host. The bind outlives the
// daemon, because containers do; ReleaseMount() removes it once no bundle is left, `umount
// <state>/tasks` does the same by hand, and a reboot clears it.
//
// BundleStore is thread-safe for different keys; calls for one key are serialised by the caller
// (the container operation lock). Bundle and the records are values.
#ifndef GANTRY_SUPERVISOR_RUNTIME_BUNDLE_H_
#define GANTRY_SUPERVISOR_RUNTIME_BUNDLE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/leftovers.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/task_key.h"

namespace gantry::runtime {

// A process, named so that it cannot be mistaken for a later one with the same pid.
struct ShimProcess {
  pid_t pid = 0;
  uint64_t start_time_ticks = 0;  // field 22 of /proc/<pid>/stat

  friend bool operator==(const ShimProcess&, const ShimProcess&) = default;
};

// What was decided before the shim was forked. Enough to finish or roll back a launch that the
// supervisor did not live to see.
struct LaunchRecord {
  shim::v1::CreateRequest create;      // runtime choice, root file system, stdio
  std::string cgroup_path;             // linux.cgroupsPath of the spec; "" when it names none
  bool private_pid_namespace = false;  // the container's processes end with its init
  std::optional<gid_t> root_gid;  // host gid of the container's root, when it has a user namespace
  absl::Time created_at;
  std::string boot_id;  // filled in by BundleStore::Create()
};

class Bundle {
 public:
  Bundle(TaskKey key, std::string path, std::string socket_path, LaunchRecord launch)
      : key_(std::move(key)),
        path_(std::move(path)),
        socket_path_(std::move(socket_path)),
        launch_(std::move(launch)) {}

  const TaskKey& key() const { return key_; }
  const std::string& path() const { return path_; }
  const std::string& socket_path() const { return socket_path_; }
  const LaunchRecord& launch() const { return launch_; }
  std::string config_path() const { return path_ + "/config.json"; }
  std::string rootfs_path() const { return path_ + "/rootfs"; }

  // The OCI spec.
  absl::StatusOr<std::string> ReadConfig() const;

  // Who serves this bundle. kNotFound: no shim was ever known to be ready; kDataLoss: the file is
  // damaged.
  absl::StatusOr<ShimProcess> ReadShimProcess() const;
  absl::Status WriteShimProcess(const ShimProcess& process) const;

 private:
  TaskKey key_;
  std::string path_;
  std::string socket_path_;
  LaunchRecord launch_;
};

// A bundle directory found at start. `bundle` is an error when the launch record is absent or
// damaged (the daemon was killed between mkdir and rename: no shim can exist), names another task,
// or cannot be read.
struct FoundBundle {
  TaskKey key;
  absl::StatusOr<Bundle> bundle;
};

class BundleStore {
 public:
  // Makes the directories (0711 state, 0700 below) and the private mount. `boot_id` is the
  // kernel's; empty reads it.
  //   kInvalidArgument  state_dir is not absolute, or so long that a shim's socket would not fit; says how long it may be
  //   kPermissionDenied no right to mount
  static absl::StatusOr<std::unique_ptr<BundleStore>> Open(std::string state_dir,
                                                           bool private_mount = true,
                                                           std::string boot_id = "");

  // Makes the directory, config.json and the launch record.
  //   kInvalidArgument  an id that cannot be a directory name
  //   kAlreadyExists    the bundle is there (a task not deleted yet)
  //   kResourceExhausted disk full; nothing is left behind
  absl::StatusOr<Bundle> Create(const TaskKey& key, absl::string_view config_json,
                                LaunchRecord launch);

  // kNotFound: no such bundle; kDataLoss: launch record absent or damaged.
  absl::StatusOr<Bundle> Load(const TaskKey& key) const;

  // Removes directory and socket whatever they hold; absent is success. Never follows symbolic
  // links. What could not be removed (no descriptor was free, say) has no launch record any more;
  // SweepLeftovers() and each Create() try again.
  absl::Status Remove(const TaskKey& key);

  // Removes what Remove(), or a Create() that failed, had to leave. Safe beside all other calls.
  absl::Status SweepLeftovers() { return leftovers_.Sweep(); }

  absl::StatusOr<std::vector<FoundBundle>> List() const;

  // Undoes the private mount when no bundle is left; otherwise leaves it and returns OK.
  absl::Status ReleaseMount();

  std::string PathOf(const TaskKey& key) const;
  std::string SocketPathOf(const TaskKey& key) const;
  const std::string& boot_id() const { return boot_id_; }

 private:
  BundleStore(std::string state_dir, std::string boot_id);

  const std::string state_dir_;
  const std::string boot_id_;

  Leftovers leftovers_;  // directories of bundles
};

// kInvalidArgument unless both names are 1 to 255 bytes of letters, digits, '_', '.', '-', starting
// with a letter or digit.
absl::Status CheckTaskKey(const TaskKey& key);

// Start time of a live process. kNotFound: there is none.
absl::StatusOr<uint64_t> ReadStartTime(pid_t pid);

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_BUNDLE_H_
