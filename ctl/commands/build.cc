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
#include "ctl/commands/build_fields.h"
#include "ctl/commands/build_input.h"
#include "ctl/commands/build_limits.h"
#include "ctl/commands/build_target.h"
#include "ctl/commands/build_view.h"
#include "ctl/commands/builder.h"
#include "ctl/commands/context_files.h"
#include "ctl/commands/transfer.h"
#include "ctl/registry_config.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxSecretBytes = 500 << 10;

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
    flags.Strings(&contexts_, "build-context", 0,
                  "NAME=PATH|URL|docker-image://REF|oci-layout://DIR[:TAG]",
                  "More files or another image, for FROM and --from");
    flags.Strings(&cache_from_, "cache-from", 0, "REF|type=registry|local,...",
                  "Where results of steps may be taken from");
    flags.Strings(&cache_to_, "cache-to", 0, "REF|inline|type=registry|local|inline,...",
                  "Where results of steps are left for other machines");
    flags.Custom("provenance", 0, "false|min|max|mode=...",
                 "Say beside the image what it was built from", [this](absl::string_view value) {
                   provenance_ = value.empty() ? "true" : std::string(value);
                   return absl::OkStatus();
                 });
    flags.String(&sbom_, "sbom", 0, "true|false", "List the image's packages beside it");
    flags.Strings(&attest_, "attest", 0, "type=provenance|sbom,...", "The same in docker's form");
    flags.Bool(&check_, "check", 0, "Check the Dockerfile and build nothing: --call=check");
    flags.String(&call_, "call", 0, "build|check|outline|targets[,format=json]",
                 "Say what the Dockerfile asks for instead of building it");
    flags.Strings(&annotations_, "annotation", 0, "[index:]KEY=VALUE",
                  "Annotation of the image's manifest");
    flags.String(&target_, "target", 0, "stage", "Stage to build");
    flags.Strings(&platforms_, "platform", 0, "os/arch[,os/arch]",
                  "Platforms of the image; several make an index of images");
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
    limits_.AddFlags(flags);
    flags.Strings(&ulimits_, "ulimit", 0, "NAME=SOFT[:HARD]", "Limit of a process of RUN");
    flags.String(&cgroup_parent_, "cgroup-parent", 0, "path", "Parent cgroup of RUN");
    flags.Strings(&secrets_, "secret", 0, "id=ID[,src=FILE|,env=NAME]",
                  "Secret for RUN --mount=type=secret");
    flags.Strings(&agents_, "ssh", 0, "default|ID[=SOCKET|KEYFILE[,KEYFILE]]",
                  "SSH agent or keys for RUN --mount=type=ssh (default: SSH_AUTH_SOCK)");
    flags.Strings(&allow_, "allow", 0, "entitlement", "network.host or security.insecure");
    flags.Strings(&outputs_, "output", 'o', "type=KIND,dest=PATH,...",
                  "image, registry, docker, oci, tar, local or cacheonly (default: image)");
    flags.Bool(&push_, "push", 0, "Push the image to the registries of its names");
    flags.Bool(&quiet_, "quiet", 'q', "Only the image's id");
    flags.Bool(&silent_, "silent", 0, "Neither progress nor the image's id").hidden = true;
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
    GANTRY_ASSIGN_OR_RETURN(BuildInput input, BuildInput::Find(context, args[0], file_, open));
    GANTRY_RETURN_IF_ERROR(input.AddContexts(contexts_, open));
    GANTRY_RETURN_IF_ERROR(input.AddCaches(cache_from_, open));
    if (!open.call().empty()) GANTRY_RETURN_IF_ERROR(input.TakeDockerfileOnly(open));
    if (input.is_tar() && !agent_sockets_.empty())
      return absl::InvalidArgumentError(
          "--ssh: not beside a tar from stdin, whose end would be that of the agent; unpack it");
    GANTRY_RETURN_IF_ERROR(AddCredentials(context, input.dockerfile_text(), open));
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
      sent = input.Send(wants, write);
      if (!sent.ok() && !absl::IsCancelled(sent)) {
        stream->Cancel();
      } else if (agent_sockets_.empty()) {
        stream->WritesDone();
      }
    });
    v1::BuildResponse response;
    v1::BuiltImage built;
    v1::BuildReport report;
    absl::Status written;
    while (stream->Read(&response)) {
      if (response.has_built()) built = response.built();
      if (response.has_report()) report = response.report();
      if (response.has_agent()) {
        agents.Take(response.agent());
        continue;
      }
      if (response.has_wants()) {
        wants.Add(response.wants());
        continue;
      }
      if (response.event_case() == v1::BuildResponse::kData && written.ok())
        written = result_.Write(context, 0, response.data());
      if (response.has_more_data() && written.ok())
        written = result_.Write(context, response.more_data().place(), response.more_data().data());
      view.Update(response);
    }
    wants.End();
    sender.join();
    view.Finish();
    const absl::Status finished = stream->Finish();
    if (!sent.ok() && !absl::IsCancelled(sent)) return sent;
    if (!finished.ok()) {
      if (style != BuildView::Style::kJson)
        context.Err(FailedLines(input.dockerfile_text(), finished.message()));
      context.Err(
          absl::StrCat("ERROR: failed to build: failed to solve: ", finished.message(), "\n"));
      return 1;
    }
    if (!open.call().empty()) {
      context.Out(report_as_json_ ? absl::StrCat(report.json(), "\n") : report.text());
      return report.failed() ? 1 : 0;
    }
    GANTRY_RETURN_IF_ERROR(written);
    GANTRY_RETURN_IF_ERROR(result_.Finish());
    if (quiet_ || progress_ == "quiet") context.Out(absl::StrCat(built.image_id(), "\n"));
    return WriteFiles(built);
  }

 private:
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
    for (const std::string& given : platforms_) {
      for (const absl::string_view one : absl::StrSplit(given, ',', absl::SkipEmpty()))
        open.add_platforms(std::string(absl::StripAsciiWhitespace(one)));
    }
    if (open.platforms_size() == 1) {
      open.set_platform(open.platforms(0));
      open.clear_platforms();
    }
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
    if (limits_.any()) GANTRY_RETURN_IF_ERROR(limits_.Fill(open.mutable_resources()));
    for (const std::string& ulimit : ulimits_) {
      GANTRY_ASSIGN_OR_RETURN(*open.mutable_resources()->add_ulimits(),
                              engine::ParseUlimit(ulimit));
    }
    open.set_cgroup_parent(cgroup_parent_);
    for (const std::string& text : secrets_) GANTRY_RETURN_IF_ERROR(AddSecret(context, text, open));
    GANTRY_ASSIGN_OR_RETURN(agent_sockets_, FindAgents(context, agents_, key_agents_));
    for (const auto& [id, socket] : agent_sockets_) open.add_agents(id);
    for (const std::string& one : allow_) open.add_allow(one);
    GANTRY_RETURN_IF_ERROR(FillCall(open));
    const std::string epoch = context.Environment("SOURCE_DATE_EPOCH");
    int64_t seconds = 0;
    if (!epoch.empty()) {
      if (!absl::SimpleAtoi(epoch, &seconds))
        return absl::InvalidArgumentError(
            absl::StrCat("SOURCE_DATE_EPOCH: \"", epoch, "\" is not a number of seconds"));
      open.set_source_date_epoch(seconds);
    }
    GANTRY_RETURN_IF_ERROR(ParseAttestations(provenance_, sbom_, attest_, open));
    GANTRY_RETURN_IF_ERROR(result_.AddOutputs(outputs_, push_, open));
    for (const std::string& text : annotations_) {
      const size_t equals = text.find('=');
      if (equals == std::string::npos || equals == 0)
        return absl::InvalidArgumentError(absl::StrCat("--annotation ", text, ": write KEY=VALUE"));
      (*open.mutable_output()->mutable_annotations())[text.substr(0, equals)] =
          text.substr(equals + 1);
    }
    return result_.AddCaches(cache_to_, open);
  }

  // "METHOD[,format=json]"
  absl::Status FillCall(v1::BuildRequest::Open& open) {
    if (check_ && !call_.empty() && call_ != "check")
      return absl::InvalidArgumentError(
          absl::StrCat("--check and --call ", call_, ": give one of them"));
    if (check_) call_ = "check";
    std::string method;
    for (const absl::string_view part : absl::StrSplit(call_, ',', absl::SkipEmpty())) {
      if (part == "format=json") {
        report_as_json_ = true;
      } else if (!absl::StrContains(part, '=') && method.empty()) {
        method = std::string(part);
      } else if (part != "format=text" && part != "format=default") {
        return absl::InvalidArgumentError(absl::StrCat(
            "--call ", call_, ": \"", part, "\" is not known; write METHOD[,format=json]"));
      }
    }
    if (method == "build") method.clear();
    open.set_call(method);
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

  static absl::Status AddCredentials(Context& context, const std::string& dockerfile,
                                     v1::BuildRequest::Open& open) {
    std::vector<std::string> registries = RegistriesOf(dockerfile);
    const auto add = [&](const std::string& reference) {
      if (reference.empty()) return;
      const std::string registry = RegistryOfReference(reference);
      if (std::find(registries.begin(), registries.end(), registry) == registries.end())
        registries.push_back(registry);
    };
    const auto add_names = [&](const v1::BuildOutput& output) {
      if (!output.push()) return;
      for (const std::string& name : output.names()) add(name);
      for (const std::string& name : open.tags()) add(name);
    };
    add_names(open.output());
    for (const v1::BuildOutput& output : open.more_outputs()) add_names(output);
    for (const v1::BuildCachePlace& place : open.cache_from()) {
      if (place.kind() == v1::BuildCachePlace::REGISTRY) add(place.reference());
    }
    for (const v1::BuildCachePlace& place : open.cache_to()) {
      if (place.kind() == v1::BuildCachePlace::REGISTRY) add(place.reference());
    }
    for (const std::string& registry : registries) {
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
    if (quiet_ || silent_ || wanted == "quiet") return BuildView::Style::kSilent;
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

  absl::StatusOr<int> WriteFiles(const v1::BuiltImage& built) {
    if (!id_file_.empty()) GANTRY_RETURN_IF_ERROR(WriteFile(id_file_, built.image_id()));
    if (!metadata_file_.empty()) {
      const std::string provenance =
          built.provenance().empty()
              ? ""
              : absl::StrCat("  \"buildx.build.provenance\": ", built.provenance(), ",\n");
      GANTRY_RETURN_IF_ERROR(WriteFile(
          metadata_file_,
          absl::StrCat(
              "{\n", provenance, "  \"containerimage.descriptor\": {\n    \"mediaType\": \"",
              built.descriptor().media_type(), "\",\n    \"digest\": \"",
              built.descriptor().digest(), "\",\n    \"size\": ", built.descriptor().size_bytes(),
              "\n  },\n  \"containerimage.digest\": \"", built.image_id(),
              "\",\n  \"image.name\": \"", absl::StrJoin(built.tags(), ","), "\"\n}\n")));
    }
    return 0;
  }

  std::vector<std::string> tags_, arguments_, labels_, no_cache_stages_, hosts_, ulimits_, secrets_,
      contexts_, agents_, allow_, platforms_, outputs_, cache_from_, cache_to_, attest_,
      annotations_;
  std::string file_, target_, network_, shm_size_, memory_, cpuset_, cgroup_parent_, progress_,
      id_file_, metadata_file_, provenance_, sbom_, call_;
  BuildLimits limits_;
  bool no_cache_ = false, pull_ = false, push_ = false, quiet_ = false, silent_ = false,
       ignored_ = false, check_ = false, report_as_json_ = false;
  std::vector<std::unique_ptr<KeyAgent>> key_agents_;
  std::map<std::string, std::string> agent_sockets_;  // by id
  BuildTarget result_;
};

}  // namespace

Verb BuildVerb() {
  return {
      .name = "build",
      .arguments = "[OPTIONS] PATH | URL | -",
      .summary = "Build an image from a Dockerfile",
      .examples =
          "  ctl build --platform linux/amd64,linux/arm64 -t registry.example.com/app --push .\n"
          "  ctl build --cache-from type=local,src=/cache --cache-to type=local,dest=/cache .\n"
          "  ctl build -t app .\n"
          "  ctl build -t app -f docker/Dockerfile --build-arg VERSION=2 --target test .\n"
          "  echo 'FROM busybox' | ctl build -t mine -\n"
          "  ctl build --secret id=token,src=token.txt .\n"
          "  ctl build https://example.org/app.git#v1.2:docker\n"
          "  ctl build --build-context assets=../assets .\n"
          "  ctl build --check .\n"
          "  ctl build --call outline --target test .\n",
      .min_args = 1,
      .max_args = 1,
      .completes = "files",
      .make = [] { return std::make_unique<BuildAction>(); }};
}

}  // namespace gantry::ctl
