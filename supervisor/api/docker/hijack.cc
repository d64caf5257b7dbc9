#include "supervisor/api/docker/hijack.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::api::docker {
namespace {

constexpr size_t kReadBytes = 32 << 10;
// How long a connection that has ended is read on: bytes that nobody read would make the kernel
// cut off what the client has not received.
constexpr absl::Duration kLinger = absl::Seconds(1);
// Between two looks whether a client has read the header.
constexpr absl::Duration kFirstLook = absl::Microseconds(50);
constexpr absl::Duration kLastLook = absl::Milliseconds(2);
constexpr char kDefaultDetachKeys[] = "ctrl-p,ctrl-q";

bool WouldBlock(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

std::string Frame(FrameOf stream, absl::string_view bytes) {
  std::string out;
  out.reserve(8 + bytes.size());
  out.push_back(static_cast<char>(stream));
  out.append(3, '\0');
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(static_cast<uint32_t>(bytes.size()) >> shift & 0xFF));
  out.append(bytes.data(), bytes.size());
  return out;
}

absl::string_view StreamType(ApiVersion version, bool terminal) {
  if (terminal || version < ApiVersion{1, 42}) return "application/vnd.docker.raw-stream";
  return "application/vnd.docker.multiplexed-stream";
}

absl::StatusOr<std::string> ParseDetachKeys(absl::string_view text) {
  if (text.empty()) text = kDefaultDetachKeys;
  std::string keys;
  for (absl::string_view key : absl::StrSplit(text, ',')) {
    const absl::Status malformed = absl::InvalidArgumentError(
        absl::StrCat("Invalid detach keys (", text, ") provided: \"", key,
                     "\" is not a key; write a letter or ctrl-LETTER, separated by commas"));
    if (key.size() == 1) {
      keys.push_back(key[0]);
      continue;
    }
    if (!absl::ConsumePrefix(&key, "ctrl-") || key.size() != 1) return malformed;
    const char c = absl::ascii_tolower(static_cast<unsigned char>(key[0]));
    static constexpr absl::string_view kOthers = "@[\\]^_";
    if (c >= 'a' && c <= 'z') {
      keys.push_back(static_cast<char>(c - 'a' + 1));
    } else if (const size_t at = kOthers.find(c); at != absl::string_view::npos) {
      keys.push_back(static_cast<char>(at == 0 ? 0 : 26 + at));
    } else {
      return malformed;
    }
  }
  return keys;
}

std::string DetachKeys::Filter(absl::string_view typed, bool* detached) {
  *detached = false;
  if (keys_.empty()) return std::string(typed);
  std::string out;
  for (const char c : typed) {
    if (c == keys_[matched_]) {
      if (++matched_ == keys_.size()) {
        matched_ = 0;
        *detached = true;
        return out;
      }
      continue;
    }
    // They were other keys after all; the last one may begin the sequence anew.
    out.append(keys_, 0, matched_);
    matched_ = 0;
    if (c == keys_[0]) {
      matched_ = 1;
    } else {
      out.push_back(c);
    }
  }
  return out;
}

absl::Status CheckUpgrade(const Request& request) {
  const std::string& upgrade = request.head().field("upgrade");
  if (upgrade.empty() || absl::EqualsIgnoreCase(upgrade, "tcp")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("this stream cannot be upgraded to \"", upgrade, "\", only to \"tcp\""));
}

absl::StatusOr<http::Hijacked> TakeConnection(Request& request, absl::string_view content_type) {
  GANTRY_RETURN_IF_ERROR(CheckUpgrade(request));
  std::string head;
  if (request.head().field("upgrade").empty()) {
    head = "HTTP/1.1 200 OK\r\n";
  } else {
    head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";
  }
  absl::StrAppend(&head, "Content-Type: ", content_type, "\r\n");
  for (const auto& [name, value] : CommonFields())
    absl::StrAppend(&head, name, ": ", value, "\r\n");
  GANTRY_ASSIGN_OR_RETURN(http::Hijacked client, request.Hijack());
  // A client that has gone shows with the first byte of the stream.
  (void)SendAll(client.fd.get(), absl::StrCat(head, "\r\n"));
  return client;
}

absl::StatusOr<http::Hijacked> TakeWebSocket(Request& request) {
  if (!http::IsWebSocketUpgrade(request.head()))
    return absl::InvalidArgumentError("this path is for WebSocket clients: ask for the upgrade");
  std::string protocol;
  GANTRY_ASSIGN_OR_RETURN(const http::Fields accepted,
                          http::AcceptWebSocket(request.head(), {""}, protocol));
  std::string head = "HTTP/1.1 101 Switching Protocols\r\n";
  for (const http::Fields& fields : {accepted, CommonFields()}) {
    for (const auto& [name, value] : fields) absl::StrAppend(&head, name, ": ", value, "\r\n");
  }
  GANTRY_ASSIGN_OR_RETURN(http::Hijacked client, request.Hijack());
  // A client that has gone shows with the first byte of the stream.
  (void)SendAll(client.fd.get(), absl::StrCat(head, "\r\n"));
  return client;
}

absl::Status SendAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (!WouldBlock(errno)) return ErrnoToStatus(errno, "send");
    pollfd one = {fd, POLLOUT, 0};
    if (poll(&one, 1, -1) < 0 && errno != EINTR) return ErrnoToStatus(errno, "poll");
  }
  return absl::OkStatus();
}

