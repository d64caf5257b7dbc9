#include "supervisor/network/legacy_tables.h"

#include <netinet/in.h>
#include <sys/socket.h>

// C's headers for the tables, which C++ takes as they are.
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/unique_fd.h"

namespace gantry::network {
namespace {

constexpr char kFilter[] = "filter";

// Whether the table exists: asking the kernel for one that does not would make it.
bool Exists(const char* names_file) {
  const absl::StatusOr<std::string> names = ReadFile(names_file, 1 << 16);
  if (!names.ok()) return false;
  for (const absl::string_view name : absl::StrSplit(*names, '\n')) {
    if (name == kFilter) return true;
  }
  return false;
}

// Whether the last entry of the chain FORWARD, its policy, drops. The types are those of one family.
template <typename Info, typename Entries, typename Entry>
bool ForwardDrops(int family, int level, int get_info, int get_entries) {
  const UniqueFd fd(socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd.valid()) return false;
  Info info = {};
  strncpy(info.name, kFilter, sizeof info.name - 1);
  socklen_t length = sizeof info;
  if (getsockopt(fd.get(), level, get_info, &info, &length) != 0) return false;
  if ((info.valid_hooks & 1u << NF_INET_FORWARD) == 0) return false;
  std::vector<char> buffer(sizeof(Entries) + info.size);
  auto* const entries = reinterpret_cast<Entries*>(buffer.data());
  strncpy(entries->name, kFilter, sizeof entries->name - 1);
  entries->size = info.size;
  length = static_cast<socklen_t>(buffer.size());
  // A program that changes the table in between makes the size another one; it is looked at again
  // with the next network.
  if (getsockopt(fd.get(), level, get_entries, entries, &length) != 0) return false;
  const size_t policy = info.underflow[NF_INET_FORWARD];
  if (policy + sizeof(Entry) + sizeof(xt_standard_target) > info.size) return false;
  const char* const start = buffer.data() + offsetof(Entries, entrytable) + policy;
  Entry entry;
  std::memcpy(&entry, start, sizeof entry);
  if (policy + entry.target_offset + sizeof(xt_standard_target) > info.size) return false;
  xt_standard_target target;
  std::memcpy(&target, start + entry.target_offset, sizeof target);
  return target.verdict == -NF_DROP - 1;
}

}  // namespace

std::vector<std::string> LegacyProgramsThatDrop() {
  std::vector<std::string> programs;
  if (Exists("/proc/thread-self/net/ip_tables_names") &&
      ForwardDrops<ipt_getinfo, ipt_get_entries, ipt_entry>(AF_INET, IPPROTO_IP, IPT_SO_GET_INFO,
                                                            IPT_SO_GET_ENTRIES))
    programs.emplace_back("iptables-legacy");
  if (Exists("/proc/thread-self/net/ip6_tables_names") &&
      ForwardDrops<ip6t_getinfo, ip6t_get_entries, ip6t_entry>(
          AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO, IP6T_SO_GET_ENTRIES))
    programs.emplace_back("ip6tables-legacy");
  return programs;
}

}  // namespace gantry::network
