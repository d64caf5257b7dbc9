// A container's places in networks, from its start to its end.
//
// Order of a start: the namespace is recorded, with its ports, then made; each place is recorded,
// with its addresses, then made; last the default route and the ports. Order of an end: the same
// backwards, records last. So nothing exists in the kernel without a record, and what a crash
// leaves is taken away at the next start. While the container runs, places come and go one by one,
// and the default route and the ports follow them (gateway_choice.h).
//
// Thread-safe. Calls for one container are made with its operation lock held. No other lock is held
// over a kernel call.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_PLACES_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_PLACES_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/id_map.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/gateway_choice.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/place_choice.h"
#include "supervisor/metadata/network_store.h"

namespace gantry::v1 {
class ContainerConfig;
class NetworkAttachment;
class PortWay;
}  // namespace gantry::v1

namespace gantry::core {

class EventBus;
class NetworkService;

class NetworkPlaces {
 public:
  // Nothing is owned.
  struct Parts {
    metadata::NetworkStore* store;
    NetworkService* networks;
    NetworkKernel* kernel;
    EventBus* events = nullptr;  // null: nothing is published
    // <state>/netns/<ns>/<id> is a container's network namespace: a mount that outlives the daemon.
    // So is <id>.user, the user namespace of a container that has its own ids.
    std::string state_directory;
    NetworkNames* names = nullptr;  // null: names are not answered
    // Of published ports that name no address of the host, on networks that do not either.
    std::string default_bind = {};
    // Has a running container's shim read anew which ports it forwards. Empty: none is told.
    std::function<absl::Status(const std::string& ns, const std::string& container_id)>
        ports_changed = {};
  };
  explicit NetworkPlaces(Parts parts) : parts_(std::move(parts)) {}

  // Devices, addresses, routes and rules of a container that is about to run, while they are being
  // made. Thread-compatible; its end waits.
  class Making {
   public:
    ~Making() { (void)Wait(); }  // asked for before by whom it matters to
    // Returns once they are there or cannot be had. May be called again.
    absl::Status Wait();

   private:
    friend class NetworkPlaces;
    absl::Status made_;  // of the thread until it has ended
    std::thread thread_;
  };

  // What a container that is about to run gets.
  struct Entered {
    std::shared_ptr<Making> making;      // of BeginToEnter()
    std::string netns;                   // path of its network namespace
    std::string user_namespace;          // path of the one that owns it; "": the host's
    std::vector<std::string> addresses;  // without prefix lengths, for its hosts file
    bool has_names = false;              // it finds other containers by name
    std::string resolver;                // path of its resolver file, for its shim; "": none
  };
  // Connects a container that starts to the networks of its configuration, of which `network` is
  // the first. Places of a run that has ended go first. Nothing stays after a failure.
  //   kNotFound           there is no such network
  //   kInvalidArgument    an address, port or option of the configuration
  //   kAlreadyExists      an address or port that another container has; it is named
  //   kResourceExhausted  no free address
  absl::StatusOr<Entered> Enter(const CallContext& context, const NetworkClient& client,
                                absl::string_view network, const v1::ContainerConfig& config);
  // The same, but only the namespace is there when it returns; what goes into it is made meanwhile,
  // because a start has other things to do. The records are there, and what a shim reads. After a
  // failure of `making` the caller calls Leave(), not before it has ended.
  absl::StatusOr<Entered> BeginToEnter(const CallContext& context, const NetworkClient& client,
                                       absl::string_view network,
                                       const v1::ContainerConfig& config);
  // Gives everything back. OK when it has nothing. Idempotent.
  absl::Status Leave(const CallContext& context, absl::string_view container_id);

  // For one that runs, and whose configuration does not have the network yet: a place in it is what
  // a crash left, and goes first.
  //   kAlreadyExists       another container has the address
  //   kFailedPrecondition  its network namespace is not one of ours
  absl::Status Connect(const CallContext& context, const NetworkClient& client,
                       const v1::NetworkAttachment& attachment);
  // kFailedPrecondition: it is not connected to it.
  absl::Status Disconnect(const CallContext& context, const NetworkClient& client,
                          absl::string_view network);

  // Of one that runs: its published ports become those of the configuration, whose first network is
  // `network`. What it has and keeps is not touched; whatever fails leaves all as it was.
  //   kFailedPrecondition  its network namespace is not one of ours
  //   otherwise as Enter()
  absl::Status ChangePorts(const CallContext& context, const NetworkClient& client,
                           absl::string_view network, const v1::ContainerConfig& config);

  // It is found by its new name, on all networks that it is connected to now.
  absl::Status Rename(const CallContext& context, const NetworkClient& client);

