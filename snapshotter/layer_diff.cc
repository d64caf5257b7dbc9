#include "snapshotter/layer_diff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "snapshotter/layer_paths.h"
#include "snapshotter/private_mounts.h"
#include "snapshotter/stream_digest.h"

namespace gantry::snapshot {
namespace {

constexpr int kMaxDepth = 400;
constexpr size_t kBufferBytes = 256 << 10;
constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

using Xattrs = std::map<std::string, std::string>;

struct FileId {
  dev_t device;
  ino_t inode;
  friend bool operator<(const FileId& a, const FileId& b) {
    return std::pair(a.device, a.inode) < std::pair(b.device, b.inode);
  }
};
FileId IdOf(const struct stat& stat) { return {stat.st_dev, stat.st_ino}; }

absl::Status Failed(absl::string_view path, absl::string_view step) {
  const int err = errno;
  return gantry::ErrnoToStatus(err, absl::StrCat("diff: ", absl::CHexEscape(path), ": ", step));
}

std::string Join(absl::string_view directory, absl::string_view name) {
  return directory.empty() ? std::string(name) : absl::StrCat(directory, "/", name);
}

absl::StatusOr<std::vector<std::string>> SortedNames(int directory, absl::string_view path) {
  UniqueFd again(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(again.valid() ? fdopendir(again.get()) : nullptr,
                                             &closedir);
  if (stream == nullptr) return Failed(path, "read directory");
  (void)again.release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* item = readdir(stream.get())) {
    const absl::string_view name = item->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return Failed(path, "read directory");
  std::sort(names.begin(), names.end());
  return names;
}

// Of the file itself, never of what a symlink points to. The working directory is not used: it
// belongs to the process.
absl::Status ReadXattrs(int directory, const std::string& name, const std::string& path,
                        Xattrs& xattrs) {
  xattrs.clear();
  const std::string file = absl::StrCat("/proc/self/fd/", directory, "/", name);
  char first[1024];
  std::string longer;
  char* names = first;
  ssize_t size = llistxattr(file.c_str(), first, sizeof(first));
  if (size < 0 && errno == ERANGE) {
    longer.resize(65536);
    names = longer.data();
    size = llistxattr(file.c_str(), names, longer.size());
  }
  if (size < 0) {
    if (errno == EOPNOTSUPP || errno == ENOENT) return absl::OkStatus();
    return Failed(path, "list attributes");
  }
  for (const absl::string_view key : absl::StrSplit(
           absl::string_view(names, static_cast<size_t>(size)), '\0', absl::SkipEmpty())) {
    const std::string key_text(key);
    std::string value(256, '\0');
    ssize_t length;
    while ((length = lgetxattr(file.c_str(), key_text.c_str(), value.data(), value.size())) < 0 &&
           errno == ERANGE && value.size() < 65536) {
      value.resize(value.size() * 16);
    }
    if (length < 0) {
      if (errno == ENODATA || errno == ENOENT) continue;
      return Failed(path, absl::StrCat("read attribute ", key));
    }
    value.resize(static_cast<size_t>(length));
    xattrs[key_text] = std::move(value);
  }
  return absl::OkStatus();
}

// What this machine adds on its own account is no part of an image.
bool BelongsInLayer(absl::string_view xattr) {
  return !absl::StartsWith(xattr, "trusted.overlay.") &&
         !absl::StartsWith(xattr, "user.overlay.") && xattr != "security.selinux" &&
         xattr != "security.ima" && xattr != "security.evm";
}

// Receives changes in order. `directory` and `name` reach the changed entry; absent for deletions.
class ChangeSink {
 public:
  virtual ~ChangeSink() = default;
  virtual absl::Status Changed(ChangeKind kind, const std::string& path, int directory,
                               const std::string& name, const struct stat& stat,
                               const Xattrs& xattrs) = 0;
  virtual absl::Status Deleted(const std::string& path) = 0;
  // All that is below this directory is hidden; only if WantsEachDeletion() is false.
  virtual absl::Status Opaque(const std::string& path) = 0;
  virtual bool WantsEachDeletion() const = 0;
  // A file with several names that did not change.
  virtual absl::Status Unchanged(const std::string& path, int directory, const std::string& name,
                                 const struct stat& stat, const Xattrs& xattrs) = 0;
};

class ListingSink final : public ChangeSink {
 public:
  explicit ListingSink(const std::function<absl::Status(const Change&)>& visit) : visit_(visit) {}
  absl::Status Changed(ChangeKind kind, const std::string& path, int, const std::string&,
                       const struct stat&, const Xattrs&) override {
    return visit_({kind, "/" + path});
  }
  absl::Status Deleted(const std::string& path) override {
    return visit_({ChangeKind::kDeleted, "/" + path});
  }
  absl::Status Opaque(const std::string&) override { return absl::OkStatus(); }
  bool WantsEachDeletion() const override { return true; }
  absl::Status Unchanged(const std::string&, int, const std::string&, const struct stat&,
                         const Xattrs&) override {
    return absl::OkStatus();
  }

 private:
  const std::function<absl::Status(const Change&)>& visit_;
};

class HashingSink final : public ByteSink {
 public:
  explicit HashingSink(ByteSink& sink) : sink_(sink) {}
  absl::Status Write(absl::string_view bytes) override {
    digest_.Update(bytes);
    size_bytes_ += static_cast<int64_t>(bytes.size());
    return sink_.Write(bytes);
  }
  int64_t size_bytes() const { return size_bytes_; }
  std::string Finish() { return digest_.Finish(); }

 private:
  ByteSink& sink_;
  StreamDigest digest_;
  int64_t size_bytes_ = 0;
};

// Headers are small and many; they go out together.
class BufferingSink final : public ByteSink {
 public:
  explicit BufferingSink(ByteSink& sink) : sink_(sink) { buffer_.reserve(kBufferBytes); }
  absl::Status Write(absl::string_view bytes) override {
    if (buffer_.size() + bytes.size() > kBufferBytes) GANTRY_RETURN_IF_ERROR(Flush());
    if (bytes.size() >= kBufferBytes) return sink_.Write(bytes);
    buffer_.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  absl::Status Flush() {
    if (buffer_.empty()) return absl::OkStatus();
    const absl::Status status = sink_.Write(buffer_);
    buffer_.clear();
    return status;
  }

 private:
  ByteSink& sink_;
  std::string buffer_;
};

class TarSink final : public ChangeSink {
 public:
  TarSink(ByteSink& sink, const DiffOptions& options)
      : tar_(sink), options_(options), buffer_(std::make_unique<char[]>(kBufferBytes)) {
    if (options.source_date_epoch.has_value())
      latest_ = absl::ToUnixSeconds(*options.source_date_epoch);
  }

  absl::Status Changed(ChangeKind, const std::string& path, int directory, const std::string& name,
                       const struct stat& stat, const Xattrs& xattrs) override {
    if (S_ISSOCK(stat.st_mode)) return absl::OkStatus();  // has no form in an archive
    TarEntry entry;
    entry.path = path;
    entry.mode = stat.st_mode & 07777;
    entry.uid = stat.st_uid;
    entry.gid = stat.st_gid;
    entry.mtime.seconds = std::min<int64_t>(stat.st_mtim.tv_sec, latest_);
    if (!S_ISDIR(stat.st_mode) && stat.st_nlink > 1) {
      const auto unchanged = unchanged_.find(IdOf(stat));
      if (unchanged != unchanged_.end()) {
        // A new name for a file of the older tree: that file comes along, so that both stay one.
        const std::string unchanged_path = std::move(unchanged->second);
        unchanged_.erase(unchanged);
        GANTRY_RETURN_IF_ERROR(
            Changed(ChangeKind::kModified, unchanged_path, directory, name, stat, xattrs));
      }
      const auto [first, fresh] = written_.try_emplace(IdOf(stat), path);
      if (!fresh) {
        entry.type = TarType::kHardLink;
        entry.link_target = first->second;
        return tar_.WriteEntry(entry);
      }
    }
    for (const auto& [key, value] : xattrs) {
      if (BelongsInLayer(key)) entry.xattrs[key] = value;
    }
    switch (stat.st_mode & S_IFMT) {
      case S_IFREG:
        entry.size_bytes = stat.st_size;
        return WriteContent(entry, directory, name);
      case S_IFDIR:
        entry.type = TarType::kDirectory;
        break;
      case S_IFLNK: {
        entry.type = TarType::kSymlink;
        char target[4096];
        const ssize_t n = readlinkat(directory, name.c_str(), target, sizeof(target));
        if (n < 0) return Failed(path, "read link");
        entry.link_target.assign(target, static_cast<size_t>(n));
        break;
      }
      case S_IFIFO:
        entry.type = TarType::kFifo;
        break;
      case S_IFCHR:
      case S_IFBLK:
        entry.type = S_ISCHR(stat.st_mode) ? TarType::kCharDevice : TarType::kBlockDevice;
        entry.device_major = major(stat.st_rdev);
        entry.device_minor = minor(stat.st_rdev);
        break;
      default:
        return absl::OkStatus();
    }
    return tar_.WriteEntry(entry);
  }

  absl::Status Deleted(const std::string& path) override {
    return WriteMarker(Join(ParentOf(path), absl::StrCat(kWhiteoutPrefix, BaseOf(path))));
  }
  absl::Status Opaque(const std::string& path) override {
    return WriteMarker(Join(path, kOpaqueMarker));
  }
  bool WantsEachDeletion() const override { return false; }

  absl::Status Unchanged(const std::string& path, int directory, const std::string& name,
                         const struct stat& stat, const Xattrs& xattrs) override {
    if (S_ISDIR(stat.st_mode) || stat.st_nlink < 2) return absl::OkStatus();
    // Another name of it is in the layer already.
    if (written_.count(IdOf(stat)) > 0)
      return Changed(ChangeKind::kModified, path, directory, name, stat, xattrs);
    unchanged_.try_emplace(IdOf(stat), path);
    return absl::OkStatus();
  }

  absl::Status Finish() { return tar_.Finish(); }

 private:
  absl::Status WriteMarker(const std::string& path) {
    TarEntry entry;
    entry.path = path;  // empty, of mode 0 and time 0, as other tools write them
    return tar_.WriteEntry(entry);
  }

  absl::Status WriteContent(const TarEntry& entry, int directory, const std::string& name) {
    // Not blocking, for what became a FIFO since.
    const UniqueFd fd(
        openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return Failed(entry.path, "open");
    struct stat now;
    if (fstat(fd.get(), &now) != 0 || !S_ISREG(now.st_mode))
      return Failed(entry.path, "changed while it was read");
    GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
    int64_t left = entry.size_bytes;
    while (left > 0) {
      if (options_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options_.cancel->Check());
      const ssize_t n =
          read(fd.get(), buffer_.get(), static_cast<size_t>(std::min<int64_t>(left, kBufferBytes)));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed(entry.path, "read");
      if (n == 0) {
        return absl::UnavailableError(
            absl::StrCat("diff: ", absl::CHexEscape(entry.path),
                         ": became shorter while it was read; pause the container"));
      }
      GANTRY_RETURN_IF_ERROR(
          tar_.WriteData(absl::string_view(buffer_.get(), static_cast<size_t>(n))));
      left -= n;
    }
    return absl::OkStatus();
  }

  TarWriter tar_;
  const DiffOptions& options_;
  const std::unique_ptr<char[]> buffer_;
  int64_t latest_ = std::numeric_limits<int64_t>::max();
  std::map<FileId, std::string> written_;  // files with several names: the first one written
  std::map<FileId, std::string> unchanged_;
};

// What a walk needs at every step.
struct Walk {
  ChangeSink& sink;
  CancelToken* cancel;

  absl::Status Step(absl::string_view path, int depth) const {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    if (depth > kMaxDepth) {
      return absl::ResourceExhaustedError(absl::StrCat("diff: ", absl::CHexEscape(path),
                                                       ": nested more than ", kMaxDepth, " deep"));
    }
    return absl::OkStatus();
  }
};

// Reads the changes off an overlay's upper directory.
class UpperWalk {
 public:
  UpperWalk(const Walk& walk, const std::vector<std::string>& lowers)
      : walk_(walk), lowers_(lowers) {}

  absl::Status Run(int directory, const std::string& path, bool hides_lower, int depth) {
    GANTRY_RETURN_IF_ERROR(walk_.Step(path, depth));
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> names, SortedNames(directory, path));
    std::set<std::string> gone;
    if (hides_lower && walk_.sink.WantsEachDeletion()) {
      GANTRY_ASSIGN_OR_RETURN(gone, LowerNames(path));
      for (const std::string& name : names) gone.erase(name);
      names.insert(names.end(), gone.begin(), gone.end());
      std::sort(names.begin(), names.end());
    }
    for (const std::string& name : names) {
      const std::string child = Join(path, name);
      if (gone.count(name) > 0) {
        GANTRY_RETURN_IF_ERROR(walk_.sink.Deleted(child));
        continue;
      }
      struct stat stat;
      if (fstatat(directory, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return Failed(child, "stat");
      }
      if (S_ISCHR(stat.st_mode) && stat.st_rdev == 0) {
        if (!lowers_.empty()) GANTRY_RETURN_IF_ERROR(walk_.sink.Deleted(child));
        continue;
      }
      Xattrs xattrs;
      GANTRY_RETURN_IF_ERROR(ReadXattrs(directory, name, child, xattrs));
      for (const char* key : {"trusted.overlay.redirect", "user.overlay.redirect",
                              "trusted.overlay.metacopy", "user.overlay.metacopy"}) {
        if (xattrs.count(key) > 0) {
          return absl::FailedPreconditionError(absl::StrCat(
              "diff: ", absl::CHexEscape(child), ": overlayfs keeps part of it elsewhere (", key,
              "), although its redirect_dir and metacopy are off now; turn them on to read this "
              "snapshot"));
        }
      }
      const bool opaque =
          xattrs.count("trusted.overlay.opaque") > 0 || xattrs.count("user.overlay.opaque") > 0;
      bool below = false;
      bool directory_below = false;
      if (walk_.sink.WantsEachDeletion() || opaque) {
        GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found,
                                FindInLayers(lowers_, child));
        below = found.has_value();
        directory_below = below && S_ISDIR(found->mode);
      }
      GANTRY_RETURN_IF_ERROR(walk_.sink.Changed(below ? ChangeKind::kModified : ChangeKind::kAdded,
                                                child, directory, name, stat, xattrs));
      if (!S_ISDIR(stat.st_mode)) continue;
      // overlayfs marks new directories opaque too, only to save itself a look.
      const bool hides = opaque && directory_below;
      if (hides && !walk_.sink.WantsEachDeletion())
        GANTRY_RETURN_IF_ERROR(walk_.sink.Opaque(child));
      const UniqueFd fd(openat(directory, name.c_str(), kOpenDirectory));
      if (!fd.valid()) {
        if (errno == ENOENT) continue;
        return Failed(child, "open");
      }
      GANTRY_RETURN_IF_ERROR(Run(fd.get(), child, hides, depth + 1));
    }
    return absl::OkStatus();
  }

 private:
  // What the layers below show in a directory.
  absl::StatusOr<std::set<std::string>> LowerNames(const std::string& path) {
    std::set<std::string> candidates;
    for (const std::string& lower : lowers_) {
      const UniqueFd root(open(lower.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      const UniqueFd fd = OpenBelow(root.get(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!fd.valid()) continue;
      GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, SortedNames(fd.get(), path));
      candidates.insert(names.begin(), names.end());
    }
    std::set<std::string> shown;
    for (const std::string& name : candidates) {
      GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found,
                              FindInLayers(lowers_, Join(path, name)));
      if (found.has_value()) shown.insert(name);
    }
    return shown;
  }

  const Walk& walk_;
  const std::vector<std::string>& lowers_;
};

// Compares two trees.
class SideBySide {
 public:
  explicit SideBySide(const Walk& walk) : walk_(walk) {}

  // `older` is -1 where there is none. `announce` reports the directory itself before the first
  // change in it.
  absl::Status Run(int older, int newer, const std::string& path,
                   const std::function<absl::Status()>& announce, int depth) {
    GANTRY_RETURN_IF_ERROR(walk_.Step(path, depth));
    std::vector<std::string> old_names;
    if (older >= 0) {
      GANTRY_ASSIGN_OR_RETURN(old_names, SortedNames(older, path));
    }
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> new_names, SortedNames(newer, path));
    auto old_name = old_names.begin();
    auto new_name = new_names.begin();
    while (old_name != old_names.end() || new_name != new_names.end()) {
      if (new_name == new_names.end() || (old_name != old_names.end() && *old_name < *new_name)) {
        GANTRY_RETURN_IF_ERROR(announce());
        GANTRY_RETURN_IF_ERROR(walk_.sink.Deleted(Join(path, *old_name++)));
        continue;
      }
      const bool both = old_name != old_names.end() && *old_name == *new_name;
      GANTRY_RETURN_IF_ERROR(Compare(both ? older : -1, newer, path, *new_name, announce, depth));
      if (both) ++old_name;
      ++new_name;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Compare(int older, int newer, const std::string& path, const std::string& name,
                       const std::function<absl::Status()>& announce, int depth) {
    const std::string child = Join(path, name);
    struct stat now;
    if (fstatat(newer, name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return absl::OkStatus();
      return Failed(child, "stat");
    }
    Xattrs xattrs;
    GANTRY_RETURN_IF_ERROR(ReadXattrs(newer, name, child, xattrs));
    struct stat before = {};
    if (older >= 0 && fstatat(older, name.c_str(), &before, AT_SYMLINK_NOFOLLOW) != 0)
      return Failed(child, "stat before");
    const bool same_type = older >= 0 && (now.st_mode & S_IFMT) == (before.st_mode & S_IFMT);
    bool changed = !same_type;
    if (same_type) {
      GANTRY_ASSIGN_OR_RETURN(const bool same,
                              Same(older, newer, name, child, before, now, xattrs));
      changed = !same;
    }
    const ChangeKind kind = older >= 0 ? ChangeKind::kModified : ChangeKind::kAdded;
    const auto report = [&]() -> absl::Status {
      GANTRY_RETURN_IF_ERROR(announce());
      return walk_.sink.Changed(kind, child, newer, name, now, xattrs);
    };
    bool reported = false;
    if (changed) {
      GANTRY_RETURN_IF_ERROR(report());
      reported = true;
    } else {
      GANTRY_RETURN_IF_ERROR(walk_.sink.Unchanged(child, newer, name, now, xattrs));
    }
    if (!S_ISDIR(now.st_mode)) return absl::OkStatus();
    const UniqueFd new_fd(openat(newer, name.c_str(), kOpenDirectory));
    if (!new_fd.valid()) return Failed(child, "open");
    UniqueFd old_fd;
    if (same_type) {
      old_fd.reset(openat(older, name.c_str(), kOpenDirectory));
      if (!old_fd.valid()) return Failed(child, "open before");
    }
    return Run(
        old_fd.get(), new_fd.get(), child,
        [&]() -> absl::Status {
          if (reported) return absl::OkStatus();
          reported = true;
          return report();
        },
        depth + 1);
  }

  absl::StatusOr<bool> Same(int older, int newer, const std::string& name, const std::string& path,
                            const struct stat& before, const struct stat& now,
                            const Xattrs& xattrs) {
    if (before.st_mode != now.st_mode || before.st_uid != now.st_uid ||
        before.st_gid != now.st_gid || before.st_rdev != now.st_rdev) {
      return false;
    }
    Xattrs xattrs_before;
    GANTRY_RETURN_IF_ERROR(ReadXattrs(older, name, path, xattrs_before));
    const auto own = [](const Xattrs& all) {
      Xattrs kept;
      for (const auto& item : all) {
        if (BelongsInLayer(item.first)) kept.insert(item);
      }
      return kept;
    };
    if (own(xattrs_before) != own(xattrs)) return false;
    const bool same_time = before.st_mtim.tv_sec == now.st_mtim.tv_sec &&
                           before.st_mtim.tv_nsec == now.st_mtim.tv_nsec;
    if (S_ISLNK(now.st_mode)) {
      char a[4096], b[4096];
      const ssize_t na = readlinkat(older, name.c_str(), a, sizeof(a));
      const ssize_t nb = readlinkat(newer, name.c_str(), b, sizeof(b));
      return same_time && na >= 0 && na == nb && memcmp(a, b, static_cast<size_t>(na)) == 0;
    }
    if (!same_time) return false;
    if (!S_ISREG(now.st_mode)) return true;
    if (before.st_size != now.st_size) return false;
    // A whole second may have been set by hand, or by the layer; only the bytes tell then.
    return now.st_mtim.tv_nsec != 0 ? absl::StatusOr<bool>(true)
                                    : SameContent(older, newer, name, path);
  }

  absl::StatusOr<bool> SameContent(int older, int newer, const std::string& name,
                                   const std::string& path) {
    if (buffer_ == nullptr) buffer_ = std::make_unique<char[]>(2 * kBufferBytes);
    const UniqueFd a(openat(older, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    const UniqueFd b(openat(newer, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!a.valid() || !b.valid()) return Failed(path, "open");
    for (int64_t offset = 0;;) {
      if (walk_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(walk_.cancel->Check());
      const ssize_t na = pread(a.get(), buffer_.get(), kBufferBytes, offset);
      const ssize_t nb = pread(b.get(), buffer_.get() + kBufferBytes, kBufferBytes, offset);
      if (na < 0 || nb < 0) return Failed(path, "read");
      if (na != nb ||
          memcmp(buffer_.get(), buffer_.get() + kBufferBytes, static_cast<size_t>(na)) != 0)
        return false;
      if (na == 0) return true;
      offset += na;
    }
  }

  const Walk& walk_;
  std::unique_ptr<char[]> buffer_;
};

// Mounts in a namespace of its own and compares.
absl::Status CompareMounted(absl::Span<const Mount> older, absl::Span<const Mount> newer,
                            const Walk& walk) {
  const char* base = getenv("TMPDIR");
  std::string directory = absl::StrCat(base == nullptr ? "/tmp" : base, "/gantry-diff-XXXXXX");
  if (mkdtemp(directory.data()) == nullptr)
    return gantry::ErrnoToStatus(errno, absl::StrCat("make ", directory));
  const std::string old_root = directory + "/old";
  const std::string new_root = directory + "/new";
  const absl::Cleanup remove = [&] {
    rmdir(old_root.c_str());
    rmdir(new_root.c_str());
    rmdir(directory.c_str());
  };
  if (mkdir(old_root.c_str(), 0700) != 0 || mkdir(new_root.c_str(), 0700) != 0) {
    return gantry::ErrnoToStatus(errno, absl::StrCat("make ", directory));
  }
  return RunWithPrivateMounts([&]() -> absl::Status {
    UniqueFd old_fd;
    if (!older.empty()) {
      GANTRY_RETURN_IF_ERROR(MountAll(older, old_root));
      old_fd.reset(open(old_root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!old_fd.valid()) return Failed("", "open the older tree");
    }
    GANTRY_RETURN_IF_ERROR(MountAll(newer, new_root));
    const UniqueFd new_fd(open(new_root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!new_fd.valid()) return Failed("", "open the newer tree");
    return SideBySide(walk).Run(
        old_fd.get(), new_fd.get(), "", [] { return absl::OkStatus(); }, 0);
  });
}

// The directory that holds just the changes: what `newer` has on top of all of `older`.
std::string UpperOf(absl::Span<const Mount> older, absl::Span<const Mount> newer) {
  const std::vector<std::string> below = MountedDirectories(older);
  const std::vector<std::string> all = MountedDirectories(newer);
  if (all.size() != below.size() + 1 || (below.empty() && !older.empty())) return {};
  return std::equal(below.begin(), below.end(), all.begin() + 1) ? all.front() : std::string();
}

// With these on, an upper directory names data that lies elsewhere.
bool KernelMovesDirectories() {
  for (const char* parameter : {"redirect_dir", "metacopy"}) {
    const UniqueFd fd(open(absl::StrCat("/sys/module/overlay/parameters/", parameter).c_str(),
                           O_RDONLY | O_CLOEXEC));
    char value = 'N';
    if (fd.valid() && read(fd.get(), &value, 1) == 1 && value == 'Y') return true;
  }
  return false;
}

bool AsksForMoves(absl::Span<const Mount> mounts) {
  for (const Mount& mount : mounts) {
    for (const std::string& option : mount.options) {
      if (option == "redirect_dir=on" || option == "metacopy=on") return true;
    }
  }
  return false;
}

absl::Status FindChanges(absl::Span<const Mount> older, absl::Span<const Mount> newer,
                         ChangeSink& sink, CancelToken* cancel) {
  const Walk walk{sink, cancel};
  const std::string upper =
      KernelMovesDirectories() || AsksForMoves(newer) ? std::string() : UpperOf(older, newer);
  if (upper.empty()) return CompareMounted(older, newer, walk);
  const UniqueFd fd(open(upper.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Failed(upper, "open");
  const std::vector<std::string> lowers = MountedDirectories(older);
  return UpperWalk(walk, lowers).Run(fd.get(), "", /*hides_lower=*/false, 0);
}

}  // namespace

absl::Status ListChanges(absl::Span<const Mount> older, absl::Span<const Mount> newer,
                         const std::function<absl::Status(const Change&)>& visit,
                         CancelToken* cancel) {
  ListingSink sink(visit);
  return FindChanges(older, newer, sink, cancel);
}

absl::StatusOr<DiffResult> WriteDiff(absl::Span<const Mount> older, absl::Span<const Mount> newer,
                                     ByteSink& sink, const DiffOptions& options) {
  HashingSink hashing(sink);
  BufferingSink buffering(hashing);
  TarSink tar(buffering, options);
  GANTRY_RETURN_IF_ERROR(FindChanges(older, newer, tar, options.cancel));
  GANTRY_RETURN_IF_ERROR(tar.Finish());
  GANTRY_RETURN_IF_ERROR(buffering.Flush());
  return DiffResult{.diff_id = hashing.Finish(), .size_bytes = hashing.size_bytes()};
}

}  // namespace gantry::snapshot
