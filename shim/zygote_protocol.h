// How the supervisor asks the zygote for a shim, and how a new shim says that it is there.
//
// One SOCK_SEQPACKET socket pair between supervisor and zygote, one datagram a message. The
// supervisor sends a LaunchRequest with the write end of a pipe; the zygote forks, or assigns the
// request to a shim that stands by, and answers with the pid and a pidfd, in the order of the
// requests. The new shim (or, on failure, its last words) then comes through the pipe:
// ReadReadyReport(). End of the socket tells the zygote to exit; its shims live on. Between the
// zygote and the shim that stands by runs a socket of the same kind, on which the request travels
// once more.
//
// The form is binary and checked in length at every step: magic, then fixed-width little-endian
// numbers and length-prefixed strings, nothing after them. Both ends come from one build; a message
// of another version is refused.
//
// Encode/Decode are pure. The socket functions block as said and may be used from any thread, one
// at a time per direction.
#ifndef GANTRY_SHIM_ZYGOTE_PROTOCOL_H_
#define GANTRY_SHIM_ZYGOTE_PROTOCOL_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::shim {

enum class LogLevel : uint8_t { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// "debug", "info", "warning"/"warn", "error". kInvalidArgument: another word.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view word);

// What a shim gets when it is made; what it runs comes by gRPC. The same facts as gantry-shim's
// flags.
struct LaunchRequest {
  std::string name_space;  // containerd tenancy, for messages and environment of loggers
  std::string id;          // container id
  std::string bundle;      // absolute directory
  std::string
      socket_path;  // absolute, under 108 bytes, on which the shim listens; replaced if present
  // Absolute, or "": the OCI runtime that the shim will be asked to call. The zygote hands down a
  // sealed copy of it.
  std::string runtime_path;
  // What the shim will be asked to mount for the runtime
  // (CreateRequest.runtime.mount_v1_controllers): the next shim has it ready.
  std::vector<std::string> v1_controllers;
  LogLevel log_level = LogLevel::kInfo;
  // The shim exits when Create was not called for so long. 0: never.
  uint32_t idle_exit_seconds = 60;

  friend bool operator==(const LaunchRequest&, const LaunchRequest&) = default;
};

struct LaunchReply {
  pid_t pid = 0;  // 0: not forked, `error` says why
  std::string error;
  // Refers to this very process even when it has died since. Not part of the encoding: sent beside
  // it. Invalid when pid is 0.
  UniqueFd pidfd;
};

// kInvalidArgument: a field is empty, too long or contains NUL; the message names it. Checked by
// both ends.
absl::Status CheckLaunchRequest(const LaunchRequest& request);

absl::StatusOr<std::string> EncodeLaunchRequest(const LaunchRequest& request);
// kInvalidArgument: not a whole and valid request of this version.
absl::StatusOr<LaunchRequest> DecodeLaunchRequest(absl::string_view datagram);

std::string EncodeLaunchReply(const LaunchReply& reply);
absl::StatusOr<LaunchReply> DecodeLaunchReply(absl::string_view datagram);

// --- The supervisor's side
// -----------------------------------------------------------------------------------------

// The socket and the two ends of the readiness pipe are close-on-exec.
struct ZygoteSockets {
  UniqueFd supervisor;
  UniqueFd zygote;
};
absl::StatusOr<ZygoteSockets> MakeZygoteSockets();
struct ReadyPipe {
  UniqueFd read;
  UniqueFd write;
};
absl::StatusOr<ReadyPipe> MakeReadyPipe();

// Sends one request. The caller closes its copies of the descriptors afterwards; `sealed_runtime`
// is for the way from the zygote to a
// shim, and -1 without one.  kUnavailable: the other end is gone.
absl::Status SendLaunchRequest(int socket, const LaunchRequest& request, int ready_write,
                               int sealed_runtime = -1);
// The answer to the oldest unanswered request. A shim that there was no descriptor for is killed,
// and the answer is that.
//   kUnavailable        the zygote is gone
//   kDeadlineExceeded   no answer within `timeout`; the socket is out of step from now on, close it
absl::StatusOr<LaunchReply> ReceiveLaunchReply(int socket, absl::Duration timeout);

// Waits until the shim listens. Also for a directly started shim (--ready-fd).
//   kInternal           the shim could not start; its own words
//   kUnavailable        it died without a word
//   kDeadlineExceeded   nothing within `timeout`
absl::Status ReadReadyReport(int ready_read, absl::Duration timeout);

// --- The zygote's and the shim's side
// ------------------------------------------------------------------------------

struct ReceivedLaunchRequest {
  absl::StatusOr<LaunchRequest> request;  // an error here is answered, not fatal
  UniqueFd ready_write;
  UniqueFd sealed_runtime;  // invalid if none came
};
// Blocks. kUnavailable: end of the socket, time to exit.
absl::StatusOr<ReceivedLaunchRequest> ReceiveLaunchRequest(int socket);
absl::Status SendLaunchReply(int socket, const LaunchReply& reply);

// OK: "I listen". Otherwise the reason; long ones are cut. The reader being gone is not an error.
void WriteReadyReport(int ready_write, const absl::Status& status);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_ZYGOTE_PROTOCOL_H_