  // For the name files of one that runs: addresses and has_names only.
  absl::StatusOr<Entered> NamesOf(const CallContext& context, absl::string_view container_id,
                                  const v1::ContainerConfig& config);
  // Its resolver knows its networks as they are now.
  absl::Status ChangeNames(const CallContext& context, absl::string_view container_id,
                           const v1::ContainerConfig& config);

  // Addresses at which containers of all networks reach the host: the gateways of the default
  // network, which is made if need be.
  absl::StatusOr<std::vector<std::string>> HostGateways(const CallContext& context);

  // What a container has of networks now: nothing unless it runs and is connected to one.
  struct Held {
    std::vector<v1::PublishedPort> ports;
    std::vector<v1::NetworkEndpoint> endpoints;
  };
  absl::StatusOr<Held> Holds(const CallContext& context, absl::string_view container_id);
  // The same of all containers of the namespace that have anything, by id: a few scans, where one
  // call each reads the records of all networks for every container.
  absl::StatusOr<absl::flat_hash_map<std::string, Held>> HoldAll(const CallContext& context);
  // The ways to its ports. None unless it runs and has some.
  absl::StatusOr<std::vector<v1::PortWay>> PortWays(const CallContext& context,
                                                    absl::string_view container_id);

  // At the start: takes away the places of containers that do not run, and makes devices and rules
  // as they should be. `runs` says whether a container does.
  absl::Status Reconcile(
      const std::function<bool(absl::string_view ns, absl::string_view container_id)>& runs);

 private:
  // Where ports that name no address of the host are published, of a container with this network.
  std::string DefaultAddress(const metadata::StoredNetwork& first) const;
  // Whether no port of the host can lead to a container with these networks.
  absl::StatusOr<bool> OnlyOpensPorts(const CallContext& context,
                                      const metadata::StoredNetwork& first,
                                      const std::vector<v1::NetworkAttachment>& attachments);
  // With ids it belongs to the user namespace at `owner`, to a new one without.
  absl::StatusOr<OpenNetns> MakeNetns(const std::string& path, const IdMaps& ids,
                                      const std::string& owner);
  absl::StatusOr<OpenNetns> OpenNetnsAt(const std::string& path) const;
  absl::StatusOr<std::vector<PlaceInNetwork>> PlacesOf(absl::string_view ns,
                                                       absl::string_view container_id);
  // Records one place, with addresses that are free.
  absl::StatusOr<PlaceInNetwork> Record(const CallContext& context, const NetworkClient& client,
                                        const v1::NetworkAttachment& attachment,
                                        const std::vector<PlaceInNetwork>& others);
  // Takes one away while the container runs.
  absl::Status Remove(const PlaceInNetwork& place, const OpenNetns& netns);
  // By which of the places the default routes go.
  struct Gateways {
    std::optional<Gateway> ipv4;
    std::optional<Gateway> ipv6;
  };
  absl::Status MakePlaces(const record::v1::NetworkNamespace& netns,
                          const std::vector<PlaceInNetwork>& places, const Gateways& gateways,
                          const OpenNetns& open);
  // Chooses and records them.
  absl::StatusOr<Gateways> ChooseGateways(metadata::StoredNetns& netns,
                                          const std::vector<PlaceInNetwork>& places);
  // Lets default routes and ports follow the places that there are now.
  absl::Status Reroute(metadata::StoredNetns& netns, const std::vector<PlaceInNetwork>& places,
                       const OpenNetns& open);
  // Writes down what the shim is to forward, and has it read that, if it is not what it forwards.
  absl::Status ForwardAgain(const metadata::StoredNetns& netns,
                            const std::vector<metadata::StoredEndpoint>& places);
  absl::Status NamesChanged(const metadata::StoredNetwork& network);
  Held HeldOf(const metadata::StoredNetns& netns, const std::vector<PlaceInNetwork>& places) const;
  std::vector<v1::PortWay> WaysOf(const metadata::StoredNetns& netns,
                                  const std::vector<PlaceInNetwork>& places) const;
  Entered NamesIn(const std::vector<PlaceInNetwork>& places,
                  const v1::ContainerConfig& config) const;
  absl::Status WriteResolver(absl::string_view ns, absl::string_view container_id,
                             const v1::ContainerConfig& config, std::vector<PlaceInNetwork> places);
  absl::Status TakeAway(const metadata::StoredNetns& netns);
  void Publish(const metadata::StoredNetwork& network, absl::string_view action,
               absl::string_view container_id) const;
  std::string NetnsPath(absl::string_view ns, absl::string_view container_id) const;

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_PLACES_H_
