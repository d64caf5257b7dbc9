#include "supervisor/core/image_mounts.h"

#include <dirent.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "snapshotter/mount.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/shown_images.h"

namespace gantry::core {
namespace {

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

absl::StatusOr<ImageMounts::Shown> ImageMounts::Show(
    const CallContext& context, absl::string_view image, absl::string_view path,
    std::map<std::string, std::string>& labels) const {
  const auto failed = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("image ", image, ": ", why));
  };
  std::vector<std::string> parts;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == ".." || part.find('\0') != absl::string_view::npos)
      return failed(absl::StrCat("the path \"", absl::Utf8SafeCEscape(path),
                                 "\" in it leads out of the image"));
    parts.emplace_back(part);
  }
  GANTRY_ASSIGN_OR_RETURN(const ResolvedImage resolved, parts_.images->Resolve(context, image));
  const std::string& snapshotter = parts_.stores->default_snapshotter;
  GANTRY_ASSIGN_OR_RETURN(const std::string chain_id,
                          parts_.unpack->EnsureUnpacked(context, resolved, snapshotter));
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(snapshotter, {context.ns, context.lease}));
  // Kept by the container's record, and collected after it.
  const std::string key = RandomKey();
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> mounts,
                          snapshots.View(key, chain_id, {}));
  Shown shown;
  shown.image_id = resolved.target.digest.str();
  labels[absl::StrCat("containerd.io/gc.ref.snapshot.", snapshotter, "/", key)] = key;
  labels[absl::StrCat(kShownImageLabel, key)] = shown.image_id;
  if (mounts.size() != 1) return failed("its snapshot is not one mount");

  oci::MountConfig& out = shown.mount;
  out.read_only = true;
  for (const std::string& layer : LayersOf(mounts.front())) {
    const InLayer found = Look(layer, parts);
    if (found.there) {
      std::string directory = layer;
      for (const std::string& part : parts) absl::StrAppend(&directory, "/", part);
      out.layers.push_back(std::move(directory));
    }
    if (found.hides_below) break;
  }
  if (out.layers.empty())
    return failed(absl::StrCat("it has no directory \"", absl::Utf8SafeCEscape(path), "\""));
  if (out.layers.size() == 1) {
    out.source = out.layers.front();
    out.layers.clear();
  } else {
    out.type = oci::MountConfig::Type::kOverlay;
  }
  return shown;
}

absl::Status ImageMounts::AddTo(const CallContext& context, v1::ContainerConfig& config,
                                std::vector<oci::MountConfig>& mounts,
                                std::map<std::string, std::string>& labels) const {
  bool any = false;
  for (v1::Mount& mount : *config.mutable_mounts()) {
    if (mount.type() != v1::Mount::IMAGE) continue;
    absl::StatusOr<Shown> shown = Show(context, mount.source(), mount.subpath(), labels);
    if (absl::IsInvalidArgument(shown.status()) || absl::IsNotFound(shown.status())) {
      return FieldError("mount", absl::StrCat("invalid mount config for type \"image\": ",
                                              shown.status().message()));
    }
    GANTRY_RETURN_IF_ERROR(shown.status());
    mount.set_image_id(shown->image_id);
    mount.set_read_only(true);
    shown->mount.destination = mount.target();
    mounts.push_back(std::move(shown->mount));
    any = true;
  }
  if (!any) return absl::OkStatus();
  std::stable_sort(mounts.begin(), mounts.end(),
                   [](const oci::MountConfig& a, const oci::MountConfig& b) {
                     return std::count(a.destination.begin(), a.destination.end(), '/') <
                            std::count(b.destination.begin(), b.destination.end(), '/');
                   });
  return absl::OkStatus();
}

}  // namespace gantry::core
