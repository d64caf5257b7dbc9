// Images shown in containers of pods as volumes.
#include <dirent.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "snapshotter/mount.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/stores.h"

namespace gantry::core {
namespace {

// The kubelet reads this word.
constexpr char kFailed[] = "ImageVolumeMountFailed";

absl::Status Failed(const PodMount& mount, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat(kFailed, ": ", mount.target, ", image ", mount.image, ": ", why));
}

// The directories of a read-only mount, uppermost first.
std::vector<std::string> LayersOf(const snapshot::Mount& mount) {
  if (mount.type != "overlay") return {mount.source};
  for (absl::string_view option : mount.options) {
    if (absl::ConsumePrefix(&option, "lowerdir=")) return absl::StrSplit(option, ':');
  }
  return {};
}

// What one layer says of a path in it: it has that directory, says nothing, or ends what layers
// below it say.
struct InLayer {
  bool there = false;
  bool hides_below = false;
};
InLayer Look(const std::string& layer, const std::vector<std::string>& path) {
  InLayer found;
  std::string at = layer;
  for (const std::string& part : path) {
    absl::StrAppend(&at, "/", part);
    struct stat info;
    if (lstat(at.c_str(), &info) != 0) return found;
    if (!S_ISDIR(info.st_mode)) {
      // A whiteout, or something else in the place of the directory.
      found.hides_below = true;
      return found;
    }
    char value[2] = {};
    if (lgetxattr(at.c_str(), "trusted.overlay.opaque", value, sizeof value) == 1 &&
        value[0] == 'y')
      found.hides_below = true;
  }
  found.there = true;
  return found;
}

std::string RandomKey() {
  uint64_t words[2] = {};
  if (getrandom(words, sizeof words, 0) != sizeof words) words[0] = static_cast<uint64_t>(errno);
  return absl::StrCat("image-volume-", absl::Hex(words[0], absl::kZeroPad16),
                      absl::Hex(words[1], absl::kZeroPad16));
}

}  // namespace

absl::StatusOr<oci::MountConfig> PodService::ImageMount(
    const CallContext& context, const PodMount& mount,
    std::map<std::string, std::string>& labels) const {
  if (!mount.source.empty()) return Failed(mount, "it has a host path as well");
  if (!mount.read_only) return Failed(mount, "an image can only be mounted read-only");
  const absl::StatusOr<ResolvedImage> image = parts_.images->Resolve(context, mount.image);
  if (!image.ok()) return Failed(mount, image.status().message());
  const std::string& snapshotter = parts_.stores->default_snapshotter;
  GANTRY_ASSIGN_OR_RETURN(const std::string chain_id,
                          parts_.unpack->EnsureUnpacked(context, *image, snapshotter));
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(snapshotter, {context.ns, context.lease}));
  // Kept by the container's record, and collected after it.
  const std::string key = RandomKey();
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> mounts,
                          snapshots.View(key, chain_id, {}));
  labels[absl::StrCat("containerd.io/gc.ref.snapshot.", snapshotter, "/", key)] = key;
  if (mounts.size() != 1) return Failed(mount, "its snapshot is not one mount");

  std::vector<std::string> path;
  for (const absl::string_view part : absl::StrSplit(mount.image_path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") return Failed(mount, "the path in it leads out of the image");
    path.emplace_back(part);
  }
  oci::MountConfig out;
  out.destination = mount.target;
  out.options = mount.options;
  out.read_only = true;
  for (const std::string& layer : LayersOf(mounts.front())) {
    const InLayer found = Look(layer, path);
    if (found.there) {
      std::string directory = layer;
      for (const std::string& part : path) absl::StrAppend(&directory, "/", part);
      out.layers.push_back(std::move(directory));
    }
    if (found.hides_below) break;
  }
  if (out.layers.empty())
    return Failed(mount, absl::StrCat("it has no directory ", mount.image_path));
  if (out.layers.size() == 1) {
    out.source = out.layers.front();
    out.layers.clear();
  } else {
    out.type = oci::MountConfig::Type::kOverlay;
  }
  return out;
}

}  // namespace gantry::core
