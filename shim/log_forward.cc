#include "shim/log_forward.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

using Protocol = ForwardOptions::Protocol;

constexpr absl::Duration kFirstRetry = absl::Milliseconds(200);
constexpr absl::Duration kLastRetry = absl::Seconds(10);
constexpr absl::Duration kStatusInterval = absl::Seconds(1);
// A datagram socket that is full says so in no event that epoll would report for all kinds.
constexpr absl::Duration kFullRetry = absl::Milliseconds(50);
// What is sent before the loop gets its turn again.
constexpr int kMaxSendsAtOnce = 256;

// --- journald

// NAME=VALUE, or with the length where the value has a newline in it.
void AppendField(absl::string_view name, absl::string_view value, std::string& out) {
  out.append(name.data(), name.size());
  if (value.find('\n') == absl::string_view::npos) {
    absl::StrAppend(&out, "=", value, "\n");
    return;
  }
  out += '\n';
  for (int shift = 0; shift < 64; shift += 8)
    out += static_cast<char>(static_cast<uint64_t>(value.size()) >> shift & 0xff);
  absl::StrAppend(&out, value, "\n");
}

std::string Journald(const ForwardOptions& options, LogStream stream, absl::string_view text,
                     const LinePart& part) {
  std::string out;
  AppendField("MESSAGE", text, out);
  AppendField("PRIORITY", stream == LogStream::kStderr ? "3" : "6", out);
  AppendField("SYSLOG_IDENTIFIER", options.tag, out);
  if (!part.id.empty()) {
    AppendField("CONTAINER_PARTIAL_ID", part.id, out);
    AppendField("CONTAINER_PARTIAL_ORDINAL", absl::StrCat(part.ordinal), out);
    AppendField("CONTAINER_PARTIAL_LAST", part.last ? "true" : "false", out);
    if (!part.last) AppendField("CONTAINER_PARTIAL_MESSAGE", "true", out);
  }
  for (const auto& [name, value] : options.fields) AppendField(name, value, out);
  return out;
}

// --- syslog

std::string Syslog(const ForwardOptions& options, LogStream stream, absl::string_view text,
                   absl::Time at) {
  const int severity = stream == LogStream::kStderr ? 3 : 6;
  const int priority = options.facility * 8 + severity;
  const absl::TimeZone zone = absl::LocalTimeZone();
  std::string out = absl::StrCat("<", priority, ">");
  switch (options.protocol) {
    case Protocol::kSyslogRfc3164:
      absl::StrAppend(&out, absl::FormatTime("%b %e %H:%M:%S", at, zone), " ", options.host_name,
                      " ", options.tag, "[", options.pid, "]: ", text);
      break;
    case Protocol::kSyslogRfc5424:
    case Protocol::kSyslogRfc5424Micro: {
      const char* const format = options.protocol == Protocol::kSyslogRfc5424
                                     ? "%Y-%m-%d%ET%H:%M:%S%Ez"
                                     : "%Y-%m-%d%ET%H:%M:%E6S%Ez";
      absl::StrAppend(&out, "1 ", absl::FormatTime(format, at, zone), " ", options.host_name, " ",
                      options.tag, " ", options.pid, " ", options.tag, " - ", text);
      break;
    }
    default:
      absl::StrAppend(&out, absl::FormatTime("%b %e %H:%M:%S", at, zone), " ", options.tag, "[",
                      options.pid, "]: ", text);
  }
  return out + "\n";
}

// --- fluentd: MessagePack

void AppendBigEndian(uint64_t value, int bytes, std::string& out) {
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8)
    out += static_cast<char>(value >> shift & 0xff);
}

void AppendText(absl::string_view text, std::string& out) {
  if (text.size() < 32) {
    out += static_cast<char>(0xa0 | text.size());
  } else if (text.size() < 65536) {
    out += '\xda';
    AppendBigEndian(text.size(), 2, out);
  } else {
    out += '\xdb';
    AppendBigEndian(text.size(), 4, out);
  }
  out.append(text.data(), text.size());
}

