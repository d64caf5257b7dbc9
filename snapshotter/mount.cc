#include "snapshotter/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/id_map.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/user_namespace.h"
#include "snapshotter/id_mapped.h"
#include "snapshotter/loop_device.h"

namespace gantry::snapshot {
namespace {

struct FlagWord {
  absl::string_view word;
  unsigned long set;
  unsigned long clear;
};

constexpr FlagWord kFlagWords[] = {
    {"async", 0, MS_SYNCHRONOUS},
    {"atime", 0, MS_NOATIME},
    {"bind", MS_BIND, 0},
    {"defaults", 0, 0},
    {"dev", 0, MS_NODEV},
    {"diratime", 0, MS_NODIRATIME},
    {"dirsync", MS_DIRSYNC, 0},
    {"exec", 0, MS_NOEXEC},
    {"lazytime", MS_LAZYTIME, 0},
    {"mand", MS_MANDLOCK, 0},
    {"noatime", MS_NOATIME, 0},
    {"nodev", MS_NODEV, 0},
    {"nodiratime", MS_NODIRATIME, 0},
    {"noexec", MS_NOEXEC, 0},
    {"nolazytime", 0, MS_LAZYTIME},
    {"nomand", 0, MS_MANDLOCK},
    {"norelatime", 0, MS_RELATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"nosuid", MS_NOSUID, 0},
    {"nosymfollow", MS_NOSYMFOLLOW, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"relatime", MS_RELATIME, 0},
    {"remount", MS_REMOUNT, 0},
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"strictatime", MS_STRICTATIME, 0},
    {"suid", 0, MS_NOSUID},
    {"sync", MS_SYNCHRONOUS, 0},
};

constexpr FlagWord kPropagationWords[] = {
    {"private", MS_PRIVATE, 0},
    {"rprivate", MS_PRIVATE | MS_REC, 0},
    {"rshared", MS_SHARED | MS_REC, 0},
    {"rslave", MS_SLAVE | MS_REC, 0},
    {"runbindable", MS_UNBINDABLE | MS_REC, 0},
    {"shared", MS_SHARED, 0},
    {"slave", MS_SLAVE, 0},
    {"unbindable", MS_UNBINDABLE, 0},
};

struct Parsed {
  unsigned long flags = 0;
  unsigned long propagation = 0;
  std::vector<std::string> data;
  IdMaps ids;
  bool map_upper = false;
  bool loop = false;  // the source is a file that holds a file system

  bool id_mapped() const { return !ids.empty(); }
};

std::string Describe(const Mount& mount, absl::string_view target) {
  return absl::StrCat("mount ", mount.type, " ", mount.source, " at ", target);
}

absl::StatusOr<Parsed> Parse(const Mount& mount) {
  Parsed parsed;
  if (mount.type == "bind") parsed.flags |= MS_BIND;
  for (const std::string& option : mount.options) {
    if (option.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("mount ", mount.source, ": an option contains NUL"));
    }
    if (option.empty()) continue;
    if (option == "loop") {
      parsed.loop = true;
      continue;
    }
    if (option == kMapUpper) {
      parsed.map_upper = true;
      continue;
    }
    absl::string_view map = option;
    if (absl::ConsumePrefix(&map, "uidmap=")) {
      GANTRY_ASSIGN_OR_RETURN(parsed.ids.uids, ParseIdRanges(map));
      continue;
    }
    if (absl::ConsumePrefix(&map, "gidmap=")) {
      GANTRY_ASSIGN_OR_RETURN(parsed.ids.gids, ParseIdRanges(map));
      continue;
    }
    const auto flag = std::find_if(std::begin(kFlagWords), std::end(kFlagWords),
                                   [&](const FlagWord& word) { return word.word == option; });
    if (flag != std::end(kFlagWords)) {
      parsed.flags = (parsed.flags & ~flag->clear) | flag->set;
      continue;
    }
    const auto propagation =
        std::find_if(std::begin(kPropagationWords), std::end(kPropagationWords),
                     [&](const FlagWord& word) { return word.word == option; });
    if (propagation != std::end(kPropagationWords)) {
      parsed.propagation = propagation->set;
      continue;
    }
    parsed.data.push_back(option);
  }
  if (parsed.ids.uids.empty() != parsed.ids.gids.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("mount ", mount.source, ": uidmap and gidmap go together"));
  }
  return parsed;
}

