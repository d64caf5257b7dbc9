// What a container gets in a network: device names, MAC and addresses. Pure, but for random names.
#ifndef GANTRY_SUPERVISOR_CORE_PLACE_CHOICE_H_
#define GANTRY_SUPERVISOR_CORE_PLACE_CHOICE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/core/gateway_choice.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/network/address.h"

namespace gantry::v1 {
class ContainerConfig;
class NetworkAttachment;
}  // namespace gantry::v1

namespace gantry::core {

// The container that a call is about.
struct NetworkClient {
  std::string id;
  std::string name;
  std::string hostname;  // "" unless a person chose one
  // Path of the user namespace that its network namespace is to belong to; "": the host's, or a
  // new one with ids of its own.
  std::string user_namespace = {};
  // Where containers may not reach each other: names or ids of those that it is linked to, and what
  // those that are linked to it may reach, "80/tcp".
  std::vector<std::string> links = {};
  std::vector<std::string> exposed_ports = {};
};

// `shown_name`: as people know it.
NetworkClient ClientOf(const std::string& id, const std::string& shown_name,
                       const v1::ContainerConfig& config);

// A place but for its addresses. `others`: the container's in other networks, whose device names
// are taken.
//   kInvalidArgument  a MAC address or an option; the field is named
absl::StatusOr<record::v1::NetworkEndpoint> NewPlace(const metadata::StoredNetwork& network,
                                                     const NetworkClient& client,
                                                     const v1::NetworkAttachment& attachment,
                                                     const std::vector<PlaceInNetwork>& others);

// kInvalidArgument, of field ip_address: not an address.
absl::StatusOr<std::vector<network::Address>> AskedAddresses(
    const v1::NetworkAttachment& attachment);

// Fills in the addresses: those that are asked for, else the lowest that are free of `all` places
// of the network; one per family. And, if `mac_follows` and the driver gives devices their own, the
// MAC: it follows from the address, so that an address that goes to another container keeps it, and
// what neighbours remember stays true.
//   kInvalidArgument    an address that no subnet of the network holds
//   kAlreadyExists      an address or a MAC that another container has
//   kResourceExhausted  no free address
absl::Status ChooseAddresses(const metadata::StoredNetwork& network,
                             const std::vector<metadata::StoredEndpoint>& all,
                             std::vector<network::Address> asked, bool mac_follows,
                             record::v1::NetworkEndpoint& made);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PLACE_CHOICE_H_
