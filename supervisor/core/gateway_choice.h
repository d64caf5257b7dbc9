// By which of a container's networks its default route goes, per family. Pure.
//
// The order is docker's: the highest priority, networks with a way out before internal ones, those
// with both families before those with one, then the name that sorts first. So it does not depend
// on the order in which networks were connected.
#ifndef GANTRY_SUPERVISOR_CORE_GATEWAY_CHOICE_H_
#define GANTRY_SUPERVISOR_CORE_GATEWAY_CHOICE_H_

#include <optional>
#include <string>
#include <vector>

#include "supervisor/metadata/network_store.h"
#include "supervisor/network/address.h"

namespace gantry::core {

// A place and the network that it is in.
struct PlaceInNetwork {
  metadata::StoredNetwork network;
  metadata::StoredEndpoint place;
};

std::vector<metadata::StoredEndpoint> RecordsOf(const std::vector<PlaceInNetwork>& places);

// Where the default route goes by one place.
struct Gateway {
  std::string network_id;
  std::string device;  // the container's
  // Of the next router. Without it everything is on the wire of the device.
  std::optional<network::Address> address;
};

// None: no network of the container's has a way out in this family.
std::optional<Gateway> ChooseGateway(const std::vector<PlaceInNetwork>& places,
                                     network::Family family);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_GATEWAY_CHOICE_H_