uint64_t AttributesOf(unsigned long flags) {
  uint64_t attributes = 0;
  if (flags & MS_RDONLY) attributes |= MOUNT_ATTR_RDONLY;
  if (flags & MS_NOSUID) attributes |= MOUNT_ATTR_NOSUID;
  if (flags & MS_NODEV) attributes |= MOUNT_ATTR_NODEV;
  if (flags & MS_NOEXEC) attributes |= MOUNT_ATTR_NOEXEC;
  if (flags & MS_NODIRATIME) attributes |= MOUNT_ATTR_NODIRATIME;
  if (flags & MS_NOSYMFOLLOW) attributes |= MOUNT_ATTR_NOSYMFOLLOW;
  if (flags & MS_NOATIME) {
    attributes |= MOUNT_ATTR_NOATIME;
  } else if (flags & MS_STRICTATIME) {
    attributes |= MOUNT_ATTR_STRICTATIME;
  }
  return attributes;
}

// overlayfs separates lower directories by colons and lets a backslash protect one.
std::vector<std::string> SplitLowerDirectories(absl::string_view text) {
  std::vector<std::string> directories(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      directories.back().push_back(text[++i]);
    } else if (text[i] == ':') {
      directories.emplace_back();
    } else {
      directories.back().push_back(text[i]);
    }
  }
  return directories;
}

// A detached copy of what is mounted at `source`, with attributes, and id-mapped if there is a user
// namespace.
absl::StatusOr<UniqueFd> CloneMount(const std::string& source, bool recursive, uint64_t attributes,
                                    int user_namespace) {
  const unsigned int depth = recursive ? AT_RECURSIVE : 0;
  UniqueFd tree(open_tree(AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | depth));
  if (!tree.valid()) return ErrnoToStatus(errno, absl::StrCat("clone mount of ", source));
  struct mount_attr attr = {};
  if (user_namespace >= 0) {
    attr.attr_set = MOUNT_ATTR_IDMAP;
    attr.userns_fd = static_cast<uint64_t>(user_namespace);
    if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | depth, &attr, sizeof(attr)) != 0) {
      return ErrnoToStatus(
          errno,
          absl::StrCat("id-map ", source,
                       errno == EINVAL
                           ? ": its file system, or this kernel, cannot show files by other ids "
                             "(Linux 5.12, ext4, xfs, btrfs; 6.3 for tmpfs); give the container "
                             "the host's ids (--userns host)"
                           : ""));
    }
  }
  if (attributes != 0) {
    attr = {};
    attr.attr_set = attributes;
    if (attributes & MOUNT_ATTR__ATIME) attr.attr_clr = MOUNT_ATTR__ATIME;
    // Of the top mount only: what is mounted below it keeps its own.
    if (mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("set mount flags of ", source));
    }
  }
  return tree;
}

// What the kernel has to say about a failed fsconfig() or fsmount(), in its own words.
std::string KernelMessages(int fs) {
  std::string all;
  char buffer[1024];
  while (true) {
    const ssize_t n = read(fs, buffer, sizeof(buffer) - 1);
    if (n <= 0) break;
    absl::string_view line(buffer, static_cast<size_t>(n));
    // "e text": severity, space, message.
    if (line.size() > 2 && line[1] == ' ') line.remove_prefix(2);
    absl::StrAppend(&all, all.empty() ? " (" : "; ", absl::StripAsciiWhitespace(line));
  }
  if (!all.empty()) all.push_back(')');
  return all;
}

