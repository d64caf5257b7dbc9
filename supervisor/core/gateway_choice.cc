#include "supervisor/core/gateway_choice.h"

#include <tuple>

#include "supervisor/core/network_records.h"

namespace gantry::core {
namespace {

using network::Address;
using network::Family;

// By the reserved name of an address a person has containers use another router than the bridge.
std::optional<Address> OtherRouter(const network::Pool& pool) {
  const auto it = pool.auxiliary.find(pool.subnet.family() == Family::kIpv4 ? "DefaultGatewayIPv4"
                                                                            : "DefaultGatewayIPv6");
  if (it == pool.auxiliary.end()) return std::nullopt;
  return it->second;
}

std::optional<Gateway> GatewayBy(const PlaceInNetwork& one, Family family) {
  if (one.network.settings.internal() || !AddressOf(one.place.record, family).has_value())
    return std::nullopt;
  Gateway gateway;
  gateway.network_id = one.place.network_id;
  gateway.device = one.place.record.container_device();
  const std::string& driver = one.network.record.driver();
  if (driver == "ipvlan") {
    const std::string mode = OptionOf(one.network.record.options(), kIpvlanModeOption);
    if (mode == "l3" || mode == "l3s") return gateway;
  }
  if (driver != "bridge" && !one.network.settings.gateway_was_given()) return std::nullopt;
  for (const auto& recorded : one.network.settings.pools()) {
    const network::Pool pool = PoolOf(recorded);
    if (pool.subnet.family() != family) continue;
    gateway.address = driver == "bridge" ? OtherRouter(pool) : std::nullopt;
    if (!gateway.address.has_value()) gateway.address = pool.gateway;
    if (gateway.address.has_value()) return gateway;
  }
  return std::nullopt;
}

}  // namespace

std::vector<metadata::StoredEndpoint> RecordsOf(const std::vector<PlaceInNetwork>& places) {
  std::vector<metadata::StoredEndpoint> records;
  for (const PlaceInNetwork& one : places) records.push_back(one.place);
  return records;
}

std::optional<Gateway> ChooseGateway(const std::vector<PlaceInNetwork>& places, Family family) {
  const PlaceInNetwork* best = nullptr;
  std::optional<Gateway> chosen;
  const auto rank = [](const PlaceInNetwork& one) {
    const bool both = AddressOf(one.place.record, Family::kIpv4).has_value() &&
                      AddressOf(one.place.record, Family::kIpv6).has_value();
    return std::make_tuple(-one.place.record.gateway_priority(), !both, one.network.record.name());
  };
  for (const PlaceInNetwork& one : places) {
    std::optional<Gateway> gateway = GatewayBy(one, family);
    if (!gateway.has_value() || (best != nullptr && rank(*best) <= rank(one))) continue;
    best = &one;
    chosen = std::move(gateway);
  }
  return chosen;
}

}  // namespace gantry::core
