#include "supervisor/core/container_mounts.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/volume/local_driver.h"

namespace gantry::core {
namespace {

constexpr char kFromImage[] = "image";

bool HasNul(absl::string_view text) { return text.find('\0') != absl::string_view::npos; }

absl::string_view TypeName(v1::Mount::Type type) {
  switch (type) {
    case v1::Mount::BIND:
      return "bind";
    case v1::Mount::VOLUME:
      return "volume";
    case v1::Mount::TMPFS:
      return "tmpfs";
    case v1::Mount::IMAGE:
      return "image";
    default:
      return "";
  }
}

// Words of docker's short form that are not options of a mount: labels of SELinux, "rw", which is
// so without it, and words for other systems.
bool IsOptionOfMount(absl::string_view option) {
  for (const absl::string_view other : {"z", "Z", "rw", "consistent", "cached", "delegated"}) {
    if (option == other) return false;
  }
  return option != kMapIds;
}

bool IsPropagation(absl::string_view text) {
  return text.empty() || text == "private" || text == "rprivate" || text == "shared" ||
         text == "rshared" || text == "slave" || text == "rslave";
}

absl::Status Invalid(const v1::Mount& mount, absl::string_view why) {
  return FieldError("mount", absl::StrCat("invalid mount config for type \"",
                                          TypeName(mount.type()), "\": ", why));
}

// "" or a relative path that does not climb out.
bool IsLocal(absl::string_view path) {
  if (path.empty()) return true;
  if (path.front() == '/' || HasNul(path)) return false;
  int depth = 0;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    depth += part == ".." ? -1 : 1;
    if (depth < 0) return false;
  }
  return true;
}

absl::Status CheckMount(const v1::Mount& mount) {
  if (TypeName(mount.type()).empty()) return FieldError("mount", "mount type unknown");
  if (mount.target().empty()) return Invalid(mount, "field Target must not be empty");
  if (HasNul(mount.target()) || HasNul(mount.source()))
    return Invalid(mount, "a path holds a NUL byte");
  if (mount.target().front() != '/') {
    return Invalid(mount,
                   absl::StrCat("invalid mount path: '", absl::Utf8SafeCEscape(mount.target()),
                                "' mount path must be absolute"));
  }
  if (CleanTarget(mount.target()) == "/")
    return Invalid(mount, "invalid specification: destination can't be '/'");
  if (!IsPropagation(mount.propagation())) {
    return Invalid(mount, absl::StrCat("invalid propagation mode: ",
                                       absl::Utf8SafeCEscape(mount.propagation())));
  }
  if (mount.read_only_non_recursive() && mount.read_only_force_recursive()) {
    return Invalid(mount, "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive");
  }
  if (!mount.read_only() && mount.read_only_non_recursive()) {
    return Invalid(mount, "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive");
  }
  if (!mount.read_only() && mount.read_only_force_recursive()) {
    return Invalid(mount,
                   "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive");
  }
  switch (mount.type()) {
    case v1::Mount::BIND:
      if (mount.source().empty()) return Invalid(mount, "field Source must not be empty");
      if (mount.source().front() != '/') {
        return Invalid(mount,
                       absl::StrCat("invalid mount path: '", absl::Utf8SafeCEscape(mount.source()),
                                    "' mount path must be absolute"));
      }
      return absl::OkStatus();
    case v1::Mount::TMPFS:
      if (!mount.source().empty()) return Invalid(mount, "field Source must not be specified");
      return absl::OkStatus();
    case v1::Mount::VOLUME: {
      if (mount.source().empty()) {
        if (!mount.subpath().empty())
          return Invalid(mount, "must not set Subpath when using anonymous volumes");
      } else if (const absl::Status named = volume::CheckVolumeName(mount.source()); !named.ok()) {
        return FieldError("mount", named.message());
      }
      if (!mount.propagation().empty())
        return Invalid(mount, absl::StrCat("invalid mode: ", mount.propagation()));
      if (!IsLocal(mount.subpath()))
        return Invalid(mount, "subpath must be a relative path within the volume");
      return absl::OkStatus();
    }
    case v1::Mount::IMAGE:
      if (mount.source().empty()) return Invalid(mount, "field Source must not be empty");
      if (!mount.propagation().empty())
        return Invalid(mount, absl::StrCat("invalid mode: ", mount.propagation()));
      if (!IsLocal(mount.subpath()))
        return Invalid(mount, "subpath must be a relative path within the image");
      return absl::OkStatus();
    default:
      return FieldError("mount", "mount type unknown");
  }
}

}  // namespace