// fsconfig() takes strings of 255 bytes at most; a longer path goes as the name of a descriptor.
absl::StatusOr<std::string> ShortPath(const std::string& path, std::vector<UniqueFd>& keep) {
  if (path.size() < 256) return path;
  UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  keep.push_back(std::move(fd));
  return absl::StrCat("/proc/self/fd/", keep.back().get());
}

absl::Status MountOverlayByAppending(const Mount& mount, const Parsed& parsed,
                                     const std::string& target) {
  const std::string what = Describe(mount, target);
  UniqueFd fs(fsopen("overlay", FSOPEN_CLOEXEC));
  if (!fs.valid()) return ErrnoToStatus(errno, absl::StrCat(what, ": fsopen"));
  std::vector<UniqueFd> keep;
  const auto set = [&](const char* key, const char* value) -> absl::Status {
    const int rc = value == nullptr ? fsconfig(fs.get(), FSCONFIG_SET_FLAG, key, nullptr, 0)
                                    : fsconfig(fs.get(), FSCONFIG_SET_STRING, key, value, 0);
    if (rc == 0) return absl::OkStatus();
    const int err = errno;
    return ErrnoToStatus(err, absl::StrCat(what, ": option ", key, KernelMessages(fs.get())));
  };
  GANTRY_RETURN_IF_ERROR(set("source", mount.source.empty() ? "overlay" : mount.source.c_str()));
  for (const std::string& option : parsed.data) {
    const size_t equals = option.find('=');
    const std::string key = option.substr(0, equals);
    if (equals == std::string::npos) {
      GANTRY_RETURN_IF_ERROR(set(key.c_str(), nullptr));
      continue;
    }
    const std::string value = option.substr(equals + 1);
    if (key == "lowerdir") {
      for (const std::string& directory : SplitLowerDirectories(value)) {
        GANTRY_ASSIGN_OR_RETURN(const std::string path, ShortPath(directory, keep));
        GANTRY_RETURN_IF_ERROR(set("lowerdir+", path.c_str()));
      }
    } else if (key == "upperdir" || key == "workdir") {
      GANTRY_ASSIGN_OR_RETURN(const std::string path, ShortPath(value, keep));
      GANTRY_RETURN_IF_ERROR(set(key.c_str(), path.c_str()));
    } else {
      GANTRY_RETURN_IF_ERROR(set(key.c_str(), value.c_str()));
    }
  }
  if (parsed.flags & MS_RDONLY) GANTRY_RETURN_IF_ERROR(set("ro", nullptr));
  if (fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int err = errno;
    return ErrnoToStatus(err, absl::StrCat(what, KernelMessages(fs.get())));
  }
  UniqueFd mounted(
      fsmount(fs.get(), FSMOUNT_CLOEXEC, static_cast<unsigned int>(AttributesOf(parsed.flags))));
  if (!mounted.valid()) {
    const int err = errno;
    return ErrnoToStatus(err, absl::StrCat(what, KernelMessages(fs.get())));
  }
  if (move_mount(mounted.get(), "", AT_FDCWD, target.c_str(),
                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0) {
    return ErrnoToStatus(errno, what);
  }
  return absl::OkStatus();
}

// The longest directory that all of `paths` are below, with its slash.
std::string CommonDirectory(const std::vector<std::string>& paths) {
  std::string common = paths.front();
  for (const std::string& path : paths) {
    size_t same = 0;
    while (same < common.size() && same < path.size() && common[same] == path[same]) ++same;
    common.resize(same);
  }
  common.resize(common.rfind('/') + 1);
  return common;
}

absl::Status MountOverlayRelative(const Mount& mount, const Parsed& parsed,
                                  const std::string& target) {
  const std::string what = Describe(mount, target);
  std::string directory;
  std::vector<std::string> data;
  for (const std::string& option : parsed.data) {
    if (!absl::StartsWith(option, "lowerdir=")) {
      data.push_back(option);
      continue;
    }
    const std::vector<std::string> paths =
        SplitLowerDirectories(absl::string_view(option).substr(9));
    for (const std::string& path : paths) {
      if (path.empty() || path[0] != '/') {
        return absl::InvalidArgumentError(
            absl::StrCat(what, ": lower directory \"", path, "\" is not an absolute path"));
      }
    }
    directory = CommonDirectory(paths);
    data.push_back(absl::StrCat(
        "lowerdir=", absl::StrJoin(paths, ":", [&](std::string* out, const std::string& path) {
          absl::StrAppend(out, absl::StrReplaceAll(absl::string_view(path).substr(directory.size()),
                                                   {{":", "\\:"}}));
        })));
  }
  const std::string joined = absl::StrJoin(data, ",");
  if (joined.size() >= static_cast<size_t>(getpagesize())) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": options take ", joined.size(), " bytes, more than the page this kernel accepts"));
  }
  UniqueFd target_fd(open(target.c_str(), O_PATH | O_CLOEXEC));
  if (!target_fd.valid()) return ErrnoToStatus(errno, what);
  const std::string target_path = absl::StrCat("/proc/self/fd/", target_fd.get());
  // The working directory belongs to the whole process; a thread can have one of its own.
  int err = 0;
  absl::StatusOr<std::thread> thread = NewThread([&] {
    if (unshare(CLONE_FS) != 0 || chdir(directory.c_str()) != 0 ||
        ::mount(mount.source.c_str(), target_path.c_str(), "overlay", parsed.flags,
                joined.c_str()) != 0) {
      err = errno;
    }
  });
  if (!thread.ok()) return WithContext(thread.status(), what);
  thread->join();
  return err == 0 ? absl::OkStatus() : ErrnoToStatus(err, what);
}

