#include "shim/stdio.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"

#include "base/errno_status.h"
#include "base/rotated_log.h"
#include "base/status_macros.h"
#include "shim/log_forward.h"
#include "shim/logger_process.h"
#include "shim/output_sink.h"
#include "shim/shim_log.h"
#include "shim/stdio_uri.h"

namespace gantry::shim {
namespace {

// In one go, before others get their turn.
constexpr size_t kMaxPumpBytes = 256 * 1024;
// What a process may have left in its pipes when it ends; more only comes from others that still
// write.
constexpr size_t kMaxDrainBytes = 1 << 20;
constexpr size_t kStdinHighWater = 64 * 1024;
constexpr absl::Duration kLogRetryInterval = absl::Milliseconds(100);
constexpr absl::Duration kMentionInterval = absl::Seconds(1);
// How long a collector that is there may take for what the process left: two seconds.
constexpr absl::Duration kForwardInterval = absl::Milliseconds(50);
constexpr int kForwardRounds = 40;
// After the exit of a process whose output others hold open: over when it was quiet for one round,
// or after all rounds.
constexpr absl::Duration kQuietInterval = absl::Seconds(1);
constexpr int kQuietRounds = 10;
constexpr uint32_t kReadable = EPOLLIN;
constexpr absl::Duration kConsoleTimeout = absl::Seconds(5);
constexpr size_t kMaxLastWords = 16 * 1024;
constexpr absl::Duration kLastWordsTimeout = absl::Seconds(2);

LogStream StreamOf(int index) { return index == 0 ? LogStream::kStdout : LogStream::kStderr; }

LogOptions LogOptionsOf(const v1::Log& log) {
  LogOptions options;
  options.path = log.path();
  options.format =
      log.format() == v1::Log::CRI ? LogOptions::Format::kCri : LogOptions::Format::kJsonFile;
  options.max_size_bytes = log.max_size_bytes();
  options.max_files = std::max(1, log.max_files());
  options.attributes.insert(log.attributes().begin(), log.attributes().end());
  options.block_when_full = log.block_when_full();
  return options;
}

absl::Status MakePipe(UniqueFd& read_end, UniqueFd& write_end) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe");
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
  return absl::OkStatus();
}

void SetNonBlocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

// What an O_PATH descriptor stands for, opened.
UniqueFd OpenAgain(int place, int flags) {
  return UniqueFd(open(absl::StrCat("/proc/self/fd/", place).c_str(), flags | O_CLOEXEC));
}

}  // namespace

// One stream on its way through the shim.
struct ProcessIo::Output {
  UniqueFd source;                   // read end of the process's pipe, or the terminal
  std::unique_ptr<OutputSink> sink;  // null: only log and clients
  bool ended = false;
};

ProcessIo::ProcessIo(Context context) : context_(std::move(context)) {}
ProcessIo::~ProcessIo() = default;

std::shared_ptr<ProcessIo> ProcessIo::Make(Context context) {
  return std::shared_ptr<ProcessIo>(new ProcessIo(std::move(context)));
}

// --- Opening: the caller's thread
// ----------------------------------------------------------------------------------

absl::Status ProcessIo::Open(const v1::Stdio& stdio) {
  stdio_ = stdio;
  attachable_ = stdio_.attachable() || stdio_.attach_stdin() || stdio_.has_log();
  if (stdio_.has_log() && !stdio_.log().path().empty()) {
    log_ = std::make_unique<LogSink>(LogOptionsOf(stdio_.log()), absl::Now);
    if (const absl::Status status = log_->Open(); !status.ok()) {
      ShimLog(LogLevel::kWarning, absl::StrCat(status.message(), "; tried again with each write"));
    }
  }
  GANTRY_RETURN_IF_ERROR(OpenOutputs());
  return WithContext(OpenStdin(), "stdin");
}

