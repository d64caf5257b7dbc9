// The input of a process: from a client's FIFO or from attached clients, to its pipe or terminal.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "shim/stdio.h"
#include "shim/stdio_parts.h"
#include "shim/stdio_uri.h"

namespace gantry::shim {
namespace {

constexpr size_t kStdinHighWater = 64 * 1024;

// What an O_PATH descriptor stands for, opened.
UniqueFd OpenAgain(int place, int flags) {
  return UniqueFd(open(absl::StrCat("/proc/self/fd/", place).c_str(), flags | O_CLOEXEC));
}

}  // namespace

absl::Status ProcessIo::OpenStdin() {
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(stdio_.stdin()));
  if (uri.kind == StdioUri::Kind::kNone && !stdio_.attach_stdin()) return absl::OkStatus();
  if (uri.kind != StdioUri::Kind::kNone) {
    if (uri.kind != StdioUri::Kind::kPath && uri.kind != StdioUri::Kind::kFile) {
      return absl::InvalidArgumentError("a logger program cannot be stdin");
    }
    UniqueFd place(open(uri.path.c_str(), O_PATH | O_CLOEXEC));
    struct stat status;
    if (!place.valid() || fstat(place.get(), &status) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("open ", uri.path));
    }
    if (S_ISFIFO(status.st_mode)) {
      stdin_place_ = std::move(place);
    } else if (!stdio_.terminal() && S_ISREG(status.st_mode)) {
      UniqueFd file = OpenAgain(place.get(), O_RDONLY);
      if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", uri.path));
      child_stdio_.in = file.get();
      child_ends_.push_back(std::move(file));
      return absl::OkStatus();
    } else {
      return absl::InvalidArgumentError(absl::StrCat(uri.path, ": not a FIFO"));
    }
  }
  if (stdio_.terminal()) return absl::OkStatus();  // comes with the console
  UniqueFd read_end;
  GANTRY_RETURN_IF_ERROR(MakePipe(read_end, stdin_write_));
  SetNonBlocking(stdin_write_.get());
  if (fchown(read_end.get(), stdio_.owner_uid(), stdio_.owner_gid()) != 0) {
    return ErrnoToStatus(errno, "change owner of pipe");
  }
  child_stdio_.in = read_end.get();
  child_ends_.push_back(std::move(read_end));
  return absl::OkStatus();
}

void ProcessIo::CloseStdin() {
  context_.loop->Post([self = shared_from_this()] {
    self->stdin_fifo_keeper_.reset();
    self->keeps_stdin_fifo_ = false;
    // Of a FIFO the end is what counts: there may be input in it that we have not read.
    if (self->stdin_fifo_.valid() || self->stdin_place_.valid()) return;
    self->stdin_closing_ = true;
    if (self->begun_) self->PumpStdin();
  });
}

void ProcessIo::TakeInput() {
  context_.loop->Post([self = shared_from_this()] {
    const UniqueFd place = std::move(self->stdin_place_);
    if (!place.valid() || self->closed_) return;
    self->stdin_fifo_ = OpenAgain(place.get(), O_RDONLY | O_NONBLOCK);
    // A FIFO reports its end only after it had a writer.
    self->stdin_fifo_keeper_ = OpenAgain(place.get(), O_WRONLY | O_NONBLOCK);
    if (!self->keeps_stdin_fifo_) self->stdin_fifo_keeper_.reset();
    // When no descriptor is left there is no input.
    if (!self->stdin_fifo_.valid()) self->stdin_closing_ = true;
    if (self->begun_) self->WatchStdinFifo();
  });
}

void ProcessIo::EndInput(const AttachedClient* client) {
  context_.loop->Post([self = shared_from_this(), client] {
    for (const Client& each : self->clients_) {
      if (each.client.get() != client || !each.interest.stdin_bytes) continue;
      if (!self->stdio_.stdin_once()) return;
      self->stdin_closing_ = true;
      self->PumpStdin();
      return;
    }
  });
}

void ProcessIo::WriteStdin(const AttachedClient* client, std::string bytes,
                           std::function<void()> taken) {
  context_.loop->Post(
      [self = shared_from_this(), client, bytes = std::move(bytes), taken = std::move(taken)] {
        for (Client& each : self->clients_) {
          if (each.client.get() == client) each.sent_stdin = true;
        }
        const bool lost = self->closed_ || self->stdin_closing_ ||
                          (self->begun_ && !self->stdin_write_.valid() && !self->stdio_.terminal());
        if (lost) {
          taken();
          return;
        }
        self->stdin_pending_ += bytes;
        self->stdin_waiters_.push_back(taken);
        self->PumpStdin();
      });
}

void ProcessIo::WatchStdinFifo() {
  if (stdin_fifo_.valid()) {
    [[maybe_unused]] const absl::Status watched =
        context_.loop->Watch(stdin_fifo_.get(), EPOLLIN, [this](uint32_t) { ReadStdinFifo(); });
  }
  PumpStdin();
}

void ProcessIo::ReadStdinFifo() {
  const absl::Span<char> buffer = context_.loop->scratch();
  const ssize_t count = read(stdin_fifo_.get(), buffer.data(), buffer.size());
  if (count > 0) {
    stdin_pending_.append(buffer.data(), static_cast<size_t>(count));
    PumpStdin();
    return;
  }
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // Ours and every client's write end is closed.
  context_.loop->Unwatch(stdin_fifo_.get());
  stdin_fifo_.reset();
  stdin_closing_ = true;
  PumpStdin();
}

void ProcessIo::PumpStdin() {
  if (!begun_) return;
  if (!stdin_write_.valid()) {
    // A terminal's console may still be on its way; otherwise the process has no stdin (any more).
    if (stdio_.terminal() && !exited_ && !closed_) return;
    stdin_pending_.clear();
  }
  while (!stdin_pending_.empty()) {
    const ssize_t count = write(stdin_write_.get(), stdin_pending_.data(), stdin_pending_.size());
    if (count > 0) {
      stdin_pending_.erase(0, static_cast<size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      // Watched from here on; the events are set by whether something waits.
      context_.loop->Unwatch(stdin_write_.get());
      [[maybe_unused]] const absl::Status watched =
          context_.loop->Watch(stdin_write_.get(), EPOLLOUT, [this](uint32_t) { PumpStdin(); });
      break;
    }
    // The process closed its stdin.
    EndStdin();
    return;
  }
  if (stdin_pending_.empty() && stdin_write_.valid()) context_.loop->Unwatch(stdin_write_.get());
  if (stdin_fifo_.valid()) {
    context_.loop->SetEvents(stdin_fifo_.get(), stdin_pending_.empty() ? kReadable : 0);
  }
  if (stdin_pending_.size() < kStdinHighWater) {
    std::vector<std::function<void()>> waiters;
    waiters.swap(stdin_waiters_);
    for (const std::function<void()>& waiter : waiters) waiter();
  }
  if (stdin_closing_ && stdin_pending_.empty() && stdin_write_.valid()) EndStdin();
}

void ProcessIo::EndStdin() {
  stdin_pending_.clear();
  if (stdin_write_.valid()) {
    context_.loop->Unwatch(stdin_write_.get());
    stdin_write_.reset();
  }
  if (stdin_fifo_.valid()) {
    context_.loop->Unwatch(stdin_fifo_.get());
    stdin_fifo_.reset();
  }
  stdin_fifo_keeper_.reset();
  stdin_place_.reset();
  stdin_closing_ = true;
  std::vector<std::function<void()>> waiters;
  waiters.swap(stdin_waiters_);
  for (const std::function<void()>& waiter : waiters) waiter();
}

}  // namespace gantry::shim
