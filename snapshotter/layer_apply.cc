#include "snapshotter/layer_apply.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/errno_status.h"
#include "base/processor_time.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/chunk_queue.h"
#include "snapshotter/layer_paths.h"
#include "snapshotter/private_mounts.h"
#include "snapshotter/stream_digest.h"
#include "snapshotter/tree_copy.h"

namespace gantry::snapshot {
namespace {

constexpr size_t kBuffers = 4;
constexpr size_t kBufferBytes = 512 << 10;
constexpr int64_t kProgressBytes = 1 << 20;
constexpr int64_t kFreeExpansionBytes = 1 << 30;
// Open directories kept at hand. A layer comes in tree order, so that the next entry is nearly
// always in one of them.
constexpr size_t kCachedDirectories = 48;
constexpr int kRemoveDepth = 400;

class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(ByteSource& source) : source_(source) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::StatusOr<size_t> got = source_.Read(buffer, n);
    if (got.ok()) bytes_ += static_cast<int64_t>(*got);
    return got;
  }
  int64_t bytes() const { return bytes_; }

 private:
  ByteSource& source_;
  int64_t bytes_ = 0;
};

// Hashes what passes.
class HashingChunks final : public ChunkSource {
 public:
  explicit HashingChunks(ChunkSource& source, StreamDigest* digest)
      : source_(source), digest_(digest) {}
  absl::StatusOr<absl::string_view> NextChunk() override {
    absl::StatusOr<absl::string_view> chunk = source_.NextChunk();
    if (chunk.ok() && digest_ != nullptr) {
      const ProcessorTimer timer(spent_);
      digest_->Update(*chunk);
    }
    return chunk;
  }
  absl::Duration spent() const { return spent_; }

 private:
  ChunkSource& source_;
  StreamDigest* const digest_;  // null: hashed elsewhere
  absl::Duration spent_;
};

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

// Writes the entries of one layer below the root of its thread.
class Applier {
 public:
  Applier(Whiteouts whiteouts, const ApplyOptions& options)
      : overlay_(whiteouts == Whiteouts::kOverlay),
        opaque_attribute_(options.user_xattr ? "user.overlay.opaque" : "trusted.overlay.opaque"),
        limits_(options.limits) {}

  absl::Status Run(TarReader& tar);

  DeferredWork TakeDeferred() {
    DeferredWork deferred;
    deferred.implied_directories.assign(implied_.begin(), implied_.end());
    for (auto& [path, existing] : deferred_links_) deferred.links.push_back({path, existing});
    deferred.opaque_root = opaque_root_;
    return deferred;
  }

 private:
  struct Directory {
    UniqueFd fd;
    ino_t inode = 0;
    bool setgid = false;
  };

  absl::Status Apply(TarReader& tar, const TarEntry& entry, const std::string& path);
  absl::Status ApplyWhiteout(const std::string& path);
  absl::Status ApplyDirectory(const Directory& parent, const TarEntry& entry,
                              const std::string& path, const std::string& name);
  absl::Status ApplyFile(TarReader& tar, const Directory& parent, const TarEntry& entry,
                         const std::string& name);
  absl::Status ApplyHardLink(const TarEntry& entry, const std::string& path,
                             const std::string& name);
  absl::Status ApplySymlink(const Directory& parent, const TarEntry& entry,
                            const std::string& name);
  absl::Status ApplyNode(const Directory& parent, const TarEntry& entry, const std::string& name);
  absl::Status SetAttributes(const Directory& parent, const TarEntry& entry,
                             const std::string& name);
  absl::Status SetXattr(const std::string& key, const std::string& value, const TarEntry& entry,
                        int fd, const char* name) const;
  absl::Status SetDirectoryTimes();
  absl::StatusOr<bool> IsEmpty() const;

  // The open directory `path`, made with its parents if missing. Valid until the next call.
  absl::StatusOr<const Directory*> OpenDirectory(absl::string_view path);
  absl::StatusOr<UniqueFd> MakeImplied(const std::string& path, int links_followed);
  // Makes a directory where there is none; a whiteout in its place says that what is below is gone.
  absl::Status MakeDirectoryAt(int parent, const std::string& name, mode_t mode, bool& existed);
  absl::Status SetOpaque(int directory) const;

