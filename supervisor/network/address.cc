#include "supervisor/network/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"

namespace gantry::network {
namespace {

// The host bits of a block of this length.
Address::Number HostMask(int bits, int length) {
  const int host = bits - length;
  return host == 128 ? ~Address::Number{0} : (Address::Number{1} << host) - 1;
}

}  // namespace

absl::StatusOr<Address> Address::Parse(absl::string_view text) {
  const std::string copy(text);
  unsigned char bytes[16];
  // inet_pton() would stop at a NUL.
  if (copy.find('\0') == std::string::npos) {
    if (inet_pton(AF_INET, copy.c_str(), bytes) == 1)
      return FromBytes({reinterpret_cast<const char*>(bytes), 4});
    if (inet_pton(AF_INET6, copy.c_str(), bytes) == 1)
      return FromBytes({reinterpret_cast<const char*>(bytes), 16});
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not an IP address"));
}

Address Address::FromBytes(absl::string_view bytes) {
  Number number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return Address(bytes.size() == 4 ? Family::kIpv4 : Family::kIpv6, number);
}

bool Address::is_loopback() const {
  return family_ == Family::kIpv4 ? number_ >> 24 == 127 : number_ == 1;
}

bool Address::is_multicast() const {
  return family_ == Family::kIpv4 ? number_ >> 28 == 0xe : number_ >> 120 == 0xff;
}

std::string Address::Bytes() const {
  std::string bytes(bits() / 8, '\0');
  Number rest = number_;
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte) {
    *byte = static_cast<char>(rest & 0xff);
    rest >>= 8;
  }
  return bytes;
}

std::string Address::ToString() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(family_ == Family::kIpv4 ? AF_INET : AF_INET6, Bytes().data(), text, sizeof text);
  return text;
}

std::string Address::ReverseName() const {
  std::vector<std::string> labels;
  const int step = family_ == Family::kIpv4 ? 8 : 4;
  Number rest = number_;
  for (int done = 0; done < bits(); done += step) {
    const auto part = static_cast<unsigned>(rest & ((Number{1} << step) - 1));
    labels.push_back(step == 8 ? absl::StrCat(part) : absl::StrCat(absl::Hex(part)));
    rest >>= step;
  }
  return absl::StrCat(absl::StrJoin(labels, "."),
                      family_ == Family::kIpv4 ? ".in-addr.arpa" : ".ip6.arpa");
}

Prefix Prefix::Around(const Address& address, int length) {
  return Prefix(Address(address.family(), address.number() & ~HostMask(address.bits(), length)),
                length);
}

absl::StatusOr<Prefix> Prefix::Parse(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  int length = 0;
  const absl::StatusOr<Address> address =
      parts.size() == 2 ? Address::Parse(parts[0]) : absl::InvalidArgumentError("");
  // SimpleAtoi takes signs and spaces.
  const bool digits = parts.size() == 2 && !parts[1].empty() &&
                      parts[1].find_first_not_of("0123456789") == absl::string_view::npos;
  if (!address.ok() || !digits || !absl::SimpleAtoi(parts[1], &length) ||
      length > address->bits()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is not a subnet; write for example 10.1.0.0/16 or fd00:1::/64"));
  }
  const Prefix block = Around(*address, length);
  if (block.first() != *address) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid subnet ", text, ": it should be ", block.ToString()));
  }
  return block;
}

Address Prefix::last() const {
  return Address(family(), first_.number() | HostMask(first_.bits(), length_));
}

bool Prefix::Contains(const Address& address) const {
  return address.family() == family() && Around(address, length_).first() == first_;
}

bool Prefix::Contains(const Prefix& other) const {
  return other.length_ >= length_ && Contains(other.first_);
}

Prefix Prefix::Next() const {
  const Address::Number all = HostMask(first_.bits(), 0);
  return Around(Address(family(), (last().number() + 1) & all), length_);
}

std::string Prefix::ToString() const { return absl::StrCat(first_.ToString(), "/", length_); }

}  // namespace gantry::network
