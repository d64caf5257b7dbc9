// Networks: made, listed, removed; and a container's place in one, from its start to its end.
//
// Order of a start: the place is recorded, with its addresses and ports, then the namespace, the
// devices and the rules are made. Order of an end: the same backwards, the record last. So nothing
// exists in the kernel without a record, and what a crash leaves is taken away at the next start.
// Nothing that a packet needs is in this process.
//
// Thread-safe. No lock is held over a kernel call but the first, which writes all rules.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_SERVICE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/clock.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/network/firewall.h"
#include "supervisor/network/ipam.h"
#include "supervisor/network/links.h"
#include "supervisor/network/rules_guard.h"

namespace gantry::core {

class EventBus;

class NetworkService {
 public:
  // Nothing is owned.
  struct Parts {
    metadata::NetworkStore* store;
    const Clock* clock;
    EventBus* events = nullptr;  // null: nothing is published
    // <state>/netns/<ns>/<id> is a container's network namespace: a mount that outlives the daemon.
    std::string state_directory;
    std::vector<network::PoolSource> pools = network::DefaultPools();
    // Of this host, for its IPv6 pool.
    std::string host_id;
    // The host's network namespace. -1: that of the calling process. For tests.
    int host_netns = -1;
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

  // A container's place, ready to be run in.
  struct Place {
    std::string netns;                   // path of its network namespace
    std::vector<std::string> addresses;  // without prefix lengths, for its hosts file
  };
  // Connects a container that starts to the network of its configuration. An older place of its,
  // of a run that has ended, goes first. Nothing stays after a failure.
  //   kNotFound           there is no such network
  //   kInvalidArgument    an address or port of the configuration
  //   kAlreadyExists      an address or port that another container has; it is named
  //   kResourceExhausted  no free address
  absl::StatusOr<Place> Connect(const CallContext& context, absl::string_view network,
                                absl::string_view container_id, absl::string_view container_name,
                                const v1::ContainerConfig& config);
  // Gives everything back. OK when it has no place. Idempotent.
  absl::Status Disconnect(const CallContext& context, absl::string_view container_id);

  // What a container has of networks now: nothing unless it runs and is connected to one.
  struct Held {
    std::vector<v1::PublishedPort> ports;
    std::vector<v1::NetworkEndpoint> endpoints;
  };
  absl::StatusOr<Held> Holds(const CallContext& context, absl::string_view container_id);

  // At the start: takes away the places of containers that do not run, and makes bridges and rules
  // as they should be. `runs` says whether a container does.
  absl::Status Reconcile(
      const std::function<bool(absl::string_view ns, absl::string_view container_id)>& runs);

 private:
  struct Kernel {
    std::unique_ptr<network::Links> links;
    std::unique_ptr<network::Firewall> firewall;
    std::unique_ptr<network::RulesGuard> guard;  // of the firewall, which outlives it
  };
  // Opened with the first network: a host without networks gets no rules.
  absl::StatusOr<Kernel*> OpenKernel();
  absl::Status WriteRules(Kernel& kernel);
  absl::Status MakeBridge(Kernel& kernel, const metadata::StoredNetwork& network);
  // The network, made if it is the one that is always there.
  absl::StatusOr<metadata::StoredNetwork> FindOrMakeDefault(const CallContext& context,
                                                            absl::string_view text);
  absl::StatusOr<metadata::StoredNetwork> MakeNetwork(const CallContext& context,
                                                      const v1::CreateNetworkRequest& request);
  absl::Status MakePlace(Kernel& kernel, const metadata::StoredNetwork& network,
                         const metadata::StoredEndpoint& endpoint);
  absl::Status TakePlaceAway(const metadata::StoredEndpoint& endpoint);
  // Of docker's network events: create, destroy; connect and disconnect with a container.
  void Publish(const metadata::StoredNetwork& network, absl::string_view action,
               absl::string_view container_id = "") const;
  std::string NetnsPath(absl::string_view ns, absl::string_view container_id) const;

  const Parts parts_;
  absl::Mutex opening_ ABSL_ACQUIRED_BEFORE(mu_);
  absl::Mutex mu_;
  std::unique_ptr<Kernel> kernel_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_SERVICE_H_
