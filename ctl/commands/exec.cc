#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/interactive.h"
#include "ctl/option_files.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/container_streams.pb.h"

namespace gantry::ctl {
namespace {

class ExecAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&interactive_, "interactive", 'i', "Keep stdin open");
    flags.Bool(&tty_, "tty", 't', "Give it a terminal");
    flags.Bool(&detach_, "detach", 'd', "Run in the background");
    flags.Bool(&privileged_, "privileged", 0, "Every capability");
    flags.Strings(&env_, "env", 'e', "NAME=value", "Environment variable; a bare NAME takes ours");
    flags.Strings(&env_files_, "env-file", 0, "file", "File of environment variables").completes =
        "files";
    flags.String(&workdir_, "workdir", 'w', "path", "Working directory");
    flags.String(&user_, "user", 'u', "user[:group]", "Name or number");
    flags.String(&detach_keys_, "detach-keys", 0, "keys",
                 "Keys that leave it running (default ctrl-p,ctrl-q)");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_RETURN_IF_ERROR(CheckName("container", args[0]));
    v1::ExecInput open;
    v1::ExecConfig* config = open.mutable_open()->mutable_config();
    open.mutable_open()->set_container(args[0]);
    open.mutable_open()->set_detach(detach_);
    // As `run` does it.
    for (size_t i = 1; i < args.size(); ++i) config->add_command(ToValidUtf8(args[i]));
    for (const std::string& file : env_files_) {
      GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> lines,
                              ReadAssignments(file, false, context.environment()));
      for (const std::string& line : lines) config->add_env(ToValidUtf8(line));
    }
    for (const std::string& text : env_) {
      GANTRY_ASSIGN_OR_RETURN(std::string assignment,
                              engine::ParseEnvironment(text, context.environment()));
      config->add_env(ToValidUtf8(assignment));
    }
    config->set_working_dir(ToValidUtf8(workdir_));
    config->set_user(ToValidUtf8(user_));
    config->set_tty(tty_);
    config->set_privileged(privileged_);
    if (!detach_) {
      GANTRY_RETURN_IF_ERROR(CheckTerminal(context, tty_, interactive_));
      config->set_attach_stdin(interactive_);
      config->set_attach_stdout(true);
      config->set_attach_stderr(true);
      if (tty_) {
        if (const auto size = TerminalWindow(context.in_fd())) {
          config->mutable_console_size()->set_width(size->width);
          config->mutable_console_size()->set_height(size->height);
        }
      }
    }
    GANTRY_ASSIGN_OR_RETURN(DetachKeys keys, DetachKeysFrom(detach_keys_, context));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->OpenDuplex<v1::ExecInput, v1::ExecOutput>();
    stream->Write(open);

    bool started = false;
    std::string exec_id;
    const auto on_message = [&](const v1::ExecOutput& output) {
      if (output.has_started()) {
        started = true;
        exec_id = output.started().exec_id();
      }
      return started;
    };
    if (detach_) {
      v1::ExecOutput output;
      while (stream->Read(&output)) on_message(output);
      const absl::Status status = stream->Finish();
      if (!status.ok()) return Failed(context, status);
      return 0;
    }
    InteractiveOptions options;
    options.forward_stdin = interactive_;
    options.tty = tty_;
    options.exec = true;
    const InteractiveOutcome outcome = Converse<v1::ExecInput, v1::ExecOutput>(
        context, *stream, options, keys, &args[0], &exec_id, on_message);
    if (!started && !outcome.exit_code && !outcome.status.ok()) {
      return Failed(context, outcome.status);
    }
    return ExitStatus(context, outcome);
  }

 private:
  // As docker: 1 for a container that does not exist or does not run; what is wrong with the
  // program, its user or its directory is 126 or 127.
  static int Failed(Context& context, const absl::Status& status) {
    context.Complain(status);
    const int code = StartFailureStatus(status);
    if (code != 125) return code;
    const bool no_container =
        absl::IsFailedPrecondition(status) ||
        (absl::IsNotFound(status) && absl::StrContains(status.message(), "No such container"));
    return no_container ? 1 : 126;
  }

  bool interactive_ = false, tty_ = false, detach_ = false, privileged_ = false;
  std::vector<std::string> env_, env_files_;
  std::string workdir_, user_, detach_keys_;
};

}  // namespace

Verb ExecVerb() {
  return {.name = "exec",
          .arguments = "[OPTIONS] CONTAINER COMMAND [ARG...]",
          .summary = "Run a command in a running container",
          .examples =
              "  ctl exec -it web sh\n"
              "  ctl exec -u 1000 -w /tmp -e DEBUG=1 web id\n",
          .min_args = 2,
          .hands_on = true,
          .completes = "running",
          .make = [] { return std::make_unique<ExecAction>(); }};
}

}  // namespace gantry::ctl