// Hands overlayfs an id-mapped copy of each layer. Paths by descriptors are short, so that the page
// that mount(2) takes has room for some two hundred layers; fsconfig(2) takes more, but only from
// Linux 6.8 on.
absl::Status MountOverlayMapped(const Mount& mount, const Parsed& parsed, const std::string& target,
                                int user_namespace) {
  const std::string what = Describe(mount, target);
  std::vector<UniqueFd> keep;
  const auto map = [&](const std::string& directory) -> absl::StatusOr<std::string> {
    absl::StatusOr<UniqueFd> tree = CloneMount(directory, false, 0, user_namespace);
    if (!tree.ok()) return WithContext(tree.status(), what);
    keep.push_back(*std::move(tree));
    return absl::StrCat("/proc/self/fd/", keep.back().get());
  };
  std::string above;  // of the upper and the work directory, which have to be on one mount
  std::string mapped_above;
  std::vector<std::string> data;
  for (const std::string& option : parsed.data) {
    absl::string_view value = option;
    if (absl::ConsumePrefix(&value, "lowerdir=")) {
      std::vector<std::string> layers = SplitLowerDirectories(value);
      for (std::string& layer : layers) {
        GANTRY_ASSIGN_OR_RETURN(layer, map(layer));
      }
      data.push_back(absl::StrCat("lowerdir=", absl::StrJoin(layers, ":")));
      continue;
    }
    const bool upper = absl::ConsumePrefix(&value, "upperdir=");
    if (!parsed.map_upper || (!upper && !absl::ConsumePrefix(&value, "workdir="))) {
      data.push_back(option);
      continue;
    }
    const size_t slash = value.rfind('/');
    if (slash == absl::string_view::npos || slash == 0)
      return absl::InvalidArgumentError(absl::StrCat(what, ": ", option, " is not absolute"));
    const std::string parent(value.substr(0, slash));
    if (mapped_above.empty()) {
      above = parent;
      GANTRY_ASSIGN_OR_RETURN(mapped_above, map(parent));
    } else if (parent != above) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": upper and work directory are not in one directory"));
    }
    data.push_back(
        absl::StrCat(upper ? "upperdir=" : "workdir=", mapped_above, value.substr(slash)));
  }
  const std::string joined = absl::StrJoin(data, ",");
  if (joined.size() >= static_cast<size_t>(getpagesize())) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the image has more layers than can be id-mapped"));
  }
  if (::mount(mount.source.c_str(), target.c_str(), "overlay", parsed.flags, joined.c_str()) != 0)
    return ErrnoToStatus(errno, what);
  return absl::OkStatus();
}

