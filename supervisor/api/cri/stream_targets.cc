#include "supervisor/api/cri/stream_targets.h"

#include <fcntl.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/exec_service.h"

namespace gantry::api::cri {
namespace {

// For a process to be started; how long it runs is not limited.
constexpr absl::Duration kStartPatience = absl::Minutes(2);

}  // namespace

StreamTargets CoreStreamTargets(
    const std::string& ns, core::ExecService& execs, core::ContainerStreams& streams,
    std::function<absl::StatusOr<std::string>(const std::string& pod_id)> netns_path) {
  StreamTargets targets;
  targets.exec = [ns, &execs](
                     const std::string& container_id, const std::vector<std::string>& command,
                     const StreamChoice& choice,
                     runtime::AttachStream::Handler* handler) -> absl::StatusOr<OpenedProcess> {
    v1::ExecInput::Open open;
    open.set_container(container_id);
    v1::ExecConfig& config = *open.mutable_config();
    for (const std::string& word : command) config.add_command(word);
    config.set_tty(choice.tty);
    config.set_attach_stdin(choice.in);
    config.set_attach_stdout(choice.out);
    config.set_attach_stderr(choice.err);
    CancelToken patience(kStartPatience);
    core::CallContext context;
    context.ns = ns;
    context.cancel = &patience;
    GANTRY_ASSIGN_OR_RETURN(core::ExecService::StartedExec started,
                            execs.Exec(context, open, handler));
    return OpenedProcess(std::move(started.stream),
                         [ns, &execs, container = started.container_id, exec = started.exec_id] {
                           execs.ClientLeft(ns, container, exec);
                         });
  };
  targets.attach = [ns, &streams](const std::string& container_id, const StreamChoice& choice,
                                  runtime::AttachStream::Handler* handler) {
    v1::AttachInput::Open open;
    open.set_container(container_id);
    open.set_stdin(choice.in);
    open.set_stdout(choice.out);
    open.set_stderr(choice.err);
    CancelToken patience(kStartPatience);
    core::CallContext context;
    context.ns = ns;
    context.cancel = &patience;
    return streams.Attach(context, open, handler);
  };
  targets.netns =
      [netns_path = std::move(netns_path)](const std::string& pod_id) -> absl::StatusOr<UniqueFd> {
    GANTRY_ASSIGN_OR_RETURN(const std::string path, netns_path(pod_id));
    if (path.empty()) return UniqueFd();
    UniqueFd netns(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns.valid()) return ErrnoToStatus(errno, absl::StrCat("network namespace ", path));
    return netns;
  };
  return targets;
}

}  // namespace gantry::api::cri
