#include "supervisor/api/docker/network_routes.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/engine/network_json.h"
#include "base/engine/network_request_json.h"
#include "base/engine/value.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/container_networks.h"
#include "supervisor/core/network_service.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

// EnableIPv4 came with 1.47.
Value DocumentFor(const v1::Network& network, ApiVersion version) {
  const Value whole = engine::NetworkDocument(network);
  if (version >= ApiVersion{1, 47}) return whole;
  Value out = Value::EmptyObject();
  for (const auto& [key, field] : whole.object().fields) {
    if (key != "EnableIPv4") out.Set(key, field);
  }
  return out;
}

// What a network's state forbids is 403 in docker, where other nouns have 409.
absl::Status Answer(Request& request, const absl::Status& status) {
  if (absl::IsFailedPrecondition(status)) return request.ReplyError(403, status.message());
  return status;
}

absl::Status List(core::NetworkService& networks, Request& request) {
  v1::ListNetworksRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(const v1::ListNetworksResponse found,
                          networks.List(request.context(), asked));
  Value list = Value::EmptyList();
  for (const v1::Network& network : found.networks())
    list.Append(DocumentFor(network, request.version()));
  return request.Reply(200, list);
}

absl::Status Inspect(core::NetworkService& networks, Request& request) {
  const std::string& scope = request.Query("scope");
  GANTRY_ASSIGN_OR_RETURN(const v1::Network network,
                          networks.Inspect(request.context(), request.Path("id")));
  if (!scope.empty() && scope != "local")
    return absl::NotFoundError(absl::StrCat("network ", request.Path("id"), " not found"));
  return request.Reply(200, DocumentFor(network, request.version()));
}

absl::Status Create(core::NetworkService& networks, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  GANTRY_ASSIGN_OR_RETURN(const v1::CreateNetworkRequest asked,
                          engine::CreateNetworkFromDocument(body));
  const absl::StatusOr<v1::CreateNetworkResponse> made = networks.Create(request.lasting(), asked);
  if (!made.ok()) return Answer(request, made.status());
  Value out = Value::EmptyObject();
  out.Set("Id", made->id());
  out.Set("Warning", "");
  return request.Reply(201, out);
}

absl::Status Remove(core::NetworkService& networks, Request& request) {
  const auto removed = networks.Remove(request.lasting(), request.Path("id"));
  if (!removed.ok()) return Answer(request, removed.status());
  return request.ReplyEmpty(204);
}

absl::Status Prune(core::NetworkService& networks, Request& request) {
  v1::PruneNetworksRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(const v1::PruneNetworksResponse pruned,
                          networks.Prune(request.lasting(), asked));
  Value out = Value::EmptyObject();
  out.Set("NetworksDeleted", pruned.names().empty() ? Value() : Value::StringRange(pruned.names()));
  return request.Reply(200, out);
}

absl::Status Connect(core::ContainerNetworks& containers, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  GANTRY_ASSIGN_OR_RETURN(const v1::ConnectNetworkRequest asked,
                          engine::ConnectNetworkFromDocument(body, request.Path("id")));
  const absl::Status connected = containers.Connect(request.lasting(), asked);
  if (absl::IsAlreadyExists(connected)) return request.ReplyError(403, connected.message());
  if (!connected.ok()) return Answer(request, connected);
  return request.ReplyEmpty(200);
}

absl::Status Disconnect(core::ContainerNetworks& containers, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  GANTRY_ASSIGN_OR_RETURN(const v1::DisconnectNetworkRequest asked,
                          engine::DisconnectNetworkFromDocument(body, request.Path("id")));
  const absl::Status gone = containers.Disconnect(request.lasting(), asked);
  if (!gone.ok()) return Answer(request, gone);
  return request.ReplyEmpty(200);
}

}  // namespace

void AddNetworkRoutes(Router& router, const Parts& parts) {
  const auto add = [&router](absl::string_view method, absl::string_view pattern, auto* service,
                             auto handler) {
    router.Add(method, pattern,
               [service, handler](Request& request) { return handler(*service, request); });
  };
  add("GET", "/networks", parts.networks, List);
  add("POST", "/networks/create", parts.networks, Create);
  add("POST", "/networks/prune", parts.networks, Prune);
  add("GET", "/networks/{id}", parts.networks, Inspect);
  add("DELETE", "/networks/{id}", parts.networks, Remove);
  add("POST", "/networks/{id}/connect", parts.container_networks, Connect);
  add("POST", "/networks/{id}/disconnect", parts.container_networks, Disconnect);
}

}  // namespace gantry::api::docker
