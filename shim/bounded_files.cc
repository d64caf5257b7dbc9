#include "shim/bounded_files.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

// Beside the bytes of the files: their inodes, and the directory.
constexpr int64_t kInodes = 32;
constexpr int64_t kPage = 4096;

struct Content {
  std::string bytes;
  struct stat info;
};

// A regular file, no link. kNotFound: there is none of that name, or it is something else.
absl::StatusOr<Content> Read(const std::string& path, int64_t max_bytes) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) {
    if (errno == ENOENT || errno == ELOOP)
      return absl::NotFoundError(absl::StrCat(path, ": no such file"));
    return ErrnoToStatus(errno, path);
  }
  Content content;
  if (fstat(file.get(), &content.info) != 0) return ErrnoToStatus(errno, path);
  if (!S_ISREG(content.info.st_mode))
    return absl::NotFoundError(absl::StrCat(path, ": no regular file"));
  if (content.info.st_size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": ", content.info.st_size, " bytes, more than ", max_bytes));
  }
  content.bytes.resize(static_cast<size_t>(content.info.st_size));
  size_t done = 0;
  while (done < content.bytes.size()) {
    const ssize_t got = read(file.get(), content.bytes.data() + done, content.bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoToStatus(errno, path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.bytes.resize(done);
  return content;
}

absl::Status WriteCopy(const std::string& path, const Content& content) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  GANTRY_RETURN_IF_ERROR(WriteAll(file.get(), content.bytes));
  if (fchown(file.get(), content.info.st_uid, content.info.st_gid) != 0)
    return ErrnoToStatus(errno, absl::StrCat("owner of ", path));
  if (fchmod(file.get(), content.info.st_mode & 07777) != 0)
    return ErrnoToStatus(errno, absl::StrCat("mode of ", path));
  return absl::OkStatus();
}

// In place: others may have the file mounted.
absl::Status WriteBack(const std::string& path, const std::string& bytes) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  return WriteAll(file.get(), bytes);
}

}  // namespace

absl::StatusOr<BoundedFiles> BoundedFiles::Make(const std::string& directory,
                                                const std::vector<std::string>& names,
                                                int64_t max_bytes, const std::string& at) {
  if (directory.empty() || directory[0] != '/' || at.empty() || at[0] != '/')
    return absl::InvalidArgumentError("bounded files: a path is not absolute");
  constexpr int64_t kLargest = 16 << 20;  // of the files that the daemon writes itself
  std::vector<std::pair<std::string, Content>> contents;
  int64_t needed = 0;
  for (const std::string& name : names) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("bounded files: \"", name, "\" is not a name for a file"));
    absl::StatusOr<Content> content = Read(absl::StrCat(directory, "/", name), kLargest);
    if (absl::IsNotFound(content.status())) continue;
    GANTRY_RETURN_IF_ERROR(content.status());
    needed += (static_cast<int64_t>(content->bytes.size()) / kPage + 1) * kPage;
    contents.emplace_back(name, *std::move(content));
  }
  GANTRY_RETURN_IF_ERROR(MakeDirectories(at, 0755));
  const int64_t size = std::max(max_bytes, needed);
  const std::string options = absl::StrCat("size=", size, ",nr_inodes=", kInodes, ",mode=0755");
  if (mount("gantry", at.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.c_str()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("mount the generated files at ", at));
  absl::Cleanup unmount = [&at] { umount2(at.c_str(), MNT_DETACH); };
  BoundedFiles files;
  files.directory_ = directory;
  files.at_ = at;
  files.max_bytes_ = size;
  for (const auto& [name, content] : contents) {
    GANTRY_RETURN_IF_ERROR(WriteCopy(absl::StrCat(at, "/", name), content));
    files.names_.push_back(name);
  }
  std::move(unmount).Cancel();
  return files;
}

absl::Status BoundedFiles::End() {
  absl::Status all;
  for (const std::string& name : names_) {
    const std::string path = absl::StrCat(directory_, "/", name);
    const absl::StatusOr<Content> now = Read(absl::StrCat(at_, "/", name), max_bytes_);
    const absl::StatusOr<Content> before = Read(path, max_bytes_);
    if (!now.ok() || (before.ok() && before->bytes == now->bytes)) continue;
    // One that is gone went with the container.
    if (absl::IsNotFound(before.status())) continue;
    all.Update(WriteBack(path, now->bytes));
  }
  if (umount2(at_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
    all.Update(ErrnoToStatus(errno, absl::StrCat("unmount ", at_)));
  names_.clear();
  return all;
}

}  // namespace gantry::shim
