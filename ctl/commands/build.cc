#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"

#include "base/byte_stream.h"
#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/commands/build_agents.h"
#include "ctl/commands/build_target.h"
#include "ctl/commands/build_view.h"
#include "ctl/commands/builder.h"
#include "ctl/commands/context_files.h"
#include "ctl/commands/transfer.h"
#include "ctl/progress.h"
#include "ctl/registry_config.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxDockerfileBytes = 16 << 20;
constexpr size_t kMaxSecretBytes = 500 << 10;
constexpr size_t kPieceBytes = 256 << 10;

// Pieces of the context, as messages.
class StreamSink : public ByteSink {
 public:
  explicit StreamSink(const ContextFiles::Write& write) : write_(write) {}
  absl::Status Write(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const size_t n = std::min(bytes.size(), kPieceBytes - pending_.size());
      pending_.append(bytes.data(), n);
      bytes.remove_prefix(n);
      if (pending_.size() == kPieceBytes) GANTRY_RETURN_IF_ERROR(Flush());
    }
    return absl::OkStatus();
  }
  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    v1::BuildRequest part;
    part.set_data(std::exchange(pending_, std::string()));
    // The reason is what Finish() returns.
    return write_(part) ? absl::OkStatus() : absl::CancelledError("the build has ended");
  }

 private:
  const ContextFiles::Write& write_;
  std::string pending_;
};

std::string RealPath(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return "";
  std::string out = resolved;
  free(resolved);
  return out;
}

// The registries of the images that a Dockerfile names: a guess that costs nothing when it is
// wrong.
std::vector<std::string> RegistriesOf(const std::string& dockerfile) {
  std::vector<std::string> registries = {"docker.io"};
  for (const absl::string_view line : absl::StrSplit(dockerfile, '\n')) {
    for (absl::string_view word :
         absl::StrSplit(line, absl::ByAnyChar(" \t,"), absl::SkipEmpty())) {
      const size_t from = word.find("from=");
      if (from != absl::string_view::npos) word = word.substr(from + 5);
      if (!absl::StrContains(word, '/') || absl::StrContains(word, '$')) continue;
      const std::string registry = RegistryOfReference(word);
      if (registry != "docker.io" &&
          std::find(registries.begin(), registries.end(), registry) == registries.end())
        registries.push_back(registry);
    }
  }
  return registries;
}

class BuildAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Strings(&tags_, "tag", 't', "name", "Name of the image, NAME[:TAG]");
    flags.String(&file_, "file", 'f', "file", "Dockerfile (default: PATH/Dockerfile), - for stdin")
        .completes = "files";
    flags.Strings(&arguments_, "build-arg", 0, "NAME=VALUE", "Value of a variable of ARG");
    flags.Strings(&contexts_, "build-context", 0, "NAME=PATH|URL|docker-image://REF",
                  "More files or another image, for FROM and --from");
    flags.String(&target_, "target", 0, "stage", "Stage to build");
    flags.String(&platform_, "platform", 0, "os/arch", "Platform of the image");
    flags.Strings(&labels_, "label", 0, "KEY=VALUE", "Label of the image");
    flags.Bool(&no_cache_, "no-cache", 0, "Do not use the build cache");
    flags.Strings(&no_cache_stages_, "no-cache-filter", 0, "stage",
                  "Do not use the build cache for these stages");
    flags.Bool(&pull_, "pull", 0, "Ask the registries for newer base images");
    flags.String(&network_, "network", 0, "mode", "Network of RUN: default, none, host or a name");
    flags.Strings(&hosts_, "add-host", 0, "NAME:IP", "Line for /etc/hosts of RUN");
    flags.String(&shm_size_, "shm-size", 0, "bytes", "Size of /dev/shm");
    flags.String(&memory_, "memory", 'm', "bytes", "Memory limit of RUN");
    flags.String(&cpuset_, "cpuset-cpus", 0, "list", "CPUs of RUN");
    flags.Strings(&ulimits_, "ulimit", 0, "NAME=SOFT[:HARD]", "Limit of a process of RUN");
    flags.String(&cgroup_parent_, "cgroup-parent", 0, "path", "Parent cgroup of RUN");
    flags.Strings(&secrets_, "secret", 0, "id=ID[,src=FILE|,env=NAME]",
                  "Secret for RUN --mount=type=secret");
    flags.Strings(&agents_, "ssh", 0, "default|ID[=SOCKET]",
                  "SSH agent for RUN --mount=type=ssh (default: SSH_AUTH_SOCK)");
    flags.Strings(&allow_, "allow", 0, "entitlement", "network.host or security.insecure");
    flags.String(&output_, "output", 'o', "type=KIND,dest=PATH",
                 "image, registry, docker, oci, tar, local or cacheonly (default: image)");
    flags.Bool(&push_, "push", 0, "Push the image to the registries of its names");
    flags.Bool(&quiet_, "quiet", 'q', "Only the image's id");
    flags.String(&progress_, "progress", 0, "style", "auto, plain, tty, quiet or rawjson");
    flags.String(&id_file_, "iidfile", 0, "file", "Write the image's id there").completes = "files";
    flags.String(&metadata_file_, "metadata-file", 0, "file", "Write what was built there, as JSON")
        .completes = "files";
    // Of docker: they ask for what is done anyway.
    flags.Bool(&ignored_, "load", 0, "Accepted: images are always in the store").hidden = true;
    flags.Bool(&ignored_, "rm", 0, "Accepted: containers of steps never stay").hidden = true;
    flags.Bool(&ignored_, "force-rm", 0, "Accepted: containers of steps never stay").hidden = true;
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::BuildRequest request;
    v1::BuildRequest::Open& open = *request.mutable_open();
    GANTRY_RETURN_IF_ERROR(Fill(context, open));
    if (push_ && tags_.empty())
      return absl::InvalidArgumentError("--push: name the image with --tag");
    GANTRY_ASSIGN_OR_RETURN(Input input, FindInput(context, args[0], open));
    GANTRY_RETURN_IF_ERROR(FillContexts(input, open));
    if (input.tar >= 0 && !agent_sockets_.empty())
      return absl::InvalidArgumentError(
          "--ssh: not beside a tar from stdin, whose end would be that of the agent; unpack it");
    if (!input.directory.empty()) open.set_context_key(ContextKey(input));
    GANTRY_RETURN_IF_ERROR(AddCredentials(context, input.dockerfile_text, open));
    GANTRY_ASSIGN_OR_RETURN(const BuildView::Style style, StyleOf(context));
    const absl::optional<WindowSize> window = Window(context);
    BuildView view(
        style, [&context](absl::string_view text) { context.ErrRaw(text); },
        window.has_value() ? window->width : 80, window.has_value() ? window->height : 24);

    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->OpenDuplex<v1::BuildRequest, v1::BuildResponse>();
    absl::Mutex writing;  // files and answers of agents are sent by threads of their own
    const ContextFiles::Write write = [&](const v1::BuildRequest& part) {
      absl::MutexLock lock(&writing);
      return stream->Write(part);
    };
    write(request);
    BuildAgents agents(agent_sockets_, write);
    absl::Status sent;
    ContextWanted wants;
    std::thread sender([&] {
      sent = SendContext(input, wants, write);
      if (!sent.ok() && !absl::IsCancelled(sent)) {
        stream->Cancel();
      } else if (agent_sockets_.empty()) {
        stream->WritesDone();
      }
    });
    v1::BuildResponse response;
    v1::BuiltImage built;
    absl::Status written;
    while (stream->Read(&response)) {
      if (response.has_built()) built = response.built();
      if (response.has_agent()) {
        agents.Take(response.agent());
        continue;
      }
      if (response.has_wants()) {
        wants.Add(response.wants());
        continue;
      }
      if (response.event_case() == v1::BuildResponse::kData && written.ok())
        written = result_.Write(context, response.data());
      view.Update(response);
    }
    wants.End();
    sender.join();
    view.Finish();
    const absl::Status finished = stream->Finish();
    if (!sent.ok() && !absl::IsCancelled(sent)) return sent;
    if (!finished.ok()) {
      context.Err(
          absl::StrCat("ERROR: failed to build: failed to solve: ", finished.message(), "\n"));
      return 1;
    }
    GANTRY_RETURN_IF_ERROR(written);
    GANTRY_RETURN_IF_ERROR(result_.Finish());
    if (push_) GANTRY_RETURN_IF_ERROR(Push(context));
    if (quiet_ || progress_ == "quiet") context.Out(absl::StrCat(built.image_id(), "\n"));
    return WriteFiles(built);
  }

 private:
  struct Input {
    std::string directory;        // "" for none
    std::string dockerfile;       // path in the directory, "" if it is sent as text
    std::string dockerfile_path;  // on this machine
    std::string dockerfile_text;
    int tar = -1;  // a context that comes as a tar
    std::string tar_start;
    std::vector<std::string> named;  // directories of --build-context, "" for one of another kind
  };

  // An address that the daemon fetches itself.
  static bool IsRemote(const std::string& path) {
    return absl::StrContains(path, "://") || absl::StartsWith(path, "git@");
  }

  // Contexts beside the main one. Directories of this machine are sent after it, in their order.
  absl::Status FillContexts(Input& input, v1::BuildRequest::Open& open) const {
    for (const std::string& text : contexts_) {
      const size_t equals = text.find('=');
      if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
        return absl::InvalidArgumentError(
            absl::StrCat("--build-context ", text, ": write NAME=PATH or NAME=URL"));
      v1::NamedContext& one = *open.add_contexts();
      one.set_name(text.substr(0, equals));
      const std::string value = text.substr(equals + 1);
      std::string directory;
      if (IsRemote(value)) {
        one.set_source(value);
      } else {
        directory = RealPath(value);
        struct stat info;
        if (directory.empty() || stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
          return absl::NotFoundError(
              absl::StrCat("--build-context ", text, ": there is no directory ", value));
        if (input.tar >= 0)
          return absl::InvalidArgumentError(
              absl::StrCat("--build-context ", text, ": a directory cannot be sent beside a tar ",
                           "from stdin; unpack the tar"));
        one.set_key(absl::StrCat(geteuid(), " ", directory));
      }
      input.named.push_back(std::move(directory));
    }
    return absl::OkStatus();
  }

  absl::Status Fill(Context& context, v1::BuildRequest::Open& open) {
    for (const std::string& tag : tags_) open.add_tags(tag);
    for (const std::string& text : arguments_) {
      v1::BuildArgument& argument = *open.add_arguments();
      const size_t equals = text.find('=');
      argument.set_name(text.substr(0, equals));
      if (equals != std::string::npos) {
        argument.set_value(text.substr(equals + 1));
      } else if (context.environment().count(text) > 0) {
        argument.set_value(context.Environment(text));
      }
    }
    open.set_target(target_);
    open.set_platform(platform_);
    for (const std::string& text : labels_) {
      const size_t equals = text.find('=');
      (*open.mutable_labels())[text.substr(0, equals)] =
          equals == std::string::npos ? "" : text.substr(equals + 1);
    }
    open.set_no_cache(no_cache_);
    for (const std::string& stages : no_cache_stages_) {
      for (absl::string_view stage : absl::StrSplit(stages, ','))
        open.add_no_cache_stages(std::string(stage));
    }
    open.set_pull(pull_);
    if (network_ != "default") open.set_network_mode(network_);
    for (const std::string& host : hosts_) {
      GANTRY_ASSIGN_OR_RETURN(const std::string parsed, engine::ParseExtraHost(host));
      open.add_extra_hosts(parsed);
    }
    if (!shm_size_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, engine::ParseBytes(shm_size_));
      open.set_shm_size_bytes(bytes);
    }
    if (!memory_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, engine::ParseBytes(memory_));
      open.mutable_resources()->set_memory_bytes(bytes);
    }
    if (!cpuset_.empty()) open.mutable_resources()->set_cpuset_cpus(cpuset_);
    for (const std::string& ulimit : ulimits_) {
      GANTRY_ASSIGN_OR_RETURN(*open.mutable_resources()->add_ulimits(),
                              engine::ParseUlimit(ulimit));
    }
    open.set_cgroup_parent(cgroup_parent_);
    for (const std::string& text : secrets_) GANTRY_RETURN_IF_ERROR(AddSecret(context, text, open));
    GANTRY_RETURN_IF_ERROR(FillAgents(context, open));
    for (const std::string& one : allow_) open.add_allow(one);
    const std::string epoch = context.Environment("SOURCE_DATE_EPOCH");
    int64_t seconds = 0;
    if (!epoch.empty()) {
      if (!absl::SimpleAtoi(epoch, &seconds))
        return absl::InvalidArgumentError(
            absl::StrCat("SOURCE_DATE_EPOCH: \"", epoch, "\" is not a number of seconds"));
      open.set_source_date_epoch(seconds);
    }
    GANTRY_RETURN_IF_ERROR(result_.Parse(output_, open));
    push_ = push_ || result_.push();
    return absl::OkStatus();
  }

  absl::Status FillAgents(Context& context, v1::BuildRequest::Open& open) {
    for (const std::string& text : agents_) {
      const size_t equals = text.find('=');
      const std::string id = text.substr(0, equals);
      const std::string path = equals == std::string::npos ? context.Environment("SSH_AUTH_SOCK")
                                                           : text.substr(equals + 1);
      if (path.empty())
        return absl::FailedPreconditionError(
            absl::StrCat("--ssh ", text, ": SSH_AUTH_SOCK is not set; start an agent"));
      struct stat info;
      if (stat(path.c_str(), &info) != 0) return ErrnoToStatus(errno, absl::StrCat("--ssh ", text));
      if (!S_ISSOCK(info.st_mode))
        return absl::InvalidArgumentError(absl::StrCat(
            "--ssh ", text, ": ", path, " is no socket of an agent; add a key with ssh-add"));
      agent_sockets_[id] = path;
      open.add_agents(id);
    }
    return absl::OkStatus();
  }

  absl::Status AddSecret(Context& context, const std::string& text, v1::BuildRequest::Open& open) {
    std::map<std::string, std::string> fields = FieldsOf(text);
    const std::string id = fields["id"];
    if (id.empty())
      return absl::InvalidArgumentError(absl::StrCat("--secret ", text, ": no id; write id=NAME"));
    v1::BuildSecret& secret = *open.add_secrets();
    secret.set_id(id);
    std::string file = fields.count("src") > 0 ? fields["src"] : fields["source"];
    std::string variable = fields["env"];
    if (file.empty() && variable.empty()) {
      if (context.environment().count(id) > 0) {
        variable = id;
      } else {
        file = id;
      }
    }
    if (!variable.empty()) {
      secret.set_value(context.Environment(variable));
      return absl::OkStatus();
    }
    GANTRY_ASSIGN_OR_RETURN(*secret.mutable_value(), ReadFile(file, kMaxSecretBytes));
    return absl::OkStatus();
  }

  absl::StatusOr<Input> FindInput(Context& context, const std::string& path,
                                  v1::BuildRequest::Open& open) {
    Input input;
    if (file_ == "-") {
      if (path == "-")
        return absl::InvalidArgumentError(
            "the Dockerfile and the context cannot both come from stdin");
      FdSource source(context.in_fd());
      GANTRY_ASSIGN_OR_RETURN(input.dockerfile_text, ReadAll(source, kMaxDockerfileBytes));
      open.set_dockerfile_text(input.dockerfile_text);
    }
    if (path == "-") return FromStdin(context, std::move(input), open);
    if (IsRemote(path)) {
      open.set_remote_context(path);
      if (file_ != "-") open.set_dockerfile(file_);
      return input;
    }
    struct stat info;
    if (stat(path.c_str(), &info) != 0)
      return absl::NotFoundError(
          absl::StrCat("unable to prepare context: path \"", path, "\" not found"));
    if (!S_ISDIR(info.st_mode))
      return absl::InvalidArgumentError(
          absl::StrCat("unable to prepare context: ", path, " is not a directory"));
    input.directory = path;
    open.set_has_context(true);
    if (file_ == "-") return input;
    input.dockerfile_path = file_.empty() ? path + "/Dockerfile" : file_;
    if (file_.empty() && access(input.dockerfile_path.c_str(), F_OK) != 0 &&
        access((path + "/dockerfile").c_str(), F_OK) == 0)
      input.dockerfile_path = path + "/dockerfile";
    GANTRY_ASSIGN_OR_RETURN(input.dockerfile_text, DockerfileText(input.dockerfile_path));
    // One in the context is sent with it, so that messages name it as people do.
    const std::string top = RealPath(path) + "/";
    const std::string real = RealPath(input.dockerfile_path);
    if (absl::StartsWith(real, top)) {
      input.dockerfile = real.substr(top.size());
      open.set_dockerfile(input.dockerfile);
    } else {
      open.set_dockerfile(input.dockerfile_path);
      open.set_dockerfile_text(input.dockerfile_text);
    }
    return input;
  }

  static absl::StatusOr<std::string> DockerfileText(const std::string& path) {
    absl::StatusOr<std::string> text = ReadFile(path, kMaxDockerfileBytes);
    if (absl::IsNotFound(text.status()))
      return absl::NotFoundError(
          absl::StrCat("failed to read dockerfile: open ", path, ": no such file or directory"));
    return text;
  }

  // A tar is the context, anything else a Dockerfile that needs none.
  absl::StatusOr<Input> FromStdin(Context& context, Input input, v1::BuildRequest::Open& open) {
    if (IsTerminal(context.in_fd()))
      return absl::InvalidArgumentError(
          "stdin is a terminal; redirect a Dockerfile or a tar into it");
    char start[1024];
    size_t have = 0;
    while (have < sizeof start) {
      const ssize_t n = read(context.in_fd(), start + have, sizeof start - have);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoToStatus(errno, "stdin");
      if (n == 0) break;
      have += static_cast<size_t>(n);
    }
    const absl::string_view head(start, have);
    const bool archive = (have > 262 && head.substr(257, 5) == "ustar") ||
                         absl::StartsWith(head, "\x1f\x8b") || absl::StartsWith(head, "BZh") ||
                         absl::StartsWith(head,
                                          "\xfd"
                                          "7zXZ") ||
                         absl::StartsWith(head, "\x28\xb5\x2f\xfd");
    if (archive) {
      open.set_has_context(true);
      open.set_dockerfile(file_);
      input.tar = context.in_fd();
      input.tar_start = std::string(head);
      return input;
    }
    FdSource source(context.in_fd());
    GANTRY_ASSIGN_OR_RETURN(const std::string rest, ReadAll(source, kMaxDockerfileBytes));
    input.dockerfile_text = absl::StrCat(head, rest);
    open.set_dockerfile_text(input.dockerfile_text);
    return input;
  }

  static absl::Status SendContext(const Input& input, ContextWanted& wants,
                                  const ContextFiles::Write& write) {
    if (input.tar >= 0) {
      StreamSink sink(write);
      GANTRY_RETURN_IF_ERROR(sink.Write(input.tar_start));
      FdSource source(input.tar);
      GANTRY_RETURN_IF_ERROR(CopyStream(source, sink).status());
      return sink.Flush();
    }
    if (!input.directory.empty()) {
      GANTRY_RETURN_IF_ERROR(
          SendDirectory(0, input.directory, input.dockerfile_path, input.dockerfile, wants, write));
    }
    for (size_t i = 0; i < input.named.size(); ++i) {
      if (input.named[i].empty()) continue;
      GANTRY_RETURN_IF_ERROR(
          SendDirectory(static_cast<uint32_t>(i + 1), input.named[i], "", "", wants, write));
    }
    return absl::OkStatus();
  }

  static absl::Status SendDirectory(uint32_t context, const std::string& directory,
                                    const std::string& dockerfile_path,
                                    const std::string& dockerfile, ContextWanted& wants,
                                    const ContextFiles::Write& write) {
    GANTRY_ASSIGN_OR_RETURN(const engine::IgnoreRules rules,
                            ContextRules(directory, dockerfile_path));
    GANTRY_ASSIGN_OR_RETURN(const ContextFiles files,
                            ContextFiles::List(directory, rules, dockerfile));
    GANTRY_RETURN_IF_ERROR(files.SendEntries(context, write));
    const absl::optional<std::vector<uint32_t>> wanted = wants.Take();
    if (!wanted.has_value()) return absl::CancelledError("the build has ended");
    return files.SendContents(context, *wanted, write);
  }

  // Names the directory to the daemon. Builds that leave different files out have a key each.
  static std::string ContextKey(const Input& input) {
    std::string key = absl::StrCat(geteuid(), " ", RealPath(input.directory));
    const std::string own_rules = input.dockerfile_path + ".dockerignore";
    if (access(own_rules.c_str(), F_OK) == 0) absl::StrAppend(&key, " ", RealPath(own_rules));
    return key;
  }

  static absl::Status AddCredentials(Context& context, const std::string& dockerfile,
                                     v1::BuildRequest::Open& open) {
    for (const std::string& registry : RegistriesOf(dockerfile)) {
      GANTRY_ASSIGN_OR_RETURN(
          v1::RegistryAuth auth,
          AuthFor(context, registry == "docker.io" ? "x" : absl::StrCat(registry, "/x")));
      if (auth.server_address().empty()) continue;
      v1::BuildRegistryAuth& one = *open.add_registries();
      one.set_registry(registry);
      *one.mutable_auth() = std::move(auth);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<BuildView::Style> StyleOf(Context& context) const {
    const std::string wanted =
        !progress_.empty() ? progress_ : context.Environment("BUILDKIT_PROGRESS");
    if (quiet_ || wanted == "quiet") return BuildView::Style::kSilent;
    if (wanted == "plain") return BuildView::Style::kPlain;
    if (wanted == "rawjson") return BuildView::Style::kJson;
    if (wanted == "tty") return BuildView::Style::kTerminal;
    if (!wanted.empty() && wanted != "auto")
      return absl::InvalidArgumentError(
          absl::StrCat("--progress ", wanted, ": there is auto, plain, tty, quiet and rawjson"));
    return IsTerminal(context.err_fd()) ? BuildView::Style::kTerminal : BuildView::Style::kPlain;
  }

  static absl::optional<WindowSize> Window(Context& context) {
    const auto window = TerminalWindow(context.err_fd());
    if (!window) return absl::nullopt;
    return *window;
  }

  // Every name that the image got, after it is built.
  absl::Status Push(Context& context) const {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    for (const std::string& tag : tags_) {
      GANTRY_ASSIGN_OR_RETURN(const ProgressView::Style style,
                              ProgressStyle(quiet_ || progress_ == "quiet", "", context.err_fd()));
      ProgressView view = MakeProgress(context, style, /*to_stderr=*/true);
      v1::PushRequest request;
      request.set_reference(tag);
      GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, tag));
      auto stream = client->Open<v1::PushRequest, v1::PushResponse>(request);
      v1::PushResponse response;
      while (stream->Read(&response)) {
        if (response.has_progress()) view.Update(response.progress());
        if (response.event_case() == v1::PushResponse::kMessage) view.Message(response.message());
      }
      view.Finish();
      if (const absl::Status pushed = stream->Finish(); !pushed.ok())
        return absl::Status(pushed.code(), absl::StrCat("push ", tag, ": ", pushed.message()));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int> WriteFiles(const v1::BuiltImage& built) {
    if (!id_file_.empty()) GANTRY_RETURN_IF_ERROR(WriteFile(id_file_, built.image_id()));
    if (!metadata_file_.empty()) {
      GANTRY_RETURN_IF_ERROR(WriteFile(
          metadata_file_,
          absl::StrCat("{\n  \"containerimage.descriptor\": {\n    \"mediaType\": \"",
                       built.descriptor().media_type(), "\",\n    \"digest\": \"",
                       built.descriptor().digest(),
                       "\",\n    \"size\": ", built.descriptor().size_bytes(),
                       "\n  },\n  \"containerimage.digest\": \"", built.image_id(),
                       "\",\n  \"image.name\": \"", absl::StrJoin(built.tags(), ","), "\"\n}\n")));
    }
    return 0;
  }

  std::vector<std::string> tags_, arguments_, labels_, no_cache_stages_, hosts_, ulimits_, secrets_,
      contexts_, agents_, allow_;
  std::string file_, target_, platform_, network_, shm_size_, memory_, cpuset_, cgroup_parent_,
      output_, progress_, id_file_, metadata_file_;
  bool no_cache_ = false, pull_ = false, push_ = false, quiet_ = false, ignored_ = false;
  std::map<std::string, std::string> agent_sockets_;  // by id
  BuildTarget result_;
};

}  // namespace

Verb BuildVerb() {
  return {.name = "build",
          .arguments = "[OPTIONS] PATH | URL | -",
          .summary = "Build an image from a Dockerfile",
          .examples =
              "  ctl build -t app .\n"
              "  ctl build -t app -f docker/Dockerfile --build-arg VERSION=2 --target test .\n"
              "  echo 'FROM busybox' | ctl build -t mine -\n"
              "  ctl build --secret id=token,src=token.txt .\n"
              "  ctl build https://example.org/app.git#v1.2:docker\n"
              "  ctl build --build-context assets=../assets .\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "files",
          .make = [] { return std::make_unique<BuildAction>(); }};
}

}  // namespace gantry::ctl
