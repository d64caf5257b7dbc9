#include "base/engine/network_request_json.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/engine/field_reader.h"
#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::engine {
void ReadEndpoint(FieldReader& in, v1::NetworkAttachment& out) {
  in.Strings("Aliases", [&](std::string alias) { out.add_aliases(std::move(alias)); });
  in.Strings("Links", [&](std::string link) { out.add_links(std::move(link)); });
  in.StringMap("DriverOpts", out.mutable_driver_options());
  out.set_mac_address(in.String("MacAddress"));
  out.set_gateway_priority(static_cast<int32_t>(in.Integer(
      "GwPriority", std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max())));
  FieldReader addresses = in.Object("IPAMConfig");
  out.set_ipv4_address(addresses.String("IPv4Address"));
  out.set_ipv6_address(addresses.String("IPv6Address"));
  addresses.Strings("LinkLocalIPs",
                    [&](std::string address) { out.add_link_local_addresses(std::move(address)); });
}

absl::StatusOr<v1::CreateNetworkRequest> CreateNetworkFromDocument(const Value& body) {
  if (!body.is_object()) return FieldError("body", "is not a JSON object");
  absl::Status status;
  FieldReader in(body, "", &status);
  v1::CreateNetworkRequest request;
  request.set_name(in.String("Name"));
  request.set_driver(in.String("Driver"));
  request.set_internal(in.Bool("Internal"));
  request.set_attachable(in.Bool("Attachable"));
  request.set_ipv6(in.Bool("EnableIPv6"));
  request.set_no_ipv4(in.Find("EnableIPv4") != nullptr && !in.Bool("EnableIPv4"));
  request.set_configuration_only(in.Bool("ConfigOnly"));
  request.set_configuration_from(in.Object("ConfigFrom").String("Network"));
  in.StringMap("Options", request.mutable_options());
  in.StringMap("Labels", request.mutable_labels());
  if (in.Bool("Ingress")) in.Refuse("Ingress", "needs a swarm, and this node is in none");
  const std::string scope = in.String("Scope");
  if (!scope.empty() && scope != "local")
    in.Refuse("Scope", absl::StrCat("\"", scope, "\" needs a swarm, and this node is in none"));
  FieldReader ipam = in.Object("IPAM");
  const std::string driver = ipam.String("Driver");
  if (!driver.empty() && driver != "default")
    ipam.Refuse("Driver", absl::StrCat("\"", driver, "\" does not exist; there is \"default\""));
  ipam.EachObject("Config", [&](FieldReader& entry) {
    v1::IpamPool& pool = *request.add_pools();
    pool.set_subnet(entry.String("Subnet"));
    pool.set_ip_range(entry.String("IPRange"));
    pool.set_gateway(entry.String("Gateway"));
    entry.StringMap("AuxiliaryAddresses", pool.mutable_auxiliary_addresses());
    // What compose writes for a network without a pool of its own.
    if (pool.ByteSizeLong() == 0) request.mutable_pools()->RemoveLast();
  });
  if (!status.ok()) return status;
  if (request.name().empty()) return FieldError("Name", "is missing");
  return request;
}

absl::StatusOr<v1::ConnectNetworkRequest> ConnectNetworkFromDocument(const Value& body,
                                                                     std::string network) {
  if (!body.is_object()) return FieldError("body", "is not a JSON object");
  absl::Status status;
  FieldReader in(body, "", &status);
  v1::ConnectNetworkRequest request;
  request.set_container(in.String("Container"));
  request.mutable_attachment()->set_network(std::move(network));
  FieldReader endpoint = in.Object("EndpointConfig");
  ReadEndpoint(endpoint, *request.mutable_attachment());
  if (!status.ok()) return status;
  if (request.container().empty()) return FieldError("Container", "is missing");
  return request;
}

absl::StatusOr<v1::DisconnectNetworkRequest> DisconnectNetworkFromDocument(const Value& body,
                                                                           std::string network) {
  if (!body.is_object()) return FieldError("body", "is not a JSON object");
  absl::Status status;
  FieldReader in(body, "", &status);
  v1::DisconnectNetworkRequest request;
  request.set_network(std::move(network));
  request.set_container(in.String("Container"));
  request.set_force(in.Bool("Force"));
  if (!status.ok()) return status;
  if (request.container().empty()) return FieldError("Container", "is missing");
  return request;
}

}  // namespace gantry::engine