std::string Fluentd(const ForwardOptions& options, LogStream stream, absl::string_view text,
                    const LinePart& part, absl::Time at) {
  std::string out = "\x93";  // [tag, time, record]
  AppendText(options.tag, out);
  const int64_t seconds = absl::ToUnixSeconds(at);
  if (options.sub_second) {
    out += '\xd7';  // an extension of 8 bytes, of type 0: EventTime
    out += '\0';
    AppendBigEndian(static_cast<uint64_t>(seconds), 4, out);
    AppendBigEndian(
        static_cast<uint64_t>(absl::ToInt64Nanoseconds(at - absl::FromUnixSeconds(seconds))), 4,
        out);
  } else {
    out += '\xce';
    AppendBigEndian(static_cast<uint64_t>(seconds), 4, out);
  }
  out += '\xde';
  AppendBigEndian(options.fields.size() + (part.id.empty() ? 2 : 6), 2, out);
  for (const auto& [name, value] : options.fields) {
    AppendText(name, out);
    AppendText(value, out);
  }
  AppendText("source", out);
  AppendText(stream == LogStream::kStdout ? "stdout" : "stderr", out);
  AppendText("log", out);
  AppendText(text, out);
  // Unlike journald's, the last piece says that it is one, too.
  if (!part.id.empty()) {
    const std::pair<absl::string_view, std::string> fields[] = {
        {"partial_message", "true"},
        {"partial_id", part.id},
        {"partial_ordinal", absl::StrCat(part.ordinal)},
        {"partial_last", part.last ? "true" : "false"}};
    for (const auto& [name, value] : fields) {
      AppendText(name, out);
      AppendText(value, out);
    }
  }
  return out;
}

// --- addresses

union Address {
  sockaddr any;
  sockaddr_un path;
  sockaddr_in ip4;
  sockaddr_in6 ip6;
};

struct Target {
  Address address = {};
  socklen_t size = 0;
  int type = SOCK_DGRAM;
};

// False: it is not an address of one of the forms.
bool ParseTarget(absl::string_view text, Target& target) {
  const bool stream = absl::StartsWith(text, "unix:") || absl::StartsWith(text, "tcp:");
  target.type = stream ? SOCK_STREAM : SOCK_DGRAM;
  if (absl::ConsumePrefix(&text, "unixgram:") || absl::ConsumePrefix(&text, "unix:")) {
    if (text.empty() || text.size() >= sizeof target.address.path.sun_path) return false;
    target.address.path.sun_family = AF_UNIX;
    memcpy(target.address.path.sun_path, text.data(), text.size());
    target.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + 1);
    return true;
  }
  if (!absl::ConsumePrefix(&text, "tcp:") && !absl::ConsumePrefix(&text, "udp:")) return false;
  const size_t colon = text.rfind(':');
  uint32_t port;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(text.substr(colon + 1), &port) ||
      port == 0 || port > 65535)
    return false;
  const std::string host(absl::StripSuffix(absl::StripPrefix(text.substr(0, colon), "["), "]"));
  if (inet_pton(AF_INET, host.c_str(), &target.address.ip4.sin_addr) == 1) {
    target.address.ip4.sin_family = AF_INET;
    target.address.ip4.sin_port = htons(static_cast<uint16_t>(port));
    target.size = sizeof target.address.ip4;
    return true;
  }
  target.address = {};
  if (inet_pton(AF_INET6, host.c_str(), &target.address.ip6.sin6_addr) != 1) return false;
  target.address.ip6.sin6_family = AF_INET6;
  target.address.ip6.sin6_port = htons(static_cast<uint16_t>(port));
  target.size = sizeof target.address.ip6;
  return true;
}

}  // namespace

std::string EncodeForwarded(const ForwardOptions& options, LogStream stream, absl::string_view text,
                            const LinePart& part, absl::Time at) {
  switch (options.protocol) {
    case Protocol::kJournald:
      return Journald(options, stream, text, part);
    case Protocol::kFluentd:
      return Fluentd(options, stream, text, part, at);
    case Protocol::kSyslogLocal:
    case Protocol::kSyslogRfc3164:
    case Protocol::kSyslogRfc5424:
    case Protocol::kSyslogRfc5424Micro:
      return Syslog(options, stream, text, at);
  }
  return "";
}

