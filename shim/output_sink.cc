#include "shim/output_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

// How often a full FIFO is checked for a reader.
constexpr absl::Duration kReaderCheckInterval = absl::Milliseconds(200);

}  // namespace

absl::StatusOr<UniqueFd> OpenForAppending(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash > 0) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(path.substr(0, slash), 0755));
  }
  UniqueFd file(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  return file;
}

OutputSink::OutputSink(EventLoop* loop, UniqueFd write, UniqueFd keeper, std::string fifo_path)
    : loop_(loop),
      fifo_path_(std::move(fifo_path)),
      write_(std::move(write)),
      keeper_(std::move(keeper)) {}

OutputSink::~OutputSink() { CloseAll(); }

absl::StatusOr<std::unique_ptr<OutputSink>> OutputSink::OpenPath(EventLoop* loop,
                                                                 const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  if (!S_ISFIFO(status.st_mode)) {
    GANTRY_ASSIGN_OR_RETURN(UniqueFd file, OpenForAppending(path));
    return std::unique_ptr<OutputSink>(new OutputSink(loop, std::move(file), UniqueFd(), ""));
  }
  // The read end first: opening the write end without blocking needs a reader.
  UniqueFd keeper(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!keeper.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  UniqueFd write(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!write.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  std::unique_ptr<OutputSink> sink(new OutputSink(loop, std::move(write), std::move(keeper), path));
  sink->seen_reader_ = sink->HasReader();
  return sink;
}

std::unique_ptr<OutputSink> OutputSink::ForPipe(EventLoop* loop, UniqueFd write, UniqueFd keeper) {
  fcntl(write.get(), F_SETFL, O_NONBLOCK);
  return std::unique_ptr<OutputSink>(new OutputSink(loop, std::move(write), std::move(keeper), ""));
}

bool OutputSink::HasReader() {
  if (fifo_path_.empty()) return true;
  // What is in the FIFO stays while the write end is open.
  keeper_.reset();
  pollfd poll_fd = {write_.get(), POLLOUT, 0};
  poll(&poll_fd, 1, 0);
  const bool has_reader = (poll_fd.revents & POLLERR) == 0;
  // Through the descriptor, not the name: the client may have removed that.
  keeper_.reset(open(absl::StrCat("/proc/self/fd/", write_.get()).c_str(),
                     O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  return has_reader;
}

size_t OutputSink::WriteSome(absl::string_view bytes) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = write(write_.get(), bytes.data() + written, bytes.size() - written);
    if (count > 0) {
      written += static_cast<size_t>(count);
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return written;
    // A full disk, a broken pipe: lost, as it would be without us.
    return bytes.size();
  }
  return written;
}

void OutputSink::Write(absl::string_view bytes, bool lossy) {
  if (!write_.valid()) return;
  if (!pending_.empty()) {
    if (!lossy) absl::StrAppend(&pending_, bytes);
    return;
  }
  const size_t written = WriteSome(bytes);
  if (written == bytes.size() || lossy) return;
  seen_reader_ = seen_reader_ || HasReader();
  if (seen_reader_ && !HasReader()) return;
  pending_ = std::string(bytes.substr(written));
  if (!watched_) {
    watched_ = loop_->Watch(write_.get(), EPOLLOUT, [this](uint32_t) { OnWritable(); }).ok();
  } else {
    loop_->SetEvents(write_.get(), EPOLLOUT);
  }
  timer_ = loop_->After(kReaderCheckInterval, [this] { CheckReader(); });
}

void OutputSink::CheckReader() {
  timer_ = 0;
  if (pending_.empty()) return;
  const bool has_reader = HasReader();
  seen_reader_ = seen_reader_ || has_reader;
  if (seen_reader_ && !has_reader) {
    pending_.clear();
    OnWritable();
    return;
  }
  timer_ = loop_->After(kReaderCheckInterval, [this] { CheckReader(); });
}

void OutputSink::OnWritable() {
  if (!pending_.empty()) pending_.erase(0, WriteSome(pending_));
  if (!pending_.empty()) return;
  pending_.shrink_to_fit();
  loop_->SetEvents(write_.get(), 0);
  loop_->CancelTimer(timer_);
  timer_ = 0;
  if (finishing_) CloseAll();
  // Last: it may destroy us.
  if (on_drained_) {
    const std::function<void()> on_drained = on_drained_;
    on_drained();
  }
}

void OutputSink::Finish() {
  finishing_ = true;
  if (pending_.empty()) CloseAll();
}

void OutputSink::Abandon() {
  if (!write_.valid()) return;
  pending_.clear();
  CloseAll();
  if (on_drained_) {
    const std::function<void()> on_drained = on_drained_;
    on_drained();
  }
}

void OutputSink::CloseAll() {
  // A sink that was never written to may be destroyed on another thread.
  if (timer_ != 0) loop_->CancelTimer(timer_);
  timer_ = 0;
  if (write_.valid() && watched_) loop_->Unwatch(write_.get());
  watched_ = false;
  write_.reset();
  keeper_.reset();
}

}  // namespace gantry::shim
