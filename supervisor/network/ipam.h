// Which subnet a network gets, and which address an endpoint: pure functions over what is taken.
//
// They choose; recording a choice before it is used, and giving it back, is the caller's. The rules
// are docker's: the first free block of the pools in order, the lowest free address of a block, so
// that an address that is given back is used again at once.
#ifndef GANTRY_SUPERVISOR_NETWORK_IPAM_H_
#define GANTRY_SUPERVISOR_NETWORK_IPAM_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/network/address.h"
#include "supervisor/network/pool_source.h"

namespace gantry::network {

// 31 IPv4 networks: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in blocks of /20.
std::vector<PoolSource> DefaultPools();

// A /48 of the unique local addresses (RFC 4193) that belongs to this host, cut in blocks of /64.
// The same for the same `host_id`.
PoolSource UniqueLocalPool(absl::string_view host_id);

// A block that automatic subnets must leave alone, and what has it, for the error's text:
// "network web", "route by eth0", "name server".
struct TakenBlock {
  Prefix block;
  std::string owner;
};

// The first block of the family, in the order of `sources`, that overlaps none of `taken`.
//   kResourceExhausted  none is left; the message lists what is in the way
absl::StatusOr<Prefix> ChooseSubnet(const std::vector<PoolSource>& sources, Family family,
                                    const std::vector<TakenBlock>& taken);

// One subnet of a network.
struct Pool {
  Prefix subnet;
  // Automatic addresses come from here; without it from the whole subnet.
  std::optional<Prefix> range;
  // Of the bridge. CompletePool() chooses one.
  std::optional<Address> gateway;
  // Reserved for the administrator's own devices, by their names.
  std::map<std::string, Address> auxiliary;
};

// Everything that is wrong with a pool as given, one sentence each; empty: nothing.
std::vector<std::string> PoolProblems(const Pool& pool);

// Chooses a gateway where none is given: the lowest free address of the range or the subnet.
//   kInvalidArgument  the pool has problems, or no address is left for the gateway
absl::Status CompletePool(Pool& pool);

// The lowest address that is not in `taken`, not reserved and neither the gateway nor auxiliary.
//   kResourceExhausted  none is left
absl::StatusOr<Address> ChooseAddress(const Pool& pool, const std::set<Address>& taken);

// Whether an endpoint may have the address that its user asked for, inside the range or not.
//   kInvalidArgument  outside the subnet, or reserved in it
//   kAlreadyExists    taken by another endpoint, the gateway or an auxiliary device
absl::Status CheckAddress(const Pool& pool, const std::set<Address>& taken, const Address& wanted);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_IPAM_H_