// An absolute path without empty, "." and ".." parts.
std::string CleanTarget(absl::string_view target) {
  std::vector<absl::string_view> parts;
  for (const absl::string_view part : absl::StrSplit(target, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

absl::StatusOr<VolumesFrom> ParseVolumesFrom(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  const auto bad = [&](absl::string_view why) {
    return FieldError("volumes_from", absl::StrCat(why, ": ", absl::Utf8SafeCEscape(text)));
  };
  if (parts.size() > 2 || parts[0].empty()) return bad("invalid volumes-from specification");
  VolumesFrom parsed;
  parsed.container = std::string(parts[0]);
  if (parts.size() == 1) return parsed;
  int access = 0;
  int label = 0;
  for (const absl::string_view mode : absl::StrSplit(parts[1], ',')) {
    if (mode == "ro" || mode == "rw") {
      ++access;
      parsed.read_only = mode == "ro";
    } else if (mode == "z" || mode == "Z") {
      ++label;
    } else {
      access = 2;
    }
  }
  if (access > 1 || label > 1) {
    return FieldError("volumes_from",
                      absl::StrCat("invalid mode: ", absl::Utf8SafeCEscape(parts[1])));
  }
  return parsed;
}

absl::Status CheckMounts(const v1::ContainerConfig& config) {
  std::set<std::string> targets;
  for (const v1::Mount& mount : config.mounts()) {
    GANTRY_RETURN_IF_ERROR(CheckMount(mount));
    if (!targets.insert(CleanTarget(mount.target())).second)
      return FieldError("mount",
                        absl::StrCat("Duplicate mount point: ", CleanTarget(mount.target())));
  }
  for (const std::string& other : config.volumes_from())
    GANTRY_RETURN_IF_ERROR(ParseVolumesFrom(other).status());
  return absl::OkStatus();
}

void NormalizeMounts(v1::ContainerConfig& config) {
  for (v1::Mount& mount : *config.mutable_mounts()) {
    mount.set_target(CleanTarget(mount.target()));
    mount.clear_volume_name();
    mount.clear_inherited_from();
    mount.clear_image_id();
  }
}

void InheritMounts(const v1::ContainerConfig& other, const std::string& other_id, bool read_only,
                   v1::ContainerConfig& config) {
  for (const v1::Mount& theirs : other.mounts()) {
    auto& mounts = *config.mutable_mounts();
    const auto there = std::find_if(mounts.begin(), mounts.end(), [&](const v1::Mount& mount) {
      return mount.target() == theirs.target();
    });
    if (there != mounts.end() && there->inherited_from().empty()) continue;
    v1::Mount& mount = there != mounts.end() ? *there : *config.add_mounts();
    mount = theirs;
    mount.set_inherited_from(other_id);
    mount.set_read_only(theirs.read_only() || read_only);
    // Its content is there; the volume is the other container's to fill.
    mount.set_no_copy(true);
  }
}

absl::Status AddImageVolumes(const std::set<std::string>& volumes, v1::ContainerConfig& config) {
  for (const std::string& path : volumes) {
    const std::string target = CleanTarget(path);
    if (path.empty() || path.front() != '/' || HasNul(path) || target == "/") {
      return absl::InvalidArgumentError(absl::StrCat("image ", config.image(), ": its volume \"",
                                                     absl::Utf8SafeCEscape(path),
                                                     "\" is not an absolute path below the root"));
    }
    const bool taken =
        std::any_of(config.mounts().begin(), config.mounts().end(),
                    [&](const v1::Mount& mount) { return mount.target() == target; });
    if (taken) continue;
    v1::Mount& mount = *config.add_mounts();
    mount.set_type(v1::Mount::VOLUME);
    mount.set_target(target);
    mount.set_inherited_from(kFromImage);
  }
  return absl::OkStatus();
}

absl::Status CheckMappedMounts(const v1::ContainerConfig& config) {
  for (const v1::Mount& mount : config.mounts()) {
    if (mount.type() == v1::Mount::IMAGE && !config.uids().empty()) {
      return Invalid(mount,
                     "an image cannot be shown by the container's own ids; give the container the "
                     "host's (--userns host)");
    }
    // Those of volumes_from may come from a container with ids.
    if (!MapsIds(mount) || !mount.inherited_from().empty()) continue;
    if (config.uids().empty()) {
      return Invalid(mount, "idmap: the container has the host's ids; give it its own (--userns)");
    }
    if (absl::StrContains(mount.propagation(), "shared") ||
        absl::StrContains(mount.propagation(), "slave")) {
      return Invalid(mount, absl::StrCat("idmap and propagation ", mount.propagation(),
                                         " cannot be combined: what is mounted later would have "
                                         "other ids"));
    }
  }
  return absl::OkStatus();
}

bool MapsIds(const v1::Mount& mount) {
  return std::find(mount.options().begin(), mount.options().end(), kMapIds) !=
         mount.options().end();
}

std::string ModeOf(const v1::Mount& mount) {
  std::string mode = mount.read_only() ? "ro" : "";
  if (mount.type() != v1::Mount::BIND && mount.type() != v1::Mount::VOLUME) return mode;
  for (const std::string& option : mount.options()) {
    if (option == kMapIds || (option == "rw" && mount.read_only())) continue;
    absl::StrAppend(&mode, mode.empty() ? "" : ",", option);
  }
  return mode;
}

bool HasPlace(const v1::ContainerConfig& config, const v1::Mount& mount) {
  const std::string& driver = mount.volume_driver();
  return !mount.subpath().empty() || (MapsIds(mount) && !config.uids().empty()) ||
         (!driver.empty() && driver != "local");
}

std::vector<std::string> AnonymousVolumes(const v1::ContainerConfig& config) {
  std::vector<std::string> names;
  for (const v1::Mount& mount : config.mounts()) {
    if (mount.type() == v1::Mount::VOLUME && mount.source().empty() && !mount.volume_name().empty())
      names.push_back(mount.volume_name());
  }
  return names;
}

bool MayHaveMountsBelow(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) != 0 || S_ISDIR(info.st_mode);
}

absl::Status AppendMounts(const v1::ContainerConfig& config,
                          const std::map<std::string, std::string>& sources,
                          std::vector<oci::MountConfig>& out) {
  for (const v1::Mount& mount : config.mounts()) {
    oci::MountConfig spec;
    spec.destination = mount.target();
    spec.read_only = mount.read_only();
    spec.recursive_read_only = mount.read_only() && mount.read_only_force_recursive();
    if (mount.type() == v1::Mount::TMPFS) {
      spec.type = oci::MountConfig::Type::kTmpfs;
      spec.options.assign(mount.options().begin(), mount.options().end());
      if (mount.tmpfs_size_bytes() > 0)
        spec.options.push_back(absl::StrCat("size=", mount.tmpfs_size_bytes()));
      if (mount.tmpfs_mode() > 0)
        spec.options.push_back(absl::StrFormat("mode=%o", mount.tmpfs_mode()));
      out.push_back(std::move(spec));
      continue;
    }
    if (mount.type() == v1::Mount::IMAGE) continue;  // ImageMounts::AddTo()
    spec.type = oci::MountConfig::Type::kBind;
    for (const std::string& option : mount.options()) {
      if (IsOptionOfMount(option)) spec.options.push_back(option);
    }
    spec.non_recursive = mount.non_recursive();
    spec.propagation = mount.propagation();
    if (mount.type() == v1::Mount::BIND) {
      spec.source = mount.source();
      struct stat info;
      if (stat(spec.source.c_str(), &info) != 0) {
        if (!mount.create_source()) {
          return Invalid(mount, absl::StrCat("bind source path does not exist: ", spec.source,
                                             " (-v would make it)"));
        }
        GANTRY_RETURN_IF_ERROR(MakeDirectories(spec.source, 0755));
      }
      if (const auto place = sources.find(mount.target()); place != sources.end())
        spec.source = place->second;
    } else {
      const auto source = sources.find(mount.target());
      if (source == sources.end())
        return absl::InternalError(absl::StrCat("mount ", mount.target(), " has no source"));
      spec.source = source->second;
    }
    spec.recursive_read_only =
        spec.recursive_read_only &&
        MayHaveMountsBelow(mount.type() == v1::Mount::BIND ? mount.source() : spec.source);
    out.push_back(std::move(spec));
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
