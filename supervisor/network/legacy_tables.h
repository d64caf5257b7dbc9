// What iptables-legacy lets the kernel do with forwarded packets. Its tables are not nftables', and
// so not among the chains that nft lists.
//
// Works in the network namespace of the calling thread. Thread-safe.
// linux/netfilter_ipv4/ip_tables.h (IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES), and the same for IPv6.
#ifndef GANTRY_SUPERVISOR_NETWORK_LEGACY_TABLES_H_
#define GANTRY_SUPERVISOR_NETWORK_LEGACY_TABLES_H_

#include <string>
#include <vector>

namespace gantry::network {

// The programs whose table "filter" drops what is forwarded unless a rule accepts it:
// "iptables-legacy", "ip6tables-legacy". A host that never used one is not made to load its module.
std::vector<std::string> LegacyProgramsThatDrop();

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_LEGACY_TABLES_H_
