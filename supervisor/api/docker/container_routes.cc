#include "supervisor/api/docker/container_routes.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/engine/config_json.h"
#include "base/engine/container_json.h"
#include "base/engine/engine_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/api/docker/version_table.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/network_service.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

// Clients know these errors by their text: docker's words for a missing image and for a name that
// is taken.
absl::Status InDockersWords(const absl::Status& error, absl::string_view name) {
  absl::string_view text = error.message();
  if (absl::IsNotFound(error) && absl::ConsumePrefix(&text, "no such image: "))
    return absl::NotFoundError(absl::StrCat("No such image: ", text));
  // Of a log driver.
  if (absl::IsInvalidArgument(error) && absl::ConsumePrefix(&text, "log.driver: \"") &&
      absl::StrContains(text, "\" is not valid")) {
    const absl::string_view driver = text.substr(0, text.find('"'));
    return absl::InvalidArgumentError(absl::StrCat("error looking up logging plugin ", driver,
                                                   ": plugin \"", driver, "\" not found"));
  }
  if (!absl::IsAlreadyExists(error)) return error;
  const size_t at = text.find(" by container \"");
  if (at == absl::string_view::npos) return error;
  text.remove_prefix(at + 15);
  return absl::AlreadyExistsError(absl::StrCat(
      "Conflict. The container name \"/", absl::StripPrefix(name, "/"),
      "\" is already in use by container \"", text.substr(0, text.find('"')),
      "\". You have to remove (or rename) that container to be able to reuse that name."));
}

// Before 1.44 a container was created in one network and connected to others later.
absl::Status CheckNetworks(const Request& request, const v1::ContainerConfig& config) {
  if (config.networks_size() <= 1 || request.version() >= ApiVersion{1, 44})
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("Container cannot be created with more than one network (",
                   absl::StrJoin(config.networks(), ", ",
                                 [](std::string* out, const v1::NetworkAttachment& one) {
                                   absl::StrAppend(out, one.network());
                                 }),
                   ") before API 1.44; connect it to the others afterwards"));
}

absl::Status Create(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  if (body.is_null())
    return absl::InvalidArgumentError("config cannot be empty in order to create a container");
  v1::CreateContainerRequest create;
  create.set_name(request.Query("name"));
  GANTRY_ASSIGN_OR_RETURN(*create.mutable_config(), engine::ConfigFromDocument(body));
  create.mutable_config()->set_platform(request.Query("platform"));
  GANTRY_RETURN_IF_ERROR(CheckNetworks(request, create.config()));
  absl::StatusOr<v1::CreateContainerResponse> created =
      parts.lifecycle->Create(request.context(), create);
  if (!created.ok()) return InDockersWords(created.status(), create.name());
  Value out = Value::EmptyObject();
  out.Set("Id", created->id());
  out.Set("Warnings", Value::StringRange(created->warnings()));
  return request.Reply(201, out);
}

absl::Status List(const Parts& parts, Request& request) {
  v1::ListContainersRequest list;
  GANTRY_ASSIGN_OR_RETURN(const std::optional<int64_t> limit, request.Number("limit"));
  list.set_all(request.Flag("all"));
  list.set_size(request.Flag("size"));
  if (limit.value_or(0) > 0)
    list.set_limit(static_cast<int32_t>(std::min<int64_t>(*limit, INT32_MAX)));
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(list.mutable_filters()));
  // Without it the list can still be shown.
  std::map<std::string, std::string> network_ids;
  const absl::StatusOr<v1::ListNetworksResponse> networks =
      parts.networks->List(request.context(), v1::ListNetworksRequest());
  if (networks.ok()) {
    for (const v1::Network& network : networks->networks())
      network_ids.emplace(network.name(), network.id());
  }
  const auto has = [&request](absl::string_view path) {
    return HasField(Document::kContainerSummary, request.version(), path);
  };
  engine::SummaryFields fields;
  fields.image_manifest = has("ImageManifestDescriptor");
  fields.annotations = has("HostConfig.Annotations");
  fields.dns_names = has("NetworkSettings.Networks.*.DNSNames");
  fields.gateway_priority = has("NetworkSettings.Networks.*.GwPriority");
  std::string out = "[";
  const absl::Time now = absl::Now();
  GANTRY_RETURN_IF_ERROR(
      parts.view->Each(request.context(), list, [&](const v1::ContainerSummary& container) {
        if (out.size() > 1) out += ',';
        engine::AppendContainerSummary(container, network_ids, now, fields, &out);
      }));
  out += "]\n";
  return request.ReplyJson(200, out);
}

