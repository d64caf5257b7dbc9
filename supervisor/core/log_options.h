// The options of a container's log. Those of every driver, as docker's json-file has them:
//   max-size, max-file          of the file that `logs` reads
//   mode                        blocking, non-blocking (default here): whether the container waits
//                               where the disk takes no more
//   labels, env, labels-regex, env-regex   what of these is written beside each line
//   tag                         a template of {{.ID}} {{.FullID}} {{.Name}} {{.ImageID}}
//                               {{.ImageFullID}} {{.ImageName}} {{.DaemonName}}; what it gives is
//                               written beside each line as "tag"
//   compress                    taken, and without effect
//
// Drivers that send every line to a collector, and keep that file as docker's cache:
//   tag                         sent with each line instead; "{{.ID}}" without
//   max-buffer-size             what may wait in memory; 1m
//   cache-max-size, cache-max-file, cache-compress, cache-disabled   as max-size, max-file; the
//                               last two are taken, and without effect
//   syslog-address              udp://HOST[:514], tcp://HOST[:514], unix:///PATH, unixgram:///PATH;
//                               unixgram:///dev/log without it
//   syslog-facility, syslog-format   daemon, local0, ... or a number; rfc3164, rfc5424,
//                               rfc5424micro, or as syslog(3) writes
//   fluentd-address             [tcp://]HOST[:24224], unix:///PATH
//   fluentd-sub-second-precision   times with nanoseconds
//   fluentd-async and the other fluentd-*   taken: sending is always apart from the container
//
// Free functions, thread-safe. PlaceCollector() may wait for a name server.
#ifndef GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_
#define GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::shim::v1 {
class Log;
}  // namespace gantry::shim::v1
namespace gantry::v1 {
class ContainerConfig;
}  // namespace gantry::v1

namespace gantry::core {

// Whose log it is.
struct LogOwner {
  std::string id;
  std::string name;
  std::string image_id;   // "sha256:..."
  std::string host_name;  // of this machine
};
LogOwner LogOwnerOf(const std::string& id, const std::string& name, const std::string& image_id);

// Where the shim sends each line (shim/log_forward.h).
struct LogCollector {
  std::string protocol;  // journald, syslog, rfc3164, rfc5424, rfc5424micro, fluentd; "": nowhere
  std::string address;   // "unixgram:/path", "unix:/path", "tcp:HOST:PORT", "udp:HOST:PORT"
  std::string tag;
  std::map<std::string, std::string> fields;  // of journald's or fluentd's record of each line
  int64_t max_buffer_bytes = 1 << 20;
  int facility = 3;         // syslog's number of daemon
  bool sub_second = false;  // fluentd
  std::string host_name;    // syslog
};

// What became of the lines since the container's last start.
struct LogDelivered {
  int64_t delivered_lines = 0;
  int64_t dropped_lines = 0;
  int64_t waiting_bytes = 0;
  std::string problem;  // why it cannot deliver now; "" when it can
};

// journald, syslog and fluentd.
bool IsCollector(absl::string_view driver);

// The option `tag` filled in, "{{.ID}}" where there is none. kInvalidArgument: names what there is
// not; names the field.
absl::StatusOr<std::string> LogTag(const v1::ContainerConfig& config, const LogOwner& owner);

// Whether an option is one of such a driver's own, and what its options make of the collector, but
// for fields that are asked for by name. For ApplyLogOptions().
bool IsCollectorOption(absl::string_view driver, absl::string_view option);
absl::Status SetCollector(const v1::ContainerConfig& config, const LogOwner& owner,
                          LogCollector& collector);

// `log` has the daemon's own settings; what the container asks for replaces them. `collector` is
// filled for a driver that sends the log somewhere, and otherwise left alone.
// kInvalidArgument: an unknown option or a bad value; names the field.
absl::Status ApplyLogOptions(const v1::ContainerConfig& config, const LogOwner& owner,
                             shim::v1::Log& log, LogCollector& collector);

// Puts an address in place of its host's name, and writes all where the shim of the log at
// `log_path` reads it. Without `wanted` what a former driver left is removed.
// kUnavailable: the name has no address now.
absl::Status PlaceCollector(const std::string& log_path, bool wanted,
                            const LogCollector& collector);

// As the shim of the log at `log_path` wrote it down; zeros when it has written nothing yet.
LogDelivered ReadLogDelivered(const std::string& log_path);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_
