#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/engine/absent_fields.h"
#include "base/engine/engine_json.h"
#include "base/engine/network_json.h"
#include "base/engine/volume_json.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {
namespace {

constexpr int kBadTemplateStatus = 64;

class InspectAction final : public Action {
 public:
  explicit InspectAction(std::string type) : type_(std::move(type)) {}

  void AddFlags(FlagSet& flags) override {
    if (type_.empty()) {
      flags.String(&type_, "type", 0, "kind",
                   "container, image, network or volume (default: which of them it is)");
    }
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
    if (type_ != "image") flags.Bool(&size_, "size", 's', "With the sizes of its file systems");
    if (type_ != "container") {
      flags.String(&platform_, "platform", 0, "os/arch", "Platform of an image");
    }
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!type_.empty() && type_ != "container" && type_ != "image" && type_ != "network" &&
        type_ != "volume") {
      return absl::InvalidArgumentError(
          absl::StrCat("--type: \"", type_, "\"; there are container, image, network and volume"));
    }
    // docker's status for a template that does not parse.
    if (const absl::Status status = GoTemplate::Parse(format_).status(); !status.ok()) {
      return WithExitStatus(status, kBadTemplateStatus);
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    std::vector<Found> found;
    int exit_status = 0;
    for (const std::string& name : args) {
      auto value = Find(*client, name);
      if (value.ok()) {
        // Of a container's two file systems only.
        if (size_ && value->kind != engine::Document::kContainer) {
          const std::string kind = !value->kind                               ? "volume"
                                   : *value->kind == engine::Document::kImage ? "image"
                                                                              : "network";
          context.Err(absl::StrCat("WARNING: --size ignored for ", kind, "\n"));
        }
        found.push_back(*std::move(value));
      } else {
        exit_status = 1;
        if (absl::IsNotFound(value.status()) && type_.empty()) {
          context.Err(absl::StrCat("Error: No such object: ", name, "\n"));
        } else {
          context.Complain(value.status());
        }
      }
    }
    if (format_.empty() || format_ == "json") {
      Value list = Value::EmptyList();
      for (Found& one : found) list.Append(std::move(one.value));
      context.Out(absl::StrCat(format_.empty() ? list.ToPrettyJson(4) : list.ToJson(), "\n"));
      return exit_status;
    }
    for (const Found& one : found) {
      GANTRY_ASSIGN_OR_RETURN(
          std::string text,
          RenderOne(one.value, format_, [&](const auto& path) -> absl::optional<absl::string_view> {
            if (!one.kind.has_value()) return absl::nullopt;
            return engine::AbsentField(*one.kind, path);
          }));
      context.Out(text);
    }
    return exit_status;
  }

 private:
  struct Found {
    std::optional<engine::Document> kind;  // none: no field of it is ever left out
    Value value;
  };

  absl::StatusOr<Found> Find(Client& client, const std::string& name) {
    if (type_.empty() || type_ == "container") {
      v1::InspectContainerRequest request;
      request.set_container(name);
      request.set_size(size_);
      v1::InspectContainerResponse response;
      const absl::Status status = client.Call(request, &response);
      if (status.ok()) {
        return Found{engine::Document::kContainer, engine::ContainerDocument(response.container())};
      }
      if (!absl::IsNotFound(status) || type_ == "container") return status;
    }
    if (type_.empty() || type_ == "image") {
      v1::InspectImageRequest request;
      request.set_image(name);
      request.set_platform(platform_);
      v1::InspectImageResponse response;
      const absl::Status status = client.Call(request, &response);
      if (status.ok())
        return Found{engine::Document::kImage, engine::ImageDocument(response.image())};
      if (type_ == "image") return status;
      // A name that is not valid for an image is not one's, instead of being an error.
      if (!absl::IsNotFound(status) && !absl::IsInvalidArgument(status)) return status;
    }
    if (type_.empty() || type_ == "network") {
      v1::InspectNetworkRequest request;
      request.set_network(name);
      v1::InspectNetworkResponse response;
      const absl::Status status = client.Call(request, &response);
      if (status.ok()) {
        return Found{engine::Document::kNetwork, engine::NetworkDocument(response.network())};
      }
      if (!absl::IsNotFound(status) || type_ == "network") return status;
    }
    v1::InspectVolumeRequest request;
    request.set_name(name);
    v1::InspectVolumeResponse response;
    const absl::Status status = client.Call(request, &response);
    if (status.ok()) return Found{std::nullopt, engine::VolumeDocument(response.volume())};
    return status;
  }

  std::string type_, format_, platform_;
  bool size_ = false;
};

}  // namespace

Verb InspectVerb() {
  return {.name = "inspect",
          .arguments = "[OPTIONS] NAME|ID [NAME|ID...]",
          .summary = "Show everything about containers, images, networks or volumes",
          .examples =
              "  ctl inspect web\n"
              "  ctl inspect -f '{{.State.ExitCode}}' job\n"
              "  ctl inspect --type image -f '{{json .Config.Env}}' debian\n",
          .min_args = 1,
          .completes = "objects",
          .make = [] { return std::make_unique<InspectAction>(""); }};
}

Verb InspectContainerVerb() {
  Verb verb = InspectVerb();
  verb.arguments = "[OPTIONS] CONTAINER [CONTAINER...]";
  verb.summary = "Show everything about containers";
  verb.examples = "  ctl container inspect web\n";
  verb.completes = "containers";
  verb.make = [] { return std::make_unique<InspectAction>("container"); };
  return verb;
}

Verb InspectImageVerb() {
  Verb verb = InspectVerb();
  verb.arguments = "[OPTIONS] IMAGE [IMAGE...]";
  verb.summary = "Show everything about images";
  verb.examples = "  ctl image inspect debian\n";
  verb.completes = "images";
  verb.make = [] { return std::make_unique<InspectAction>("image"); };
  return verb;
}

}  // namespace gantry::ctl