absl::StatusOr<ForwardOptions> ReadForwardOptions(const std::string& log_path) {
  constexpr size_t kMaxBytes = 1 << 20;
  static constexpr std::pair<absl::string_view, Protocol> kProtocols[] = {
      {"journald", Protocol::kJournald},
      {"syslog", Protocol::kSyslogLocal},
      {"rfc3164", Protocol::kSyslogRfc3164},
      {"rfc5424", Protocol::kSyslogRfc5424},
      {"rfc5424micro", Protocol::kSyslogRfc5424Micro},
      {"fluentd", Protocol::kFluentd}};
  GANTRY_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(log_path + ".forward", kMaxBytes));
  ForwardOptions options;
  bool known = false;
  std::string field;
  for (const absl::string_view line : absl::StrSplit(bytes, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    std::string value;
    if (!absl::CUnescape(words.second, &value))
      return absl::DataLossError(absl::StrCat(log_path, ".forward: damaged"));
    int64_t number = 0;
    if (words.first == "protocol") {
      for (const auto& [name, protocol] : kProtocols) {
        if (value != name) continue;
        options.protocol = protocol;
        known = true;
      }
    } else if (words.first == "address") {
      options.address = value;
    } else if (words.first == "tag") {
      options.tag = value;
    } else if (words.first == "host") {
      options.host_name = value;
    } else if (words.first == "field") {
      field = value;
    } else if (words.first == "value") {
      options.fields[field] = value;
    } else if (absl::SimpleAtoi(value, &number)) {
      if (words.first == "buffer" && number > 0)
        options.max_buffer_bytes = static_cast<size_t>(number);
      if (words.first == "facility") options.facility = static_cast<int>(number);
      if (words.first == "sub_second") options.sub_second = number != 0;
    }
  }
  if (!known) return absl::DataLossError(absl::StrCat(log_path, ".forward: names no protocol"));
  options.pid = getpid();
  options.status_path = absl::StrCat(log_path, ".delivery");
  return options;
}

LogForward::LogForward(EventLoop* loop, ForwardOptions options)
    : loop_(loop), options_(std::move(options)), retry_delay_(kFirstRetry) {
  Connect();
  NoteChange();
}

LogForward::~LogForward() {
  if (socket_.valid() && connected_) Send();
  // What waits is lost now.
  dropped_lines_ += waiting_.size();
  waiting_.clear();
  waiting_bytes_ = 0;
  loop_->CancelTimer(retry_timer_);
  loop_->CancelTimer(status_timer_);
  if (watched_) loop_->Unwatch(socket_.get());
  WriteStatus();
}

