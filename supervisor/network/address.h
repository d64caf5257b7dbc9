// IP addresses and prefixes as values: parsed, printed, compared, counted through.
//
// Both families in one type, because everything above (pools, links, firewall, names) treats them
// alike. Thread-compatible.
#ifndef GANTRY_SUPERVISOR_NETWORK_ADDRESS_H_
#define GANTRY_SUPERVISOR_NETWORK_ADDRESS_H_

#include <cstdint>
#include <string>
#include <tuple>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::network {

enum class Family { kIpv4, kIpv6 };

// An address as a number of 32 or 128 bits.
class Address {
 public:
  using Number = unsigned __int128;

  Address() = default;  // 0.0.0.0
  Address(Family family, Number number) : family_(family), number_(number) {}

  // "10.0.0.1" or "fd00::1", without a prefix length or a zone.
  //   kInvalidArgument  anything else; the message quotes it
  static absl::StatusOr<Address> Parse(absl::string_view text);
  // `bytes`: 4 or 16 of them, in network order.
  static Address FromBytes(absl::string_view bytes);

  Family family() const { return family_; }
  Number number() const { return number_; }
  int bits() const { return family_ == Family::kIpv4 ? 32 : 128; }
  bool is_unspecified() const { return number_ == 0; }
  bool is_loopback() const;
  bool is_multicast() const;

  // 4 or 16 bytes in network order, as netlink and sockets want them.
  std::string Bytes() const;
  // In the usual short form of RFC 5952.
  std::string ToString() const;
  // The name that a reverse lookup asks for, without the final dot:
  // "1.0.0.10.in-addr.arpa" or 32 nibbles and "ip6.arpa".
  std::string ReverseName() const;

  friend bool operator==(const Address& a, const Address& b) {
    return a.family_ == b.family_ && a.number_ == b.number_;
  }
  friend bool operator!=(const Address& a, const Address& b) { return !(a == b); }
  // IPv4 before IPv6, then by number.
  friend bool operator<(const Address& a, const Address& b) {
    return std::tie(a.family_, a.number_) < std::tie(b.family_, b.number_);
  }

 private:
  Family family_ = Family::kIpv4;
  Number number_ = 0;
};

// A block of addresses: those that begin with the same `length` bits. Its host bits are zero.
class Prefix {
 public:
  Prefix() = default;  // 0.0.0.0/0
  // The block of this length that holds the address.
  static Prefix Around(const Address& address, int length);

  // "10.1.0.0/16".
  //   kInvalidArgument  not ADDRESS/LENGTH, or host bits are set; the message says what it should be
  static absl::StatusOr<Prefix> Parse(absl::string_view text);

  const Address& first() const { return first_; }
  Address last() const;
  int length() const { return length_; }
  Family family() const { return first_.family(); }

  bool Contains(const Address& address) const;
  bool Contains(const Prefix& other) const;
  bool Overlaps(const Prefix& other) const { return Contains(other) || other.Contains(*this); }

  // Where the next block of the same length begins; the first address again at the end of the
  // family's addresses.
  Prefix Next() const;

  std::string ToString() const;

  friend bool operator==(const Prefix& a, const Prefix& b) {
    return a.first_ == b.first_ && a.length_ == b.length_;
  }
  friend bool operator!=(const Prefix& a, const Prefix& b) { return !(a == b); }
  friend bool operator<(const Prefix& a, const Prefix& b) {
    return std::tie(a.first_, a.length_) < std::tie(b.first_, b.length_);
  }

 private:
  Prefix(const Address& first, int length) : first_(first), length_(length) {}
  Address first_;
  int length_ = 0;
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_ADDRESS_H_
