// The rules of our networks: who may send what to a container, published ports, masquerading.
//
// Two nftables tables of ours, which nothing else writes. "inet gantry" is met by what is routed,
// "bridge gantry" by every frame that a container sends into its bridge. A network has
// chains of its own, found by its bridge's name in verdict maps; a published port is one element of a map. So a
// packet's way does not grow with the number of networks or ports, and a container that comes or
// goes changes elements only. Each change is one transaction: the kernel takes all of it or
// nothing.
//
// The table "inet gantry-user" is the administrator's: made empty when it is missing, with a chain
// "forward" in front of ours, and never touched again. A packet that it drops stays dropped.
//
// A Firewall remembers what it was told to write, so that Restore() needs nobody else: another
// program may flush the kernel's rules at any moment, also between two changes of ours.
//
// Works in the network namespace that it was opened in, from any thread. Thread-safe.
// docs/networks.md draws the way of a packet.
#ifndef GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_
#define GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"
#include "supervisor/network/address.h"
#include "supervisor/network/links.h"
#include "supervisor/network/ruleset_events.h"
#include "supervisor/network/set_elements.h"

struct nft_ctx;

namespace gantry::network {

inline constexpr char kTableName[] = "gantry";
// Of the daemon with this state directory: kTableName for the one in the usual place, another name
// for each that runs beside it.
std::string TableName(absl::string_view state_directory);

enum class Protocol { kTcp, kUdp, kSctp };

absl::string_view ProtocolName(Protocol protocol);
// As in an IP header.
uint8_t ProtocolNumber(Protocol protocol);

// How packets get into a network and out of it, per family of addresses.
enum class GatewayMode {
  kNat,             // in by published ports of the host, out with the host's address
  kNatUnprotected,  // as kNat, and each port of each container is reached at its own address
  kRouted,          // no translation: published ports are reached at the container's own address
  kIsolated,        // not even the host has an address in it; for internal networks
};

struct FirewallNetwork {
  std::string bridge;
  std::vector<Prefix> subnets;
  bool internal = false;   // no way in or out but through the host itself
  bool masquerade = true;  // what leaves has the host's address
  bool between = true;     // containers of this network may reach each other
  GatewayMode ipv4_mode = GatewayMode::kNat;
  GatewayMode ipv6_mode = GatewayMode::kNat;
  // Devices of the host behind which published ports are reached at the container's own address.
  std::vector<std::string> trusted;
  // The host's address that what leaves has; without it the one of the device that it leaves by.
  std::optional<Address> ipv4_source;
  std::optional<Address> ipv6_source;

  GatewayMode ModeOf(Family family) const {
    return family == Family::kIpv4 ? ipv4_mode : ipv6_mode;
  }
};

// The host's end of a container's pair of devices, in a network's bridge. What frames may come from
// it: with the container's MAC and one of its addresses as their source, the IPv6 link-local one
// that follows from the MAC and those of duplicate address detection included; ARP and neighbour
// discovery about its own addresses only, and nothing that makes it a router. Only IPv4, IPv6 and
// ARP.
struct BridgePort {
  std::string device;
  MacAddress mac;
  std::vector<Address> addresses;
  bool check_sources = true;  // false: any frame may come from it
  // Whether frames may go to the network's other ports. Otherwise only to `gateway`, the bridge's
  // own MAC, and group frames to ports without this limit.
  bool between = true;
  MacAddress gateway;
};

// Packets to the host's port go to the container's; or, opened, packets to the container's own
// address reach the port, in networks that let them as far as that.
struct PublishedPort {
  bool opened = false;          // then without `host` and `host_port`
  std::optional<Address> host;  // one address of the host; without it all of the container's family
  Protocol protocol = Protocol::kTcp;
  uint16_t host_port = 0;
  Address container;
  uint16_t container_port = 0;
};

class Firewall {
 public:
  // In the namespace of the calling thread, or in another.
  //   kUnimplemented  the kernel has no nftables, or its library is not installed
  // `table` names our tables: a daemon beside another has its own.
  static absl::StatusOr<std::unique_ptr<Firewall>> Open(absl::string_view table = kTableName);
  static absl::StatusOr<std::unique_ptr<Firewall>> OpenIn(int netns,
                                                          absl::string_view table = kTableName);
  ~Firewall();
  Firewall(const Firewall&) = delete;
  Firewall& operator=(const Firewall&) = delete;

