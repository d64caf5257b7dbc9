#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/commands/compose.h"
#include "ctl/commands/transfer.h"
#include "ctl/compose/container_config.h"
#include "ctl/compose/interpolation.h"
#include "ctl/compose/present.h"
#include "ctl/compose/print_yaml.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/manifests.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::ctl {
namespace {

class ConfigAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Only check");
    flags.String(&format_, "format", 0, "yaml|json", "How to print it (default yaml)");
    flags.Bool(&services_, "services", 0, "Print the names of services");
    flags.Bool(&volumes_, "volumes", 0, "Print the names of volumes");
    flags.Bool(&networks_, "networks", 0, "Print the names of networks");
    flags.Bool(&images_, "images", 0, "Print the names of images");
    flags.Bool(&models_, "models", 0, "Print the names of models");
    flags.Bool(&variables_, "variables", 0, "Print the variables in the files, with defaults");
    flags.Bool(&profiles_, "profiles", 0, "Print the names of profiles");
    flags.Bool(&environment_, "environment", 0, "Print the variables that files can use");
    flags.String(&hash_, "hash", 0, "service", "Print the hashes of services; * for all");
    flags.Bool(&no_interpolate_, "no-interpolate", 0, "Leave variables as they are");
    flags.Bool(&no_normalize_, "no-normalize", 0, "Do not fill in defaults");
    flags.Bool(&no_paths_, "no-path-resolution", 0, "Leave paths as they are");
    flags.Bool(&no_consistency_, "no-consistency", 0, "Do not check that the parts fit together");
    flags.Bool(&no_environment_, "no-env-resolution", 0, "Leave env_file as it is");
    flags.Bool(&resolve_digests_, "resolve-image-digests", 0,
               "Name images by what their registries have under their names now");
    flags.Bool(&lock_digests_, "lock-image-digests", 0,
               "Print an override file that names the images so");
    flags.String(&output_, "output", 'o', "file", "Write it there").completes = "files";
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    project_.overrides()->interpolate = !no_interpolate_;
    project_.overrides()->normalize = !no_normalize_;
    project_.overrides()->resolve_paths = !no_paths_;
    project_.overrides()->check_consistency = !no_consistency_;
    // As docker compose: a hash that is asked for is of the files alone.
    project_.overrides()->resolve_environment = !no_environment_ && hash_.empty();
    if (variables_) return Variables(context, args);
    GANTRY_ASSIGN_OR_RETURN(compose::Project project, project_.Load(context, args));
    if (quiet_) return 0;
    // With services, they and what they depend on.
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> wanted,
                            compose::InDependencyOrder(project, args, /*no_deps=*/false));
    if (compose::Node* all = project.model.Find("services"); all != nullptr) {
      for (const std::string& service : project.ServiceNames()) {
        if (std::find(wanted.begin(), wanted.end(), service) == wanted.end()) all->Remove(service);
      }
    }
    compose::DropUnused(project.model);
    std::string text;
    const auto keys = [&](const char* section) {
      const compose::Node* found = project.model.Find(section);
      if (found == nullptr) return;
      for (const auto& [key, value] : found->entries) absl::StrAppend(&text, key, "\n");
    };
    if (services_) {
      keys("services");
    } else if (volumes_) {
      keys("volumes");
    } else if (networks_) {
      keys("networks");
    } else if (models_) {
      keys("models");
    } else if (images_) {
      for (const std::string& service : project.ServiceNames())
        absl::StrAppend(&text, compose::ImageOf(project, service), "\n");
    } else if (profiles_) {
      GANTRY_ASSIGN_OR_RETURN(text, Profiles(context));
    } else if (environment_) {
      for (const auto& [name, value] : project.environment)
        absl::StrAppend(&text, name, "=", value, "\n");
    } else if (!hash_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(text, Hashes(project));
    } else {
      if (resolve_digests_ || lock_digests_)
        GANTRY_RETURN_IF_ERROR(NameImagesByDigest(context, project));
      if (lock_digests_) KeepOnlyImages(project.model);
      compose::PrintOptions print;
      print.escape_dollars = !no_interpolate_;
      compose::Node shown = compose::Present(project.model);
      if (format_ == "json") {
        compose::AddJsonDefaults(shown);
        text = absl::StrCat(compose::PrintJson(shown, 2, print), "\n");
      } else if (format_.empty() || format_ == "yaml") {
        text = compose::PrintYaml(shown, print);
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat("--format: \"", format_, "\": use yaml or json"));
      }
    }
    if (!output_.empty()) {
      GANTRY_RETURN_IF_ERROR(WriteFile(output_, text));
      return 0;
    }
    context.Out(text);
    return 0;
  }

 private:
  absl::StatusOr<std::string> Hashes(const compose::Project& project) const {
    std::vector<std::string> services = project.ServiceNames();
    if (hash_ != "*") services = absl::StrSplit(hash_, ',');
    std::sort(services.begin(), services.end());
    std::string text;
    for (const std::string& service : services) {
      if (project.FindService(service) == nullptr)
        return absl::NotFoundError(absl::StrCat("no such service: ", service));
      absl::StrAppend(&text, service, " ", compose::ServiceHash(project, service), "\n");
    }
    return text;
  }

  // "image: app:1" as "image: docker.io/library/app:1@sha256:..." of what the registry says now.
  static absl::Status NameImagesByDigest(Context& context, compose::Project& project) {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    compose::Node* services = project.model.Find("services");
    if (services == nullptr) return absl::OkStatus();
    for (auto& [name, service] : services->entries) {
      const std::string image = service.TextOf("image");
      if (image.empty() || image.find('@') != image.npos) continue;
      v1::ReadManifestRequest request;
      request.set_reference(image);
      GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, image));
      v1::ReadManifestResponse response;
      const absl::Status status = client->Call(request, &response);
      if (!status.ok()) {
        return absl::Status(status.code(), absl::StrCat("services.", name, ".image: ", image, ": ",
                                                        status.message()));
      }
      service.Set("image", compose::Node::String(absl::StrCat(response.reference(), "@",
                                                              response.manifest().digest())));
    }
    return absl::OkStatus();
  }

  static void KeepOnlyImages(compose::Node& model) {
    compose::Node out = compose::Node::Map();
    compose::Node& services = out.Set("services", compose::Node::Map());
    if (const compose::Node* all = model.Find("services"); all != nullptr) {
      for (const auto& [name, service] : all->entries) {
        compose::Node& kept = services.Set(name, compose::Node::Map());
        if (const compose::Node* image = service.Find("image")) kept.Set("image", *image);
      }
    }
    model = std::move(out);
  }

  // A table of what may be set from outside.
  absl::StatusOr<int> Variables(Context& context, const std::vector<std::string>& args) {
    project_.overrides()->interpolate = false;
    project_.overrides()->check_consistency = false;
    project_.overrides()->normalize = false;
    compose::LoadOptions options = project_.Options(context, args);
    options.profiles = {"*"};
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, compose::LoadProject(options));
    std::map<std::string, compose::Variable> variables;
    compose::CollectVariables(project.model, variables);
    if (format_ == "json") {
      compose::Node all = compose::Node::Map();
      for (const auto& [name, variable] : variables) {
        compose::Node& one = all.Set(name, compose::Node::Map());
        one.Set("Name", compose::Node::String(name));
        one.Set("DefaultValue", compose::Node::String(variable.otherwise));
        one.Set("PresenceValue", compose::Node::String(variable.alternate));
        one.Set("Required", compose::Node::Bool(variable.required));
      }
      context.Out(absl::StrCat(compose::PrintJson(all, 4, {.escape_dollars = false}), "\n\n"));
      return 0;
    }
    const auto line = [](absl::string_view name, absl::string_view required,
                         absl::string_view otherwise, absl::string_view alternate) {
      return absl::StrFormat("%-19s %-19s %-19s %s\n", name, required, otherwise, alternate);
    };
    std::string text = line("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE");
    for (const auto& [name, variable] : variables) {
      absl::StrAppend(&text, line(name, variable.required ? "true" : "false", variable.otherwise,
                                  variable.alternate));
    }
    context.Out(text);
    return 0;
  }

  // Of all services, also those that are off.
  absl::StatusOr<std::string> Profiles(Context& context) {
    compose::LoadOptions options = project_.Options(context, {});
    options.profiles = {"*"};
    GANTRY_ASSIGN_OR_RETURN(const compose::Project all, compose::LoadProject(options));
    std::vector<std::string> names;
    for (const std::string& service : all.ServiceNames()) {
      const compose::Node* profiles = all.FindService(service)->Find("profiles");
      if (profiles == nullptr) continue;
      for (const compose::Node& profile : profiles->items) names.push_back(profile.text);
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    std::string text;
    for (const std::string& name : names) absl::StrAppend(&text, name, "\n");
    return text;
  }

  ProjectFlags project_;
  bool quiet_ = false, services_ = false, volumes_ = false, networks_ = false, images_ = false,
       profiles_ = false, environment_ = false, no_interpolate_ = false, no_normalize_ = false,
       models_ = false, variables_ = false, no_paths_ = false, no_consistency_ = false,
       no_environment_ = false, resolve_digests_ = false, lock_digests_ = false;
  std::string format_, hash_, output_;
};

}  // namespace

Verb ComposeConfigVerb() {
  return {.name = "config",
          .aliases = {"convert"},
          .arguments = "[OPTIONS] [SERVICE...]",
          .summary = "Check the project's files and print what they mean",
          .examples =
              "  ctl compose config\n"
              "  ctl compose config --services\n"
              "  ctl compose -f compose.yaml -f debug.yaml config --format json\n",
          .completes = "services",
          .make = [] { return std::make_unique<ConfigAction>(); }};
}

}  // namespace gantry::ctl
