#include "ctl/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "ctl/terminal.h"

namespace gantry::ctl {

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path, int out_fd) {
  OutputFile out;
  if (path.empty() || path == "-") {
    if (IsTerminal(out_fd)) {
      return absl::InvalidArgumentError(
          "an archive is not for a terminal; use -o FILE, or redirect stdout");
    }
    out.fd_ = out_fd;
    return out;
  }
  out.path_ = path;
  // A device or a pipe is written as it is.
  struct stat st;
  const bool special = ::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode);
  if (special && S_ISDIR(st.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory"));
  }
  if (!special) out.temporary_ = absl::StrCat(path, ".part-", ::getpid());
  const std::string& target = special ? path : out.temporary_;
  out.file_ = UniqueFd(
      ::open(target.c_str(), O_WRONLY | O_CLOEXEC | (special ? 0 : O_CREAT | O_EXCL), 0600));
  if (!out.file_.valid()) {
    const int error = errno;
    out.temporary_.clear();
    return ErrnoToStatus(error, absl::StrCat("create ", path));
  }
  out.fd_ = out.file_.get();
  return out;
}

OutputFile::~OutputFile() {
  if (file_.valid() && !temporary_.empty()) ::unlink(temporary_.c_str());
}

absl::Status OutputFile::Write(absl::string_view data) {
  const absl::Status status = WriteAll(fd_, data);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("write ", path_.empty() ? "stdout" : path_, ": ",
                                                  status.message()));
}

absl::Status OutputFile::Keep() {
  if (temporary_.empty()) return absl::OkStatus();
  // The file keeps mode 0600: images and exported file systems hold secrets.
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("create ", path_));
  }
  file_.reset();
  return absl::OkStatus();
}

}  // namespace gantry::ctl
