#include "ctl/commands/context_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/content_frame.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxRulesBytes = 1 << 20;
constexpr size_t kEntriesInMessage = 2000;
constexpr size_t kMessageBytes = 256 << 10;
constexpr size_t kContentsInMessage = 256;
constexpr size_t kMaxAttributeBytes = 64 << 10;
// The kernel's clock for the times of files may be this much behind: a file that was changed so
// recently may change again and keep its times.
constexpr int64_t kSettledNanos = 50'000'000;

int64_t Nanos(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

class Lister {
 public:
  Lister(const engine::IgnoreRules& rules, const std::string& dockerfile,
         std::vector<v1::ContextEntry>& entries)
      : rules_(rules), dockerfile_(dockerfile), entries_(entries) {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    began_ = Nanos(now);
  }

  absl::Status Directory(UniqueFd directory, const std::string& path) {
    std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(directory.get()), &closedir);
    if (stream == nullptr) return ErrnoToStatus(errno, path);
    const int fd = directory.release();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* item = readdir(stream.get())) {
      const absl::string_view name = item->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return ErrnoToStatus(errno, path);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      const std::string below = path.empty() ? name : absl::StrCat(path, "/", name);
      GANTRY_RETURN_IF_ERROR(Entry(fd, name, below));
    }
    return absl::OkStatus();
  }

 private:
  // True if `path` or something below it is to be sent for the Dockerfile's sake.
  bool LeadsToDockerfile(const std::string& path) const {
    return path == dockerfile_ || dockerfile_.rfind(path + "/", 0) == 0 || path == ".dockerignore";
  }

  absl::Status Entry(int directory, const std::string& name, const std::string& path) {
    struct stat info;
    if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return absl::OkStatus();  // it was removed meanwhile
      return ErrnoToStatus(errno, path);
    }
    if (!rules_.empty() && rules_.Ignores(path) && !LeadsToDockerfile(path) &&
        !(S_ISDIR(info.st_mode) && rules_.MayContainTaken(path)))
      return absl::OkStatus();
    if (S_ISSOCK(info.st_mode)) return absl::OkStatus();
    v1::ContextEntry& entry = entries_.emplace_back();
    entry.set_path(path);
    entry.set_mode(info.st_mode);
    entry.set_mtime_seconds(info.st_mtim.tv_sec);
    entry.set_mtime_nanos(static_cast<int32_t>(info.st_mtim.tv_nsec));
    switch (info.st_mode & S_IFMT) {
      case S_IFDIR: {
        UniqueFd below(
            openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!below.valid()) return ErrnoToStatus(errno, path);
        Attributes(absl::StrCat("/proc/self/fd/", below.get()), entry);
        return Directory(std::move(below), path);
      }
      case S_IFLNK: {
        char target[4096];
        const ssize_t n = readlinkat(directory, name.c_str(), target, sizeof target);
        if (n < 0) return ErrnoToStatus(errno, path);
        entry.set_link_target(target, static_cast<size_t>(n));
        return absl::OkStatus();
      }
      case S_IFCHR:
      case S_IFBLK:
        entry.set_device_major(major(info.st_rdev));
        entry.set_device_minor(minor(info.st_rdev));
        return absl::OkStatus();
      case S_IFREG:
        break;
      default:
        return absl::OkStatus();
    }
    entry.set_size_bytes(info.st_size);
    if (Nanos(info.st_ctim) + kSettledNanos < began_) {
      const uint64_t version[] = {info.st_dev, info.st_ino,
                                  static_cast<uint64_t>(Nanos(info.st_ctim))};
      entry.set_version(version, sizeof version);
    }
    if (info.st_nlink > 1) {
      const auto [first, is_new] = linked_.emplace(std::make_pair(info.st_dev, info.st_ino), path);
      if (!is_new) entry.set_hard_link_to(first->second);
      if (!is_new) return absl::OkStatus();
    }
    Attributes(absl::StrCat("/proc/self/fd/", directory, "/", name), entry);
    return absl::OkStatus();
  }

  // Those that a build keeps. One that cannot be read is left out, as the file's content may be.
  static void Attributes(const std::string& path, v1::ContextEntry& entry) {
    char list[16 << 10];
    const bool is_directory = S_ISDIR(entry.mode());
    const ssize_t length = is_directory ? listxattr(path.c_str(), list, sizeof list)
                                        : llistxattr(path.c_str(), list, sizeof list);
    if (length <= 0) return;
    for (const absl::string_view name : absl::StrSplit(
             absl::string_view(list, static_cast<size_t>(length)), '\0', absl::SkipEmpty())) {
      if (name != "security.capability" && !absl::StartsWith(name, "user.")) continue;
      char value[kMaxAttributeBytes];
      const std::string key(name);
      const ssize_t size = is_directory ? getxattr(path.c_str(), key.c_str(), value, sizeof value)
                                        : lgetxattr(path.c_str(), key.c_str(), value, sizeof value);
      if (size >= 0)
        (*entry.mutable_attributes())[key] = std::string(value, static_cast<size_t>(size));
    }
  }

  const engine::IgnoreRules& rules_;
  const std::string dockerfile_;
  std::vector<v1::ContextEntry>& entries_;
  int64_t began_ = 0;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
};

