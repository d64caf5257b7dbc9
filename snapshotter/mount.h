// How to make a snapshot visible: a list of mounts, and the code that carries them out.
//
// Options are containerd's: words that name a mount flag ("ro", "rbind", "nosuid") become flags,
// "uidmap=" and "gidmap=" make an id-mapped mount, "loop" mounts the file system in the file that
// is the source, all others are handed to the file system.
// Linked into the shim: depends on nothing but base.
#ifndef GANTRY_SNAPSHOTTER_MOUNT_H_
#define GANTRY_SNAPSHOTTER_MOUNT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace gantry::snapshot {

struct Mount {
  std::string type;  // "bind", "overlay", ...
  std::string source;
  std::string target = {};  // sub-directory of the mount point; "" for the mount point itself
  std::vector<std::string> options = {};

  friend bool operator==(const Mount&, const Mount&) = default;
};

// The directories, topmost first, that together are what `mounts` show: upper (if any), then
// lowers; the source of a bind. Empty: these mounts are not made of plain directories.
std::vector<std::string> MountedDirectories(absl::Span<const Mount> mounts);

// Mounts in order at `target`, an existing directory. A failure undoes what was mounted. Option
// strings of any length work.
// kInvalidArgument: malformed mount; otherwise the kernel's errno with source, type and target
// named.
absl::Status MountAll(absl::Span<const Mount> mounts, const std::string& target);

// The same for a tree that ends with its mount: what is written to an overlay is not synced,
// neither by fsync(2) in it nor when it is unmounted, which otherwise waits for the whole file
// system below. Kernels before 5.10 sync it all the same. Mounted again after all, it may lack
// after a power cut what was written before; nothing else is lost.
absl::Status MountAllUnsynced(absl::Span<const Mount> mounts, const std::string& target);

// How overlay options longer than a page reach the kernel: lower directories appended one by one
// (Linux 6.8), or as paths relative to their common directory (any Linux, up to a page of those).
// MountAll() tries both.
enum class LongOverlay { kAppend, kRelative };
absl::Status MountLongOverlay(const Mount& mount, const std::string& target, LongOverlay style);

// Unmounts everything mounted at `target`, innermost first; nothing mounted there is success.
// `lazy` detaches a busy mount instead of failing with kFailedPrecondition.
absl::Status UnmountAll(const std::string& target, bool lazy);

// Mounted for as long as it lives. Move-only.
class ScopedMount {
 public:
  ScopedMount() = default;
  static absl::StatusOr<ScopedMount> Create(absl::Span<const Mount> mounts, std::string target);
  ~ScopedMount();
  ScopedMount(ScopedMount&& other) noexcept;
  ScopedMount& operator=(ScopedMount&& other) noexcept;

  const std::string& target() const { return target_; }
  // Unmounts now and says how it went.
  absl::Status Unmount();

 private:
  explicit ScopedMount(std::string target) : target_(std::move(target)) {}
  std::string target_;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_MOUNT_H_
