#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/interactive.h"
#include "ctl/commands/transfer.h"
#include "ctl/container_options.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

std::string CurrentDirectory() {
  char buffer[4096];
  return ::getcwd(buffer, sizeof(buffer)) == nullptr ? "/" : buffer;
}

// The file of --cidfile, made before the container, so that a container is not made for nothing.
// It goes away again unless an id is written to it.
class CidFile {
 public:
  ~CidFile() {
    if (!path_.empty() && !written_) ::unlink(path_.c_str());
  }
  absl::Status Make(const std::string& path) {
    if (path.empty()) return absl::OkStatus();
    const UniqueFd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
    if (fd.valid()) {
      path_ = path;
      return absl::OkStatus();
    }
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(
          absl::StrCat("container id file ", path,
                       " exists; remove it first, or choose another with --cidfile"));
    }
    return ErrnoToStatus(errno, absl::StrCat("create the container id file ", path));
  }
  absl::Status Write(const std::string& id) {
    if (path_.empty()) return absl::OkStatus();
    written_ = true;
    return WriteFile(path_, id);
  }

 private:
  std::string path_;
  bool written_ = false;
};

class RunAction final : public Action {
 public:
  explicit RunAction(bool create_only) : create_only_(create_only) {}

  void AddFlags(FlagSet& flags) override {
    options_.AddFlags(flags);
    flags_ = &flags;
    if (create_only_) return;
    flags.Bool(&detach_, "detach", 'd', "Run in the background and print the container's id");
    flags.String(&detach_keys_, "detach-keys", 0, "keys",
                 "Keys that leave it running (default ctrl-p,ctrl-q)");
    signal_proxy_ = true;
    flags.Bool(&signal_proxy_, "sig-proxy", 0, "Pass signals on (without a terminal)");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    auto built = options_.Build(*flags_, args, context.environment(), CurrentDirectory());
    // As for a flag that is not known; what fails later has the verb's status.
    if (!built.ok()) return WithExitStatus(built.status(), 125);
    v1::ContainerConfig config = *std::move(built);
    GANTRY_RETURN_IF_ERROR(cid_file_.Make(options_.cidfile));
    if (detach_ && !options_.attach.empty()) {
      context.Complain(absl::InvalidArgumentError("-d and -a cannot be combined"));
      return 1;
    }
    if (!detach_ && !create_only_) {
      const absl::Status status = CheckTerminal(context, config.tty(), config.attach_stdin());
      if (!status.ok()) {
        context.Complain(status);
        return 1;
      }
    } else {
      config.set_attach_stdin(false);
      config.set_stdin_once(false);
      if (!create_only_) {
        config.set_attach_stdout(false);
        config.set_attach_stderr(false);
      }
    }
    if (config.tty()) {
      if (const auto size = TerminalWindow(context.in_fd())) {
        config.mutable_console_size()->set_width(size->width);
        config.mutable_console_size()->set_height(size->height);
      }
    }

    if (options_.pull == "always") GANTRY_RETURN_IF_ERROR(Pull(context, config));
    bool not_found = false;
    auto result =
        create_only_ ? Create(context, config, &not_found) : Start(context, config, &not_found);
    if (!not_found || options_.pull != "missing") return result;
    // NOT_FOUND may be about the image or about something else.
    GANTRY_ASSIGN_OR_RETURN(bool here, ImageExists(context, config.image()));
    if (here) return result;
    if (!options_.quiet && MayBeReference(config.image())) {
      context.Err(absl::StrCat("Unable to find image '", config.image(), "' locally\n"));
    }
    GANTRY_RETURN_IF_ERROR(Pull(context, config));
    return create_only_ ? Create(context, config, nullptr) : Start(context, config, nullptr);
  }

