// A network as a request asks for it: checked, and made into what is recorded. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_REQUEST_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_REQUEST_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/metadata/network_store.h"
#include "supervisor/network/ipam.h"

namespace gantry::v1 {
class CreateNetworkRequest;
}

namespace gantry::core {

// The network that every namespace has, and the ones that have no record.
inline constexpr char kDefaultNetwork[] = "bridge";
bool IsPredefinedNetwork(absl::string_view name);

// Record and settings but for the subnets. `id` is the new network's.
//   kInvalidArgument     name, driver, option or a combination of them; the field is named
//   kFailedPrecondition  the name of a network that is always there
absl::StatusOr<metadata::StoredNetwork> NetworkOfRequest(const v1::CreateNetworkRequest& request,
                                                         absl::string_view id);

// Where automatic subnets come from, and what they leave alone.
struct SubnetSources {
  std::vector<network::PoolSource> pools;
  std::vector<network::TakenBlock> in_use;  // by the host itself
};

// The subnets of a new network, and the check against `all` others.
//   kInvalidArgument    a subnet, range, gateway or auxiliary address; the field is named
//   kAlreadyExists      another network has the subnet, the device or the parent
//   kResourceExhausted  no free subnet
absl::Status ChooseSubnets(const v1::CreateNetworkRequest& request, const SubnetSources& sources,
                           const std::vector<metadata::StoredNetwork>& all,
                           metadata::StoredNetwork& made);

// Name servers of a resolv.conf, as blocks of one address.
std::vector<network::TakenBlock> NameServersIn(absl::string_view resolv_conf);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_REQUEST_H_