absl::Status ProcessIo::OpenOutputs() {
  if (stdio_.terminal()) {
    GANTRY_ASSIGN_OR_RETURN(ConsoleSocket socket, ConsoleSocket::Listen(context_.console_socket));
    console_socket_.emplace(std::move(socket));
    child_stdio_.console_socket = console_socket_->path();
    return WithContext(OpenTerminalOutput(), "stdout");
  }
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(stdio_.stdout()));
  if (uri.kind == StdioUri::Kind::kBinary || uri.kind == StdioUri::Kind::kBinaryV2) {
    return ConnectLogger(stdio_.stdout());
  }
  GANTRY_RETURN_IF_ERROR(WithContext(OpenPipeOutput(0, stdio_.stdout()), "stdout"));
  // file:// of stdout is for both.
  return WithContext(
      OpenPipeOutput(1, uri.kind == StdioUri::Kind::kFile ? stdio_.stdout() : stdio_.stderr()),
      "stderr");
}

absl::Status ProcessIo::OpenTerminalOutput() {
  outputs_[0] = std::make_unique<Output>();
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(stdio_.stdout()));
  switch (uri.kind) {
    case StdioUri::Kind::kNone:
      return absl::OkStatus();
    case StdioUri::Kind::kPath: {
      GANTRY_ASSIGN_OR_RETURN(outputs_[0]->sink, OutputSink::OpenPath(context_.loop, uri.path));
      return absl::OkStatus();
    }
    case StdioUri::Kind::kFile: {
      GANTRY_RETURN_IF_ERROR(OpenForAppending(uri.path).status());
      GANTRY_ASSIGN_OR_RETURN(outputs_[0]->sink, OutputSink::OpenPath(context_.loop, uri.path));
      return absl::OkStatus();
    }
    case StdioUri::Kind::kBinary:
    case StdioUri::Kind::kBinaryV2:
      return ConnectLogger(stdio_.stdout());
  }
  return absl::OkStatus();
}

absl::Status ProcessIo::OpenPipeOutput(int index, const std::string& uri_text) {
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(uri_text));
  int& child_fd = index == 0 ? child_stdio_.out : child_stdio_.err;
  std::unique_ptr<OutputSink> sink;
  switch (uri.kind) {
    case StdioUri::Kind::kNone:
      if (!attachable_) return absl::OkStatus();  // /dev/null
      break;
    case StdioUri::Kind::kPath: {
      GANTRY_ASSIGN_OR_RETURN(sink, OutputSink::OpenPath(context_.loop, uri.path));
      break;
    }
    case StdioUri::Kind::kFile: {
      GANTRY_ASSIGN_OR_RETURN(UniqueFd file, OpenForAppending(uri.path));
      if (!attachable_) {
        // No client can attach, so the process writes there directly.
        child_fd = file.get();
        child_ends_.push_back(std::move(file));
        return absl::OkStatus();
      }
      GANTRY_ASSIGN_OR_RETURN(sink, OutputSink::OpenPath(context_.loop, uri.path));
      break;
    }
    case StdioUri::Kind::kBinary:
    case StdioUri::Kind::kBinaryV2:
      return absl::InvalidArgumentError("a logger program is given by stdout, for both streams");
  }
  outputs_[index] = std::make_unique<Output>();
  outputs_[index]->sink = std::move(sink);
  UniqueFd write_end;
  GANTRY_RETURN_IF_ERROR(MakePipe(outputs_[index]->source, write_end));
  SetNonBlocking(outputs_[index]->source.get());
  if (fchown(write_end.get(), stdio_.owner_uid(), stdio_.owner_gid()) != 0) {
    return ErrnoToStatus(errno, "change owner of pipe");
  }
  child_fd = write_end.get();
  child_ends_.push_back(std::move(write_end));
  if (index == 1) child_stdio_.last_words = [this] { return LastWords(); };
  return absl::OkStatus();
}

