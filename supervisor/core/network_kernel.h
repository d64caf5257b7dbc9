// What the records of networks say, made in the kernel: devices, addresses, routes and rules.
//
// Holds no state of its own but the sockets, which are opened with the first network: a host
// without networks gets no rules. Every call can be repeated, and nothing that a packet needs is in
// this process, and no lock is held over a kernel call but the first, which writes all rules.
// Thread-safe.
//
// Only this file knows what the drivers are in the kernel:
//   bridge   a bridge of the host with the gateways' addresses, a pair of devices per place, rules
//   macvlan  places are devices on top of one of the host's; no rules, no way to the host itself
//   ipvlan   the same, with the parent's MAC address
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_KERNEL_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_KERNEL_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/gateway_choice.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/network/announcer.h"
#include "supervisor/network/connections.h"
#include "supervisor/network/firewall.h"
#include "supervisor/network/link_guard.h"
#include "supervisor/network/links.h"
#include "supervisor/network/netns_pool.h"
#include "supervisor/network/rules_guard.h"

namespace gantry {
class Executor;
}

namespace gantry::core {

using network::OpenNetns;

class NetworkKernel {
 public:
  // `store` is not owned. `state_directory` is this daemon's, which its table of rules is named
  // after. `later` (not owned; null: at once) does what nobody waits for: it removes devices, which
  // takes the kernel some 10 ms each, and forgets connections. `host_netns`: the host's network
  // namespace; -1: that of the process.
  NetworkKernel(metadata::NetworkStore* store, const std::string& state_directory,
                Executor* later = nullptr, int host_netns = -1);

  // Subnets that the host reaches without a router: new networks leave them alone.
  absl::StatusOr<std::vector<network::TakenBlock>> RoutedBlocks();

  absl::StatusOr<bool> HasDevice(absl::string_view name);

  // The network's devices and rules. Idempotent.
  //   kNotFound            the parent of a macvlan or ipvlan network is not there
  //   kFailedPrecondition  a device of that name is there and is of another kind; it is left alone
  absl::Status MakeNetwork(const metadata::StoredNetwork& network);
  // OK when nothing is there.
  absl::Status RemoveNetwork(const metadata::StoredNetwork& network);

  // A namespace for a container that starts, which goes with its last descriptor. Errors: as
  // NewNetns().
  absl::StatusOr<OpenNetns> TakeNetns() { return namespaces_.Take(); }

  // The place's device in the container's namespace, up and with its addresses; and with the rules
  // of a bridge's place, in one transaction, `ports`. Nothing but the ports stays after a failure.
  absl::Status MakePlace(const metadata::StoredNetwork& network,
                         const metadata::StoredEndpoint& place, const OpenNetns& netns,
                         const std::vector<network::PublishedPort>& ports = {});
  // OK when nothing is there.
  absl::Status RemovePlace(const metadata::StoredEndpoint& place, const OpenNetns& netns);
  // The same for one whose namespace ends: soon, and whatever becomes of this process, because the
  // kernel removes the devices of a namespace that has gone, and the next start those of ours that
  // have no record.
  void RemovePlaceSoon(const metadata::StoredEndpoint& place);

  // Whether a device of the calling thread's namespace has IPv6. Without effect on a kernel that
  // has none.
  static void SetIpv6(absl::string_view device, bool on);

  // The default route of one family; without a gateway there is none afterwards.
  static absl::Status SetGateway(const OpenNetns& netns, network::Family family,
                                 const std::optional<Gateway>& gateway);

  // Connections that the kernel remembers follow soon: those of clients that sent to a port before
  // it was published, and those that go where a port does not lead any more, are looked at anew.
  absl::Status Publish(const std::vector<network::PublishedPort>& ports);
  // Those that are not there are passed over.
  absl::Status Unpublish(const std::vector<network::PublishedPort>& ports);

  // Firewall::ForwardDrops(). None before the first network, or when they cannot be listed.
  std::vector<std::string> ForwardDrops();

  // All rules anew, from the records, in one transaction.
  absl::Status WriteRules();
  // Devices of ours that lead to containers and that no record in `kept` names go.
  absl::Status RemoveStrays(const std::vector<std::string>& kept);

 private:
  struct Sockets {
    std::unique_ptr<network::Links> links;
    std::unique_ptr<network::Links> removals;  // others do not wait for these
    std::unique_ptr<network::Announcer> announcer;
    std::unique_ptr<network::Firewall> firewall;
    std::unique_ptr<network::Connections> connections;
    std::unique_ptr<network::RulesGuard> guard;      // of the firewall, which outlives it
    std::unique_ptr<network::LinkGuard> link_guard;  // of the bridges
  };
  absl::StatusOr<Sockets*> Open();
  absl::Status WriteRules(Sockets& sockets);
  absl::Status MakeBridge(Sockets& sockets, const metadata::StoredNetwork& network);
  // Makes a bridge that another program deleted anew, and puts the places that stand on it back.
  absl::Status MendBridge(Sockets& sockets, const metadata::StoredNetwork& network);
  // A device has gone, of whatever kind and by whatever hand; "": any.
  void DeviceDeleted(Sockets& sockets, const std::string& device);
  absl::Status RemovePair(const std::string& host_device);
  // Connections that came to these ports are looked at anew, soon.
  void ForgetConnectionsSoon(const std::vector<network::PublishedPort>& opened,
                             const std::vector<network::PublishedPort>& closed);
  absl::Status ForgetConnections();
  // To the neighbours: which MAC address has the place's addresses, where the network's options ask
  // for it, or where the MAC address does not follow from the address.
  absl::Status Announce(Sockets& sockets, const metadata::StoredNetwork& network,
                        const metadata::StoredEndpoint& place, const OpenNetns& netns);
  absl::Status ForgetAnnouncement(const metadata::StoredEndpoint& place);
  absl::Status MakeParent(Sockets& sockets, const metadata::StoredNetwork& network);

  metadata::NetworkStore* const store_;
  const std::string table_;
  Executor* const later_;
  const int host_netns_;
  network::NetnsPool namespaces_;
  absl::Mutex
      mending_;  // held while a bridge is made anew, which the guard and a start may both do
  absl::Mutex opening_ ABSL_ACQUIRED_BEFORE(mu_);
  absl::Mutex mu_;
  std::unique_ptr<Sockets> sockets_ ABSL_GUARDED_BY(mu_);
  // Ports whose connections are to be forgotten: all that have come together are looked for in one
  // walk through the kernel's table.
  std::vector<network::PublishedPort> opened_ ABSL_GUARDED_BY(mu_);
  std::vector<network::PublishedPort> closed_ ABSL_GUARDED_BY(mu_);
  absl::Duration walked_ ABSL_GUARDED_BY(mu_) =
      -absl::InfiniteDuration();    // monotonic: the last one
  std::optional<Delayed> delayed_;  // with later_; last, so that its work ends first
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_KERNEL_H_