bool LogForward::Connect() {
  Target target;
  if (!ParseTarget(options_.address, target)) {
    problem_ = absl::StrCat(options_.address, ": not an address");
    return false;
  }
  datagrams_ = target.type == SOCK_DGRAM;
  UniqueFd socket(
      ::socket(target.address.any.sa_family, target.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) {
    Disconnect(errno, "socket");
    return false;
  }
  const int result = connect(socket.get(), &target.address.any, target.size);
  if (result != 0 && errno != EINPROGRESS) {
    Disconnect(errno, "connect");
    return false;
  }
  const bool at_once = result == 0;
  socket_ = std::move(socket);
  connected_ = at_once;
  watched_ = false;
  if (at_once) {
    problem_.clear();
    retry_delay_ = kFirstRetry;
  } else {
    WatchForRoom(true);
  }
  return at_once;
}

void LogForward::Disconnect(int error, absl::string_view what) {
  if (watched_) loop_->Unwatch(socket_.get());
  watched_ = false;
  connected_ = false;
  socket_.reset();
  // A message that was sent in part is sent again as a whole: the collector drops the torn one.
  sent_of_first_ = 0;
  problem_ = absl::StrCat(options_.address, ": ", what, ": ", strerror(error));
  NoteChange();
  if (retry_timer_ != 0) return;
  retry_timer_ = loop_->After(retry_delay_, [this] {
    retry_timer_ = 0;
    retry_delay_ = std::min(retry_delay_ * 2, kLastRetry);
    if (!socket_.valid() && Connect()) Send();
  });
}

void LogForward::WatchForRoom(bool wanted) {
  if (!socket_.valid()) return;
  if (!watched_) {
    if (!wanted) return;
    const absl::Status watched = loop_->Watch(socket_.get(), EPOLLOUT, [this](uint32_t events) {
      int error = 0;
      socklen_t size = sizeof error;
      if (getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
      // A peer that is gone is reported again and again until the socket is closed. What a datagram
      // met concerns that datagram only.
      if (!datagrams_ && connected_ && (error != 0 || (events & (EPOLLHUP | EPOLLERR)) != 0)) {
        Disconnect(error != 0 ? error : EPIPE, "send");
        return;
      }
      if (!connected_) {
        if (error != 0) {
          Disconnect(error, "connect");
          return;
        }
        connected_ = true;
        problem_.clear();
        retry_delay_ = kFirstRetry;
      }
      WatchForRoom(false);
      Send();
    });
    watched_ = watched.ok();
    return;
  }
  loop_->SetEvents(socket_.get(), wanted ? uint32_t{EPOLLOUT} : 0u);
}

LinePart LogForward::NextPart(LogStream stream, bool complete) {
  LinePart& line = lines_[static_cast<int>(stream)];
  if (line.id.empty() && complete) return {};
  if (line.id.empty()) {
    unsigned char bytes[32] = {};
    // Up to 256 bytes come at once. An id of zeros is better than a line that is not sent.
    (void)!getrandom(bytes, sizeof bytes, 0);
    line.id = absl::BytesToHexString(
        absl::string_view(reinterpret_cast<const char*>(bytes), sizeof bytes));
  }
  ++line.ordinal;
  line.last = complete;
  if (!complete) return line;
  return std::exchange(line, LinePart());
}

void LogForward::Write(LogStream stream, absl::string_view text, bool complete, absl::Time at) {
  std::string message = EncodeForwarded(options_, stream, text, NextPart(stream, complete), at);
  if (waiting_bytes_ + message.size() > options_.max_buffer_bytes) {
    ++dropped_lines_;
    NoteChange();
    return;
  }
  waiting_bytes_ += message.size();
  waiting_.push_back(std::move(message));
  NoteChange();
  // With others before it there is a timer or an event that sends them.
  if (waiting_.size() == 1 && connected_) Send();
}

void LogForward::Send() {
  int sends = 0;
  while (!waiting_.empty() && connected_) {
    if (++sends > kMaxSendsAtOnce) {
      WatchForRoom(true);
      return;
    }
    const std::string& first = waiting_.front();
    const ssize_t size = send(socket_.get(), first.data() + sent_of_first_,
                              first.size() - sent_of_first_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == ENOBUFS) {
        if (!datagrams_) {
          WatchForRoom(true);
        } else if (retry_timer_ == 0) {
          retry_timer_ = loop_->After(kFullRetry, [this] {
            retry_timer_ = 0;
            Send();
          });
        }
        return;
      }
      if (errno == EMSGSIZE) {
        // Larger than any datagram may be: it would hold up all that follow.
        waiting_bytes_ -= first.size();
        waiting_.pop_front();
        ++dropped_lines_;
        continue;
      }
      // Of UDP, what an earlier datagram met: there may be a listener again by now.
      if (errno == ECONNREFUSED && absl::StartsWith(options_.address, "udp:")) {
        problem_ = absl::StrCat(options_.address, ": ", strerror(ECONNREFUSED));
        refused_ = true;
        if (delivered_lines_ > 0) {
          --delivered_lines_;
          ++dropped_lines_;
        }
        continue;
      }
      Disconnect(errno, "send");
      return;
    }
    sent_of_first_ += static_cast<size_t>(size);
    if (sent_of_first_ < first.size()) continue;
    waiting_bytes_ -= first.size();
    waiting_.pop_front();
    sent_of_first_ = 0;
    ++delivered_lines_;
    if (datagrams_ && !std::exchange(refused_, false)) problem_.clear();
  }
}

void LogForward::NoteChange() {
  if (options_.status_path.empty() || status_timer_ != 0) return;
  status_timer_ = loop_->After(kStatusInterval, [this] {
    status_timer_ = 0;
    WriteStatus();
  });
}

void LogForward::WriteStatus() {
  if (options_.status_path.empty()) return;
  const std::string aside = options_.status_path + ".new";
  const std::string text =
      absl::StrCat("delivered ", delivered_lines_, "\ndropped ", dropped_lines_, "\nwaiting ",
                   waiting_bytes_, "\nproblem ", absl::CEscape(problem_), "\n");
  // Best effort: a full disk must not end the container's log, and the next change tries again.
  if (WriteFile(aside, text, 0640).ok()) (void)rename(aside.c_str(), options_.status_path.c_str());
}

}  // namespace gantry::shim
