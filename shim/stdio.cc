#include "shim/stdio.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"

#include "base/rotated_log.h"
#include "base/status_macros.h"
#include "shim/log_forward.h"
#include "shim/output_sink.h"
#include "shim/shim_log.h"
#include "shim/stdio_parts.h"

namespace gantry::shim {
namespace {

// In one go, before others get their turn.
constexpr size_t kMaxPumpBytes = 256 * 1024;
// What a process may have left in its pipes when it ends; more only comes from others that still
// write.
constexpr size_t kMaxDrainBytes = 1 << 20;
constexpr absl::Duration kLogRetryInterval = absl::Milliseconds(100);
constexpr absl::Duration kMentionInterval = absl::Seconds(1);
// How long a collector that is there may take for what the process left: two seconds.
constexpr absl::Duration kForwardInterval = absl::Milliseconds(50);
constexpr int kForwardRounds = 40;
// After the exit of a process whose output others hold open: over when it was quiet for one round,
// or after all rounds.
constexpr absl::Duration kQuietInterval = absl::Seconds(1);
constexpr int kQuietRounds = 10;
constexpr absl::Duration kConsoleTimeout = absl::Seconds(5);
constexpr size_t kMaxLastWords = 16 * 1024;
constexpr absl::Duration kLastWordsTimeout = absl::Seconds(2);

LogStream StreamOf(int index) { return index == 0 ? LogStream::kStdout : LogStream::kStderr; }

}  // namespace

ProcessIo::ProcessIo(Context context) : context_(std::move(context)) {}
ProcessIo::~ProcessIo() = default;

std::shared_ptr<ProcessIo> ProcessIo::Make(Context context) {
  return std::shared_ptr<ProcessIo>(new ProcessIo(std::move(context)));
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

void ProcessIo::ClientDrained() {
  context_.loop->Post([self = shared_from_this()] { self->UpdateInterest(); });
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
