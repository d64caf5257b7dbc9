// The rules of our networks: who may send what to a container, published ports, masquerading.
//
// One nftables table of ours, "inet gantry", which nothing else writes. A network has chains of its
// own, found by its bridge's name in verdict maps; a published port is one element of a map. So a
// packet's way does not grow with the number of networks or ports, and a container that comes or
// goes changes elements only. Each change is one transaction: the kernel takes all of it or
// nothing.
//
// The table "inet gantry-user" is the administrator's: made empty when it is missing, with a chain
// "forward" in front of ours, and never touched again. A packet that it drops stays dropped.
//
// Works in the network namespace that it was opened in, from any thread. Thread-safe.
// docs/networks.md draws the way of a packet.
#ifndef GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_
#define GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/network/address.h"

struct nft_ctx;

namespace gantry::network {

enum class Protocol { kTcp, kUdp, kSctp };

absl::string_view ProtocolName(Protocol protocol);

struct FirewallNetwork {
  std::string bridge;
  std::vector<Prefix> subnets;
  bool internal = false;   // no way in or out but through the host itself
  bool masquerade = true;  // what leaves has the host's address
  bool between = true;     // containers of this network may reach each other
};

// Packets to the host's port go to the container's.
struct PublishedPort {
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
  static absl::StatusOr<std::unique_ptr<Firewall>> Open();
  static absl::StatusOr<std::unique_ptr<Firewall>> OpenIn(int netns);
  ~Firewall();
  Firewall(const Firewall&) = delete;
  Firewall& operator=(const Firewall&) = delete;

  // The whole table, as it should be: at the start, and after another program flushed the rules.
  // Connections that are open go on. Idempotent.
  absl::Status Replace(const std::vector<FirewallNetwork>& networks,
                       const std::vector<PublishedPort>& ports);

  // kAlreadyExists: a network with this bridge, or this host port, is there already.
  // kInvalidArgument: a bridge's name that no rule can hold.
  absl::Status AddNetwork(const FirewallNetwork& network);
  absl::Status Publish(const std::vector<PublishedPort>& ports);

  // kNotFound: it is not there.
  absl::Status RemoveNetwork(const FirewallNetwork& network);
  absl::Status Unpublish(const std::vector<PublishedPort>& ports);

  // Whether the table is there.
  absl::StatusOr<bool> Stands();
  // Takes it away, for a daemon that has no networks any more. OK when it is not there.
  absl::Status Remove();

 private:
  explicit Firewall(nft_ctx* context) : context_(context) {}
  absl::Status Run(const std::string& commands, absl::string_view what);
  absl::Status RunLocked(const std::string& commands, absl::string_view what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;  // one transaction at a time
  nft_ctx* const context_ ABSL_PT_GUARDED_BY(mu_);
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_
