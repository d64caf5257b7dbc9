#include "base/engine/network_json.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"

namespace gantry::engine {
namespace {

bool HasFamily(const v1::Network& network, bool ipv6) {
  return std::any_of(network.pools().begin(), network.pools().end(), [ipv6](const auto& pool) {
    return absl::StrContains(pool.subnet(), ':') == ipv6;
  });
}

Value PoolConfig(const v1::IpamPool& pool) {
  Value config = Value::EmptyObject();
  config.Set("Subnet", pool.subnet());
  if (!pool.ip_range().empty()) config.Set("IPRange", pool.ip_range());
  if (!pool.gateway().empty()) config.Set("Gateway", pool.gateway());
  if (!pool.auxiliary_addresses().empty())
    config.Set("AuxiliaryAddresses", Value::StringMap(pool.auxiliary_addresses()));
  return config;
}

}  // namespace

Value NetworkDocument(const v1::Network& network) {
  Value ipam = Value::EmptyObject();
  ipam.Set("Driver", "default");
  ipam.Set("Options", Value::EmptyObject());
  Value pools = Value::EmptyList();
  for (const v1::IpamPool& pool : network.pools()) pools.Append(PoolConfig(pool));
  ipam.Set("Config", std::move(pools));

  Value containers = Value::EmptyObject();
  for (const v1::ConnectedContainer& one : network.endpoints()) {
    Value container = Value::EmptyObject();
    container.Set("Name", one.container_name());
    container.Set("EndpointID", one.endpoint_id());
    container.Set("MacAddress", one.mac_address());
    std::string ipv4;
    std::string ipv6;
    for (const std::string& address : one.addresses())
      (absl::StrContains(address, ':') ? ipv6 : ipv4) = address;
    container.Set("IPv4Address", ipv4);
    container.Set("IPv6Address", ipv6);
    containers.Set(one.container_id(), std::move(container));
  }

  Value document = Value::EmptyObject();
  document.Set("Name", network.name());
  document.Set("Id", network.id());
  document.Set("Created", JsonTime(FromProto(network.has_created_at(), network.created_at())));
  document.Set("Scope", "local");
  document.Set("Driver", network.driver());
  document.Set("EnableIPv4", HasFamily(network, false) || network.pools().empty());
  document.Set("EnableIPv6", HasFamily(network, true));
  document.Set("IPAM", std::move(ipam));
  document.Set("Internal", network.internal());
  document.Set("Attachable", network.attachable());
  document.Set("Ingress", false);
  Value from = Value::EmptyObject();
  from.Set("Network", "");
  document.Set("ConfigFrom", std::move(from));
  document.Set("ConfigOnly", false);
  document.Set("Containers", std::move(containers));
  document.Set("Options", Value::StringMap(network.options()));
  document.Set("Labels", Value::StringMap(network.labels()));
  return document;
}

Value NetworkRow(const v1::Network& network, bool truncate) {
  std::string labels;
  const Value sorted = Value::StringMap(network.labels());
  for (const auto& [key, value] : sorted.object().fields)
    absl::StrAppend(&labels, labels.empty() ? "" : ",", key, "=", value.string());
  Value row = Value::EmptyObject();
  row.Set("CreatedAt", TableTime(FromProto(network.has_created_at(), network.created_at())));
  row.Set("Driver", network.driver());
  row.Set("ID", truncate ? network.id().substr(0, 12) : network.id());
  row.Set("IPv4", HasFamily(network, false) || network.pools().empty() ? "true" : "false");
  row.Set("IPv6", HasFamily(network, true) ? "true" : "false");
  row.Set("Internal", network.internal() ? "true" : "false");
  row.Set("LabelMap", sorted);  // not shown in JSON
  row.Set("Labels", labels);
  row.Set("Name", network.name());
  row.Set("Scope", "local");
  return row;
}

}  // namespace gantry::engine
