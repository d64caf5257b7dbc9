#include "supervisor/network/ipam.h"

#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"

namespace gantry::network {
namespace {

Address Ip(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  return Address(Family::kIpv4, uint32_t{a} << 24 | uint32_t{b} << 16 | uint32_t{c} << 8 | d);
}

// The addresses of a block that no device can have: network and broadcast address of IPv4, the
// routers' anycast address of IPv6. Blocks of one or two addresses have none.
bool IsReserved(const Prefix& subnet, const Address& address) {
  if (subnet.length() >= address.bits() - 1) return false;
  if (address == subnet.first()) return true;
  return address.family() == Family::kIpv4 && address == subnet.last();
}

bool IsAuxiliary(const Pool& pool, const Address& address) {
  return std::any_of(pool.auxiliary.begin(), pool.auxiliary.end(),
                     [&](const auto& named) { return named.second == address; });
}

// The lowest address of the range or the subnet that `usable` accepts.
template <typename Usable>
std::optional<Address> Lowest(const Pool& pool, const std::set<Address>& taken,
                              const Usable& usable) {
  const Prefix block = pool.range.value_or(pool.subnet);
  auto next_taken = taken.lower_bound(block.first());
  Address::Number number = block.first().number();
  // At most as many steps as there are addresses that cannot be used.
  while (true) {
    const Address candidate(block.family(), number);
    const bool is_taken = next_taken != taken.end() && *next_taken == candidate;
    if (is_taken) ++next_taken;
    if (!is_taken && !IsReserved(pool.subnet, candidate) && usable(candidate)) return candidate;
    if (candidate == block.last()) return std::nullopt;
    ++number;
  }
}

}  // namespace

std::vector<PoolSource> DefaultPools() {
  std::vector<PoolSource> pools;
  for (uint8_t second = 17; second <= 31; ++second)
    pools.push_back({Prefix::Around(Ip(172, second, 0, 0), 16), 16});
  pools.push_back({Prefix::Around(Ip(192, 168, 0, 0), 16), 20});
  return pools;
}

PoolSource UniqueLocalPool(absl::string_view host_id) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(host_id.data()), host_id.size(), hash);
  Address::Number global_id = 0;
  for (int i = 3; i < 8; ++i) global_id = global_id << 8 | hash[i];
  const Address::Number first = (Address::Number{0xfd} << 40 | global_id) << 80;
  return {Prefix::Around(Address(Family::kIpv6, first), 48), 64};
}

absl::StatusOr<Prefix> ChooseSubnet(const std::vector<PoolSource>& sources, Family family,
                                    const std::vector<TakenBlock>& taken) {
  std::map<Prefix, std::string> in_the_way;
  for (const PoolSource& source : sources) {
    if (source.base.family() != family) continue;
    Prefix block = Prefix::Around(source.base.first(), source.length);
    while (source.base.Contains(block)) {
      const auto hit = std::find_if(taken.begin(), taken.end(), [&block](const TakenBlock& one) {
        return one.block.Overlaps(block);
      });
      if (hit == taken.end()) return block;
      in_the_way.emplace(hit->block, hit->owner);
      // A larger block takes many of ours: go on behind it.
      const Prefix larger = hit->block.length() < block.length() ? hit->block : block;
      const Address last = larger.last();
      const Prefix next = Prefix::Around(last, source.length).Next();
      if (next.first() < block.first()) break;  // the end of the family's addresses
      block = next;
    }
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "all predefined address pools have been fully subnetted; give a subnet, or add a pool to "
      "default_address_pools. In the way: ",
      absl::StrJoin(in_the_way, ", ", [](std::string* out, const auto& one) {
        absl::StrAppend(out, one.first.ToString(), " (", one.second, ")");
      })));
}

std::vector<std::string> PoolProblems(const Pool& pool) {
  std::vector<std::string> problems;
  const std::string subnet = pool.subnet.ToString();
  if (pool.subnet.first().is_multicast())
    problems.push_back(absl::StrCat("invalid subnet ", subnet, ": multicast address space"));
  if (pool.range.has_value()) {
    const Prefix& range = *pool.range;
    if (range.family() != pool.subnet.family()) {
      problems.push_back(
          absl::StrCat("invalid ip-range ", range.ToString(), ": parent subnet is an ",
                       pool.subnet.family() == Family::kIpv4 ? "IPv4" : "IPv6", " block"));
    } else if (range.length() < pool.subnet.length()) {
      problems.push_back(absl::StrCat("invalid ip-range ", range.ToString(),
                                      ": CIDR block is bigger than its parent subnet ", subnet));
    } else if (!pool.subnet.Contains(range)) {
      problems.push_back(absl::StrCat("invalid ip-range ", range.ToString(), ": parent subnet ",
                                      subnet, " doesn't contain ip-range"));
    }
  }
  if (pool.gateway.has_value() && !pool.subnet.Contains(*pool.gateway)) {
    problems.push_back(absl::StrCat("invalid gateway ", pool.gateway->ToString(),
                                    ": parent subnet ", subnet, " doesn't contain this address"));
  }
  for (const auto& [name, address] : pool.auxiliary) {
    if (pool.subnet.Contains(address)) continue;
    problems.push_back(absl::StrCat("invalid auxiliary address ", name, ": parent subnet ", subnet,
                                    " doesn't contain this address"));
  }
  return problems;
}

absl::Status CompletePool(Pool& pool) {
  const std::vector<std::string> problems = PoolProblems(pool);
  if (!problems.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid network config:\n", absl::StrJoin(problems, "\n")));
  }
  if (pool.gateway.has_value()) return absl::OkStatus();
  pool.gateway = Lowest(pool, {}, [&pool](const Address& one) { return !IsAuxiliary(pool, one); });
  if (pool.gateway.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("failed to allocate gateway: no address of ", pool.subnet.ToString(),
                   " is left for it; use a larger subnet or ip-range"));
}

absl::StatusOr<Address> ChooseAddress(const Pool& pool, const std::set<Address>& taken) {
  const std::optional<Address> lowest = Lowest(pool, taken, [&pool](const Address& one) {
    return one != pool.gateway && !IsAuxiliary(pool, one);
  });
  if (lowest.has_value()) return *lowest;
  return absl::ResourceExhaustedError(
      absl::StrCat("no available ", pool.subnet.family() == Family::kIpv4 ? "IPv4" : "IPv6",
                   " addresses in ", pool.range.value_or(pool.subnet).ToString()));
}

absl::Status CheckAddress(const Pool& pool, const std::set<Address>& taken, const Address& wanted) {
  if (!pool.subnet.Contains(wanted)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "address ", wanted.ToString(), " is outside the subnet ", pool.subnet.ToString()));
  }
  if (IsReserved(pool.subnet, wanted)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "address ", wanted.ToString(), " is reserved in the subnet ", pool.subnet.ToString()));
  }
  if (wanted == pool.gateway || IsAuxiliary(pool, wanted) || taken.count(wanted) > 0)
    return absl::AlreadyExistsError(absl::StrCat("Address already in use: ", wanted.ToString()));
  return absl::OkStatus();
}

}  // namespace gantry::network