absl::Status ProcessIo::ConnectLogger(const std::string& uri_text) {
  GANTRY_ASSIGN_OR_RETURN(const StdioUri uri, ParseStdioUri(uri_text));
  std::weak_ptr<ProcessIo> weak = weak_from_this();
  GANTRY_ASSIGN_OR_RETURN(
      LoggerPipes pipes,
      StartLogger(uri, context_.name_space, context_.container_id, context_.reaper, [weak] {
        if (std::shared_ptr<ProcessIo> io = weak.lock()) {
          io->LoggerExited();
        }
      }));
  if (stdio_.terminal()) {
    outputs_[0]->sink = OutputSink::ForPipe(context_.loop, std::move(pipes.stdout_write),
                                            std::move(pipes.stdout_read));
    return absl::OkStatus();
  }
  UniqueFd* const writes[2] = {&pipes.stdout_write, &pipes.stderr_write};
  UniqueFd* const reads[2] = {&pipes.stdout_read, &pipes.stderr_read};
  for (int index = 0; index < 2; ++index) {
    int& child_fd = index == 0 ? child_stdio_.out : child_stdio_.err;
    if (!attachable_) {
      // Straight from the process to the logger.
      if (fchown(writes[index]->get(), stdio_.owner_uid(), stdio_.owner_gid()) != 0) {
        return ErrnoToStatus(errno, "change owner of pipe");
      }
      child_fd = writes[index]->get();
      child_ends_.push_back(std::move(*writes[index]));
      logger_keepers_.push_back(std::move(*reads[index]));
      continue;
    }
    GANTRY_RETURN_IF_ERROR(OpenPipeOutput(index, ""));
    outputs_[index]->sink =
        OutputSink::ForPipe(context_.loop, std::move(*writes[index]), std::move(*reads[index]));
  }
  return absl::OkStatus();
}

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

void ProcessIo::CloseChildEnds() {
  child_ends_.clear();
  child_stdio_ = RuntimeStdio();
  keeps_words_ = false;
}

std::string ProcessIo::LastWords() {
  struct Answer {
    absl::Notification ready;
    std::string words;
  };
  // Shared: after a timeout the answer still comes, when we have gone.
  auto answer = std::make_shared<Answer>();
  context_.loop->Post([self = shared_from_this(), answer] {
    if (self->begun_ && !self->closed_ && self->outputs_[1] != nullptr) {
      self->PumpOutput(1, kMaxPumpBytes);
    }
    answer->words = self->last_words_;
    answer->ready.Notify();
  });
  return answer->ready.WaitForNotificationWithTimeout(kLastWordsTimeout) ? answer->words : "";
}

absl::Status ProcessIo::TakeConsole() {
  if (!console_socket_.has_value()) return absl::FailedPreconditionError("process has no terminal");
  absl::StatusOr<UniqueFd> console = console_socket_->ReceiveConsole(kConsoleTimeout);
  console_socket_.reset();
  GANTRY_RETURN_IF_ERROR(console.status());
  // std::function wants something that can be copied.
  auto shared = std::make_shared<UniqueFd>(*std::move(console));
  context_.loop->Post(
      [self = shared_from_this(), shared] { self->InstallConsole(std::move(*shared)); });
  return absl::OkStatus();
}

// --- Posting to the loop
// -------------------------------------------------------------------------------------------

void ProcessIo::Begin() {
  context_.loop->Post([self = shared_from_this()] { self->BeginOnLoop(); });
}

