#include "ctl/commands/context_tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxRulesBytes = 1 << 20;
constexpr size_t kPiece = 1 << 20;

class ContextWriter {
 public:
  ContextWriter(const engine::IgnoreRules& rules, const std::string& dockerfile, ByteSink& out)
      : rules_(rules), dockerfile_(dockerfile), tar_(out, TarWriter::Seconds::kExact) {}

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
  absl::Status Finish() { return tar_.Finish(); }

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
    TarEntry entry;
    entry.path = path;
    entry.mode = info.st_mode & 07777;
    entry.mtime = {info.st_mtim.tv_sec, static_cast<int32_t>(info.st_mtim.tv_nsec)};
    switch (info.st_mode & S_IFMT) {
      case S_IFDIR: {
        entry.type = TarType::kDirectory;
        GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
        UniqueFd below(
            openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!below.valid()) return ErrnoToStatus(errno, path);
        return Directory(std::move(below), path);
      }
      case S_IFLNK: {
        entry.type = TarType::kSymlink;
        char target[4096];
        const ssize_t n = readlinkat(directory, name.c_str(), target, sizeof target);
        if (n < 0) return ErrnoToStatus(errno, path);
        entry.link_target.assign(target, static_cast<size_t>(n));
        return tar_.WriteEntry(entry);
      }
      case S_IFREG:
        return File(directory, name, info, std::move(entry));
      case S_IFIFO:
        entry.type = TarType::kFifo;
        return tar_.WriteEntry(entry);
      case S_IFCHR:
      case S_IFBLK:
        entry.type = S_ISCHR(info.st_mode) ? TarType::kCharDevice : TarType::kBlockDevice;
        entry.device_major = major(info.st_rdev);
        entry.device_minor = minor(info.st_rdev);
        return tar_.WriteEntry(entry);
      default:
        return absl::OkStatus();  // a socket
    }
  }

  absl::Status File(int directory, const std::string& name, const struct stat& info,
                    TarEntry entry) {
    if (info.st_nlink > 1) {
      const auto [first, is_new] =
          linked_.emplace(std::make_pair(info.st_dev, info.st_ino), entry.path);
      if (!is_new) {
        entry.type = TarType::kHardLink;
        entry.link_target = first->second;
        return tar_.WriteEntry(entry);
      }
    }
    const UniqueFd file(openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    struct stat opened;
    if (!file.valid() || fstat(file.get(), &opened) != 0) return ErrnoToStatus(errno, entry.path);
    entry.size_bytes = opened.st_size;
    GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
    int64_t left = entry.size_bytes;
    if (piece_.empty()) piece_.resize(kPiece);
    while (left > 0) {
      const ssize_t n =
          read(file.get(), piece_.data(), static_cast<size_t>(std::min<int64_t>(left, kPiece)));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoToStatus(errno, entry.path);
      if (n == 0) {
        // It has become shorter; the header is sent already.
        const size_t zeros = static_cast<size_t>(std::min<int64_t>(left, kPiece));
        std::fill_n(piece_.begin(), zeros, '\0');
        GANTRY_RETURN_IF_ERROR(tar_.WriteData(absl::string_view(piece_.data(), zeros)));
        left -= static_cast<int64_t>(zeros);
        continue;
      }
      GANTRY_RETURN_IF_ERROR(
          tar_.WriteData(absl::string_view(piece_.data(), static_cast<size_t>(n))));
      left -= n;
    }
    return absl::OkStatus();
  }

  const engine::IgnoreRules& rules_;
  const std::string dockerfile_;
  TarWriter tar_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::vector<char> piece_;
};

}  // namespace

absl::StatusOr<engine::IgnoreRules> ContextRules(const std::string& directory,
                                                 const std::string& dockerfile) {
  for (const std::string& path :
       {absl::StrCat(dockerfile, ".dockerignore"), absl::StrCat(directory, "/.dockerignore")}) {
    const absl::StatusOr<std::string> text = ReadFile(path, kMaxRulesBytes);
    if (absl::IsNotFound(text.status())) continue;
    if (!text.ok()) return text.status();
    absl::StatusOr<engine::IgnoreRules> rules = engine::IgnoreRules::Parse(*text);
    if (!rules.ok())
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", rules.status().message()));
    return rules;
  }
  return engine::IgnoreRules();
}

absl::Status WriteContext(const std::string& directory, const engine::IgnoreRules& rules,
                          const std::string& dockerfile, ByteSink& out) {
  UniqueFd top(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!top.valid()) return ErrnoToStatus(errno, directory);
  ContextWriter writer(rules, dockerfile, out);
  GANTRY_RETURN_IF_ERROR(writer.Directory(std::move(top), ""));
  return writer.Finish();
}

}  // namespace gantry::ctl
