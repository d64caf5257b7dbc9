// Files of a container: looking at a path, copying out and in, exporting all, committing to an image.
//
// The tree is hostile and alive. Every path is resolved once, by openat2 beneath the container's root, and used through the descriptor
// it gave; a running container is entered by a thread that joins its mount namespace, so that not even a mistake here would reach
// the host's tree.
#include "supervisor/core/container_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "snapshotter/layer_diff.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/config_change.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

constexpr int kMaxDepth = 256;
constexpr size_t kPiece = 256 << 10;

UniqueFd OpenBeneath(int root, const std::string& path, int flags) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(
      syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

absl::Status PathError(int error, absl::string_view path) {
  if (error == ENOENT)
    return absl::NotFoundError(absl::StrCat("no such file or directory in the container: ", path));
  return ErrnoToStatus(error, absl::StrCat("path ", path, " in the container"));
}

// A path in the container, split where a final link must not be followed.
struct SplitPath {
  std::string parent;  // "/a"
  std::string name;    // "b", or "" for the root or a directory's content
  bool content = false;
};

absl::StatusOr<SplitPath> Split(absl::string_view path) {
  if (path.empty() || path.size() > 4096 || path.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        "the path in the container is empty, too long or holds a NUL byte");
  }
  SplitPath split;
  std::string text = absl::StrCat("/", path);
  if (absl::EndsWith(text, "/.")) {
    split.content = true;
    split.parent = text;
    return split;
  }
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  const size_t slash = text.rfind('/');
  split.parent = text.substr(0, slash + 1);
  split.name = text.substr(slash + 1);
  if (split.name == "..") {
    split.parent = text;
    split.name.clear();
    split.content = true;
  }
  return split;
}

absl::StatusOr<std::string> ReadLink(int directory, const std::string& name) {
  char target[4096];
  const ssize_t n = readlinkat(directory, name.c_str(), target, sizeof target);
  if (n < 0) return ErrnoToStatus(errno, absl::StrCat("read link ", name));
  return std::string(target, static_cast<size_t>(n));
}

class TreeWriter {
 public:
  TreeWriter(TarWriter& tar, CancelToken* cancel, bool stay_on_device)
      : tar_(tar), cancel_(cancel), stay_(stay_on_device) {}