  // Removes whatever is there. Directories recursively.
  absl::Status RemoveEntry(const Directory& parent, const std::string& name);
  absl::Status RemoveBelow(int parent, const std::string& name, int depth);
  // Removes what this layer has not brought; tells whether anything is left.
  absl::StatusOr<bool> RemoveUnbrought(int directory, ino_t inode, int depth);

  void Note(ino_t directory, const std::string& name) {
    if (tracking_) brought_.insert(absl::HashOf(directory, name));
  }
  bool Brought(ino_t directory, const std::string& name) const {
    return brought_.count(absl::HashOf(directory, name)) > 0;
  }
  absl::Status Failed(absl::string_view step) const { return gantry::ErrnoToStatus(errno, step); }
  void ForgetDirectories() {
    directories_.clear();
    last_ = nullptr;
  }

  const bool overlay_;
  const char* const opaque_attribute_;
  const ApplyLimits& limits_;
  UniqueFd root_;

  std::unordered_map<std::string, Directory> directories_;
  const Directory* last_ = nullptr;
  std::string last_path_;

  std::unordered_map<std::string, TarTime> directory_times_;
  bool tracking_ = true;
  // Of what this layer has made: (inode of its directory, name), hashed. Only if tracking_.
  std::unordered_set<size_t> brought_;
  std::set<std::string> implied_;  // sorted: outer before inner
  std::map<std::string, std::string> deferred_links_;
  bool opaque_root_ = false;
};

absl::Status Applier::Run(TarReader& tar) {
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
    if (absl::IsFailedPrecondition(status)) status = absl::InvalidArgumentError(status.message());
    if (!status.ok()) {
      // Errors of the stream already say where.
      return absl::StartsWith(status.message(), "tar entry ") ? status : context(status);
    }
  }
  GANTRY_RETURN_IF_ERROR(SetDirectoryTimes());
  return tar.Drain();
}