void ProcessIo::Resize(uint32_t width, uint32_t height) {
  context_.loop->Post([self = shared_from_this(), width, height] {
    self->width_ = width;
    self->height_ = height;
    if (!self->stdio_.terminal() || self->outputs_[0] == nullptr ||
        !self->outputs_[0]->source.valid()) {
      return;
    }
    winsize size = {};
    size.ws_col = static_cast<uint16_t>(std::min<uint32_t>(width, UINT16_MAX));
    size.ws_row = static_cast<uint16_t>(std::min<uint32_t>(height, UINT16_MAX));
    ioctl(self->outputs_[0]->source.get(), TIOCSWINSZ, &size);
  });
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

void ProcessIo::Attach(std::shared_ptr<AttachedClient> client, ClientInterest interest) {
  context_.loop->Post([self = shared_from_this(), client = std::move(client), interest] {
    if (self->begun_ && !self->attachable_) {
      client->OnDetached(absl::FailedPreconditionError(
          "the streams of this process go elsewhere and cannot be attached to"));
      return;
    }
    client->OnAttached();
    if (self->begun_ && self->log_ != nullptr) client->KeepIn(self->BacklogDirectory());
    if (self->finished_ || self->closed_) {
      client->OnDetached(absl::OkStatus());
      return;
    }
    self->clients_.push_back({client, interest});
    if (!std::exchange(self->had_client_, true)) self->client_came_.Notify();
  });
}

absl::Status ProcessIo::AwaitClient(absl::Duration limit) const {
  if (!stdio_.await_client() ||
      client_came_.WaitForNotificationWithTimeout(std::min(limit, kClientPatience))) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      "not started: the client that was to have its output did not attach");
}