absl::Status Inspect(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(
      const v1::ContainerDetails details,
      parts.view->Inspect(request.context(), request.Path("id"), request.Flag("size")));
  return request.Reply(
      200, ForVersion(Document::kContainer, request.version(), engine::ContainerDocument(details)));
}

absl::Status Rename(const Parts& parts, Request& request) {
  const std::string& name = request.Query("name");
  if (name.empty())
    return absl::InvalidArgumentError("Neither old nor new names may be empty: give ?name=");
  GANTRY_RETURN_IF_ERROR(
      InDockersWords(parts.lifecycle->Rename(request.lasting(), request.Path("id"), name), name));
  return request.ReplyEmpty(204);
}

absl::Status Update(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  v1::UpdateContainerRequest update;
  update.set_container(request.Path("id"));
  v1::RestartPolicy policy;
  GANTRY_RETURN_IF_ERROR(engine::UpdateFromDocument(body, *update.mutable_resources(), policy));
  if (!policy.name().empty()) *update.mutable_restart_policy() = std::move(policy);
  GANTRY_ASSIGN_OR_RETURN(const v1::UpdateContainerResponse updated,
                          parts.lifecycle->Update(request.lasting(), update));
  Value out = Value::EmptyObject();
  out.Set("Warnings",
          updated.warnings().empty() ? Value() : Value::StringRange(updated.warnings()));
  return request.Reply(200, out);
}

// Clients take a conflict with these words for a removal that somebody else is about, and go on.
// One that waits for something goes on by itself; what else is unavailable stays an error.
absl::Status RemovalUnderWay(const Parts& parts, const Request& request, const absl::Status& why) {
  const absl::StatusOr<v1::ContainerDetails> details =
      parts.view->Inspect(request.lasting(), request.Path("id"), /*size=*/false);
  if (!details.ok() || details->summary().state() != v1::CONTAINER_STATE_REMOVING) return why;
  return absl::FailedPreconditionError(absl::StrCat("removal of container ", request.Path("id"),
                                                    " is already in progress: ", why.message()));
}

absl::Status Remove(const Parts& parts, Request& request) {
  v1::RemoveContainerRequest remove;
  remove.set_container(request.Path("id"));
  remove.set_force(request.Flag("force"));
  remove.set_volumes(request.Flag("v"));
  remove.set_link(request.Flag("link"));
  const absl::Status removed = parts.lifecycle->Remove(request.lasting(), remove).status();
  if (absl::IsUnavailable(removed)) return RemovalUnderWay(parts, request, removed);
  GANTRY_RETURN_IF_ERROR(removed);
  return request.ReplyEmpty(204);
}

absl::Status Prune(const Parts& parts, Request& request) {
  v1::PruneContainersRequest prune;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(prune.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(const v1::PruneContainersResponse pruned,
                          parts.lifecycle->Prune(request.lasting(), prune));
  Value out = Value::EmptyObject();
  out.Set("ContainersDeleted",
          pruned.deleted().empty() ? Value() : Value::StringRange(pruned.deleted()));
  out.Set("SpaceReclaimed", pruned.space_reclaimed_bytes());
  return request.Reply(200, out);
}

}  // namespace

void AddContainerRoutes(Router& router, const Parts& parts) {
  router.Add("GET", "/containers/json", parts, List);
  router.Add("POST", "/containers/create", parts, Create);
  router.Add("POST", "/containers/prune", parts, Prune);
  router.Add("GET", "/containers/{id}/json", parts, Inspect);
  router.Add("POST", "/containers/{id}/rename", parts, Rename);
  router.Add("POST", "/containers/{id}/update", parts, Update);
  router.Add("DELETE", "/containers/{id}", parts, Remove);
}

}  // namespace gantry::api::docker