// With its upper directory mapped: overlayfs makes files there, such as whiteouts, as whoever
// mounted it, and the host's root is nobody on that mount.
absl::Status MountOverlayAsMappedRoot(const Mount& mount, const Parsed& parsed,
                                      const std::string& target, int user_namespace) {
  absl::Status result;
  absl::StatusOr<std::thread> thread = NewThread([&] {
    result = ActAsRootOf(parsed.ids);
    if (result.ok()) result = MountOverlayMapped(mount, parsed, target, user_namespace);
  });
  if (!thread.ok()) return WithContext(thread.status(), Describe(mount, target));
  thread->join();
  return result;
}

absl::Status MountBind(const Mount& mount, const Parsed& parsed, const std::string& target) {
  const std::string what = Describe(mount, target);
  const uint64_t attributes = AttributesOf(parsed.flags);
  if (attributes == 0 && !parsed.id_mapped()) {
    if (::mount(mount.source.c_str(), target.c_str(), nullptr, parsed.flags & (MS_BIND | MS_REC),
                nullptr) != 0) {
      return ErrnoToStatus(errno, what);
    }
    return absl::OkStatus();
  }
  // mount(2) would need a second call for the flags, and in between the mount is there without
  // them.
  UniqueFd user_namespace;
  if (parsed.id_mapped()) {
    GANTRY_ASSIGN_OR_RETURN(user_namespace, NewUserNamespace(parsed.ids));
  }
  absl::StatusOr<UniqueFd> tree =
      CloneMount(mount.source, (parsed.flags & MS_REC) != 0, attributes, user_namespace.get());
  if (!tree.ok()) return WithContext(tree.status(), what);
  if (move_mount(tree->get(), "", AT_FDCWD, target.c_str(),
                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0) {
    return ErrnoToStatus(errno, what);
  }
  return absl::OkStatus();
}

absl::Status MountOne(const Mount& mount, const Parsed& parsed, const std::string& target) {
  if (parsed.flags & MS_BIND && !(parsed.flags & MS_REMOUNT))
    return MountBind(mount, parsed, target);
  const std::string data = absl::StrJoin(parsed.data, ",");
  const bool is_long = data.size() >= static_cast<size_t>(getpagesize());
  if (mount.type == "overlay" && parsed.id_mapped()) {
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd users, NewUserNamespace(parsed.ids));
    return parsed.map_upper ? MountOverlayAsMappedRoot(mount, parsed, target, users.get())
                            : MountOverlayMapped(mount, parsed, target, users.get());
  }
  if (mount.type == "overlay" && is_long) {
    const absl::Status appended = MountOverlayByAppending(mount, parsed, target);
    if (appended.ok()) return appended;
    const absl::Status relative = MountOverlayRelative(mount, parsed, target);
    return relative.ok() || absl::IsInvalidArgument(relative) ? relative : appended;
  }
  if (parsed.id_mapped()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(mount, target), ": only binds and overlays can be id-mapped"));
  }
  if (is_long) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(mount, target), ": options take ",
                                                   data.size(),
                                                   " bytes, more than the kernel accepts"));
  }
  std::string source = mount.source;
  LoopDevice loop;  // held until the mount holds it
  if (parsed.loop) {
    absl::StatusOr<LoopDevice> attached =
        AttachLoopDevice(mount.source, (parsed.flags & MS_RDONLY) != 0);
    if (!attached.ok()) return WithContext(attached.status(), Describe(mount, target));
    loop = *std::move(attached);
    source = loop.path;
  }
  if (::mount(source.c_str(), target.c_str(), mount.type.c_str(), parsed.flags, data.c_str()) !=
      0) {
    return ErrnoToStatus(errno, Describe(mount, target));
  }
  return absl::OkStatus();
}

