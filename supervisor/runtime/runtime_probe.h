// Which OCI runtimes this host has, what they can do, and which one "auto" means here.
//
// A runtime is probed when it is first asked for: its version and features are asked once and kept
// until the binary changes (another inode, size or time). Warm() does that in the background, so
// the daemon's start waits for nothing.
//
// Thread-safe. Facts: the runtimes' command line contract; kernel cgroup layouts.
#ifndef GANTRY_SUPERVISOR_RUNTIME_RUNTIME_PROBE_H_
#define GANTRY_SUPERVISOR_RUNTIME_RUNTIME_PROBE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.pb.h"

namespace gantry::runtime {

enum class CgroupLayout {
  kV1,       // no v2 tree, or an empty one beside the v1 controllers
  kHybrid,   // v1 controllers, and a v2 tree that holds at least one controller
  kUnified,  // v2 only
};
absl::string_view CgroupLayoutName(CgroupLayout layout);

// How the host's cgroups look. A plain value, so that the choice below can be tested for hosts that
// we do not have.
struct CgroupHost {
  CgroupLayout layout = CgroupLayout::kV1;
  bool systemd = false;  // systemd runs this machine and manages its cgroups
  // Controllers that live in the v2 tree, or in a v1 hierarchy mounted nowhere: crun refuses the
  // host unless a private mount namespace mounts each as v1.
  std::vector<std::string> unmounted_v1_controllers;
};
// `root` is "/" but in tests.
absl::StatusOr<CgroupHost> ReadCgroupHost(const std::string& root);

// One [runtimes.NAME] of the configuration.
struct RuntimeSettings {
  std::string path;        // one without a slash is looked up in PATH; "" is the runtime's name
  std::string state_root;  // its --root; "" is <state>/runtime/<name>
  bool systemd_cgroup = false;
  bool no_pivot_root = false;
  bool no_new_keyring = false;
};

struct RuntimeInfo {
  std::string name;  // "crun"
  std::string path;  // absolute, symbolic links resolved
  std::string
      version;  // first line of --version without the program's name; "" when it does not say
  std::string state_root;
  std::string oci_version_max;  // the newest spec it accepts; a spec is lowered to it
  bool is_crun = false;         // by what it says of itself, not by its name
  bool idmap_mounts = false;
  bool checkpoint = false;    // knows the verb; whether criu works is found out when it is used
  std::string features_json;  // as printed; "" when the runtime has no `features`
  // The part of a shim's CreateRequest that names the runtime, ready to copy. state_root gets a
  // sub-directory per namespace.
  shim::v1::Runtime ForShim(absl::string_view ns) const;

  bool systemd_cgroup = false;
  bool no_pivot_root = false;
  bool no_new_keyring = false;
  std::vector<std::string> mount_v1_controllers;
};

// The choice behind "auto", pure: crun when it is there and its demands on the host can be met,
// else runc. kNotFound names both programs and the packages that hold them.
struct AutoInputs {
  bool have_crun = false;
  bool have_runc = false;
  CgroupHost host;
  bool controllers_mountable =
      false;  // tried: every unmounted_v1_controllers can be mounted in a private namespace
};
absl::StatusOr<std::string> ChooseAuto(const AutoInputs& inputs, std::string* reason);

// Mounts a v1 controller at no place in any file tree; reach it by /proc/self/fd/N. While the
// descriptor is open the hierarchy stays, so that a shim's mount of it joins at once instead of
// waiting for the kernel to tear down the one before.
absl::StatusOr<UniqueFd> MountDetachedController(const std::string& controller);

class RuntimeProbe {
 public:
  // `configured` by name; "crun" and "runc" are always known. `state_dir` is the daemon's.
  RuntimeProbe(std::map<std::string, RuntimeSettings> configured, std::string state_dir,
               std::string default_runtime = "auto");
  ~RuntimeProbe();
  RuntimeProbe(const RuntimeProbe&) = delete;
  RuntimeProbe& operator=(const RuntimeProbe&) = delete;

  // Starts a thread that resolves the default runtime; returns at once.
  void Warm();

  // `name` is a configured or built-in name, "auto", "" (the default), an absolute path to a
  // program, or one of containerd's names for its shims: io.containerd.runc.v2 (and v1) is the
  // default runtime, io.containerd.NAME.VERSION the runtime NAME if there is one. A runtime that
  // was asked for is never replaced by another. A runtime whose --version or features fail is taken
  // for one that knows the oldest specs only.
  //   kNotFound           no such runtime; names what is known
  //   kFailedPrecondition the program is missing or cannot be executed, or the name is of a shim of containerd's that is not installed
  //                       or speaks containerd's protocol for shims
  //   kUnavailable        it did not answer in time
  absl::StatusOr<RuntimeInfo> Resolve(absl::string_view name);

  // What containerd's clients ask for by the name of a runtime and, with options of runc's kind,
  // `binary`: a configured or built-in name, a program in PATH, or an absolute path; "" when they
  // do not say. Only names of runc's shim take a binary. Errors as with Resolve().
  absl::StatusOr<RuntimeInfo> ResolveForContainerd(absl::string_view name,
                                                   absl::string_view binary);

  // Forgets what was found and takes other settings (SIGHUP). Running tasks keep what they were
  // created with.
  void Reconfigure(std::map<std::string, RuntimeSettings> configured, std::string default_runtime);

  std::vector<std::string> names() const;
  absl::StatusOr<CgroupHost> cgroup_host() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_RUNTIME_PROBE_H_
