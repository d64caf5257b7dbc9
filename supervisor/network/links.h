// Bridges, pairs of virtual Ethernet devices, addresses and routes, by netlink.
//
// A Links works in the network namespace that it was opened in, from any thread. Calls are single
// requests of some microseconds and hold no lock of ours but the socket's own. Thread-safe.
// rtnetlink(7), veth(4); docs/networks.md draws the devices.
#ifndef GANTRY_SUPERVISOR_NETWORK_LINKS_H_
#define GANTRY_SUPERVISOR_NETWORK_LINKS_H_

#include <array>
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
#include "supervisor/network/ipam.h"

struct nl_sock;

namespace gantry::network {

// A device's address in Ethernet.
class MacAddress {
 public:
  using Bytes = std::array<uint8_t, 6>;

  MacAddress() = default;
  explicit MacAddress(const Bytes& bytes) : bytes_(bytes) {}
  // "02:42:ac:11:00:02".
  //   kInvalidArgument  anything else, a group's address, or all zeros
  static absl::StatusOr<MacAddress> Parse(absl::string_view text);
  // One that no vendor has given to a device.
  static MacAddress Random();

  const Bytes& bytes() const { return bytes_; }
  std::string ToString() const;

  friend bool operator==(const MacAddress& a, const MacAddress& b) { return a.bytes_ == b.bytes_; }

 private:
  Bytes bytes_ = {};
};

// An address of a device, and how many of its first bits are the subnet's.
struct InterfaceAddress {
  Address address;
  int length = 0;

  friend bool operator==(const InterfaceAddress& a, const InterfaceAddress& b) {
    return a.address == b.address && a.length == b.length;
  }
};

struct LinkInfo {
  int index = 0;
  std::string name;
  std::string kind;   // "bridge", "veth", ...; "" for hardware
  std::string alias;  // what made it wrote there; ours begin with kOurs
  int master = 0;     // index of its bridge; 0: none
  uint32_t mtu = 0;
  bool up = false;
  MacAddress mac;
};

// How the alias of each device of ours begins. What comes behind it says whose it is.
inline constexpr absl::string_view kOurs = "gantry:";

struct BridgeSpec {
  std::string name;
  std::string owner;  // put behind kOurs
  std::vector<InterfaceAddress> addresses;
  uint32_t mtu = 0;  // 0: the kernel's
  // Of a bridge that is made, so that one that is made anew is what its neighbours remember. Without
  // it any.
  std::optional<MacAddress> mac;
};

// A pair of devices: one end in a bridge of this namespace, the other in a container's.
struct VethSpec {
  std::string host_name;
  std::string owner;
  std::string bridge;
  std::string container_name;  // "eth0"
  MacAddress mac;              // of the container's end
  uint32_t mtu = 0;
  bool hairpin = false;  // the bridge may send a frame back where it came from
};

// A container's device on top of one of the host's: the two share a wire, and the container has no
// end on the host's side.
struct StackedSpec {
  enum class Kind { kMacvlan, kIpvlan };
  Kind kind = Kind::kMacvlan;
  // macvlan: bridge, private, vepa, passthru; ipvlan: l2, l3, l3s.
  std::string mode;
  std::string parent;
  std::string container_name;
  std::optional<MacAddress> mac;  // without it that of the parent or the kernel's choice
  uint32_t mtu = 0;
};

class Links {
 public:
  // In the namespace of the calling thread, or in another.
  static absl::StatusOr<std::unique_ptr<Links>> Open();
  static absl::StatusOr<std::unique_ptr<Links>> OpenIn(int netns);
  ~Links();
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;

  // kNotFound: there is no such device.
  absl::StatusOr<LinkInfo> Find(absl::string_view name);
  absl::StatusOr<std::vector<LinkInfo>> List();
  absl::StatusOr<std::vector<InterfaceAddress>> Addresses(int index);

  // Makes the bridge, or brings one of that name in line: its addresses, MTU and state. Other
  // addresses of the same family go. Idempotent.
  //   kFailedPrecondition  a device of that name is not a bridge; it is left alone
  absl::Status EnsureBridge(const BridgeSpec& spec);

  // Makes the pair with its far end in `netns`, and brings the near end up in the bridge. Nothing
  // stays after a failure.
  //   kNotFound       the bridge does not exist
  //   kAlreadyExists  a device has one of the names
  absl::Status MakeVeth(const VethSpec& spec, int netns);

  // Puts a device that is there already into a bridge, as MakeVeth() does.
  //   kNotFound  the bridge or the device does not exist
  absl::Status Enslave(absl::string_view name, absl::string_view bridge, bool hairpin);

  // Makes the device in `netns`. ipvlan(8), macvlan: ip-link(8).
  //   kNotFound            there is no such parent
  //   kInvalidArgument     the mode is not one of the kind's
  //   kAlreadyExists       a device of the namespace has the name
  //   kFailedPrecondition  the parent is in use by what excludes it, as in mode passthru
  absl::Status MakeStacked(const StackedSpec& spec, int netns);

  // Makes a wire that leads nowhere, if it is not there, and brings it up: a pair of devices, so that
  // every kernel that has containers can do it, and so that it has a carrier, without which the
  // devices on it would have none either. Deleting the near end takes both. Idempotent.
  absl::Status EnsureWire(absl::string_view name, absl::string_view far_name,
                          absl::string_view owner);
  // Makes the sub-interface of `parent` for one VLAN (1 to 4094), if it is not there, and brings it
  // up. Idempotent.
  //   kNotFound       there is no such parent
  //   kUnimplemented  the kernel has no VLANs (module 8021q)
  absl::Status EnsureVlan(absl::string_view name, absl::string_view parent, int vlan,
                          absl::string_view owner);

  // For the far end, by a Links of its namespace.
  absl::Status Configure(absl::string_view name, const std::vector<InterfaceAddress>& addresses);
  absl::Status SetUp(absl::string_view name);
  // The default route of the gateway's family; replaces one that is there.
  absl::Status SetDefaultRoute(const Address& gateway);
  // One without a router: everything is on the wire of the device.
  absl::Status SetDefaultRouteBy(absl::string_view device, Family family);
  // OK also when there is none.
  absl::Status RemoveDefaultRoute(Family family);

  // This namespace's neighbour entry for an address, if it has one, leads to this MAC address.
  absl::Status SetNeighbour(int index, const Address& address, const MacAddress& mac);

  // Whether devices on the parent of this ipvlan device reach each other: "bridge" (they do),
  // "private" (they do not), "vepa" (by a switch on the wire). One choice per parent.
  //   kInvalidArgument  another word
  absl::Status SetIpvlanFlag(absl::string_view name, absl::string_view flag);

  // OK also when there is no such device.
  absl::Status Delete(absl::string_view name);

  // Subnets that the host reaches without a router, each with the device that it is on: what a new
  // network must not overlap.
  absl::StatusOr<std::vector<TakenBlock>> RoutedBlocks();

 private:
  explicit Links(nl_sock* socket) : socket_(socket) {}
  absl::StatusOr<LinkInfo> FindLocked(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::vector<InterfaceAddress>> AddressesLocked(int index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status AddAddress(int index, const InterfaceAddress& one)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status ChangeUp(int index, absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status LetSendBack(int index, absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Marks a device as ours and brings it up.
  absl::Status Adopt(int index, absl::string_view name, absl::string_view owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;  // one request at a time on the socket
  nl_sock* const socket_ ABSL_PT_GUARDED_BY(mu_);
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_LINKS_H_
