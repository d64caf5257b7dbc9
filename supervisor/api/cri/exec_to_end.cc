#include "supervisor/api/cri/exec_to_end.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "proto/gantry/v1/container_streams.pb.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kExecOutputBytes = 16 << 20;  // of each stream
// Looks this often whether the client has gone.
constexpr absl::Duration kExecLook = absl::Milliseconds(250);

// How a command ended, for a caller that may leave before.
struct Awaited {
  core::RunResult result;
  absl::Notification over;
};

}  // namespace

absl::Status ExecToEnd(core::ExecRunner& runner, Call& call, const std::string& ns,
                       const std::string& container, const wire::ExecSyncRequest& request,
                       wire::ExecSyncResponse& response) {
  gantry::v1::ExecConfig config;
  *config.mutable_command() = request.cmd();
  core::ExecRunner::Limits limits;
  limits.output_bytes = 2 * kExecOutputBytes;
  if (request.timeout() > 0) limits.timeout = absl::Seconds(request.timeout());
  const auto awaited = std::make_shared<Awaited>();
  const std::function<void()> give_up =
      runner.RunToEnd(ns, container, config, limits, [awaited](core::RunResult done) {
        awaited->result = std::move(done);
        awaited->over.Notify();
      });
  // A command without a time limit would keep this thread for as long as it runs.
  while (!awaited->over.WaitForNotificationWithTimeout(kExecLook)) {
    const absl::Status wanted = call.cancel().Check();
    if (wanted.ok()) continue;
    give_up();
    return wanted;
  }
  core::RunResult& result = awaited->result;
  if (result.timed_out) {
    return absl::DeadlineExceededError(absl::StrCat(
        "exec in container ", container.substr(0, 12), ": the command was killed after ",
        request.timeout(), " s: timeout exceeded: context deadline exceeded"));
  }
  if (!result.exit_code.has_value()) return result.error;
  result.out.resize(std::min(result.out.size(), kExecOutputBytes));
  result.err.resize(std::min(result.err.size(), kExecOutputBytes));
  *response.mutable_stdout() = std::move(result.out);
  *response.mutable_stderr() = std::move(result.err);
  response.set_exit_code(static_cast<int32_t>(*result.exit_code));
  return absl::OkStatus();
}

}  // namespace gantry::api::cri
