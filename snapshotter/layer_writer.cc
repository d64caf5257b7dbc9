#include "snapshotter/layer_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "snapshotter/layer_paths.h"

namespace gantry::snapshot {
namespace {

// Open directories kept at hand. A layer comes in tree order, so that the next entry is nearly
// always in one of them.
constexpr size_t kCachedDirectories = 48;
constexpr int kRemoveDepth = 400;

bool IsOverlayAttribute(absl::string_view name) {
  return absl::StartsWith(name, "trusted.overlay.") || absl::StartsWith(name, "user.overlay.");
}

constexpr size_t kHoleBytes = 64 << 10;

bool IsHole(absl::string_view bytes) {
  return bytes.size() >= kHoleBytes && bytes[0] == '\0' &&
         memcmp(bytes.data(), bytes.data() + 1, kHoleBytes - 1) == 0;
}

bool IsWhiteoutDevice(const struct stat& stat) {
  return S_ISCHR(stat.st_mode) && stat.st_rdev == 0;
}

}  // namespace

absl::Status LayerWriter::Run(TarReader& tar) {
  root_.reset(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root_.valid()) return Failed("open the target");
  GANTRY_ASSIGN_OR_RETURN(const bool empty, IsEmpty());
  // In an empty overlay layer all there is comes from this layer.
  tracking_ = !overlay_ || !empty;
  TarEntry entry;
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(const bool more, tar.Next(entry));
    if (!more) break;
    const auto context = [&](const absl::Status& status) {
      return WithContext(
          status,
          absl::StrCat("layer entry ", tar.entry_count(), " \"",
                       absl::CHexEscape(absl::string_view(entry.path).substr(0, 300)), "\""));
    };
    if (tar.entry_count() > limits_.entries) {
      return context(
          absl::ResourceExhaustedError(absl::StrCat("more than ", limits_.entries, " entries")));
    }
    const absl::StatusOr<std::string> path = CleanLayerPath(entry.path, limits_.path_depth);
    if (!path.ok()) return context(path.status());
    if (path->empty()) continue;  // the root is the snapshot's, not the layer's
    absl::Status status = Apply(tar, entry, *path);
    // Names and shapes that the kernel refuses are the layer's fault.
    if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status))
      status = absl::InvalidArgumentError(status.message());
    if (!status.ok()) {
      // Errors of the stream already say where.
      return absl::StartsWith(status.message(), "tar entry ") ? status : context(status);
    }
  }
  GANTRY_RETURN_IF_ERROR(SetDirectoryTimes());
  return tar.Drain();
}

absl::Status LayerWriter::Apply(TarReader& tar, const TarEntry& entry, const std::string& path) {
  const std::string name(BaseOf(path));
  if (path[0] == '.' || absl::StrContains(path, "/.")) {
    const absl::string_view parent = ParentOf(path);
    // AUFS kept its own files in such directories.
    if (absl::StartsWith(parent, ".wh..wh.") || absl::StrContains(parent, "/.wh..wh."))
      return absl::OkStatus();
    if (absl::StartsWith(parent, kWhiteoutPrefix) || absl::StrContains(parent, "/.wh.")) {
      return absl::InvalidArgumentError("lies below a whiteout");
    }
    if (absl::StartsWith(name, kWhiteoutPrefix)) return ApplyWhiteout(path);
  }
  if (entry.type == TarType::kHardLink) return ApplyHardLink(entry, path, name);

  GANTRY_ASSIGN_OR_RETURN(const Directory* parent, OpenDirectory(ParentOf(path)));
  if (entry.type == TarType::kDirectory) return ApplyDirectory(*parent, entry, path, name);
  absl::Status status;
  for (int attempt = 0; attempt < 2; ++attempt) {
    switch (entry.type) {
      case TarType::kFile:
        status = ApplyFile(tar, *parent, entry, name);
        break;
      case TarType::kSymlink:
        status = ApplySymlink(*parent, entry, name);
        break;
      default:
        status = ApplyNode(*parent, entry, name);
        break;
    }
    if (!absl::IsAlreadyExists(status) || attempt > 0) break;
    GANTRY_RETURN_IF_ERROR(RemoveEntry(*parent, name));
    // Removing may have closed the directory.
    GANTRY_ASSIGN_OR_RETURN(parent, OpenDirectory(ParentOf(path)));
  }
  GANTRY_RETURN_IF_ERROR(status);
  Note(parent->inode, name);
  return absl::OkStatus();
}