void EndConnection(http::Hijacked client) {
  if (!client.fd.valid() || shutdown(client.fd.get(), SHUT_WR) != 0) return;
  const absl::Duration deadline = Clock::Real().Monotonic() + kLinger;
  char dropped[4096];
  while (true) {
    const ssize_t got = recv(client.fd.get(), dropped, sizeof dropped, 0);
    if (got == 0 || (got < 0 && !WouldBlock(errno) && errno != EINTR)) return;
    const absl::Duration left = deadline - Clock::Real().Monotonic();
    if (left <= absl::ZeroDuration()) return;
    pollfd one = {client.fd.get(), POLLIN, 0};
    poll(&one, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
  }
}

ProcessStream::ProcessStream(Options options)
    : options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      keys_(options_.detach_keys) {}

ProcessStream::~ProcessStream() {
  std::unique_ptr<runtime::AttachStream> stream;
  {
    absl::MutexLock lock(&mu_);
    stream = std::move(stream_);
  }
  // Ends outside of the lock: that waits for a call that is under way, which takes it.
  stream.reset();
}

void ProcessStream::Wake() const {
  const uint64_t one = 1;
  // An eventfd that is readable already needs no further write.
  if (write(wake_.get(), &one, sizeof one) < 0) errno = 0;
}

void ProcessStream::AskForMore() {
  if (stream_ != nullptr) {
    stream_->Read();
  } else {
    more_wanted_ = true;
  }
}

void ProcessStream::Use(absl::StatusOr<std::unique_ptr<runtime::AttachStream>> stream) {
  {
    absl::MutexLock lock(&mu_);
    if (stream.ok()) {
      stream_ = *std::move(stream);
      if (std::exchange(more_wanted_, false)) stream_->Read();
    } else {
      done_ = stream.status();
    }
  }
  Wake();
}

absl::Status ProcessStream::AwaitAttached(absl::Duration patience) {
  absl::MutexLock lock(&mu_);
  const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return attached_ || output_.has_value() || exited_.has_value() || done_.has_value();
  };
  if (!mu_.AwaitWithTimeout(absl::Condition(&settled), patience))
    return absl::UnavailableError("attach: the shim does not answer");
  if (done_.has_value() && !done_->ok()) return *done_;
  return absl::OkStatus();
}

void ProcessStream::OnOutput(shim::v1::AttachOutput output) {
  {
    absl::MutexLock lock(&mu_);
    switch (output.output_case()) {
      case shim::v1::AttachOutput::kStdout:
      case shim::v1::AttachOutput::kStderr:
        output_ = std::move(output);
        break;
      case shim::v1::AttachOutput::kExited:
        exited_ = output.exited();
        break;
      case shim::v1::AttachOutput::kAttached:
        attached_ = true;
        AskForMore();
        return;
      case shim::v1::AttachOutput::OUTPUT_NOT_SET:
        AskForMore();
        return;
    }
  }
  Wake();
}

void ProcessStream::OnWritable() {
  {
    absl::MutexLock lock(&mu_);
    input_held_ = false;
  }
  Wake();
}

void ProcessStream::OnDone(const absl::Status& status) {
  {
    absl::MutexLock lock(&mu_);
    done_ = status;
  }
  Wake();
}

std::string ProcessStream::TakeOutput() {
  absl::MutexLock lock(&mu_);
  if (!output_.has_value()) return "";
  const bool is_stderr = output_->output_case() == shim::v1::AttachOutput::kStderr;
  std::string bytes =
      std::move(is_stderr ? *output_->mutable_stderr() : *output_->mutable_stdout());
  output_.reset();
  return Encode(is_stderr ? FrameOf::kStderr : FrameOf::kStdout, std::move(bytes));
}

std::string ProcessStream::Encode(FrameOf stream, std::string bytes) {
  if (bytes.empty()) return bytes;
  if (options_.websocket) {
    options_.websocket_text ? websocket_.SendText(bytes) : websocket_.SendBinary(bytes);
    return websocket_.TakeOutput();
  }
  return options_.terminal ? bytes : Frame(stream, bytes);
}

void ProcessStream::AwaitHeadTaken(int fd) {
  if (std::exchange(head_taken_, true)) return;
  const absl::Duration deadline = Clock::Real().Monotonic() + options_.head_patience;
  absl::Duration pause = kFirstLook;
  // What the other side has not read is still charged to this one.
  for (int unread = 0; ioctl(fd, SIOCOUTQ, &unread) == 0 && unread > 0;
       pause = std::min(2 * pause, kLastLook)) {
    if (Clock::Real().Monotonic() >= deadline) return;
    absl::SleepFor(pause);
  }
}