  // `name` in the open directory, as `path` in the archive.
  absl::Status Add(int directory, const std::string& name, const std::string& path, int depth) {
    if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
    if (depth > kMaxDepth)
      return absl::ResourceExhaustedError(
          absl::StrCat(path, ": more than ", kMaxDepth, " directories deep"));
    struct stat info;
    if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return absl::OkStatus();  // gone since it was listed
      return ErrnoToStatus(errno, path);
    }
    TarEntry entry;
    entry.path = path;
    entry.mode = info.st_mode & 07777;
    entry.uid = info.st_uid;
    entry.gid = info.st_gid;
    entry.mtime = {info.st_mtim.tv_sec, static_cast<int32_t>(info.st_mtim.tv_nsec)};
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1) {
      auto [it, first] = linked_.emplace(std::make_pair(info.st_dev, info.st_ino), path);
      if (!first) {
        entry.type = TarType::kHardLink;
        entry.link_target = it->second;
        return tar_.WriteEntry(entry);
      }
    }
    switch (info.st_mode & S_IFMT) {
      case S_IFREG:
        return AddFile(directory, name, std::move(entry));
      case S_IFDIR:
        return AddDirectory(directory, name, std::move(entry), info, depth);
      case S_IFLNK: {
        entry.type = TarType::kSymlink;
        GANTRY_ASSIGN_OR_RETURN(entry.link_target, ReadLink(directory, name));
        return tar_.WriteEntry(entry);
      }
      case S_IFCHR:
      case S_IFBLK:
        entry.type = S_ISCHR(info.st_mode) ? TarType::kCharDevice
                                           : TarType::kBlockDevice;
        entry.device_major = major(info.st_rdev);
        entry.device_minor = minor(info.st_rdev);
        return tar_.WriteEntry(entry);
      case S_IFIFO:
        entry.type = TarType::kFifo;
        return tar_.WriteEntry(entry);
      default:
        return absl::OkStatus();  // sockets have no place in an archive
    }
  }

  // The children of an open directory.
  absl::Status AddChildren(UniqueFd directory, const std::string& path, dev_t device, int depth) {
    DIR* stream = fdopendir(directory.get());
    if (stream == nullptr) return ErrnoToStatus(errno, path);
    (void)directory.release();  // the stream owns it now
    absl::Cleanup close = [stream] { closedir(stream); };
    std::vector<std::string> names;
    while (struct dirent* child = readdir(stream)) {
      const std::string name = child->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      if (stay_) {
        struct stat info;
        if (fstatat(dirfd(stream), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISDIR(info.st_mode) && info.st_dev != device) {
          TarEntry
              entry;  // a mount point: the directory belongs to the container, what is mounted there does not
          entry.type = TarType::kDirectory;
          entry.path = path.empty() ? name : absl::StrCat(path, "/", name);
          entry.mode = 0755;
          GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
          continue;
        }
      }
      GANTRY_RETURN_IF_ERROR(
          Add(dirfd(stream), name, path.empty() ? name : absl::StrCat(path, "/", name), depth + 1));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status AddFile(int directory, const std::string& name, TarEntry entry) {
    // Non-blocking: what was a file a moment ago may be a FIFO now.
    UniqueFd file(openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat info;
    if (!file.valid() || fstat(file.get(), &info) != 0) return ErrnoToStatus(errno, entry.path);
    if (!S_ISREG(info.st_mode))
      return absl::AbortedError(absl::StrCat(entry.path, ": changed while it was read; try again"));
    entry.type = TarType::kFile;
    entry.size_bytes = info.st_size;
    char value[4096];
    const ssize_t length = fgetxattr(file.get(), "security.capability", value, sizeof value);
    if (length > 0)
      entry.xattrs.emplace("security.capability", std::string(value, static_cast<size_t>(length)));
    GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
    std::vector<char> piece(kPiece);
    for (int64_t left = entry.size_bytes; left > 0;) {
      if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
      const ssize_t n =
          read(file.get(), piece.data(), static_cast<size_t>(std::min<int64_t>(left, kPiece)));
      if (n < 0) return ErrnoToStatus(errno, entry.path);
      if (n == 0) {
        // It shrank; the header has promised its old length.
        std::fill(piece.begin(), piece.end(), '\0');
        const int64_t zeros = std::min<int64_t>(left, kPiece);
        GANTRY_RETURN_IF_ERROR(
            tar_.WriteData(absl::string_view(piece.data(), static_cast<size_t>(zeros))));
        left -= zeros;
        continue;
      }
      GANTRY_RETURN_IF_ERROR(
          tar_.WriteData(absl::string_view(piece.data(), static_cast<size_t>(n))));
      left -= n;
    }
    return absl::OkStatus();
  }

  absl::Status AddDirectory(int directory, const std::string& name, TarEntry entry,
                            const struct stat& info, int depth) {
    entry.type = TarType::kDirectory;
    GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
    UniqueFd child(
        openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!child.valid()) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return absl::OkStatus();
      return ErrnoToStatus(errno, entry.path);
    }
    return AddChildren(std::move(child), entry.path, info.st_dev, depth);
  }

  TarWriter& tar_;
  CancelToken* const cancel_;
  const bool stay_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
};

void FillStat(const struct stat& info, const std::string& name, v1::PathStat& out) {
  out.set_name(name);
  out.set_size_bytes(info.st_size);
  out.set_mode(info.st_mode);
  out.mutable_modified_at()->set_seconds(info.st_mtim.tv_sec);
  out.mutable_modified_at()->set_nanos(static_cast<int32_t>(info.st_mtim.tv_nsec));
}

absl::StatusOr<v1::PathStat> StatIn(int root, const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(SplitPath split, Split(path));
  UniqueFd parent = OpenBeneath(root, split.parent, O_PATH | O_DIRECTORY);
  if (!parent.valid()) return PathError(errno, path);
  struct stat info;
  v1::PathStat out;
  if (split.name.empty()) {
    if (fstat(parent.get(), &info) != 0) return PathError(errno, path);
    FillStat(info, split.content ? "." : "/", out);
    return out;
  }
  if (fstatat(parent.get(), split.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return PathError(errno, path);
  FillStat(info, split.name, out);
  if (S_ISLNK(info.st_mode)) {
    GANTRY_ASSIGN_OR_RETURN(std::string target, ReadLink(parent.get(), split.name));
    out.set_link_target(absl::StartsWith(target, "/") ? target
                                                      : absl::StrCat(split.parent, target));
  }
  return out;
}

// Unpacks beneath an open directory. Unlike a layer, nothing in it is a whiteout and links are not followed on the way down.
class TreeReader {
 public:
  TreeReader(int base, const v1::CopyToRequest::Open& open, CancelToken* cancel)
      : base_(base), open_(open), cancel_(cancel) {}

  absl::Status Run(ByteSource& source) {
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Decompressor> plain, OpenDecompressor(source));
    TarReader tar(*plain);
    TarEntry entry;
    while (true) {
      if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
      GANTRY_ASSIGN_OR_RETURN(bool more, tar.Next(entry));
      if (!more) break;
      GANTRY_RETURN_IF_ERROR(Unpack(entry, tar));
    }
    // A client streams to the end whatever follows the archive.
    GANTRY_RETURN_IF_ERROR(tar.Drain());
    for (auto it = directory_times_.rbegin(); it != directory_times_.rend(); ++it) {
      UniqueFd directory = OpenBeneath(base_, it->first, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      const struct timespec times[2] = {{0, UTIME_OMIT}, {it->second.seconds, it->second.nanos}};
      if (directory.valid() && futimens(directory.get(), times) != 0)
        return ErrnoToStatus(errno, it->first);
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::string> Clean(const std::string& path) {
    std::vector<absl::string_view> parts;
    for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
      if (part == ".") continue;
      if (part == "..")
        return absl::InvalidArgumentError(
            absl::StrCat("archive entry \"", path, "\" climbs out of the target"));
      parts.push_back(part);
    }
    if (parts.size() > kMaxDepth)
      return absl::ResourceExhaustedError(absl::StrCat("archive entry \"", path, "\" is too deep"));
    return absl::StrJoin(parts, "/");
  }

  absl::StatusOr<UniqueFd> OpenParent(const std::string& parent) {
    UniqueFd fd = OpenBeneath(base_, parent, O_PATH | O_DIRECTORY);
    if (fd.valid() || errno != ENOENT) {
      if (!fd.valid()) return PathError(errno, parent);
      return fd;
    }
    // Missing parents are made, one level at a time, each through its own parent's descriptor.
    std::string so_far;
    for (absl::string_view part : absl::StrSplit(parent, '/', absl::SkipEmpty())) {
      UniqueFd above = OpenBeneath(base_, so_far, O_PATH | O_DIRECTORY);
      if (!above.valid()) return PathError(errno, so_far);
      if (mkdirat(above.get(), std::string(part).c_str(), 0755) != 0 && errno != EEXIST)
        return PathError(errno, parent);
      absl::StrAppend(&so_far, so_far.empty() ? "" : "/", part);
    }
    fd = OpenBeneath(base_, parent, O_PATH | O_DIRECTORY);
    if (!fd.valid()) return PathError(errno, parent);
    return fd;
  }

  absl::Status Unpack(const TarEntry& entry, TarReader& tar) {
    GANTRY_ASSIGN_OR_RETURN(std::string path, Clean(entry.path));
    if (path.empty()) return absl::OkStatus();  // the target itself stays as it is
    const size_t slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    GANTRY_ASSIGN_OR_RETURN(UniqueFd parent,
                            OpenParent(slash == std::string::npos ? "" : path.substr(0, slash)));
    const uid_t uid = open_.copy_uid_gid() ? entry.uid : 0;
    const gid_t gid = open_.copy_uid_gid() ? entry.gid : 0;
    struct stat old;
    const bool exists = fstatat(parent.get(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
    const bool to_directory = entry.type == TarType::kDirectory;
    if (exists && open_.no_overwrite_dir_non_dir() && S_ISDIR(old.st_mode) != to_directory) {
      return absl::FailedPreconditionError(
          absl::StrCat("cannot overwrite ", S_ISDIR(old.st_mode) ? "directory" : "file", " ", path,
                       " with ", to_directory ? "a directory" : "what is none"));
    }
    if (exists && !(S_ISDIR(old.st_mode) && to_directory)) {
      if (S_ISDIR(old.st_mode)) {
        UniqueFd readable(openat(parent.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        GANTRY_RETURN_IF_ERROR(RemoveTreeAt(readable.get(), name));
      } else if (unlinkat(parent.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
        return PathError(errno, path);
      }
    }
    const struct timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime.seconds, entry.mtime.nanos}};
    switch (entry.type) {
      case TarType::kFile: {
        UniqueFd file(openat(parent.get(), name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!file.valid()) return PathError(errno, path);
        while (true) {
          if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
          TarData data;
          GANTRY_ASSIGN_OR_RETURN(bool some, tar.ReadData(data));
          if (!some) break;
          if (lseek(file.get(), data.offset, SEEK_SET) < 0) return PathError(errno, path);
          GANTRY_RETURN_IF_ERROR(WriteAll(file.get(), data.bytes));
        }
        if (ftruncate(file.get(), entry.size_bytes) != 0)
          return PathError(errno, path);  // a hole at the end
        if (fchown(file.get(), uid, gid) != 0) return PathError(errno, path);
        for (const auto& [key, value] : entry.xattrs) {
          if (absl::StartsWith(key, "trusted.") || key == "user.overlay" ||
              absl::StartsWith(key, "user.overlay."))
            continue;
          if (fsetxattr(file.get(), key.c_str(), value.data(), value.size(), 0) != 0 &&
              errno != ENOTSUP)
            return PathError(errno, path);
        }
        if (fchmod(file.get(), entry.mode) != 0 || futimens(file.get(), times) != 0)
          return PathError(errno, path);
        return absl::OkStatus();
      }
      case TarType::kDirectory: {
        if (mkdirat(parent.get(), name.c_str(), 0700) != 0 && errno != EEXIST)
          return PathError(errno, path);
        UniqueFd directory(
            openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!directory.valid()) return PathError(errno, path);
        if (fchown(directory.get(), uid, gid) != 0 || fchmod(directory.get(), entry.mode) != 0)
          return PathError(errno, path);
        directory_times_.emplace_back(path, entry.mtime);
        return absl::OkStatus();
      }
      case TarType::kSymlink:
        if (symlinkat(entry.link_target.c_str(), parent.get(), name.c_str()) != 0)
          return PathError(errno, path);
        break;
      case TarType::kHardLink: {
        GANTRY_ASSIGN_OR_RETURN(std::string existing, Clean(entry.link_target));
        const size_t cut = existing.rfind('/');
        GANTRY_ASSIGN_OR_RETURN(
            UniqueFd from, OpenParent(cut == std::string::npos ? "" : existing.substr(0, cut)));
        const std::string old_name = cut == std::string::npos ? existing : existing.substr(cut + 1);
        if (linkat(from.get(), old_name.c_str(), parent.get(), name.c_str(), 0) != 0)
          return PathError(errno, path);
        return absl::OkStatus();
      }
      case TarType::kCharDevice:
      case TarType::kBlockDevice:
      case TarType::kFifo: {
        const mode_t type = entry.type == TarType::kCharDevice    ? S_IFCHR
                            : entry.type == TarType::kBlockDevice ? S_IFBLK
                                                                            : S_IFIFO;
        if (mknodat(parent.get(), name.c_str(), type | (entry.mode & 07777),
                    makedev(entry.device_major, entry.device_minor)) != 0) {
          return PathError(errno, path);
        }
        break;
      }
    }
    if (fchownat(parent.get(), name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        utimensat(parent.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
      return PathError(errno, path);
    }
    return absl::OkStatus();
  }

  const int base_;
  const v1::CopyToRequest::Open& open_;
  CancelToken* const cancel_;
  std::vector<std::pair<std::string, TarTime>> directory_times_;
};

}  // namespace

absl::Status ContainerFiles::WithRootfs(const CallContext& context, const LoadedContainer& loaded,
                                        bool writable,
                                        const std::function<absl::Status(int root_fd)>& use) {
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() &&
      (task->status == ProcessStatus::kRunning || task->status == ProcessStatus::kPaused)) {
    const std::string proc = absl::StrCat("/proc/", task->pid);
    UniqueFd mounts(open((proc + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
    if (!mounts.valid())
      return ErrnoToStatus(errno, absl::StrCat("container ", loaded.id(), ": its mount namespace"));
    // The pid may have been another's by the time it was opened: it is ours if the container still runs with it now.
    absl::StatusOr<Process> again = parts_.tasks->Get(context.ns, loaded.id(), "");
    if (!again.ok() || again->pid != task->pid || again->status == ProcessStatus::kStopped) {
      return absl::AbortedError(
          absl::StrCat("container ", loaded.id(), " ended meanwhile; try again"));
    }
    absl::Status result;
    absl::StatusOr<std::thread> worker = NewThread([&] {
      if (unshare(CLONE_FS) != 0 || setns(mounts.get(), CLONE_NEWNS) != 0) {
        result = ErrnoToStatus(
            errno, absl::StrCat("container ", loaded.id(), ": entering its mount namespace"));
        return;
      }
      UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!root.valid()) {
        result = ErrnoToStatus(errno, absl::StrCat("container ", loaded.id(), ": its root"));
        return;
      }
      result = use(root.get());
    });
    if (!worker.ok())
      return WithContext(worker.status(),
                         absl::StrCat("container ", loaded.id(), ": entering its mount namespace"));
    worker->join();
    return result;
  }
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> layers,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  const std::vector<snapshot::Mount> mounts =
      loaded.ours ? parts_.mount_points->Below(std::move(layers)) : std::move(layers);
  std::string random(8, '\0');
  if (getrandom(random.data(), random.size(), 0) != 8)
    return absl::UnavailableError("the kernel gives no random numbers");
  const std::string at =
      absl::StrCat(parts_.state_directory, "/mounts/", absl::BytesToHexString(random));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(at, 0700));
  absl::Cleanup remove = [&at] {
    if (rmdir(at.c_str()) != 0) PLOG(WARNING) << "cannot remove " << at;
  };
  GANTRY_ASSIGN_OR_RETURN(snapshot::ScopedMount mounted, snapshot::ScopedMount::Create(mounts, at));
  absl::Status result;
  {
    UniqueFd root(open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return ErrnoToStatus(errno, at);
    result = use(root.get());
  }
  absl::Status unmounted = mounted.Unmount();
  return result.ok() && writable ? unmounted : result;
}

absl::StatusOr<v1::PathStat> ContainerFiles::StatPath(const CallContext& context,
                                                      const v1::StatPathRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  v1::PathStat out;
  GANTRY_RETURN_IF_ERROR(WithRootfs(context, loaded, false, [&](int root) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(out, StatIn(root, request.path()));
    return absl::OkStatus();
  }));
  return out;
}

absl::Status ContainerFiles::CopyFrom(const CallContext& context,
                                      const v1::CopyFromRequest& request,
                                      const std::function<absl::Status(const v1::PathStat&)>& begin,
                                      ByteSink& out) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  return WithRootfs(context, loaded, false, [&](int root) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(v1::PathStat stat, StatIn(root, request.path()));
    GANTRY_ASSIGN_OR_RETURN(SplitPath split, Split(request.path()));
    GANTRY_RETURN_IF_ERROR(begin(stat));
    TarWriter tar(out);
    TreeWriter tree(tar, context.cancel, /*stay_on_device=*/false);
    if (split.name.empty()) {
      UniqueFd directory = OpenBeneath(root, split.parent, O_RDONLY | O_DIRECTORY);
      if (!directory.valid()) return PathError(errno, request.path());
      GANTRY_RETURN_IF_ERROR(tree.Add(directory.get(), ".", ".", 0));
    } else {
      UniqueFd parent = OpenBeneath(root, split.parent, O_RDONLY | O_DIRECTORY);
      if (!parent.valid()) return PathError(errno, request.path());
      GANTRY_RETURN_IF_ERROR(tree.Add(parent.get(), split.name, split.name, 0));
    }
    return tar.Finish();
  });
}

absl::Status ContainerFiles::CopyTo(const CallContext& context, const v1::CopyToRequest::Open& open,
                                    ByteSource& tar) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, open.container()));
  if (loaded.config.read_only_rootfs()) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", open.container(), ": its root file system is read-only"));
  }
  return WithRootfs(context, loaded, true, [&](int root) -> absl::Status {
    UniqueFd base = OpenBeneath(root, open.path(), O_RDONLY | O_DIRECTORY);
    if (!base.valid()) {
      if (errno == ENOTDIR)
        return absl::InvalidArgumentError(
            absl::StrCat(open.path(), " is not a directory in the container"));
      return PathError(errno, open.path());
    }
    return TreeReader(base.get(), open, context.cancel).Run(tar);
  });
}

absl::Status ContainerFiles::Export(const CallContext& context, const std::string& container,
                                    ByteSink& out) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  return WithRootfs(context, loaded, false, [&](int root) -> absl::Status {
    struct stat info;
    if (fstat(root, &info) != 0) return ErrnoToStatus(errno, "root");
    TarWriter tar(out);
    TreeWriter tree(tar, context.cancel, /*stay_on_device=*/true);
    GANTRY_RETURN_IF_ERROR(tree.AddChildren(
        UniqueFd(openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), "", info.st_dev, 0));
    return tar.Finish();
  });
}

absl::StatusOr<v1::CommitResponse> ContainerFiles::Commit(const CallContext& context,
                                                          const v1::CommitRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  if (!loaded.ours)
    return absl::FailedPreconditionError(
        absl::StrCat("container ", request.container(), " was made by another client"));
  std::string name;
  if (!request.reference().empty()) {
    GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                            distribution::Reference::Parse(request.reference()));
    name = reference.canonical();
  }
  Stores& stores = *parts_.stores;
  GANTRY_ASSIGN_OR_RETURN(
      ResolvedImage base,
      parts_.images->Resolve(context,
                             loaded.image_id.empty() ? loaded.config.image() : loaded.image_id));
  oci::ImageConfig config = base.config;
  config.author = request.author();
  config.user = loaded.config.user();
  config.env.assign(loaded.config.env().begin(), loaded.config.env().end());
  config.entrypoint.assign(loaded.config.entrypoint().values().begin(),
                           loaded.config.entrypoint().values().end());
  config.cmd.assign(loaded.config.command().begin(), loaded.config.command().end());
  config.working_dir = loaded.config.working_dir();
  config.labels.clear();
  config.labels.insert(loaded.config.labels().begin(), loaded.config.labels().end());
  for (const std::string& change : request.changes()) {
    GANTRY_RETURN_IF_ERROR(oci::ApplyChange(change, config));
  }
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  metadata::ContentNamespace content = stores.Content(lease.scope());
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots(loaded.record.snapshotter(), lease.scope()));
  GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, snapshots.Stat(loaded.record.snapshot_key()));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> newer,
                          snapshots.Mounts(loaded.record.snapshot_key()));

  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  bool pause = request.pause() && task.ok() && task->status == ProcessStatus::kRunning;
  if (pause) {
    const absl::Status paused = parts_.tasks->Pause(context, loaded.id());
    // One that has ended meanwhile changes nothing any more. The shim says so in this way.
    if (!paused.ok() && !absl::IsFailedPrecondition(paused) && !absl::IsNotFound(paused))
      return paused;
    pause = paused.ok();
  }
  absl::Cleanup resume = [&] {
    if (!pause) return;
    absl::Status resumed = parts_.tasks->Resume(context, loaded.id());
    if (!resumed.ok())
      LOG(ERROR) << "ns=" << context.ns << " id=" << loaded.id()
                 << " resuming after a commit: " << resumed;
  };

  std::vector<snapshot::Mount> older;
  const std::string view = absl::StrCat(loaded.id(), "-commit-", absl::ToUnixNanos(absl::Now()));
  if (!info.parent.empty()) {
    GANTRY_ASSIGN_OR_RETURN(older, snapshots.View(view, info.parent, {}));
  }
  absl::Cleanup drop_view = [&] {
    if (info.parent.empty()) return;
    absl::Status removed = snapshots.Remove(view);
    if (!removed.ok()) LOG(ERROR) << "ns=" << context.ns << " " << removed;
  };
  snapshot::DiffOptions diff_options;
  diff_options.cancel = context.cancel;
  ImageAssembly assembly;
  GANTRY_ASSIGN_OR_RETURN(
      const ImageLayer layer,
      assembly.LayerFrom(content, absl::StrCat("commit-", view), [&](ByteSink& out) {
        return snapshot::WriteDiff(older, newer, out, diff_options).status();
      }));
  oci::History history;
  history.author = request.author();
  history.comment = request.comment();
  history.created_by = absl::StrJoin(loaded.config.command(), " ");
  oci::Manifest manifest = base.manifest_document;
  ImageAssembly::Stack(layer, std::move(history), stores.clock.Now(), config, manifest);
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target,
                          assembly.WriteImage(content, config, std::move(manifest)));
  GANTRY_RETURN_IF_ERROR(parts_.images->Name(
      context, name.empty() ? ImageCatalog::DanglingName(target.digest) : name, target));
  v1::CommitResponse response;
  response.set_image_id(target.digest.str());
  return response;
}

}  // namespace gantry::core