// Collects contents until they are a message.
class ContentWriter {
 public:
  ContentWriter(uint32_t context, const ContextFiles::Write& write) : write_(write) {
    message_.mutable_contents()->set_context(context);
  }
  absl::Status Add(uint32_t index, std::string data, bool end, bool missing = false) {
    bytes_ += data.size();
    v1::ContextContent& content = *message_.mutable_contents()->add_contents();
    content.set_index(index);
    content.set_data(std::move(data));
    content.set_end(end);
    content.set_missing(missing);
    if (bytes_ < kMessageBytes &&
        static_cast<size_t>(message_.contents().contents_size()) < kContentsInMessage)
      return absl::OkStatus();
    return Flush();
  }
  absl::Status Flush() {
    if (message_.contents().contents().empty()) return absl::OkStatus();
    const bool written = write_(message_);
    message_.mutable_contents()->clear_contents();
    bytes_ = 0;
    // The reason is what the call ends with.
    return written ? absl::OkStatus() : absl::CancelledError("the build has ended");
  }

 private:
  const ContextFiles::Write& write_;
  v1::BuildRequest message_;
  size_t bytes_ = 0;
};

}  // namespace

// Frames in one buffer, which is sent when it is full.
class FrameWriter {
 public:
  static constexpr size_t kPieceBytes = 256 << 10;

  explicit FrameWriter(int socket) : socket_(socket) {}

