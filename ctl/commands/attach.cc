#include "ctl/commands/attach.h"

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/interactive.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {

absl::StatusOr<int> AttachTo(Context& context, const std::string& container,
                             const AttachRequest& wanted) {
  GANTRY_ASSIGN_OR_RETURN(DetachKeys keys, DetachKeysFrom(wanted.detach_keys, context));
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::InspectContainerRequest inspect;
  inspect.set_container(container);
  v1::InspectContainerResponse found;
  GANTRY_RETURN_IF_ERROR(client->Call(inspect, &found));
  const v1::ContainerConfig& config = found.container().config();
  const std::string id = found.container().summary().id();
  const v1::ContainerState state = found.container().summary().state();
  // `start -a` of what runs already only attaches.
  const bool start = wanted.start && state != v1::CONTAINER_STATE_RUNNING;
  if (!start && state == v1::CONTAINER_STATE_PAUSED) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container, " is paused; `ctl unpause ", container, "` first"));
  }
  if (!start && state == v1::CONTAINER_STATE_RESTARTING) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", container, " is restarting, wait until the container is running"));
  }
  if (!start && state != v1::CONTAINER_STATE_RUNNING) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container,
                                                      " is not running; `ctl start -a ", container,
                                                      "` starts and attaches"));
  }
  const bool with_stdin = wanted.with_stdin && config.open_stdin();
  GANTRY_RETURN_IF_ERROR(CheckTerminal(context, config.tty(), with_stdin));

  auto stream = client->OpenDuplex<v1::AttachInput, v1::AttachOutput>();
  v1::AttachInput open;
  open.mutable_open()->set_container(id);
  open.mutable_open()->set_stdin(with_stdin);
  open.mutable_open()->set_stdout(true);
  open.mutable_open()->set_stderr(true);
  open.mutable_open()->set_start(start);
  stream->Write(open);

  InteractiveOptions options;
  options.forward_stdin = with_stdin;
  options.tty = config.tty();
  options.signal_proxy = wanted.signal_proxy;
  options.redraw = !start;
  const std::string no_exec;
  bool ready = false;
  const InteractiveOutcome outcome = Converse<v1::AttachInput, v1::AttachOutput>(
      context, *stream, options, keys, &id, &no_exec, [&](const v1::AttachOutput& output) {
        if (start ? output.has_started() : output.has_attached()) ready = true;
        return ready;
      });
  if (!ready && !outcome.exit_code && !outcome.status.ok()) {
    context.Complain(outcome.status);
    return start ? StartFailureStatus(outcome.status) : 1;
  }
  return ExitStatus(context, outcome);
}

namespace {

class AttachAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&no_stdin_, "no-stdin", 0, "Do not attach stdin");
    flags.Bool(&request_.signal_proxy, "sig-proxy", 0, "Pass signals on (without a terminal)");
    flags.String(&request_.detach_keys, "detach-keys", 0, "keys",
                 "Keys that leave it running (default ctrl-p,ctrl-q)");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    request_.with_stdin = !no_stdin_;
    return AttachTo(context, args[0], request_);
  }

 private:
  bool no_stdin_ = false;
  AttachRequest request_;
};

}  // namespace

Verb AttachVerb() {
  return {.name = "attach",
          .arguments = "[OPTIONS] CONTAINER",
          .summary = "Connect to a running container's streams",
          .examples =
              "  ctl attach web\n"
              "  ctl attach --no-stdin --sig-proxy=false web\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "running",
          .make = [] { return std::make_unique<AttachAction>(); }};
}

}  // namespace gantry::ctl
