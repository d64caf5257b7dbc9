// Records of networks, of the places that containers have in them, and of the network namespaces
// that hold these places. Thread-safe.
//
// A network is ns / id; a place is ns / id / container, in the same family, so that one scan of a
// network's keys finds all that was given out of it. Places and namespaces survive the daemon's
// death, not the machine's: with it all that was made of them goes.
#ifndef GANTRY_SUPERVISOR_METADATA_NETWORK_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_NETWORK_STORE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/record/v1/network.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

// One network as it is recorded.
struct StoredNetwork {
  std::string ns;
  record::v1::Network record;
  record::v1::NetworkSettings settings;
};

// A place, and whose network it is in.
struct StoredEndpoint {
  std::string ns;
  std::string network_id;
  record::v1::NetworkEndpoint record;
};

// A container's network namespace, and the ports of the host that lead into it.
struct StoredNetns {
  std::string ns;
  record::v1::NetworkNamespace record;
};

class NetworkStore {
 public:
  explicit NetworkStore(Database& db) : db_(db) {}

  // By id, by name, or by the beginning of an id, in this order.
  //   kNotFound         there is none
  //   kInvalidArgument  the beginning of several ids
  absl::StatusOr<StoredNetwork> Find(const Scope& scope, absl::string_view text);

  // In order of name. Of every namespace when `ns` is empty.
  absl::StatusOr<std::vector<StoredNetwork>> List(absl::string_view ns);

  // `decide` is given the networks of all namespaces, checks and completes the new one, and is
  // called again when another change came between.
  //   kAlreadyExists  the namespace has a network of that name
  //   what `decide` returned
  absl::StatusOr<StoredNetwork> Create(
      const Scope& scope, StoredNetwork network,
      const std::function<absl::Status(const std::vector<StoredNetwork>& all, StoredNetwork& made)>&
          decide);

  // kFailedPrecondition: containers have a place in it. kNotFound.
  absl::Status Delete(const Scope& scope, const StoredNetwork& network);

  // Gives a container a place. `decide` is given all places of this network, fills in addresses and
  // devices, and is called again when another change came between.
  //   kAlreadyExists  the container has a place in this network
  //   kNotFound       the network was removed meanwhile
  //   what `decide` returned
  absl::StatusOr<record::v1::NetworkEndpoint> AddEndpoint(
      const StoredNetwork& network, record::v1::NetworkEndpoint endpoint,
      const std::function<absl::Status(const std::vector<StoredEndpoint>& all,
                                       record::v1::NetworkEndpoint& made)>& decide);
  // kNotFound: it is gone.
  absl::Status UpdateEndpoint(const StoredEndpoint& endpoint);
  absl::Status RemoveEndpoint(const StoredEndpoint& endpoint);

  // Places in one network, in order of container id.
  absl::StatusOr<std::vector<StoredEndpoint>> Endpoints(const StoredNetwork& network);
  // Of one container.
  absl::StatusOr<std::vector<StoredEndpoint>> EndpointsOf(absl::string_view ns,
                                                          absl::string_view container_id);
  // Of all networks of all namespaces.
  absl::StatusOr<std::vector<StoredEndpoint>> AllEndpoints();

  // Records a container's network namespace. `decide` is given those of all containers, fills in
  // the ports, and is called again when another change came between.
  //   kAlreadyExists  the container has one
  //   what `decide` returned
  absl::StatusOr<StoredNetns> AddNetns(
      absl::string_view ns, record::v1::NetworkNamespace netns,
      const std::function<absl::Status(const std::vector<StoredNetns>& all,
                                       record::v1::NetworkNamespace& made)>& decide);
  // Changes the record of a namespace that a container has. `decide` is given those of all
  // containers and the record as it is, and is called again when another change came between.
  //   kNotFound  the container has none
  //   what `decide` returned
  absl::StatusOr<StoredNetns> ChangeNetns(
      absl::string_view ns, absl::string_view container_id,
      const std::function<absl::Status(const std::vector<StoredNetns>& all,
                                       record::v1::NetworkNamespace& changed)>& decide);
  // kNotFound: it is gone.
  absl::Status UpdateNetns(const StoredNetns& netns);
  absl::Status RemoveNetns(const StoredNetns& netns);
  // kNotFound: the container has none.
  absl::StatusOr<StoredNetns> FindNetns(absl::string_view ns, absl::string_view container_id);
  // Of all containers of all namespaces.
  absl::StatusOr<std::vector<StoredNetns>> AllNetns();

 private:
  Database& db_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_NETWORK_STORE_H_
