// Connections that the kernel's tracking remembers, and forgetting those that lead where a
// published port does not lead any more.
//
// The kernel translates by what it remembers of a connection, and asks the rules for its first
// packet only. A client that goes on sending UDP from one port would therefore never reach a
// container whose port was published meanwhile, and keep reaching an address that another container
// has by now.
//
// Works in the network namespace that it was opened in. Thread-safe.
// linux/netfilter/nfnetlink_conntrack.h.
#ifndef GANTRY_SUPERVISOR_NETWORK_CONNECTIONS_H_
#define GANTRY_SUPERVISOR_NETWORK_CONNECTIONS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"
#include "supervisor/network/address.h"
#include "supervisor/network/firewall_rules.h"

namespace gantry::network {

struct Connection {
  uint8_t protocol = 0;  // as in an IP header
  Address to;            // as its first packet had it
  uint16_t to_port = 0;
  Address answers_from;  // where it really goes
  uint16_t answers_port = 0;
};

// Whether it came to this published port of the host and goes elsewhere than the port leads.
bool GoesAstray(const Connection& connection, const PublishedPort& port);
// Whether it came to this published port of the host and goes where the port led.
bool GoesThrough(const Connection& connection, const PublishedPort& port);

class Connections {
 public:
  // In the namespace of the calling thread, or in another.
  static absl::StatusOr<std::unique_ptr<Connections>> Open();
  static absl::StatusOr<std::unique_ptr<Connections>> OpenIn(int netns);

  // Forgets those for which `chosen` is true, and returns how many these were. A connection that
  // goes on is then looked at as a new one. Walks through the whole table once.
  //   kUnimplemented  the kernel does not let its table be read (CONFIG_NF_CT_NETLINK)
  absl::StatusOr<int> Forget(const std::function<bool(const Connection&)>& chosen)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  explicit Connections(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::Mutex mu_;  // one request at a time on the socket
  const UniqueFd socket_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CONNECTIONS_H_
