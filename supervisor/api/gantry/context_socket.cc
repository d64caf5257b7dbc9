#include "supervisor/api/gantry/context_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/content_frame.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/build/context_store.h"

namespace gantry::api::gantry_v1 {
namespace {

constexpr int64_t kProgressBytes = 1 << 20;
// Of seconds in which nothing comes; the token is looked at after each.
constexpr int kPatienceSeconds = 60;
constexpr size_t kReadBytes = 64 << 10;

// Bytes of the socket. Headers and small pieces are read many at a time, large pieces go where they
// belong.
class Reader {
 public:
  Reader(int fd, CancelToken* cancel) : fd_(fd), cancel_(cancel) {}

  absl::Status Take(char* to, size_t n) {
    while (n > 0) {
      if (at_ < have_) {
        const size_t taken = std::min(n, have_ - at_);
        memcpy(to, buffer_ + at_, taken);
        at_ += taken;
        to += taken;
        n -= taken;
        continue;
      }
      if (n >= kReadBytes) {
        GANTRY_ASSIGN_OR_RETURN(const size_t got, Some(to, n));
        to += got;
        n -= got;
        continue;
      }
      GANTRY_ASSIGN_OR_RETURN(have_, Some(buffer_, sizeof buffer_));
      at_ = 0;
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<size_t> Some(char* to, size_t n) {
    for (int idle = 0; idle < kPatienceSeconds;) {
      if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
      const ssize_t got = recv(fd_, to, n, 0);
      if (got > 0) return static_cast<size_t>(got);
      if (got == 0) return absl::DataLossError("the client ended before its files");
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        ++idle;
      } else if (errno != EINTR) {
        return ErrnoToStatus(errno, "files of the client");
      }
    }
    return absl::UnavailableError(
        absl::StrCat("the client sent nothing for ", kPatienceSeconds, " seconds"));
  }

  const int fd_;
  CancelToken* const cancel_;
  char buffer_[kReadBytes];
  size_t at_ = 0;
  size_t have_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ContextSocket>> ContextSocket::Make(const std::string& directory) {
  std::string random(16, '\0');
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return ErrnoToStatus(errno, "random bytes");
  const std::string path = absl::StrCat(directory, "/", absl::BytesToHexString(random));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return absl::InvalidArgumentError(absl::StrCat(path, ": too long for a socket"));
  memcpy(address.sun_path, path.data(), path.size());
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0711));
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return ErrnoToStatus(errno, "socket");
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return ErrnoToStatus(errno, path);
  std::unique_ptr<ContextSocket> made(new ContextSocket(path, std::move(listener)));
  const timeval second = {1, 0};  // accept() ends after it, too
  if (chmod(path.c_str(), 0666) != 0 ||
      setsockopt(made->listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second) != 0 ||
      listen(made->listener_.get(), 1) != 0)
    return ErrnoToStatus(errno, path);
  return made;
}

ContextSocket::~ContextSocket() { unlink(path_.c_str()); }

absl::Status ContextSocket::Receive(build::ContextUpdate& update, size_t left, CancelToken* cancel,
                                    const std::function<void(int64_t)>& progress) {
  const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client.valid()) return ErrnoToStatus(errno, "socket for the client's files");
  const timeval second = {1, 0};
  if (setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second) != 0)
    return ErrnoToStatus(errno, "socket for the client's files");
  const auto reader = std::make_unique<Reader>(client.get(), cancel);
  int64_t told = 0;
  while (left > 0) {
    unsigned char header[ContentFrame::kHeaderBytes];
    GANTRY_RETURN_IF_ERROR(reader->Take(reinterpret_cast<char*>(header), sizeof header));
    const ContentFrame frame = ContentFrame::Read(header);
    if (frame.bytes > ContentFrame::kMaxBytes)
      return absl::InvalidArgumentError("a piece of a file that is larger than pieces are");
    std::string bytes = update.Buffer();
    bytes.resize(frame.bytes);
    GANTRY_RETURN_IF_ERROR(reader->Take(bytes.data(), bytes.size()));
    GANTRY_RETURN_IF_ERROR(update.Write(frame.index, std::move(bytes)));
    if (frame.end) {
      GANTRY_RETURN_IF_ERROR(update.Close(frame.index, frame.missing));
      --left;
    }
    if (progress && (update.received_bytes() - told >= kProgressBytes || left == 0)) {
      told = update.received_bytes();
      progress(told);
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::api::gantry_v1