  const std::string& table() const { return table_; }

  // The whole table, as it should be: at the start. Connections that are open go on. Idempotent.
  absl::Status Replace(const std::vector<FirewallNetwork>& networks,
                       const std::vector<PublishedPort>& ports,
                       const std::vector<BridgePort>& bridge_ports = {});

  // kAlreadyExists: a network with this bridge, or this host port, is there already.
  // kInvalidArgument: a device's name that no rule can hold.
  absl::Status AddNetwork(const FirewallNetwork& network);
  absl::Status Publish(const std::vector<PublishedPort>& ports);

  // kNotFound: it was not added. OK when another program has taken it out of the kernel.
  absl::Status RemoveNetwork(const FirewallNetwork& network);
  absl::Status Unpublish(const std::vector<PublishedPort>& ports);

  // A container joins a network, with its published ports, in one transaction; before its device is
  // in the bridge. Errors: as Publish().
  absl::Status Join(const BridgePort& port, const std::vector<PublishedPort>& published);
  // What Join() did, backwards; OK also for what is not there.
  absl::Status Leave(absl::string_view device, const std::vector<PublishedPort>& published);

  // Writes everything that was added and not removed once more.
  absl::Status Restore();

  // Whether the tables are in the kernel.
  absl::StatusOr<bool> Stands();
  // Takes them away and forgets what they had, for a daemon that has no networks any more. OK when
  // they are not there.
  absl::Status Remove();

  // Changes to the rules of this namespace, by anyone.
  absl::StatusOr<RulesetEvents> OpenEvents();
  // Whether a transaction of this Firewall made this generation of the rules. Waits for the one
  // that is being made. For the newest thousand.
  bool Made(uint32_t generation);

 private:
  Firewall(nft_ctx* context, RulesetGeneration generation, ElementSocket elements, UniqueFd netns,
           absl::string_view table)
      : table_(table),
        netns_(std::move(netns)),
        context_(context),
        generation_(std::move(generation)),
        elements_(std::move(elements)) {}
  // All that stands, as commands.
  std::string Everything() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Carries one transaction out and notes its generation as ours.
  absl::Status Transact(const std::function<absl::Status()>& transaction)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // One transaction, by libnftables.
  absl::Status Run(absl::string_view commands, absl::string_view what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status RunCommands(absl::string_view commands, absl::string_view what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Run(), and when that fails because the rules are not in the kernel any more, all of them: the
  // addition must be among the members below already.
  absl::Status Add(absl::string_view commands, absl::string_view what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Run(Everything()), without the table of the bridge family where the kernel has no such.
  absl::Status WriteEverything() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of a bridge port; none without that table.
  std::vector<SetElement> PortElements(const BridgePort& port) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // One transaction each. Where the rules are not in the kernel any more, all of them are written:
  // what is added must be among the members below already, and what is deleted must not.
  absl::Status AddElements(const std::vector<SetElement>& elements)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status DeleteElements(const std::vector<SetElement>& elements)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Notes the ports as published, and their elements in `elements`.
  absl::Status Note(const std::vector<PublishedPort>& ports, std::vector<std::string>& places,
                    std::vector<SetElement>& elements) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string table_;
  const UniqueFd netns_;

  absl::Mutex mu_;  // one transaction at a time
  nft_ctx* const context_ ABSL_PT_GUARDED_BY(mu_);
  RulesetGeneration generation_ ABSL_GUARDED_BY(mu_);
  ElementSocket elements_ ABSL_GUARDED_BY(mu_);
  std::deque<uint32_t> made_ ABSL_GUARDED_BY(mu_);  // generations
  // What stands: by bridge; by a map's name and key; by device.
  std::map<std::string, FirewallNetwork> networks_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, PublishedPort> ports_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, BridgePort> bridge_ports_ ABSL_GUARDED_BY(mu_);  // by device
  bool bridge_family_ ABSL_GUARDED_BY(mu_) = true;  // the kernel filters frames of bridges
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_