absl::StatusOr<const LayerWriter::Directory*> LayerWriter::OpenDirectory(absl::string_view path) {
  if (last_ != nullptr && path == last_path_) return last_;
  std::string key(path);
  auto found = directories_.find(key);
  if (found == directories_.end()) {
    Directory directory;
    directory.path = key;
    directory.fd = OpenBelowWithoutLinks(root_.get(), key, O_RDONLY | O_DIRECTORY);
    if (!directory.fd.valid()) {
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return Failed("open its directory");
      GANTRY_ASSIGN_OR_RETURN(Resolved resolved, Resolve(key, /*make=*/true));
      directory.fd = std::move(resolved.fd);
      directory.path = std::move(resolved.path);
    }
    struct stat stat;
    if (fstat(directory.fd.get(), &stat) != 0) return Failed("stat its directory");
    directory.inode = stat.st_ino;
    directory.setgid = (stat.st_mode & S_ISGID) != 0;
    if (directories_.size() >= kCachedDirectories) ForgetDirectories();
    found = directories_.emplace(key, std::move(directory)).first;
  }
  last_ = &found->second;
  last_path_ = std::move(key);
  return last_;
}

absl::StatusOr<LayerWriter::Resolved> LayerWriter::Resolve(const std::string& path, bool make) {
  Resolved at{OpenBelow(root_.get(), "", O_RDONLY | O_DIRECTORY), ""};
  if (!at.fd.valid()) return Failed("open the target");
  std::vector<std::string> rest = absl::StrSplit(path, '/', absl::SkipEmpty());
  std::reverse(rest.begin(), rest.end());  // the next name is the last one
  const auto reopen = [&](std::string where) {
    at.path = std::move(where);
    at.fd = OpenBelowWithoutLinks(root_.get(), at.path, O_RDONLY | O_DIRECTORY);
    return at.fd.valid() ? absl::OkStatus() : Failed("open its directory");
  };
  int links_followed = 0;
  while (!rest.empty()) {
    const std::string name = std::move(rest.back());
    rest.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      GANTRY_RETURN_IF_ERROR(reopen(std::string(ParentOf(at.path))));
      continue;
    }
    if (absl::StartsWith(name, kWhiteoutPrefix))
      return absl::InvalidArgumentError("lies below a whiteout");
    const std::string next = at.path.empty() ? name : absl::StrCat(at.path, "/", name);
    UniqueFd fd(openat(at.fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) {
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return Failed("open its directory");
      struct stat stat;
      const bool exists = fstatat(at.fd.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0;
      if (exists && S_ISLNK(stat.st_mode)) {
        // Its target may be a directory that is still to come, /var/run -> /run for example.
        if (++links_followed > 40) return ErrnoToStatus(ELOOP, "open its directory");
        char target[4096];
        const ssize_t n = readlinkat(at.fd.get(), name.c_str(), target, sizeof(target) - 1);
        if (n <= 0) return Failed("read a link on its way");
        target[n] = '\0';
        if (target[0] == '/') GANTRY_RETURN_IF_ERROR(reopen(""));
        const std::vector<std::string> names = absl::StrSplit(target, '/', absl::SkipEmpty());
        rest.insert(rest.end(), names.rbegin(), names.rend());
        continue;
      }
      if (!make) {
        // What comes next is not in this layer; layers below have no links that lead back here.
        at.fd.reset();
        at.path = next;
        for (; !rest.empty(); rest.pop_back()) absl::StrAppend(&at.path, "/", rest.back());
        return at;
      }
      GANTRY_ASSIGN_OR_RETURN(fd, MakeImplied(at, name, next));
    }
    at.fd = std::move(fd);
    at.path = next;
  }
  return at;
}

// As "mkdir -p" inside the target: 0755 root:root.
absl::StatusOr<UniqueFd> LayerWriter::MakeImplied(const Resolved& parent, const std::string& name,
                                                  const std::string& path) {
  if (std::count(path.begin(), path.end(), '/') >= limits_.path_depth)
    return absl::InvalidArgumentError(
        absl::StrCat("nested more than ", limits_.path_depth, " deep"));
  // A directory that the layer removed first, or that lies in one that hides what is below it, is
  // a new one. Any other looks as it does below.
  struct stat stat;
  const bool removed = fstatat(parent.fd.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0;
  bool existed = false;
  GANTRY_RETURN_IF_ERROR(MakeDirectoryAt(parent.fd.get(), name, 0755, existed));
  if (existed) return ErrnoToStatus(ENOTDIR, "open its directory");
  UniqueFd fd(
      openat(parent.fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return Failed("open its directory");
  struct stat above;
  if (fstat(parent.fd.get(), &above) != 0 || fstat(fd.get(), &stat) != 0)
    return Failed("stat its directory");
  // A setgid parent gives its group away; implied directories are root's.
  if ((above.st_mode & S_ISGID) != 0 &&
      (fchown(fd.get(), 0, 0) != 0 || fchmod(fd.get(), 0755) != 0)) {
    return Failed("chown its directory");
  }
  implied_[stat.st_ino] = {path, overlay_ && !removed && !HidesBelow(parent.path)};
  return fd;
}

bool LayerWriter::HidesBelow(const std::string& directory) const {
  if (opaque_root_) return true;
  for (std::string path = directory; !path.empty(); path = std::string(ParentOf(path))) {
    const UniqueFd fd = OpenBelowWithoutLinks(root_.get(), path, O_RDONLY | O_DIRECTORY);
    if (fd.valid() && IsOpaque(fd.get())) return true;
  }
  return false;
}

absl::Status LayerWriter::MakeDirectoryAt(int parent, const std::string& name, mode_t mode,
                                          bool& existed) {
  existed = false;
  if (mkdirat(parent, name.c_str(), mode) == 0) return absl::OkStatus();
  if (errno != EEXIST) return Failed("make directory");
  struct stat stat;
  if (fstatat(parent, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) return Failed("stat");
  if (!overlay_ || !IsWhiteoutDevice(stat)) {
    existed = true;
    return absl::OkStatus();
  }
  if (unlinkat(parent, name.c_str(), 0) != 0) return Failed("replace whiteout");
  if (mkdirat(parent, name.c_str(), mode) != 0) return Failed("make directory");
  UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return Failed("open directory");
  return SetOpaque(fd.get());
}

absl::Status LayerWriter::SetOpaque(int directory) const {
  if (fsetxattr(directory, opaque_attribute_, "y", 1, 0) != 0)
    return Failed("mark directory opaque");
  return absl::OkStatus();
}

absl::Status LayerWriter::ApplyWhiteout(const std::string& path) {
  const std::string marker(BaseOf(path));
  const std::string parent_path(ParentOf(path));
  if (marker == kOpaqueMarker) {
    GANTRY_ASSIGN_OR_RETURN(const Directory* const directory, OpenDirectory(parent_path));
    const bool is_root = directory->path.empty();
    const ino_t inode = directory->inode;
    const UniqueFd fd(openat(directory->fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Failed("open directory");
    GANTRY_RETURN_IF_ERROR(ClearBelow(fd.get(), inode).status());
    if (!overlay_) return absl::OkStatus();
    // overlayfs does not look for the mark on the root of a layer.
    if (!is_root) return SetOpaque(fd.get());
    opaque_root_ = true;
    return absl::OkStatus();
  }
  if (absl::StartsWith(marker, ".wh..wh.")) return absl::OkStatus();  // bookkeeping of AUFS
  const std::string name = marker.substr(kWhiteoutPrefix.size());
  if (name.empty() || name == "." || name == "..") {
    return absl::InvalidArgumentError("whiteout of nothing");
  }

  GANTRY_ASSIGN_OR_RETURN(const Directory* parent, OpenDirectory(parent_path));
  struct stat stat;
  const bool exists = fstatat(parent->fd.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0;
  if (!exists && errno != ENOENT) return Failed("stat what it hides");
  if (exists && overlay_ && IsWhiteoutDevice(stat)) return absl::OkStatus();
  if (exists) {
    // What this layer brings stays; only what is below it is hidden.
    bool stays = IsBrought(parent->inode, name, stat);
    if (S_ISDIR(stat.st_mode)) {
      const UniqueFd fd(
          openat(parent->fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!fd.valid()) return Failed("open directory");
      GANTRY_ASSIGN_OR_RETURN(const bool left, ClearBelow(fd.get(), stat.st_ino));
      if (stays || left) return overlay_ ? SetOpaque(fd.get()) : absl::OkStatus();
      // Clearing forgets the open directories.
      GANTRY_ASSIGN_OR_RETURN(parent, OpenDirectory(parent_path));
    }
    if (stays) return absl::OkStatus();  // anything but a directory hides what is below as it is
    GANTRY_RETURN_IF_ERROR(RemoveEntry(*parent, name));
    GANTRY_ASSIGN_OR_RETURN(parent, OpenDirectory(parent_path));
  }
  // Below an opaque directory there is nothing to hide, and overlayfs would list the whiteout.
  if (!overlay_ || HidesBelow(parent->path)) return absl::OkStatus();
  if (mknodat(parent->fd.get(), name.c_str(), S_IFCHR, 0) != 0) return Failed("make whiteout");
  return absl::OkStatus();
}

absl::Status LayerWriter::ApplyDirectory(const Directory& parent, const TarEntry& entry,
                                         const std::string& path, const std::string& name) {
  bool existed = false;
  GANTRY_RETURN_IF_ERROR(MakeDirectoryAt(parent.fd.get(), name, entry.mode & 01777, existed));
  UniqueFd fd(
      openat(parent.fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() && existed && (errno == ENOTDIR || errno == ELOOP)) {
    // The file had hidden a directory of that name below.
    GANTRY_RETURN_IF_ERROR(RemoveEntry(parent, name));
    GANTRY_ASSIGN_OR_RETURN(const Directory* const again, OpenDirectory(ParentOf(path)));
    GANTRY_RETURN_IF_ERROR(ApplyDirectory(*again, entry, path, name));
    return overlay_ ? SetOpaque(last_->fd.get()) : absl::OkStatus();
  }
  if (!fd.valid()) return Failed("open directory");
  Note(parent.inode, name);
  if ((existed || parent.setgid || entry.uid != 0 || entry.gid != 0) &&
      fchown(fd.get(), entry.uid, entry.gid) != 0) {
    return Failed("chown");
  }
  for (const auto& [key, value] : entry.xattrs) {
    GANTRY_RETURN_IF_ERROR(SetXattr(key, value, entry, fd.get(), nullptr));
  }
  if ((existed || parent.setgid || (entry.mode & 06000) != 0) && fchmod(fd.get(), entry.mode) != 0)
    return Failed("chmod");
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return Failed("stat");
  std::string resolved = parent.path.empty() ? name : absl::StrCat(parent.path, "/", name);
  directory_times_[stat.st_ino] = {resolved, entry.mtime};
  if (!implied_.empty()) implied_.erase(stat.st_ino);
  // What follows is most likely in it.
  if (directories_.size() >= kCachedDirectories) ForgetDirectories();
  Directory& cached = directories_[path];
  cached.fd = std::move(fd);
  cached.path = std::move(resolved);
  cached.inode = stat.st_ino;
  cached.setgid = (stat.st_mode & S_ISGID) != 0;
  last_ = &cached;
  last_path_ = path;
  return absl::OkStatus();
}

absl::Status LayerWriter::ApplyFile(TarReader& tar, const Directory& parent, const TarEntry& entry,
                                    const std::string& name) {
  if (entry.size_bytes > limits_.file_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("file of ", entry.size_bytes, " bytes, more than ", limits_.file_bytes));
  }
  const UniqueFd fd(openat(parent.fd.get(), name.c_str(),
                           O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           entry.mode & 0777));
  if (!fd.valid()) return Failed("create");
  int64_t end = 0;
  TarData data;
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(const bool some, tar.ReadData(data));
    if (!some) break;
    // Long runs of zeros become holes, whether or not the archive called them so.
    while (!data.bytes.empty()) {
      size_t piece = 0;
      while (piece < data.bytes.size() && !IsHole(data.bytes.substr(piece)))
        piece += std::min(kHoleBytes, data.bytes.size() - piece);
      if (piece == 0) {
        data.bytes.remove_prefix(kHoleBytes);
        data.offset += kHoleBytes;
        continue;
      }
      const ssize_t n = data.offset == end
                            ? write(fd.get(), data.bytes.data(), piece)
                            : pwrite(fd.get(), data.bytes.data(), piece, data.offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("write");
      const bool behind_hole = data.offset != end;
      data.bytes.remove_prefix(static_cast<size_t>(n));
      data.offset += n;
      end = data.offset;
      // pwrite leaves the file's own position where it was.
      if (behind_hole && lseek(fd.get(), end, SEEK_SET) < 0) return Failed("seek");
    }
  }
  if (end < entry.size_bytes && ftruncate(fd.get(), entry.size_bytes) != 0)
    return Failed("set length");
  if ((parent.setgid || entry.uid != 0 || entry.gid != 0) &&
      fchown(fd.get(), entry.uid, entry.gid) != 0)
    return Failed("chown");
  for (const auto& [key, value] : entry.xattrs) {
    GANTRY_RETURN_IF_ERROR(SetXattr(key, value, entry, fd.get(), nullptr));
  }
  // After chown, which takes setuid bits away.
  if ((entry.mode & 07000) != 0 && fchmod(fd.get(), entry.mode) != 0) return Failed("chmod");
  const timespec mtime{.tv_sec = entry.mtime.seconds, .tv_nsec = entry.mtime.nanos};
  const timespec times[2] = {mtime, mtime};
  if (futimens(fd.get(), times) != 0) return Failed("set times");
  return absl::OkStatus();
}

absl::Status LayerWriter::ApplyHardLink(const TarEntry& entry, const std::string& path,
                                        const std::string& name) {
  absl::StatusOr<std::string> existing = CleanLayerPath(entry.link_target, limits_.path_depth);
  if (!existing.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("its link target ", existing.status().message()));
  if (existing->empty()) return absl::InvalidArgumentError("hard link to the root");
  if (*existing == path) return absl::InvalidArgumentError("hard link to itself");
  const std::string existing_name(BaseOf(*existing));
  UniqueFd existing_parent =
      OpenBelow(root_.get(), std::string(ParentOf(*existing)), O_PATH | O_DIRECTORY);
  struct stat stat;
  if (!existing_parent.valid() ||
      fstatat(existing_parent.get(), existing_name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0 ||
      (overlay_ && IsWhiteoutDevice(stat))) {
    return LinkToBelow(*existing, path, name);
  }
  if (S_ISDIR(stat.st_mode)) return absl::InvalidArgumentError("hard link to a directory");
  return LinkTo(existing_parent.get(), existing_name, stat.st_ino, path, name);
}

absl::Status LayerWriter::LinkTo(int directory, const std::string& existing, ino_t inode,
                                 const std::string& path, const std::string& name) {
  GANTRY_ASSIGN_OR_RETURN(const Directory* parent, OpenDirectory(ParentOf(path)));
  const auto failed = [&] {
    return Failed(absl::StrCat("link to \"", absl::CHexEscape(existing), "\""));
  };
  if (linkat(directory, existing.c_str(), parent->fd.get(), name.c_str(), 0) != 0) {
    if (errno != EEXIST) return failed();
    struct stat now;
    if (fstatat(parent->fd.get(), name.c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 &&
        now.st_ino == inode) {
      Note(parent->inode, name);
      return absl::OkStatus();
    }
    GANTRY_RETURN_IF_ERROR(RemoveEntry(*parent, name));
    GANTRY_ASSIGN_OR_RETURN(parent, OpenDirectory(ParentOf(path)));
    if (linkat(directory, existing.c_str(), parent->fd.get(), name.c_str(), 0) != 0)
      return failed();
  }
  Note(parent->inode, name);
  return absl::OkStatus();
}

absl::Status LayerWriter::LinkToBelow(const std::string& existing, const std::string& path,
                                      const std::string& name) {
  const auto nowhere = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("hard link to \"", absl::CHexEscape(existing), "\", which does not exist"));
  };
  if (!overlay_) return nowhere();
  GANTRY_ASSIGN_OR_RETURN(const Resolved directory,
                          Resolve(std::string(ParentOf(existing)), /*make=*/false));
  const std::string below = directory.path.empty()
                                ? std::string(BaseOf(existing))
                                : absl::StrCat(directory.path, "/", BaseOf(existing));
  if (opaque_root_ || FindInLayer(root_.get(), below) != InLayer::kSaysNothing) return nowhere();
  // The link may replace a directory with its own target in it.
  GANTRY_ASSIGN_OR_RETURN(const Directory* const parent, OpenDirectory(ParentOf(path)));
  const std::string here = parent->path.empty() ? name : absl::StrCat(parent->path, "/", name);
  if (absl::StartsWith(below, here + "/")) return nowhere();

  if (!link_store_.valid()) {
    if (mkdirat(root_.get(), kLinkStore, 0700) != 0) return Failed("make the store of links");
    link_store_.reset(openat(root_.get(), kLinkStore, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!link_store_.valid()) return Failed("open the store of links");
  }
  const auto [known, fresh] = link_targets_.try_emplace(below, links_.size());
  const std::string stored = absl::StrCat(known->second);
  if (fresh) {
    const UniqueFd made(openat(link_store_.get(), stored.c_str(),
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!made.valid()) return Failed("keep a place for a file below");
    links_.push_back({path, below});
  }
  struct stat stat;
  if (fstatat(link_store_.get(), stored.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
    return Failed("keep a place for a file below");
  return LinkTo(link_store_.get(), stored, stat.st_ino, path, name);
}

absl::Status LayerWriter::ApplySymlink(const Directory& parent, const TarEntry& entry,
                                       const std::string& name) {
  if (entry.link_target.empty()) return absl::InvalidArgumentError("symbolic link to nothing");
  if (entry.link_target.find('\0') != std::string::npos)
    return absl::InvalidArgumentError("NUL in a link target");
  if (symlinkat(entry.link_target.c_str(), parent.fd.get(), name.c_str()) != 0)
    return Failed("make link");
  return SetAttributes(parent, entry, name);
}

absl::Status LayerWriter::ApplyNode(const Directory& parent, const TarEntry& entry,
                                    const std::string& name) {
  const mode_t type = entry.type == TarType::kCharDevice    ? S_IFCHR
                      : entry.type == TarType::kBlockDevice ? S_IFBLK
                                                            : S_IFIFO;
  const dev_t device = type == S_IFIFO ? 0 : makedev(entry.device_major, entry.device_minor);
  if (mknodat(parent.fd.get(), name.c_str(), type | (entry.mode & 0777), device) != 0)
    return Failed("make device");
  return SetAttributes(parent, entry, name);
}

absl::Status LayerWriter::SetAttributes(const Directory& parent, const TarEntry& entry,
                                        const std::string& name) {
  if ((parent.setgid || entry.uid != 0 || entry.gid != 0) &&
      fchownat(parent.fd.get(), name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return Failed("chown");
  }
  if (!entry.xattrs.empty()) {
    // These calls know paths only. The working directory is this thread's own.
    if (fchdir(parent.fd.get()) != 0) return Failed("enter its directory");
    for (const auto& [key, value] : entry.xattrs) {
      GANTRY_RETURN_IF_ERROR(SetXattr(key, value, entry, -1, name.c_str()));
    }
    if (chdir("/") != 0) return Failed("leave its directory");
  }
  if (entry.type != TarType::kSymlink && (entry.mode & 07000) != 0 &&
      fchmodat(parent.fd.get(), name.c_str(), entry.mode, 0) != 0) {
    return Failed("chmod");
  }
  const timespec mtime{.tv_sec = entry.mtime.seconds, .tv_nsec = entry.mtime.nanos};
  const timespec times[2] = {mtime, mtime};
  if (utimensat(parent.fd.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return Failed("set times");
  return absl::OkStatus();
}

absl::Status LayerWriter::SetXattr(const std::string& key, const std::string& value,
                                   const TarEntry& entry, int fd, const char* name) const {
  // What a layer says in overlayfs' own words would change what other layers show.
  if (IsOverlayAttribute(key)) return absl::OkStatus();
  const int rc = name == nullptr ? fsetxattr(fd, key.c_str(), value.data(), value.size(), 0)
                                 : lsetxattr(name, key.c_str(), value.data(), value.size(), 0);
  if (rc == 0 || errno == EOPNOTSUPP) return absl::OkStatus();
  // The kernel has user attributes on files and directories only.
  const bool plain = entry.type == TarType::kFile || entry.type == TarType::kDirectory;
  if (errno == EPERM && !plain && absl::StartsWith(key, "user.")) return absl::OkStatus();
  const std::string step =
      absl::StrCat("set attribute ", absl::CHexEscape(absl::string_view(key).substr(0, 100)),
                   " of ", value.size(), " bytes");
  if (errno == ERANGE || errno == E2BIG || errno == EINVAL) {
    return absl::InvalidArgumentError(Failed(step).message());
  }
  return Failed(step);
}

absl::Status LayerWriter::RemoveEntry(const Directory& parent, const std::string& name) {
  struct stat stat;
  if (fstatat(parent.fd.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
    return Failed("replace");
  if (!S_ISDIR(stat.st_mode) && !S_ISLNK(stat.st_mode)) {
    if (unlinkat(parent.fd.get(), name.c_str(), 0) != 0) return Failed("replace");
    return absl::OkStatus();
  }
  // Cached paths may lead through it.
  UniqueFd fd(openat(parent.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Failed("replace");
  ForgetDirectories();
  return RemoveBelow(fd.get(), name, 0);
}

absl::Status LayerWriter::RemoveBelow(int parent, const std::string& name, int depth) {
  if (unlinkat(parent, name.c_str(), 0) == 0) return absl::OkStatus();
  if (errno != EISDIR) return Failed("remove");
  if (depth > kRemoveDepth) return absl::ResourceExhaustedError("remove: nested too deeply");
  UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return Failed("remove");
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return Failed("remove");
  {
    std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), &closedir);
    if (stream == nullptr) return Failed("remove");
    const int directory = fd.release();
    while (const dirent* item = readdir(stream.get())) {
      const std::string child = item->d_name;
      if (child != "." && child != "..")
        GANTRY_RETURN_IF_ERROR(RemoveBelow(directory, child, depth + 1));
    }
  }
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return Failed("remove");
  ForgetInode(stat.st_ino);
  return absl::OkStatus();
}

absl::StatusOr<bool> LayerWriter::ClearBelow(int directory, ino_t inode) {
  // Nothing from below comes back. The second time only directories that were passed through since
  // can go, so the walk ends at the first thing that stays: a layer cannot make it walk the same
  // tree again and again.
  const bool again = !cleared_.insert(inode).second;
  ForgetDirectories();
  return RemoveUnbrought(directory, inode, /*all=*/!again, 0);
}

absl::StatusOr<bool> LayerWriter::RemoveUnbrought(int directory, ino_t inode, bool all, int depth) {
  if (depth > kRemoveDepth) return absl::ResourceExhaustedError("remove: nested too deeply");
  UniqueFd again(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(again.valid() ? fdopendir(again.get()) : nullptr,
                                             &closedir);
  if (stream == nullptr) return Failed("hide what is below");
  (void)again.release();
  bool left = false;
  while (all || !left) {
    const dirent* const item = readdir(stream.get());
    if (item == nullptr) break;
    const std::string child = item->d_name;
    if (child == "." || child == ".." || child == kLinkStore) continue;
    struct stat stat;
    if (fstatat(directory, child.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
      return Failed("hide what is below");
    const bool brought = IsBrought(inode, child, stat);
    if (!S_ISDIR(stat.st_mode)) {
      if (brought) {
        left = true;
      } else if (unlinkat(directory, child.c_str(), 0) != 0) {
        return Failed("hide what is below");
      }
      continue;
    }
    UniqueFd fd(openat(directory, child.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return Failed("hide what is below");
    GANTRY_ASSIGN_OR_RETURN(const bool child_left,
                            RemoveUnbrought(fd.get(), stat.st_ino, all, depth + 1));
    if (brought || child_left) {
      left = true;
    } else if (unlinkat(directory, child.c_str(), AT_REMOVEDIR) != 0) {
      return Failed("hide what is below");
    } else {
      ForgetInode(stat.st_ino);
    }
  }
  return left;
}

bool LayerWriter::IsBrought(ino_t directory, const std::string& name,
                            const struct stat& stat) const {
  if (overlay_ && IsWhiteoutDevice(stat)) return false;
  if (tracking_) return brought_.count(absl::HashOf(directory, name)) > 0;
  return !S_ISDIR(stat.st_mode) || implied_.count(stat.st_ino) == 0;
}

absl::StatusOr<bool> LayerWriter::IsEmpty() const {
  std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir("/"), &closedir);
  if (stream == nullptr) return Failed("read the target");
  while (const dirent* item = readdir(stream.get())) {
    const absl::string_view name = item->d_name;
    if (name != "." && name != "..") return false;
  }
  return true;
}

// Last, because every entry made in a directory changed its time.
absl::Status LayerWriter::SetDirectoryTimes() {
  for (const auto& [inode, directory] : directory_times_) {
    const UniqueFd fd =
        OpenBelowWithoutLinks(root_.get(), directory.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    const auto failed = [&](absl::string_view step) {
      return Failed(absl::StrCat(step, " \"", absl::CHexEscape(directory.path), "\""));
    };
    if (!fd.valid()) return failed("open");
    const timespec mtime{.tv_sec = directory.time.seconds, .tv_nsec = directory.time.nanos};
    const timespec times[2] = {mtime, mtime};
    if (futimens(fd.get(), times) != 0) return failed("set times of");
  }
  return absl::OkStatus();
}

DeferredWork LayerWriter::TakeDeferred() {
  DeferredWork deferred;
  for (const auto& [inode, directory] : implied_) {
    if (directory.looks_as_below) deferred.implied_directories.push_back(directory.path);
  }
  std::sort(deferred.implied_directories.begin(), deferred.implied_directories.end());
  deferred.links = std::move(links_);
  deferred.opaque_root = opaque_root_;
  return deferred;
}

}  // namespace gantry::snapshot
