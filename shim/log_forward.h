// Sends every line of a container's log to a collector: journald, a syslog server, fluentd.
//
// Never blocks and never holds the container up. What the collector does not take at once waits in
// memory, up to `max_buffer_bytes`; further lines are dropped, the newest first, and counted. A
// connection that breaks is made anew after 0.2 s, 0.4 s, ... 10 s. What a datagram socket accepted
// counts as delivered, and so does what the kernel took of a stream.
//
// <path>.forward beside the log has the options, and <path>.delivery says how it stands: lines
// "key value", with what is not printable escaped as in C. Both are written aside and renamed, the
// second at most once a second, and at the end.
//
// Thread-compatible; lives on the event loop. Specs: systemd's "Native Journal Protocol"; RFC 3164,
// RFC 5424; Fluentd's "Forward Protocol Specification v1", mode Message.
#ifndef GANTRY_SHIM_LOG_FORWARD_H_
#define GANTRY_SHIM_LOG_FORWARD_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "shim/event_loop.h"
#include "shim/log_sink.h"

namespace gantry::shim {

struct ForwardOptions {
  enum class Protocol {
    kJournald,
    kSyslogLocal,  // as syslog(3) writes
    kSyslogRfc3164,
    kSyslogRfc5424,
    kSyslogRfc5424Micro,
    kFluentd,
  };
  Protocol protocol = Protocol::kJournald;
  std::string address;  // "unixgram:/path", "unix:/path", "tcp:IP:PORT", "udp:IP:PORT"
  std::string tag;
  std::map<std::string, std::string> fields;
  size_t max_buffer_bytes = 1 << 20;
  int facility = 3;
  bool sub_second = false;
  std::string host_name;
  int32_t pid = 0;          // what syslog's messages carry
  std::string status_path;  // "": the state is not written down
};

// What the daemon wrote to <log_path>.forward. kNotFound: nothing. kDataLoss: damaged.
absl::StatusOr<ForwardOptions> ReadForwardOptions(const std::string& log_path);

// Which part of a line a piece is, in the words of docker's drivers.
struct LinePart {
  std::string id;   // of the line, 64 hexadecimal digits; "": the piece is a whole line
  int ordinal = 0;  // from 1
  bool last = true;
};

// One message as the protocol has it.
std::string EncodeForwarded(const ForwardOptions& options, LogStream stream, absl::string_view text,
                            const LinePart& part, absl::Time at);

class LogForward {
 public:
  LogForward(EventLoop* loop, ForwardOptions options);
  // Tries once more to deliver what waits, and writes the state down.
  ~LogForward();
  LogForward(const LogForward&) = delete;
  LogForward& operator=(const LogForward&) = delete;

  // `complete`: the piece ends a line.
  void Write(LogStream stream, absl::string_view text, bool complete, absl::Time at);

  uint64_t delivered_lines() const { return delivered_lines_; }
  uint64_t dropped_lines() const { return dropped_lines_; }
  size_t waiting_bytes() const { return waiting_bytes_; }
  size_t waiting_lines() const { return waiting_.size(); }
  const std::string& problem() const { return problem_; }

 private:
  // False: there is no connection now; one is made later.
  bool Connect();
  void Disconnect(int error, absl::string_view what);
  void Send();
  void WatchForRoom(bool wanted);
  void NoteChange();
  void WriteStatus();
  LinePart NextPart(LogStream stream, bool complete);

  EventLoop* const loop_;
  const ForwardOptions options_;
  bool datagrams_ = true;

  UniqueFd socket_;
  bool connected_ = false;  // false with a valid socket: the connection is under way
  bool watched_ = false;
  bool refused_ = false;  // an earlier datagram was, as the last send() said
  LinePart lines_[2];     // by stream: the line whose pieces are coming
  std::deque<std::string> waiting_;
  size_t sent_of_first_ = 0;  // bytes of the first message that a stream took
  size_t waiting_bytes_ = 0;
  uint64_t delivered_lines_ = 0;
  uint64_t dropped_lines_ = 0;
  std::string problem_;
  absl::Duration retry_delay_;
  EventLoop::TimerId retry_timer_ = 0;
  EventLoop::TimerId status_timer_ = 0;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_LOG_FORWARD_H_