  // Where the next frame's bytes go, at most kPieceBytes.
  absl::StatusOr<char*> Room(size_t bytes) {
    if (used_ + ContentFrame::kHeaderBytes + bytes > kBufferBytes) GANTRY_RETURN_IF_ERROR(Flush());
    return buffer_.get() + used_ + ContentFrame::kHeaderBytes;
  }
  // The frame whose bytes are there already; one without bytes needs no Room().
  absl::Status Add(const ContentFrame& frame) {
    if (frame.bytes == 0) GANTRY_RETURN_IF_ERROR(Room(0).status());
    frame.Write(reinterpret_cast<unsigned char*>(buffer_.get() + used_));
    used_ += ContentFrame::kHeaderBytes + frame.bytes;
    return absl::OkStatus();
  }
  absl::Status Flush() {
    size_t at = 0;
    while (at < used_) {
      const ssize_t n = send(socket_, buffer_.get() + at, used_ - at, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      // The reason is what the call ends with.
      if (n < 0) return absl::CancelledError("the build has ended");
      at += static_cast<size_t>(n);
    }
    used_ = 0;
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kBufferBytes = 2 * kPieceBytes;
  const int socket_;
  const std::unique_ptr<char[]> buffer_ = std::make_unique<char[]>(kBufferBytes);
  size_t used_ = 0;
};

namespace {

// The file and its text; both empty if there is none.
absl::StatusOr<std::pair<std::string, std::string>> IgnoreFile(const std::string& directory,
                                                               const std::string& dockerfile) {
  for (const std::string& path :
       {absl::StrCat(dockerfile, ".dockerignore"), absl::StrCat(directory, "/.dockerignore")}) {
    if (path == ".dockerignore") continue;  // there is no Dockerfile, and the file would be another
    absl::StatusOr<std::string> text = ReadFile(path, kMaxRulesBytes);
    if (absl::IsNotFound(text.status())) continue;
    if (!text.ok()) return text.status();
    return std::make_pair(path, *std::move(text));
  }
  return std::pair<std::string, std::string>();
}

}  // namespace

absl::StatusOr<std::string> IgnoreText(const std::string& directory,
                                       const std::string& dockerfile) {
  GANTRY_ASSIGN_OR_RETURN(auto file, IgnoreFile(directory, dockerfile));
  return std::move(file.second);
}

absl::StatusOr<engine::IgnoreRules> ContextRules(const std::string& directory,
                                                 const std::string& dockerfile) {
  GANTRY_ASSIGN_OR_RETURN(const auto file, IgnoreFile(directory, dockerfile));
  absl::StatusOr<engine::IgnoreRules> rules = engine::IgnoreRules::Parse(file.second);
  if (!rules.ok())
    return absl::InvalidArgumentError(absl::StrCat(file.first, ": ", rules.status().message()));
  return rules;
}

absl::StatusOr<ContextFiles> ContextFiles::List(const std::string& directory,
                                                const engine::IgnoreRules& rules,
                                                const std::string& dockerfile) {
  ContextFiles files;
  files.directory_ = directory;
  files.root_ = UniqueFd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  UniqueFd top(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!files.root_.valid() || !top.valid()) return ErrnoToStatus(errno, directory);
  Lister lister(rules, dockerfile, files.entries_);
  GANTRY_RETURN_IF_ERROR(lister.Directory(std::move(top), ""));
  return files;
}

absl::Status ContextFiles::SendEntries(uint32_t context, const Write& write) const {
  size_t at = 0;
  do {
    v1::BuildRequest message;
    v1::ContextEntries& part = *message.mutable_entries();
    part.set_context(context);
    for (size_t end = std::min(entries_.size(), at + kEntriesInMessage); at < end; ++at)
      *part.add_entries() = entries_[at];
    part.set_last(at == entries_.size());
    if (!write(message)) return absl::CancelledError("the build has ended");
  } while (at < entries_.size());
  return absl::OkStatus();
}

absl::StatusOr<bool> ContextFiles::SendBySocket(const std::string& path, uint32_t context,
                                                const std::vector<uint32_t>& wanted,
                                                const Write& write) const {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // A daemon on another machine, or in another mount namespace.
  if (!socket.valid() ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return false;
  v1::BuildRequest message;
  message.set_connected(context);
  if (!write(message)) return absl::CancelledError("the build has ended");
  FrameWriter out(socket.get());
  for (const uint32_t index : wanted) {
    if (index >= entries_.size())
      return absl::InternalError("the daemon wants a file that was not listed");
    GANTRY_RETURN_IF_ERROR(WithContext(SendFile(index, out), directory_));
  }
  GANTRY_RETURN_IF_ERROR(out.Flush());
  return true;
}

absl::Status ContextFiles::SendFile(uint32_t index, FrameWriter& out) const {
  const std::string& path = entries_[index].path();
  const UniqueFd file = OpenInRoot(root_.get(), path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat info;
  if (!file.valid() && errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
    return ErrnoToStatus(errno, path);
  if (!file.valid() || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return out.Add({.index = index, .end = true, .missing = true});
  // As large as it was, so that a file that grows comes to an end.
  int64_t left = info.st_size;
  do {
    const size_t most = static_cast<size_t>(std::min<int64_t>(left, FrameWriter::kPieceBytes));
    GANTRY_ASSIGN_OR_RETURN(char* const to, out.Room(most));
    const ssize_t n = read(file.get(), to, most);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, path);
    left = n == 0 ? 0 : left - n;
    GANTRY_RETURN_IF_ERROR(
        out.Add({.index = index, .bytes = static_cast<uint32_t>(n), .end = left == 0}));
  } while (left > 0);
  return absl::OkStatus();
}

absl::Status ContextFiles::SendContents(uint32_t context, const std::vector<uint32_t>& wanted,
                                        const Write& write) const {
  ContentWriter out(context, write);
  for (const uint32_t index : wanted) {
    if (index >= entries_.size())
      return absl::InternalError("the daemon wants a file that was not listed");
    const std::string& path = entries_[index].path();
    const UniqueFd file = OpenInRoot(root_.get(), path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    if (!file.valid() && errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
      return ErrnoToStatus(errno, absl::StrCat(directory_, "/", path));
    if (!file.valid() || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      GANTRY_RETURN_IF_ERROR(out.Add(index, "", true, /*missing=*/true));
      continue;
    }
    // As large as it was, so that a file that grows comes to an end.
    int64_t left = info.st_size;
    do {
      std::string piece(static_cast<size_t>(std::min<int64_t>(left, kMessageBytes)), '\0');
      const ssize_t n = read(file.get(), piece.data(), piece.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoToStatus(errno, absl::StrCat(directory_, "/", path));
      piece.resize(static_cast<size_t>(n));
      left = n == 0 ? 0 : left - n;
      GANTRY_RETURN_IF_ERROR(out.Add(index, std::move(piece), left == 0));
    } while (left > 0);
  }
  return out.Flush();
}

}  // namespace gantry::ctl
