// The rules of our networks: who may send what to a container, published ports, masquerading.
//
// Two nftables tables of ours, which nothing else writes. "inet gantry" is met by what is routed,
// "bridge gantry" by every frame that a container sends into its bridge. A network has
// chains of its own, found by its bridge's name in verdict maps; a published port is one element of
// a map. So a packet's way does not grow with the number of networks or ports, and a container that
// comes or goes changes elements only. Each change is one transaction: the kernel takes all of it
// or nothing.
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
#include "supervisor/network/firewall_rules.h"
#include "supervisor/network/nftables.h"
#include "supervisor/network/ruleset_events.h"
#include "supervisor/network/set_elements.h"

namespace gantry::network {

class Firewall {
 public:
  // In the namespace of the calling thread, or in another.
  //   kUnimplemented  the kernel has no nftables, or its library is not installed
  // `table` names our tables: a daemon beside another has its own.
  static absl::StatusOr<std::unique_ptr<Firewall>> Open(absl::string_view table = kTableName);
  static absl::StatusOr<std::unique_ptr<Firewall>> OpenIn(int netns,
                                                          absl::string_view table = kTableName);
  Firewall(const Firewall&) = delete;
  Firewall& operator=(const Firewall&) = delete;

  const std::string& table() const { return table_; }

  // The whole table, as it should be: at the start. Connections that are open go on. Idempotent.
  absl::Status Replace(const std::vector<FirewallNetwork>& networks,
                       const std::vector<PublishedPort>& ports,
                       const std::vector<BridgePort>& bridge_ports = {},
                       const std::vector<BridgeLink>& links = {});

  // kAlreadyExists: a network with this bridge, or this host port, is there already.
  // kInvalidArgument: a device's name that no rule can hold.
  absl::Status AddNetwork(const FirewallNetwork& network);
  absl::Status Publish(const std::vector<PublishedPort>& ports);

  // kNotFound: it was not added. OK when another program has taken it out of the kernel.
  absl::Status RemoveNetwork(const FirewallNetwork& network);
  absl::Status Unpublish(const std::vector<PublishedPort>& ports);

  // A container joins a network, with its published ports and the links that it is one end of, in
  // one transaction; before its device is in the bridge. A link that is there already stays.
  // Errors: as Publish().
  absl::Status Join(const BridgePort& port, const std::vector<PublishedPort>& published,
                    const std::vector<BridgeLink>& links = {});
  // What Join() did, backwards, with all links of the device; OK also for what is not there.
  absl::Status Leave(absl::string_view device, const std::vector<PublishedPort>& published);

  // Writes everything that was added and not removed once more.
  absl::Status Restore();

  // Chains of other programs that drop what this host forwards unless a rule of theirs accepts it,
  // as they are now: "nftables chain ip filter FORWARD", "chain FORWARD of iptables-legacy".
  absl::StatusOr<std::vector<std::string>> ForwardDrops();

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
  Firewall(std::unique_ptr<Nftables> nft, RulesetGeneration generation, ElementSocket elements,
           UniqueFd netns, absl::string_view table)
      : table_(table),
        netns_(std::move(netns)),
        nft_(std::move(nft)),
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
  absl::Status RunCommands(absl::string_view commands, absl::string_view what);
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
  const std::unique_ptr<Nftables> nft_;

  absl::Mutex mu_;  // one transaction at a time
  RulesetGeneration generation_ ABSL_GUARDED_BY(mu_);
  ElementSocket elements_ ABSL_GUARDED_BY(mu_);
  std::deque<uint32_t> made_ ABSL_GUARDED_BY(mu_);  // generations
  // What stands: by bridge; by a map's name and key; by device.
  std::map<std::string, FirewallNetwork> networks_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, PublishedPort> ports_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, BridgePort> bridge_ports_ ABSL_GUARDED_BY(mu_);  // by device
  // By the devices of its two ends.
  std::map<std::pair<std::string, std::string>, BridgeLink> links_ ABSL_GUARDED_BY(mu_);
  bool bridge_family_ ABSL_GUARDED_BY(mu_) = true;  // the kernel filters frames of bridges
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_FIREWALL_H_