absl::Status ProcessStream::Send(http::Hijacked& client, FrameOf stream, absl::string_view bytes) {
  AwaitHeadTaken(client.fd.get());
  return SendAll(client.fd.get(), Encode(stream, std::string(bytes)));
}

void ProcessStream::Finish(http::Hijacked client) {
  if (options_.websocket) {
    websocket_.Close(http::CloseCode::kNormal);
    // A client that has gone needs no farewell.
    (void)SendAll(client.fd.get(), websocket_.TakeOutput());
  }
  EndConnection(std::move(client));
}

void ProcessStream::Forward(std::string bytes) {
  if (bytes.empty() || !options_.input) return;
  shim::v1::AttachInput input;
  input.set_stdin(std::move(bytes));
  absl::MutexLock lock(&mu_);
  if (stream_ != nullptr && !stream_->Write(std::move(input))) input_held_ = true;
}

bool ProcessStream::Decode(std::string& bytes) {
  if (!options_.websocket) return true;
  const absl::StatusOr<std::vector<http::WebSocketMessage>> messages = websocket_.Feed(bytes);
  bytes.clear();
  if (!messages.ok()) return false;
  for (const http::WebSocketMessage& message : *messages) bytes += message.data;
  return !websocket_.close_received();
}

bool ProcessStream::TakeInput(http::Hijacked& client, bool* detached) {
  std::string typed = std::exchange(client.read_already, {});
  if (typed.empty()) {
    typed.resize(kReadBytes);
    const ssize_t got = recv(client.fd.get(), typed.data(), typed.size(), 0);
    if (got < 0) return WouldBlock(errno) || errno == EINTR;
    typed.resize(static_cast<size_t>(got));
    if (got == 0) {
      // Only its sending side may be closed: output goes on.
      input_over_ = true;
      if (!options_.input || !options_.input_ends_too) return true;
      shim::v1::AttachInput input;
      input.set_close_stdin(true);
      absl::MutexLock lock(&mu_);
      if (stream_ != nullptr) stream_->Write(std::move(input));
      return true;
    }
  }
  const bool goes_on = Decode(typed);
  Forward(keys_.Filter(typed, detached));
  return goes_on;
}

ProcessStream::Result ProcessStream::Run(http::Hijacked& client) {
  std::string out;
  size_t sent = 0;
  bool of_process = false;  // `out` is the process's
  Result result;
  while (true) {
    bool may_read = false;
    if (sent == out.size()) {
      out = websocket_.TakeOutput();  // answers to pings
      of_process = false;
      sent = 0;
      if (out.empty()) {
        out = TakeOutput();
        of_process = !out.empty();
        if (of_process) AwaitHeadTaken(client.fd.get());
      }
    }
    {
      absl::MutexLock lock(&mu_);
      may_read = !input_over_ && stream_ != nullptr && !input_held_;
      if (out.empty()) {
        if (exited_.has_value()) {
          result.end = End::kExited;
          result.exited = *exited_;
          return result;
        }
        if (done_.has_value()) {
          result.why = done_->ok()
                           ? absl::UnavailableError("the stream ended before the process did")
                           : *done_;
          return result;
        }
      }
    }
    const bool buffered = may_read && !client.read_already.empty();
    pollfd waits[2] = {{client.fd.get(), 0, 0}, {wake_.get(), POLLIN, 0}};
    if (may_read) waits[0].events |= POLLIN;
    if (!out.empty()) waits[0].events |= POLLOUT;
    if (poll(waits, 2, buffered ? 0 : -1) < 0 && errno != EINTR) {
      result.why = ErrnoToStatus(errno, "poll");
      return result;
    }
    uint64_t drained;
    if (waits[1].revents != 0 && read(wake_.get(), &drained, sizeof drained) < 0) errno = 0;
    if (!out.empty() && (waits[0].revents & POLLOUT) != 0) {
      const ssize_t now = send(client.fd.get(), out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
      if (now < 0 && !WouldBlock(errno) && errno != EINTR) {
        result.end = End::kClientLeft;
        return result;
      }
      if (now > 0) sent += static_cast<size_t>(now);
      if (sent == out.size()) {
        out.clear();
        sent = 0;
        absl::MutexLock lock(&mu_);
        if (of_process) AskForMore();
      }
    }
    if (buffered || (may_read && (waits[0].revents & POLLIN) != 0)) {
      bool detached = false;
      if (!TakeInput(client, &detached)) {
        result.end = End::kClientLeft;
        return result;
      }
      if (detached) {
        result.end = End::kDetached;
        return result;
      }
      continue;
    }
    if ((waits[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
      result.end = End::kClientLeft;
      return result;
    }
  }
}

}  // namespace gantry::api::docker