absl::Status Applier::Apply(TarReader& tar, const TarEntry& entry, const std::string& path) {
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
  if (!deferred_links_.empty()) deferred_links_.erase(path);
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

absl::StatusOr<const Applier::Directory*> Applier::OpenDirectory(absl::string_view path) {
  if (last_ != nullptr && path == last_path_) return last_;
  std::string key(path);
  auto found = directories_.find(key);
  if (found == directories_.end()) {
    Directory directory;
    directory.fd = OpenBelow(root_.get(), key, O_RDONLY | O_DIRECTORY);
    if (!directory.fd.valid()) {
      if (errno != ENOENT && errno != ENOTDIR) return Failed("open its directory");
      GANTRY_ASSIGN_OR_RETURN(directory.fd, MakeImplied(key, 0));
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

// Component by component, as "mkdir -p" inside the target: 0755 root:root.
absl::StatusOr<UniqueFd> Applier::MakeImplied(const std::string& path, int links_followed) {
  std::string done;
  UniqueFd current = OpenBelow(root_.get(), "", O_RDONLY | O_DIRECTORY);
  if (!current.valid()) return Failed("open the target");
  const std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string next = done.empty() ? names[i] : absl::StrCat(done, "/", names[i]);
    UniqueFd fd = OpenBelow(root_.get(), next, O_RDONLY | O_DIRECTORY);
    if (!fd.valid() && (errno == ENOENT || errno == ENOTDIR)) {
      struct stat stat;
      if (fstatat(current.get(), names[i].c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISLNK(stat.st_mode)) {
        // A link to a directory that is still to come, /var/run -> /run say.
        if (links_followed >= 40) return ErrnoToStatus(ELOOP, "open its directory");
        char target[4096];
        const ssize_t n = readlinkat(current.get(), names[i].c_str(), target, sizeof(target) - 1);
        if (n <= 0) return Failed("read a link on its way");
        target[n] = '\0';
        std::string resolved = target[0] == '/' ? target : absl::StrCat(done, "/", target);
        for (size_t rest = i + 1; rest < names.size(); ++rest)
          absl::StrAppend(&resolved, "/", names[rest]);
        GANTRY_ASSIGN_OR_RETURN(const std::string clean,
                                CleanLayerPath(resolved, limits_.path_depth));
        return MakeImplied(clean, links_followed + 1);
      }
      bool existed = false;
      GANTRY_RETURN_IF_ERROR(MakeDirectoryAt(current.get(), names[i], 0755, existed));
      if (existed) return ErrnoToStatus(ENOTDIR, "open its directory");
      struct stat above;
      if (fstat(current.get(), &above) != 0) return Failed("stat its directory");
      Note(above.st_ino, names[i]);
      if (overlay_) implied_.insert(next);
      fd.reset(
          openat(current.get(), names[i].c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      // A setgid parent gives its group away; implied directories are root's.
      if (fd.valid() && (above.st_mode & S_ISGID) != 0 &&
          (fchown(fd.get(), 0, 0) != 0 || fchmod(fd.get(), 0755) != 0)) {
        return Failed("chown its directory");
      }
    }
    if (!fd.valid()) return Failed("open its directory");
    current = std::move(fd);
    done = next;
  }
  return current;
}

absl::Status Applier::MakeDirectoryAt(int parent, const std::string& name, mode_t mode,
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

absl::Status Applier::SetOpaque(int directory) const {
  if (fsetxattr(directory, opaque_attribute_, "y", 1, 0) != 0)
    return Failed("mark directory opaque");
  return absl::OkStatus();
}

absl::Status Applier::ApplyWhiteout(const std::string& path) {
  const std::string marker(BaseOf(path));
  const std::string parent_path(ParentOf(path));
  if (marker == kOpaqueMarker) {
    GANTRY_ASSIGN_OR_RETURN(const Directory* const directory, OpenDirectory(parent_path));
    const ino_t inode = directory->inode;
    UniqueFd fd(openat(directory->fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Failed("open directory");
    if (tracking_) {
      ForgetDirectories();
      GANTRY_RETURN_IF_ERROR(RemoveUnbrought(fd.get(), inode, 0).status());
    }
    if (!overlay_) return absl::OkStatus();
    // overlayfs does not look for the mark on the root of a layer.
    if (!parent_path.empty()) return SetOpaque(fd.get());
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
  bool exists = fstatat(parent->fd.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0;
  if (!exists && errno != ENOENT) return Failed("stat what it hides");
  if (exists && tracking_ && !Brought(parent->inode, name)) {
    GANTRY_RETURN_IF_ERROR(RemoveEntry(*parent, name));
    GANTRY_ASSIGN_OR_RETURN(parent, OpenDirectory(parent_path));
    exists = false;
  }
  if (!exists) {
    if (!overlay_) return absl::OkStatus();
    if (mknodat(parent->fd.get(), name.c_str(), S_IFCHR, 0) != 0) return Failed("make whiteout");
    Note(parent->inode, name);
    return absl::OkStatus();
  }
  // This layer brings something of that name: that stays, what is below it does not show. For
  // anything but a directory that is so anyway.
  if (!S_ISDIR(stat.st_mode)) return absl::OkStatus();
  UniqueFd fd(
      openat(parent->fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return Failed("open directory");
  if (tracking_) {
    ForgetDirectories();
    GANTRY_RETURN_IF_ERROR(RemoveUnbrought(fd.get(), stat.st_ino, 0).status());
  }
  return overlay_ ? SetOpaque(fd.get()) : absl::OkStatus();
}

absl::Status Applier::ApplyDirectory(const Directory& parent, const TarEntry& entry,
                                     const std::string& path, const std::string& name) {
  bool existed = false;
  GANTRY_RETURN_IF_ERROR(MakeDirectoryAt(parent.fd.get(), name, entry.mode & 01777, existed));
  UniqueFd fd(
      openat(parent.fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() && existed && (errno == ENOTDIR || errno == ELOOP)) {
    GANTRY_RETURN_IF_ERROR(RemoveEntry(parent, name));
    GANTRY_ASSIGN_OR_RETURN(const Directory* const again, OpenDirectory(ParentOf(path)));
    return ApplyDirectory(*again, entry, path, name);
  }
  if (!fd.valid()) return Failed("open directory");
  Note(parent.inode, name);
  if (!implied_.empty()) implied_.erase(path);
  if ((existed || parent.setgid || entry.uid != 0 || entry.gid != 0) &&
      fchown(fd.get(), entry.uid, entry.gid) != 0) {
    return Failed("chown");
  }
  for (const auto& [key, value] : entry.xattrs) {
    GANTRY_RETURN_IF_ERROR(SetXattr(key, value, entry, fd.get(), nullptr));
  }
  if ((existed || parent.setgid || (entry.mode & 06000) != 0) && fchmod(fd.get(), entry.mode) != 0)
    return Failed("chmod");
  directory_times_[path] = entry.mtime;
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return Failed("stat");
  // What follows is most likely in it.
  if (directories_.size() >= kCachedDirectories) ForgetDirectories();
  Directory& cached = directories_[path];
  cached.fd = std::move(fd);
  cached.inode = stat.st_ino;
  cached.setgid = (stat.st_mode & S_ISGID) != 0;
  last_ = &cached;
  last_path_ = path;
  return absl::OkStatus();
}

absl::Status Applier::ApplyFile(TarReader& tar, const Directory& parent, const TarEntry& entry,
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

absl::Status Applier::ApplyHardLink(const TarEntry& entry, const std::string& path,
                                    const std::string& name) {
  absl::StatusOr<std::string> existing = CleanLayerPath(entry.link_target, limits_.path_depth);
  if (!existing.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("its link target ", existing.status().message()));
  if (existing->empty()) return absl::InvalidArgumentError("hard link to the root");
  if (*existing == path) return absl::InvalidArgumentError("hard link to itself");
  const std::string existing_name(BaseOf(*existing));
  const UniqueFd existing_parent =
      OpenBelow(root_.get(), std::string(ParentOf(*existing)), O_PATH | O_DIRECTORY);
  struct stat stat;
  const bool found =
      existing_parent.valid() &&
      fstatat(existing_parent.get(), existing_name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
      !(overlay_ && IsWhiteoutDevice(stat));
  if (!found) {
    // It may lie in a layer below, which is not here to be looked at.
    if (!overlay_)
      return absl::InvalidArgumentError(
          absl::StrCat("hard link to \"", absl::CHexEscape(*existing), "\", which does not exist"));
    deferred_links_[path] = *std::move(existing);
    return absl::OkStatus();
  }
  if (S_ISDIR(stat.st_mode)) return absl::InvalidArgumentError("hard link to a directory");
  GANTRY_ASSIGN_OR_RETURN(const Directory* parent, OpenDirectory(ParentOf(path)));
  if (linkat(existing_parent.get(), existing_name.c_str(), parent->fd.get(), name.c_str(), 0) !=
      0) {
    if (errno != EEXIST)
      return Failed(absl::StrCat("link to \"", absl::CHexEscape(*existing), "\""));
    struct stat now;
    if (fstatat(parent->fd.get(), name.c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 &&
        now.st_ino == stat.st_ino) {
      Note(parent->inode, name);
      return absl::OkStatus();
    }
    GANTRY_RETURN_IF_ERROR(RemoveEntry(*parent, name));
    GANTRY_ASSIGN_OR_RETURN(parent, OpenDirectory(ParentOf(path)));
    if (linkat(existing_parent.get(), existing_name.c_str(), parent->fd.get(), name.c_str(), 0) !=
        0) {
      return Failed(absl::StrCat("link to \"", absl::CHexEscape(*existing), "\""));
    }
  }
  Note(parent->inode, name);
  return absl::OkStatus();
}

absl::Status Applier::ApplySymlink(const Directory& parent, const TarEntry& entry,
                                   const std::string& name) {
  if (entry.link_target.empty()) return absl::InvalidArgumentError("symbolic link to nothing");
  if (entry.link_target.find('\0') != std::string::npos)
    return absl::InvalidArgumentError("NUL in a link target");
  if (symlinkat(entry.link_target.c_str(), parent.fd.get(), name.c_str()) != 0)
    return Failed("make link");
  return SetAttributes(parent, entry, name);
}

absl::Status Applier::ApplyNode(const Directory& parent, const TarEntry& entry,
                                const std::string& name) {
  const mode_t type = entry.type == TarType::kCharDevice    ? S_IFCHR
                      : entry.type == TarType::kBlockDevice ? S_IFBLK
                                                            : S_IFIFO;
  const dev_t device = type == S_IFIFO ? 0 : makedev(entry.device_major, entry.device_minor);
  if (mknodat(parent.fd.get(), name.c_str(), type | (entry.mode & 0777), device) != 0)
    return Failed("make device");
  return SetAttributes(parent, entry, name);
}

absl::Status Applier::SetAttributes(const Directory& parent, const TarEntry& entry,
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

absl::Status Applier::SetXattr(const std::string& key, const std::string& value,
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

absl::Status Applier::RemoveEntry(const Directory& parent, const std::string& name) {
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

absl::Status Applier::RemoveBelow(int parent, const std::string& name, int depth) {
  if (unlinkat(parent, name.c_str(), 0) == 0) return absl::OkStatus();
  if (errno != EISDIR) return Failed("remove");
  if (depth > kRemoveDepth) return absl::ResourceExhaustedError("remove: nested too deeply");
  UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return Failed("remove");
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
  return absl::OkStatus();
}

absl::StatusOr<bool> Applier::RemoveUnbrought(int directory, ino_t inode, int depth) {
  if (depth > kRemoveDepth) return absl::ResourceExhaustedError("remove: nested too deeply");
  UniqueFd again(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(again.valid() ? fdopendir(again.get()) : nullptr,
                                             &closedir);
  if (stream == nullptr) return Failed("hide what is below");
  (void)again.release();
  bool left = false;
  while (const dirent* item = readdir(stream.get())) {
    const std::string child = item->d_name;
    if (child == "." || child == "..") continue;
    struct stat stat;
    if (fstatat(directory, child.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
      return Failed("hide what is below");
    const bool brought = Brought(inode, child);
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
                            RemoveUnbrought(fd.get(), stat.st_ino, depth + 1));
    if (brought || child_left) {
      left = true;
    } else if (unlinkat(directory, child.c_str(), AT_REMOVEDIR) != 0) {
      return Failed("hide what is below");
    }
  }
  return left;
}

absl::StatusOr<bool> Applier::IsEmpty() const {
  std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir("/"), &closedir);
  if (stream == nullptr) return Failed("read the target");
  while (const dirent* item = readdir(stream.get())) {
    const absl::string_view name = item->d_name;
    if (name != "." && name != "..") return false;
  }
  return true;
}

// Last, because every entry made in a directory changed its time.
absl::Status Applier::SetDirectoryTimes() {
  for (const auto& [path, time] : directory_times_) {
    const UniqueFd fd = OpenBelow(root_.get(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!fd.valid()) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        continue;  // replaced later in the layer
      return Failed(absl::StrCat("open \"", absl::CHexEscape(path), "\""));
    }
    const timespec mtime{.tv_sec = time.seconds, .tv_nsec = time.nanos};
    const timespec times[2] = {mtime, mtime};
    if (futimens(fd.get(), times) != 0)
      return Failed(absl::StrCat("set times of \"", absl::CHexEscape(path), "\""));
  }
  return absl::OkStatus();
}

// Reads and inflates into `queue` until the end, a limit, a cancellation, or the writer's stop.
absl::Status Produce(ByteSource& layer, const ApplyOptions& options, CountingSource& compressed,
                     Decompressor& plain, ChunkQueue& queue, StreamDigest* digest,
                     ApplyResult& result) {
  int64_t& total = result.uncompressed_bytes;
  int64_t reported = 0;
  while (true) {
    if (options.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options.cancel->Check());
    char* const buffer = queue.NextFree();
    if (buffer == nullptr) return absl::OkStatus();
    // Whole buffers: fewer hand-overs and larger writes. But what is there is not held back for
    // long.
    size_t filled = 0;
    bool ended = false;
    while (filled < queue.buffer_bytes() && !ended) {
      const ProcessorTimer timer(result.cost.inflate);
      GANTRY_ASSIGN_OR_RETURN(const size_t n,
                              plain.Read(buffer + filled, queue.buffer_bytes() - filled));
      if (n == 0) ended = true;
      filled += n;
      if (options.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options.cancel->Check());
    }
    total += static_cast<int64_t>(filled);
    if (total > options.limits.uncompressed_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "layer: larger than ", options.limits.uncompressed_bytes, " bytes when uncompressed"));
    }
    if (total > kFreeExpansionBytes && total / options.limits.expansion > compressed.bytes()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("layer: ", compressed.bytes(), " bytes expand to more than ", total,
                       ", more than ", options.limits.expansion, " times"));
    }
    if (filled > 0) {
      if (digest != nullptr) {
        const ProcessorTimer timer(result.cost.hash);
        digest->Update(absl::string_view(buffer, filled));
      }
      queue.Push(filled);
    }
    if (options.progress && total - reported >= kProgressBytes) {
      options.progress(total);
      reported = total;
    }
    if (ended) return absl::OkStatus();
  }
}

using Confine = std::function<absl::Status(const std::function<absl::Status()>&)>;

absl::StatusOr<ApplyResult> ApplyConfined(ByteSource& layer, const ApplyOptions& options,
                                          Whiteouts whiteouts, const Confine& confine) {
  CountingSource compressed(layer);
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(compressed));
  // Hashing goes to the thread that has less to do.
  const bool hash_here = plain->compression() == Compression::kNone;
  StreamDigest digest;
  ChunkQueue queue(kBuffers, kBufferBytes);
  Applier applier(whiteouts, options);
  HashingChunks chunks(queue, hash_here ? nullptr : &digest);
  TarReader tar(chunks, options.limits.tar);

  ApplyResult result;
  absl::Status written;
  absl::Duration writing;
  std::thread writer;
  try {
    writer = std::thread([&] {
      written = confine([&] {
        // In here: the confined work has a thread of its own.
        const ProcessorTimer timer(writing);
        return applier.Run(tar);
      });
      queue.Stop();
    });
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("layer: start a thread: ", error.what()));
  }
  const absl::Status produced =
      Produce(layer, options, compressed, *plain, queue, hash_here ? &digest : nullptr, result);
  queue.Finish(produced);
  writer.join();
  // The writer passes the producer's error on; its own comes first because it happened first.
  GANTRY_RETURN_IF_ERROR(written);
  GANTRY_RETURN_IF_ERROR(produced);
  if (options.progress) options.progress(result.uncompressed_bytes);
  result.cost.hash += chunks.spent();
  result.cost.files = writing - chunks.spent();
  result.diff_id = digest.Finish();
  result.entries = tar.entry_count();
  result.deferred = applier.TakeDeferred();
  return result;
}

bool HasOption(const Mount& mount, absl::string_view word) {
  return std::find(mount.options.begin(), mount.options.end(), word) != mount.options.end();
}

bool HasOptionPrefix(const Mount& mount, absl::string_view prefix) {
  return std::any_of(mount.options.begin(), mount.options.end(),
                     [&](const std::string& option) { return absl::StartsWith(option, prefix); });
}

// "<root>/snapshots/<id>/fs": the layer directory of an overlay snapshot (overlay_snapshotter.h).
bool IsOverlayLayer(absl::string_view directory) {
  const std::vector<absl::string_view> names = absl::StrSplit(directory, '/');
  const size_t n = names.size();
  return n >= 3 && names[n - 1] == "fs" && names[n - 3] == "snapshots" && !names[n - 2].empty() &&
         std::all_of(names[n - 2].begin(), names[n - 2].end(),
                     [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
}

struct Target {
  std::string directory;            // empty: the mounts must be mounted
  std::vector<std::string> lowers;  // of an overlay, topmost first
  bool overlay = false;
  bool user_xattr = false;
};

absl::StatusOr<Target> TargetOf(absl::Span<const Mount> mounts) {
  Target target;
  if (mounts.empty()) return absl::InvalidArgumentError("layer: no mounts to unpack onto");
  if (mounts.size() > 1 || !mounts[0].target.empty() || HasOptionPrefix(mounts[0], "uidmap="))
    return target;
  const Mount& mount = mounts[0];
  if (HasOption(mount, "ro")) {
    return absl::FailedPreconditionError(
        absl::StrCat("layer: cannot unpack onto a read-only mount of ", mount.source));
  }
  std::vector<std::string> directories = MountedDirectories(mounts);
  if (mount.type == "overlay") {
    if (!HasOptionPrefix(mount, "upperdir=")) {
      return absl::FailedPreconditionError(
          "layer: cannot unpack onto an overlay without upper directory, which is read-only");
    }
    target.overlay = true;
    target.user_xattr = HasOption(mount, "userxattr");
    target.directory = directories.front();
    target.lowers.assign(directories.begin() + 1, directories.end());
  } else if (mount.type == "bind") {
    target.directory = directories.front();
    target.overlay = IsOverlayLayer(target.directory);
  }
  return target;
}

// Owner, mode, attributes and times that an implied directory has below.
absl::Status CompleteDirectory(int root, const std::string& path,
                               const std::vector<std::string>& lowers) {
  GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found, FindInLayers(lowers, path));
  if (!found.has_value() || !S_ISDIR(found->mode)) return absl::OkStatus();
  const UniqueFd from(openat(found->directory.get(), found->name.c_str(),
                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const UniqueFd to = OpenBelow(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!from.valid() || !to.valid()) return ErrnoToStatus(errno, "open");
  return CopyDirectoryAttributes(from.get(), to.get());
}

absl::StatusOr<UniqueFd> OpenOrMake(int root, const std::string& path,
                                    const std::vector<std::string>& lowers) {
  UniqueFd fd = OpenBelow(root, path, O_RDONLY | O_DIRECTORY);
  if (fd.valid() || errno != ENOENT || path.empty()) {
    if (!fd.valid()) return ErrnoToStatus(errno, "open");
    return fd;
  }
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent,
                          OpenOrMake(root, std::string(ParentOf(path)), lowers));
  if (mkdirat(parent.get(), std::string(BaseOf(path)).c_str(), 0755) != 0)
    return ErrnoToStatus(errno, "make directory");
  GANTRY_RETURN_IF_ERROR(CompleteDirectory(root, path, lowers));
  fd = OpenBelow(root, path, O_RDONLY | O_DIRECTORY);
  if (!fd.valid()) return ErrnoToStatus(errno, "open");
  return fd;
}

absl::Status CompleteLink(int root, const DeferredWork::Link& link,
                          const std::vector<std::string>& lowers) {
  const std::string existing_name(BaseOf(link.existing));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found,
                          FindInLayers(lowers, link.existing));
  if (!found.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "hard link to \"", absl::CHexEscape(link.existing), "\", which does not exist"));
  }
  if (S_ISDIR(found->mode)) return absl::InvalidArgumentError("hard link to a directory");
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd existing_parent,
                          OpenOrMake(root, std::string(ParentOf(link.existing)), lowers));
  // An earlier link may have brought it up already.
  const absl::Status copied =
      CopyEntry(found->directory.get(), found->name, existing_parent.get(), existing_name);
  if (!copied.ok() && !absl::IsAlreadyExists(copied)) return copied;
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent,
                          OpenOrMake(root, std::string(ParentOf(link.path)), lowers));
  if (linkat(existing_parent.get(), existing_name.c_str(), parent.get(),
             std::string(BaseOf(link.path)).c_str(), 0) != 0) {
    return ErrnoToStatus(errno, "link");
  }
  return absl::OkStatus();
}

// What an opaque mark on the root would do: each name below is whited out, each directory kept made
// opaque.
absl::Status HideLowerRoot(int root, const std::vector<std::string>& lowers) {
  for (const std::string& lower : lowers) {
    std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(lower.c_str()), &closedir);
    if (stream == nullptr) return ErrnoToStatus(errno, absl::StrCat("open ", lower));
    while (const dirent* item = readdir(stream.get())) {
      const std::string name = item->d_name;
      if (name == "." || name == "..") continue;
      if (mknodat(root, name.c_str(), S_IFCHR, 0) == 0) continue;
      if (errno != EEXIST) return ErrnoToStatus(errno, absl::StrCat("hide ", name));
      const UniqueFd kept(
          openat(root, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (kept.valid() && fsetxattr(kept.get(), "trusted.overlay.opaque", "y", 1, 0) != 0) {
        return ErrnoToStatus(errno, absl::StrCat("hide what is below ", name));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Complete(const DeferredWork& deferred, const std::string& directory,
                      const std::vector<std::string>& lowers) {
  const UniqueFd root(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoToStatus(errno, absl::StrCat("layer: open ", directory));
  if (deferred.opaque_root) {
    if (absl::Status status = HideLowerRoot(root.get(), lowers); !status.ok())
      return WithContext(status, "layer: opaque root");
  }
  for (const DeferredWork::Link& link : deferred.links) {
    if (absl::Status status = CompleteLink(root.get(), link, lowers); !status.ok()) {
      return WithContext(status, absl::StrCat("layer entry \"", absl::CHexEscape(link.path), "\""));
    }
  }
  // Inner before outer: setting a directory's time must come after changes in it.
  for (auto path = deferred.implied_directories.rbegin();
       path != deferred.implied_directories.rend(); ++path) {
    if (absl::Status status = CompleteDirectory(root.get(), *path, lowers); !status.ok()) {
      return WithContext(status, absl::StrCat("layer directory \"", absl::CHexEscape(*path), "\""));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ApplyResult> ApplyLayer(ByteSource& layer, absl::Span<const Mount> mounts,
                                       const ApplyOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(Target target, TargetOf(mounts));
  // An overlay whose whiteouts shall delete must be looked at through its mount.
  if (target.overlay && options.whiteouts == Whiteouts::kDelete && mounts[0].type == "overlay")
    target.directory.clear();
  Whiteouts whiteouts = options.whiteouts;
  if (whiteouts == Whiteouts::kAuto)
    whiteouts = target.overlay ? Whiteouts::kOverlay : Whiteouts::kDelete;
  ApplyOptions adjusted = options;
  adjusted.user_xattr = options.user_xattr || target.user_xattr;
  GANTRY_ASSIGN_OR_RETURN(
      ApplyResult result,
      ApplyConfined(layer, adjusted, whiteouts, [&](const std::function<absl::Status()>& work) {
        return target.directory.empty() ? RunConfinedTo(mounts, work)
                                        : RunConfinedTo(target.directory, work);
      }));
  // With the lower layers at hand nothing has to wait.
  if (!target.lowers.empty() && !target.directory.empty()) {
    GANTRY_RETURN_IF_ERROR(Complete(result.deferred, target.directory, target.lowers));
    result.deferred = {};
  }
  return result;
}

absl::StatusOr<ApplyResult> ApplyLayerToDirectory(ByteSource& layer, const std::string& directory,
                                                  const ApplyOptions& options) {
  const Whiteouts whiteouts =
      options.whiteouts == Whiteouts::kAuto ? Whiteouts::kDelete : options.whiteouts;
  return ApplyConfined(layer, options, whiteouts, [&](const std::function<absl::Status()>& work) {
    return RunConfinedTo(directory, work);
  });
}

absl::Status CompleteLayer(const DeferredWork& deferred, absl::Span<const Mount> layer_mounts,
                           absl::Span<const Mount> parent_mounts) {
  if (deferred.empty()) return absl::OkStatus();
  const std::vector<std::string> layer = MountedDirectories(layer_mounts);
  if (layer.empty())
    return absl::InvalidArgumentError("layer: its mounts are not made of plain directories");
  return Complete(deferred, layer.front(), MountedDirectories(parent_mounts));
}

absl::Status SyncLayer(absl::Span<const Mount> mounts) {
  const std::vector<std::string> directories = MountedDirectories(mounts);
  if (directories.empty())
    return absl::InvalidArgumentError("layer: its mounts are not made of plain directories");
  const UniqueFd fd(open(directories.front().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || syncfs(fd.get()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("sync ", directories.front()));
  return absl::OkStatus();
}

}  // namespace gantry::snapshot