absl::Status Unmount(const std::string& path, int flags) {
  if (umount2(path.c_str(), flags | UMOUNT_NOFOLLOW) == 0) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("unmount ", path));
}

// Mount points at and below `target` as mountinfo lists them: outer before inner.
std::vector<std::string> MountPointsBelow(const std::string& target) {
  std::vector<std::string> points;
  UniqueFd fd(open("/proc/thread-self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return points;
  std::string text;
  char buffer[65536];
  for (ssize_t n; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(' ', 5));
    std::string point;
    // Spaces and the like are written as octal escapes.
    if (fields.size() < 6 || !absl::CUnescape(fields[4], &point)) continue;
    if (absl::StartsWith(point, target + "/")) points.push_back(std::move(point));
  }
  return points;
}

}  // namespace

std::vector<std::string> MountedDirectories(absl::Span<const Mount> mounts) {
  std::vector<std::string> directories;
  if (mounts.size() != 1 || !mounts[0].target.empty()) return directories;
  if (mounts[0].type == "bind") {
    directories.push_back(mounts[0].source);
  } else if (mounts[0].type == "overlay") {
    for (const std::string& option : mounts[0].options) {
      absl::string_view value = option;
      if (absl::ConsumePrefix(&value, "upperdir=")) {
        directories.insert(directories.begin(), std::string(value));
      } else if (absl::ConsumePrefix(&value, "lowerdir=")) {
        for (std::string& directory : SplitLowerDirectories(value))
          directories.push_back(std::move(directory));
      }
    }
  }
  return directories;
}

std::vector<Mount> WithIds(std::vector<Mount> mounts, const IdMaps& ids) {
  if (ids.empty()) return mounts;
  for (Mount& mount : mounts) {
    if (mount.type == "overlay") mount.options.insert(mount.options.begin(), kMapUpper);
    mount.options.insert(mount.options.begin(), {absl::StrCat("uidmap=", PrintIdRanges(ids.uids)),
                                                 absl::StrCat("gidmap=", PrintIdRanges(ids.gids))});
  }
  return mounts;
}

absl::Status MountLongOverlay(const Mount& mount, const std::string& target, LongOverlay style) {
  GANTRY_ASSIGN_OR_RETURN(const Parsed parsed, Parse(mount));
  switch (style) {
    case LongOverlay::kAppend:
      return MountOverlayByAppending(mount, parsed, target);
    case LongOverlay::kRelative:
      return MountOverlayRelative(mount, parsed, target);
  }
  return absl::InternalError("mount: no such style");
}

