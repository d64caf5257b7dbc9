// Networks: made, listed, removed. What containers have in them is network_places.h's.
//
// A network is recorded before anything of it is made, and its record goes before its devices do:
// what a crash leaves has no record, and the next start takes it away. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_SERVICE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/clock.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_names.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/network/ipam.h"

namespace gantry::core {

class EventBus;

class NetworkService {
 public:
  // Nothing is owned.
  struct Parts {
    metadata::NetworkStore* store;
    const Clock* clock;
    NetworkKernel* kernel;
    EventBus* events = nullptr;  // null: nothing is published
    std::vector<network::PoolSource> pools = network::DefaultPools();
    // Of this host, for its IPv6 pool.
    std::string host_id;
    // Whose name servers automatic subnets leave alone.
    std::string resolv_conf = "/etc/resolv.conf";
    NetworkNames* names = nullptr;  // null: names are not answered
  };
  explicit NetworkService(Parts parts) : parts_(std::move(parts)) {}

  // kInvalidArgument: name, driver, option or pool; kAlreadyExists: the name, or a pool that
  // another network has; kResourceExhausted: no free subnet.
  absl::StatusOr<v1::CreateNetworkResponse> Create(const CallContext& context,
                                                   const v1::CreateNetworkRequest& request);
  absl::StatusOr<v1::ListNetworksResponse> List(const CallContext& context,
                                                const v1::ListNetworksRequest& request);
  absl::StatusOr<v1::Network> Inspect(const CallContext& context, absl::string_view text);
  // kFailedPrecondition: it has containers, or is one of the three that are always there.
  absl::StatusOr<v1::RemoveNetworkResponse> Remove(const CallContext& context,
                                                   absl::string_view text);
  // Those without containers.
  absl::StatusOr<v1::PruneNetworksResponse> Prune(const CallContext& context,
                                                  const v1::PruneNetworksRequest& request);

  // A network that a container is connected to, made if it is the one that every namespace has.
  // kNotFound: there is none of that name.
  absl::StatusOr<metadata::StoredNetwork> FindOrMakeDefault(const CallContext& context,
                                                            absl::string_view text);

 private:
  absl::StatusOr<metadata::StoredNetwork> MakeNetwork(const CallContext& context,
                                                      const v1::CreateNetworkRequest& request);
  // Fills a request with the settings of the network that it is to be made from.
  absl::Status TakeSettings(const CallContext& context, v1::CreateNetworkRequest& request);
  // Of docker's network events: create, destroy.
  void Publish(const metadata::StoredNetwork& network, absl::string_view action) const;

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_SERVICE_H_
