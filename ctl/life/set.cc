#include <limits.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/container_options.h"
#include "ctl/life/verbs.h"
#include "proto/gantry/v1/life.pb.h"

namespace gantry::ctl {
namespace {

absl::Status FillMap(const char* flag, const std::vector<std::string>& entries,
                     google::protobuf::Map<std::string, std::string>& map) {
  for (const std::string& entry : entries) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(entry, absl::MaxSplits('=', 1));
    if (parts.first.empty())
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": \"", entry, "\" has no name"));
    map[parts.first] = parts.second;
  }
  return absl::OkStatus();
}

class SetAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags_ = &flags;
    resources_.AddFlags(flags);
    flags.String(&restart_, "restart", 0, "policy",
                 "When it exits: no, always, on-failure[:N], unless-stopped");
    flags.Strings(&labels_, "label", 'l', "name=value", "Add or replace a label");
    flags.Strings(&no_labels_, "no-label", 0, "name", "Remove a label");
    flags.Strings(&env_, "env", 'e', "name=value",
                  "Add or replace a variable, from the next start on");
    flags.Strings(&no_env_, "no-env", 0, "name", "Remove a variable, from the next start on");
    flags.Strings(&publish_, "publish", 'p', "port", "Publish a port");
    flags.Strings(&unpublish_, "unpublish", 0, "port",
                  "Publish it no more: [[ip:]port:]port[/protocol]");
    flags.Strings(&volumes_, "volume", 'v', "source:target", "Add or replace a mount");
    flags.Strings(&mounts_, "mount", 0, "mount", "Add or replace a mount");
    flags.Strings(&no_mounts_, "no-mount", 0, "target", "Remove a mount");
    flags.Strings(&connect_, "network", 0, "name", "Connect it to a network");
    flags.Strings(&disconnect_, "no-network", 0, "name", "Disconnect it from a network");
    flags.String(&log_driver_, "log-driver", 0, "name", "Log driver, from the next start on");
    flags.Strings(&log_options_, "log-opt", 0, "name=value", "Option of the log driver");
    flags.String(&entrypoint_, "entrypoint", 0, "program", "Entry point, from the next start on");
    flags.String(&workdir_, "workdir", 'w', "dir", "Working directory, from the next start on");
    flags.String(&stop_signal_, "stop-signal", 0, "signal", "Signal that stops it");
    flags.OptionalInt(&stop_timeout_, "stop-timeout", 0, "Seconds that it may take to stop");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(v1::SetContainerRequest request, Request(args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::SetContainerResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string out;
    for (const auto& change : response.changes()) {
      absl::StrAppend(
          &out, change.what(), ": ",
          change.done() ? "done" : absl::StrCat("at the next start, because ", change.why()), "\n");
    }
    context.Out(out);
    for (const std::string& warning : response.warnings())
      context.Err(absl::StrCat("WARNING: ", warning, "\n"));
    return 0;
  }

 private:
  absl::StatusOr<v1::SetContainerRequest> Request(const std::vector<std::string>& args) const {
    v1::SetContainerRequest request;
    request.set_container(args[0]);
    if (args.size() > 1) {
      for (size_t i = 1; i < args.size(); ++i) request.mutable_command()->add_values(args[i]);
    }
    v1::Resources resources;
    GANTRY_RETURN_IF_ERROR(resources_.Fill(&resources));
    if (resources.ByteSizeLong() > 0) *request.mutable_resources() = resources;
    if (!restart_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(*request.mutable_restart_policy(),
                              engine::ParseRestartPolicy(restart_));
    }
    GANTRY_RETURN_IF_ERROR(FillMap("label", labels_, *request.mutable_labels()));
    for (const std::string& name : no_labels_) request.add_remove_labels(name);
    for (const std::string& entry : env_) request.add_env(entry);
    for (const std::string& name : no_env_) request.add_remove_env(name);
    GANTRY_RETURN_IF_ERROR(AddPorts(publish_, *request.mutable_publish()));
    GANTRY_RETURN_IF_ERROR(AddPorts(unpublish_, *request.mutable_unpublish()));
    char directory[PATH_MAX] = "/";
    if (getcwd(directory, sizeof directory) == nullptr) directory[1] = '\0';
    for (const std::string& text : volumes_) {
      GANTRY_ASSIGN_OR_RETURN(*request.add_mounts(), engine::ParseVolume(text, directory));
    }
    for (const std::string& text : mounts_) {
      GANTRY_ASSIGN_OR_RETURN(*request.add_mounts(), engine::ParseMount(text, directory));
    }
    for (const std::string& target : no_mounts_) request.add_remove_mounts(target);
    for (const std::string& name : connect_) request.add_connect()->set_network(name);
    for (const std::string& name : disconnect_) request.add_disconnect(name);
    if (!log_driver_.empty() || !log_options_.empty()) {
      request.mutable_log()->set_driver(log_driver_);
      GANTRY_RETURN_IF_ERROR(
          FillMap("log-opt", log_options_, *request.mutable_log()->mutable_options()));
    }
    if (flags_->Seen("entrypoint")) {
      request.mutable_entrypoint();
      if (!entrypoint_.empty()) request.mutable_entrypoint()->add_values(entrypoint_);
    }
    if (!workdir_.empty()) request.set_working_dir(workdir_);
    if (!stop_signal_.empty()) request.set_stop_signal(stop_signal_);
    if (stop_timeout_.has_value())
      request.set_stop_timeout_seconds(static_cast<int32_t>(*stop_timeout_));
    return request;
  }

  template <class Ports>
  static absl::Status AddPorts(const std::vector<std::string>& texts, Ports& ports) {
    for (const std::string& text : texts) {
      GANTRY_ASSIGN_OR_RETURN(const std::vector<v1::PortBinding> parsed,
                              engine::ParsePublish(text));
      for (const v1::PortBinding& port : parsed) *ports.Add() = port;
    }
    return absl::OkStatus();
  }

  const FlagSet* flags_ = nullptr;
  ResourceOptions resources_;
  std::string restart_, log_driver_, entrypoint_, workdir_, stop_signal_;
  std::vector<std::string> labels_, no_labels_, env_, no_env_, publish_, unpublish_, connect_,
      disconnect_, log_options_, volumes_, mounts_, no_mounts_;
  std::optional<int64_t> stop_timeout_;
};

}  // namespace

Verb SetVerb() {
  return {.name = "set",
          .arguments = "[OPTIONS] CONTAINER [COMMAND] [ARG...]",
          .summary = "Change a container without making it anew",
          .examples =
              "  ctl set --label tier=front --restart always web\n"
              "  ctl set -m 1g --network back web\n"
              "  ctl set -v data:/data web\n"
              "  ctl set -e DEBUG=1 -p 8081:80 web && ctl restart web\n",
          .min_args = 1,
          .hands_on = true,
          .completes = "containers",
          .make = [] { return std::make_unique<SetAction>(); }};
}

}  // namespace gantry::ctl