absl::Status MountAll(absl::Span<const Mount> mounts, const std::string& target) {
  std::vector<std::string> done;
  // Detached lazily, which does not fail on what this function mounted a moment ago; the mount that
  // failed is what to tell of.
  absl::Cleanup undo = [&] {
    for (auto path = done.rbegin(); path != done.rend(); ++path)
      Unmount(*path, MNT_DETACH).IgnoreError();
  };
  for (const Mount& mount : mounts) {
    GANTRY_ASSIGN_OR_RETURN(const Parsed parsed, Parse(mount));
    std::string path = target;
    UniqueFd inside;
    if (!mount.target.empty()) {
      // The tree may be a stranger's: a symlink in it must not lead the mount out of it.
      UniqueFd root(open(target.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      struct open_how how = {};
      how.flags = O_PATH | O_CLOEXEC;
      how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
      if (root.valid()) {
        inside.reset(static_cast<int>(
            syscall(SYS_openat2, root.get(), mount.target.c_str(), &how, sizeof(how))));
      }
      if (!inside.valid()) {
        return ErrnoToStatus(
            errno, absl::StrCat(Describe(mount, target), ": open ", mount.target, " in it"));
      }
      char resolved[4096];
      const ssize_t n = readlink(absl::StrCat("/proc/self/fd/", inside.get()).c_str(), resolved,
                                 sizeof(resolved));
      if (n < 0)
        return ErrnoToStatus(errno, absl::StrCat(Describe(mount, target), ": ", mount.target));
      GANTRY_RETURN_IF_ERROR(MountOne(mount, parsed, absl::StrCat("/proc/self/fd/", inside.get())));
      path.assign(resolved, static_cast<size_t>(n));
    } else {
      GANTRY_RETURN_IF_ERROR(MountOne(mount, parsed, path));
    }
    done.push_back(path);
    if (parsed.propagation != 0 &&
        ::mount(nullptr, path.c_str(), nullptr, parsed.propagation, nullptr) != 0) {
      return ErrnoToStatus(errno, absl::StrCat(Describe(mount, path), ": set propagation"));
    }
  }
  std::move(undo).Cancel();
  return absl::OkStatus();
}

absl::Status MountAllUnsynced(absl::Span<const Mount> mounts, const std::string& target) {
  std::vector<Mount> unsynced(mounts.begin(), mounts.end());
  for (Mount& mount : unsynced) {
    if (mount.type != "overlay") continue;
    for (const std::string& option : mount.options) {
      absl::string_view work = option;
      if (!absl::ConsumePrefix(&work, "workdir=")) continue;
      // What a mount of this kind leaves, so that the tree is not taken for a synced one; the
      // kernel mounts it in no way until it is gone.
      GANTRY_RETURN_IF_ERROR(RemoveTree(absl::StrCat(work, "/work/incompat")));
      mount.options.push_back("volatile");
      break;
    }
  }
  // An older kernel does not know the option; any other error comes again, in terms of the
  // mounts that were asked for.
  if (MountAll(unsynced, target).ok()) return absl::OkStatus();
  return MountAll(mounts, target);
}

absl::Status UnmountAll(const std::string& target, bool lazy) {
  // A mount on top of a mount shows only when the upper one is gone; the bound is against one that
  // never goes.
  for (int round = 0; round < 1000; ++round) {
    const absl::Status status = Unmount(target, lazy ? MNT_DETACH : 0);
    // EINVAL: not a mount point.
    if (absl::IsInvalidArgument(status) || absl::IsNotFound(status)) return absl::OkStatus();
    if (status.ok()) continue;
    if (lazy || !absl::IsFailedPrecondition(status)) return status;
    const std::vector<std::string> inner = MountPointsBelow(target);
    if (inner.empty()) return status;
    for (auto path = inner.rbegin(); path != inner.rend(); ++path)
      GANTRY_RETURN_IF_ERROR(Unmount(*path, 0));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("unmount ", target, ": something keeps mounting there"));
}

absl::StatusOr<ScopedMount> ScopedMount::Create(absl::Span<const Mount> mounts,
                                                std::string target) {
  GANTRY_RETURN_IF_ERROR(MountAll(mounts, target));
  return ScopedMount(std::move(target));
}

// Lazily, which fails only where nothing is mounted any more. Who must know calls Unmount().
ScopedMount::~ScopedMount() {
  if (!target_.empty()) UnmountAll(target_, /*lazy=*/true).IgnoreError();
}

ScopedMount::ScopedMount(ScopedMount&& other) noexcept
    : target_(std::exchange(other.target_, std::string())) {}

ScopedMount& ScopedMount::operator=(ScopedMount&& other) noexcept {
  if (this != &other) {
    if (!target_.empty()) UnmountAll(target_, /*lazy=*/true).IgnoreError();  // as above
    target_ = std::exchange(other.target_, std::string());
  }
  return *this;
}

absl::Status ScopedMount::Unmount() {
  if (target_.empty()) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(UnmountAll(target_, /*lazy=*/false));
  target_.clear();
  return absl::OkStatus();
}

}  // namespace gantry::snapshot