void ProcessIo::Detach(const AttachedClient* client) {
  context_.loop->Post([self = shared_from_this(), client] {
    auto it = std::find_if(self->clients_.begin(), self->clients_.end(),
                           [&](const Client& c) { return c.client.get() == client; });
    if (it == self->clients_.end()) return;
    const bool end_stdin = it->sent_stdin && self->stdio_.stdin_once();
    self->clients_.erase(it);
    if (end_stdin) {
      self->stdin_closing_ = true;
      self->PumpStdin();
    }
    self->UpdateInterest();
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

void ProcessIo::ClientDrained() {
  context_.loop->Post([self = shared_from_this()] { self->UpdateInterest(); });
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

void ProcessIo::WhenDrained(absl::Duration timeout, std::function<void()> done) {
  context_.loop->Post([self = shared_from_this(), timeout, done = std::move(done)] {
    if (self->finished_ || self->closed_ || !self->begun_) {
      done();
      return;
    }
    const uint64_t id = self->next_waiter_++;
    self->drain_waiters_.emplace(id, done);
    self->context_.loop->After(timeout, [self, id] {
      auto it = self->drain_waiters_.find(id);
      if (it == self->drain_waiters_.end()) return;
      const std::function<void()> waiter = std::move(it->second);
      self->drain_waiters_.erase(it);
      waiter();
    });
  });
}

void ProcessIo::Close(absl::Status reason) {
  context_.loop->Post([self = shared_from_this(), reason] { self->CloseOnLoop(reason); });
}

void ProcessIo::ReopenLog(std::function<void(absl::Status)> done) {
  context_.loop->Post([self = shared_from_this(), done = std::move(done)] {
    if (self->log_ == nullptr) {
      done(absl::OkStatus());
      return;
    }
    self->ConnectCollector();
    const absl::Status status = self->log_->Reopen();
    if (!status.ok()) ShimLog(LogLevel::kWarning, absl::StrCat("reopen: ", status.message()));
    done(status);
  });
}

// --- On the loop
// ---------------------------------------------------------------------------------------------------

void ProcessIo::BeginOnLoop() {
  if (begun_ || closed_) return;
  begun_ = true;
  self_ = shared_from_this();
  if (!attachable_) {
    DetachAll(absl::FailedPreconditionError(
        "the streams of this process go elsewhere and cannot be attached to"));
  }
  if (log_ != nullptr) {
    for (const Client& client : clients_) client.client->KeepIn(BacklogDirectory());
    ConnectCollector();
  }
  if (logger_dead_) LoggerExited();
  for (int index = 0; index < 2; ++index) {
    if (outputs_[index] != nullptr && outputs_[index]->sink != nullptr) {
      outputs_[index]->sink->set_on_drained([this, index] {
        // The end of the process's output may have been waiting for this.
        if (outputs_[index]->ended) FinishIfDelivered();
        UpdateInterest();
      });
    }
    if (outputs_[index] != nullptr && outputs_[index]->source.valid()) WatchOutput(index);
  }
  WatchStdinFifo();
}

void ProcessIo::WatchStdinFifo() {
  if (stdin_fifo_.valid()) {
    [[maybe_unused]] const absl::Status watched =
        context_.loop->Watch(stdin_fifo_.get(), EPOLLIN, [this](uint32_t) { ReadStdinFifo(); });
  }
  PumpStdin();
}

void ProcessIo::InstallConsole(UniqueFd console) {
  if (closed_) return;
  stdin_write_.reset(fcntl(console.get(), F_DUPFD_CLOEXEC, 3));
  outputs_[0]->source = std::move(console);
  if (width_ == 0 && height_ == 0) {
    width_ = stdio_.width();
    height_ = stdio_.height();
  }
  if (width_ != 0 || height_ != 0) Resize(width_, height_);
  if (begun_) {
    WatchOutput(0);
    PumpStdin();
  } else {
    BeginOnLoop();
  }
}

void ProcessIo::WatchOutput(int index) {
  const absl::Status status =
      context_.loop->Watch(outputs_[index]->source.get(), EPOLLIN, [this, index](uint32_t) {
        // The callback may end in Close(), which drops the last reference.
        const std::shared_ptr<ProcessIo> keep = shared_from_this();
        PumpOutput(index, kMaxPumpBytes);
      });
  if (!status.ok()) ShimLog(LogLevel::kError, status.message());
}

std::string ProcessIo::BacklogDirectory() const { return LogDirectory(stdio_.log().path()); }

bool ProcessIo::ClientHoldsUp() const {
  return std::any_of(clients_.begin(), clients_.end(),
                     [](const Client& client) { return client.client->HoldsUp(); });
}

bool ProcessIo::MayRead(int index, bool for_clients) const {
  const Output& output = *outputs_[index];
  if (output.ended || !output.source.valid()) return false;
  if (log_ != nullptr && log_->blocked()) return false;
  if (output.sink != nullptr && output.sink->pending()) return false;
  return !for_clients || !ClientHoldsUp();
}

void ProcessIo::PumpOutput(int index, size_t max_bytes, bool for_clients) {
  const absl::Span<char> buffer = context_.loop->scratch();
  size_t total = 0;
  while (total < max_bytes && MayRead(index, for_clients)) {
    const ssize_t count = read(outputs_[index]->source.get(), buffer.data(), buffer.size());
    if (count > 0) {
      total += static_cast<size_t>(count);
      Deliver(index, absl::string_view(buffer.data(), static_cast<size_t>(count)));
      // A short read means that the pipe is empty, so the next read is saved.
      if (static_cast<size_t>(count) < buffer.size() && !exited_) break;
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    // 0: all write ends are closed. EIO: all of a terminal's.
    EndOutput(index);
    return;
  }
  UpdateInterest();
}

void ProcessIo::Deliver(int index, absl::string_view bytes) {
  bytes_seen_ += bytes.size();
  if (index == 1 && keeps_words_) {
    last_words_.append(bytes.data(), bytes.size());
    if (last_words_.size() > kMaxLastWords)
      last_words_.erase(0, last_words_.size() - kMaxLastWords);
  } else if (!last_words_.empty()) {
    last_words_ = std::string();
  }
  Output& output = *outputs_[index];
  if (log_ != nullptr) {
    log_->Write(StreamOf(index), bytes);
    if (log_->blocked() && log_timer_ == 0) {
      log_timer_ = context_.loop->After(kLogRetryInterval, [this] { RetryLog(); });
    }
  }
  for (const Client& client : clients_) {
    if (!(index == 0 ? client.interest.stdout_bytes : client.interest.stderr_bytes)) continue;
    client.client->OnOutput(StreamOf(index), bytes);
  }
  // With a log, what the reader of a FIFO does not keep up with can be read from there.
  if (output.sink != nullptr) output.sink->Write(bytes, /*lossy=*/log_ != nullptr);
}

void ProcessIo::UpdateInterest() {
  for (int index = 0; index < 2; ++index) {
    if (outputs_[index] == nullptr || !outputs_[index]->source.valid() || outputs_[index]->ended) {
      continue;
    }
    context_.loop->SetEvents(outputs_[index]->source.get(), MayRead(index) ? kReadable : 0);
  }
}

void ProcessIo::RetryLog() {
  log_timer_ = 0;
  log_->Retry();
  if (log_->blocked()) {
    log_timer_ = context_.loop->After(kLogRetryInterval, [this] { RetryLog(); });
    return;
  }
  FinishIfDelivered();
  UpdateInterest();
}

void ProcessIo::MentionDropped() {
  mention_timer_ = 0;
  if (log_ == nullptr || log_->MentionDropped() || closed_) return;
  mention_timer_ = context_.loop->After(kMentionInterval, [this] { MentionDropped(); });
}

void ProcessIo::LoggerExited() {
  logger_dead_ = true;
  if (!begun_ || closed_) return;
  ShimLog(LogLevel::kWarning,
          "the logger program has ended; output for it is dropped from here on");
  for (const std::unique_ptr<Output>& output : outputs_) {
    if (output != nullptr && output->sink != nullptr) output->sink->Abandon();
  }
  for (const UniqueFd& keeper : logger_keepers_) {
    const int fd = keeper.get();
    SetNonBlocking(fd);
    [[maybe_unused]] const absl::Status watched =
        context_.loop->Watch(fd, EPOLLIN, [this, fd](uint32_t) {
          const absl::Span<char> ignored = context_.loop->scratch();
          if (read(fd, ignored.data(), ignored.size()) == 0) context_.loop->Unwatch(fd);
        });
  }
}

void ProcessIo::EndOutput(int index) {
  Output& output = *outputs_[index];
  context_.loop->Unwatch(output.source.get());
  output.ended = true;
  if (!stdio_.terminal()) output.source.reset();
  if (log_ != nullptr) log_->Flush(StreamOf(index));
  if (output.sink != nullptr) output.sink->Finish();
  FinishIfDelivered();
}

bool ProcessIo::AllDelivered() const {
  if (log_ != nullptr && log_->blocked()) return false;
  return std::all_of(
      std::begin(outputs_), std::end(outputs_), [](const std::unique_ptr<Output>& output) {
        return output == nullptr ||
               (output->ended && (output->sink == nullptr || !output->sink->pending()));
      });
}

void ProcessIo::ConnectCollector() {
  log_->set_on_line(nullptr);
  forward_.reset();
  // Kubernetes' logs are its own to send on.
  if (stdio_.log().format() == v1::Log::CRI) return;
  const absl::StatusOr<ForwardOptions> options = ReadForwardOptions(stdio_.log().path());
  if (!options.ok()) {
    if (!absl::IsNotFound(options.status()))
      ShimLog(LogLevel::kWarning, options.status().message());
    return;
  }
  forward_ = std::make_unique<LogForward>(context_.loop, *options);
  log_->set_on_line([this](LogStream stream, absl::string_view text, bool complete, absl::Time at) {
    forward_->Write(stream, text, complete, at);
  });
}

bool ProcessIo::ForwardLags() {
  if (forward_ == nullptr || forward_->waiting_bytes() == 0 || !forward_->problem().empty() ||
      ++forward_rounds_ > kForwardRounds)
    return false;
  if (forward_timer_ == 0) {
    forward_timer_ = context_.loop->After(kForwardInterval, [this] {
      forward_timer_ = 0;
      FinishIfDelivered();
    });
  }
  return true;
}

void ProcessIo::FinishIfDelivered() {
  if (exited_ && AllDelivered() && !ForwardLags()) Finish(absl::OkStatus());
}

void ProcessIo::Finish(const absl::Status& reason) {
  if (finished_) return;
  finished_ = true;
  context_.loop->CancelTimer(quiet_timer_);
  DetachAll(reason);
  std::map<uint64_t, std::function<void()>> waiters;
  waiters.swap(drain_waiters_);
  for (const auto& [id, waiter] : waiters) waiter();
}

void ProcessIo::DetachAll(const absl::Status& status) {
  std::vector<Client> clients;
  clients.swap(clients_);
  for (const Client& client : clients) client.client->OnDetached(status);
}

void ProcessIo::ProcessExited() {
  if (closed_) return;
  exited_ = true;
  for (int index = 0; index < 2; ++index) {
    if (outputs_[index] != nullptr && outputs_[index]->source.valid() && !outputs_[index]->ended) {
      // What the process has left in its pipe is little, and taken out whatever holds up the
      // clients.
      PumpOutput(index, kMaxDrainBytes, /*for_clients=*/false);
    }
  }
  EndStdin();
  MentionDropped();
  FinishIfDelivered();
  if (finished_) return;
  bytes_at_quiet_check_ = bytes_seen_;
  quiet_timer_ = context_.loop->After(kQuietInterval, [this] { CheckQuiet(kQuietRounds); });
}

void ProcessIo::CheckQuiet(int rounds_left) {
  // A slow FIFO reader or a full disk is not quiet: what waits for them is output too. A client is
  // waited for as long as it is there.
  const bool held_up = ClientHoldsUp();
  const bool waiting =
      held_up || (log_ != nullptr && log_->blocked()) ||
      std::any_of(std::begin(outputs_), std::end(outputs_), [](const auto& output) {
        return output != nullptr && output->sink != nullptr && output->sink->pending();
      });
  if (rounds_left == 0 || (bytes_seen_ == bytes_at_quiet_check_ && !waiting)) {
    Finish(absl::OkStatus());
    return;
  }
  bytes_at_quiet_check_ = bytes_seen_;
  const int next = held_up ? rounds_left : rounds_left - 1;
  quiet_timer_ = context_.loop->After(kQuietInterval, [this, next] { CheckQuiet(next); });
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

void ProcessIo::CloseOnLoop(const absl::Status& reason) {
  if (closed_) return;
  const std::shared_ptr<ProcessIo> keep = std::move(self_);
  closed_ = true;
  EndStdin();
  for (int index = 0; index < 2; ++index) {
    if (outputs_[index] == nullptr) continue;
    if (outputs_[index]->source.valid()) context_.loop->Unwatch(outputs_[index]->source.get());
    if (log_ != nullptr) log_->Flush(StreamOf(index));
    outputs_[index]->ended = true;
    outputs_[index]->source.reset();
    outputs_[index]->sink.reset();
  }
  for (const UniqueFd& keeper : logger_keepers_) context_.loop->Unwatch(keeper.get());
  logger_keepers_.clear();
  if (log_ != nullptr) {
    (void)log_->MentionDropped();
    log_->set_on_line(nullptr);
    if (forward_ != nullptr) {
      const uint64_t lost = forward_->dropped_lines() + forward_->waiting_lines();
      if (lost > 0) {
        log_->Write(
            LogStream::kStderr,
            absl::StrCat("[gantry] ", lost, lost == 1 ? " line was" : " lines were",
                         " not delivered to the collector of this log: ",
                         forward_->problem().empty() ? "it was too slow" : forward_->problem(),
                         "\n"));
      }
    }
  }
  forward_.reset();
  for (EventLoop::TimerId* timer : {&log_timer_, &mention_timer_, &quiet_timer_, &forward_timer_}) {
    context_.loop->CancelTimer(*timer);
  }
  Finish(reason);
}

}  // namespace gantry::shim