 private:
  absl::Status Pull(Context& context, const v1::ContainerConfig& config) {
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style,
                            ProgressStyle(options_.quiet, "", context.err_fd()));
    ProgressView view = MakeProgress(context, style, true);
    return PullImage(
        context, config.image(), options_.platform, false, view, [&](const v1::PulledImage& image) {
          if (options_.quiet) return;
          context.Err(absl::StrCat("Digest: ", image.digest(), "\n", PullStatus(image), "\n"));
        });
  }

  absl::Status NoteCreated(Context& context, const v1::CreateContainerResponse& created) {
    id_ = created.id();
    for (const std::string& warning : created.warnings()) {
      context.Err(absl::StrCat("WARNING: ", warning, "\n"));
    }
    return cid_file_.Write(id_);
  }

  absl::StatusOr<int> Create(Context& context, const v1::ContainerConfig& config, bool* not_found) {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::CreateContainerRequest request;
    request.set_name(options_.name);
    *request.mutable_config() = config;
    v1::CreateContainerResponse created;
    const absl::Status status = client->Call(request, &created);
    if (not_found != nullptr) *not_found = absl::IsNotFound(status);
    GANTRY_RETURN_IF_ERROR(status);
    GANTRY_RETURN_IF_ERROR(NoteCreated(context, created));
    context.Out(absl::StrCat(id_, "\n"));
    return 0;
  }

  absl::StatusOr<int> Start(Context& context, const v1::ContainerConfig& config, bool* not_found) {
    GANTRY_ASSIGN_OR_RETURN(DetachKeys keys, DetachKeysFrom(detach_keys_, context));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->OpenDuplex<v1::RunInput, v1::RunOutput>();
    v1::RunInput open;
    open.mutable_open()->set_name(options_.name);
    *open.mutable_open()->mutable_config() = config;
    open.mutable_open()->set_detach(detach_);
    stream->Write(open);

    absl::Status noted;
    bool started = false;
    const auto on_message = [&](const v1::RunOutput& output) {
      if (output.has_created()) noted = NoteCreated(context, output.created());
      if (output.has_started()) started = true;
      return output.has_started();
    };
    if (detach_) {
      v1::RunOutput output;
      while (stream->Read(&output)) on_message(output);
      const absl::Status status = stream->Finish();
      if (not_found != nullptr) *not_found = absl::IsNotFound(status) && id_.empty();
      if (!status.ok() && id_.empty()) return status;
      if (!status.ok()) {
        context.Complain(status);
        return StartFailureStatus(status);
      }
      GANTRY_RETURN_IF_ERROR(noted);
      context.Out(absl::StrCat(id_, "\n"));
      return 0;
    }

    InteractiveOptions interactive;
    interactive.forward_stdin = config.attach_stdin();
    interactive.tty = config.tty();
    interactive.signal_proxy = signal_proxy_;
    const std::string no_exec;
    const InteractiveOutcome outcome = Converse<v1::RunInput, v1::RunOutput>(
        context, *stream, interactive, keys, &id_, &no_exec, on_message);
    if (!noted.ok()) context.Complain(noted);
    if (!started && !outcome.exit_code && !outcome.status.ok()) {
      if (id_.empty()) {
        if (not_found != nullptr) *not_found = absl::IsNotFound(outcome.status);
        return outcome.status;
      }
      context.Complain(outcome.status);
      return StartFailureStatus(outcome.status);
    }
    return ExitStatus(context, outcome);
  }

  const bool create_only_;
  ContainerOptions options_;
  const FlagSet* flags_ = nullptr;
  bool detach_ = false;
  bool signal_proxy_ = true;
  std::string detach_keys_;
  CidFile cid_file_;
  std::string id_;
};

}  // namespace

Verb RunVerb() {
  return {.name = "run",
          .arguments = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
          .summary = "Create a container from an image and start it",
          .examples =
              "  ctl run --rm busybox echo hello\n"
              "  ctl run -it --rm debian bash\n"
              "  ctl run -d --name web -v /srv/www:/www:ro busybox httpd -f -h /www\n",
          .min_args = 1,
          .hands_on = true,
          .completes = "images",
          .error_status = 125,
          .make = [] { return std::make_unique<RunAction>(false); }};
}

Verb CreateVerb() {
  return {.name = "create",
          .arguments = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
          .summary = "Create a container without starting it",
          .examples =
              "  ctl create --name job busybox sh -c 'echo done'\n"
              "  ctl start -a job\n",
          .min_args = 1,
          .hands_on = true,
          .completes = "images",
          .make = [] { return std::make_unique<RunAction>(true); }};
}

}  // namespace gantry::ctl
