// DNS messages for tests, put together by other code than what is tested.
#ifndef GANTRY_SHIM_DNS_TESTING_H_
#define GANTRY_SHIM_DNS_TESTING_H_

#include <arpa/inet.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace gantry::shim {

inline std::string Two(unsigned value) {
  return {static_cast<char>(value >> 8 & 0xff), static_cast<char>(value & 0xff)};
}

inline std::string Head(uint16_t id, unsigned flags, unsigned questions, unsigned answers = 0,
                        unsigned additional = 0) {
  return Two(id) + Two(flags) + Two(questions) + Two(answers) + Two(0) + Two(additional);
}

inline std::string WireName(absl::string_view name) {
  std::string wire;
  for (const absl::string_view label : absl::StrSplit(name, '.', absl::SkipEmpty())) {
    wire.push_back(static_cast<char>(label.size()));
    wire.append(label.data(), label.size());
  }
  wire.push_back('\0');
  return wire;
}

// `edns` -1: none; else what the client says it takes.
inline std::string QueryMessage(uint16_t id, absl::string_view name, uint16_t type, int edns = -1) {
  std::string message =
      Head(id, 0x0100, 1, 0, edns < 0 ? 0 : 1) + WireName(name) + Two(type) + Two(1);
  if (edns >= 0)
    message +=
        std::string(1, '\0') + Two(41) + Two(static_cast<unsigned>(edns)) + std::string(6, '\0');
  return message;
}

// An answer with one address of IPv4 to a query without EDNS.
inline std::string AnswerMessage(absl::string_view query, const std::string& address,
                                 unsigned flags = 0x8180) {
  in_addr bytes = {};
  inet_pton(AF_INET, address.c_str(), &bytes);
  return std::string(query.substr(0, 2)) + Two(flags) + Two(1) + Two(1) + Two(0) + Two(0) +
         std::string(query.substr(12)) + std::string("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4", 12) +
         std::string(reinterpret_cast<const char*>(&bytes), 4);
}

inline unsigned At16(absl::string_view message, size_t at) {
  return static_cast<unsigned char>(message[at]) << 8 | static_cast<unsigned char>(message[at + 1]);
}
inline unsigned CodeOf(absl::string_view message) { return At16(message, 2) & 0xf; }
inline bool Truncated(absl::string_view message) { return (At16(message, 2) & 0x0200) != 0; }

// Of records whose name is the question's, by a pointer.
inline std::vector<std::string> AddressesIn(absl::string_view message) {
  std::vector<std::string> addresses;
  size_t at = 12;
  while (message[at] != '\0') at += static_cast<unsigned char>(message[at]) + 1;
  at += 5;
  for (unsigned i = 0; i < At16(message, 6) && at + 12 <= message.size(); ++i) {
    const unsigned size = At16(message, at + 10);
    char text[INET6_ADDRSTRLEN] = {};
    if (size == 4 || size == 16)
      inet_ntop(size == 4 ? AF_INET : AF_INET6, message.data() + at + 12, text, sizeof text);
    addresses.emplace_back(text);
    at += 12 + size;
  }
  return addresses;
}

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_DNS_TESTING_H_
