#include "supervisor/distribution/address_reach.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace gantry::distribution {
namespace {

TEST(AddressReachTest, AddressesAreNearOrFar) {
  for (const auto& [host, reach] : std::vector<std::pair<std::string, Reach>>{
           {"localhost", Reach::kLoopback},
           {"LocalHost.:5000", Reach::kLoopback},
           {"a.localhost", Reach::kLoopback},
           {"127.0.0.1:5000", Reach::kLoopback},
           {"127.1", Reach::kLoopback},
           {"2130706433", Reach::kLoopback},
           {"0.0.0.0", Reach::kLoopback},
           {"[::1]:80", Reach::kLoopback},
           {"[::]", Reach::kLoopback},
           {"[::ffff:127.0.0.1]:80", Reach::kLoopback},
           {"[64:ff9b::7f00:1]", Reach::kLoopback},
           {"169.254.169.254", Reach::kLinkLocal},
           {"[fe80::1]:443", Reach::kLinkLocal},
           {"10.1.2.3", Reach::kPrivate},
           {"172.16.0.1:443", Reach::kPrivate},
           {"172.32.0.1", Reach::kPublic},
           {"192.168.1.1", Reach::kPrivate},
           {"100.64.0.1", Reach::kPrivate},
           {"[fd00::1]", Reach::kPrivate},
           {"8.8.8.8", Reach::kPublic},
           {"[2001:4860:4860::8888]:443", Reach::kPublic},
           {"registry.example:5000", Reach::kUnknown},
           {"127.evil.example", Reach::kUnknown},
       }) {
    EXPECT_EQ(ReachOfHost(host), reach) << host;
  }
}

}  // namespace
}  // namespace gantry::distribution
