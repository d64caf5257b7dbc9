// Published ports that the kernel's rules cannot carry: connections to an IPv6 address of the host
// for a container without IPv6, and those to [::1], which the kernel does not let out of the host.
//
// The shim listens in the host's network namespace and passes bytes (TCP) or datagrams (UDP) to the
// container's address; the container sees the host as its client. Nothing of it needs the
// supervisor. Everything else that is published goes by the kernel and never comes here.
//
// A slow reader holds up its own connection only: no more is read than the other side takes.
//
// Open() may be called on any thread, everything else on the event loop's.
#ifndef GANTRY_SHIM_PORT_FORWARD_H_
#define GANTRY_SHIM_PORT_FORWARD_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "shim/event_loop.h"

namespace gantry::shim {

// An address and a port, of either family.
struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t length = 0;

  // "10.1.0.2" or "fd00::2". kInvalidArgument: neither.
  static absl::StatusOr<SocketAddress> Parse(const std::string& address, uint16_t port);
  friend bool operator==(const SocketAddress& a, const SocketAddress& b) {
    return a.length == b.length && memcmp(&a.storage, &b.storage, a.length) == 0;
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  std::string ToString() const;  // "[fd00::2]:80"
};

struct ForwardedPort {
  bool udp = false;
  bool if_possible = false;  // passed over when the host has no such address
  SocketAddress host;
  SocketAddress container;
};

// A port a line: PROTOCOL ADDRESS PORT ADDRESS PORT, the host's and then the container's, and
// "required" or "if-possible". kInvalidArgument: anything else.
absl::StatusOr<std::vector<ForwardedPort>> ParseForwardedPorts(absl::string_view text);

class PortForward {
 public:
  // At once, of all ports; further connections wait in the kernel's queue, further UDP clients get
  // no answer.
  static constexpr size_t kMaxConnections = 1024;
  static constexpr size_t kMaxFlows = 1024;
  // How long the answers to a UDP client find their way back after its last datagram.
  static constexpr absl::Duration kFlowLife = absl::Seconds(90);

  // Listens at each port.
  //   kAlreadyExists   another program has the port; the message names it
  //   kUnavailable     the host has no such address, or no IPv6
  static absl::StatusOr<std::unique_ptr<PortForward>> Open(const std::vector<ForwardedPort>& ports);
  ~PortForward();
  PortForward(const PortForward&) = delete;
  PortForward& operator=(const PortForward&) = delete;

  // Begins to forward. `loop` outlives this object.
  absl::Status Start(EventLoop* loop);

  // Forwards these ports and no others, once it has been started. A port that stays goes on
  // listening; what leads to another address of the container than before ends. After a failure the
  // other ports are as asked.
  //   as Open()
  absl::Status Replace(const std::vector<ForwardedPort>& ports);

 private:
  struct Listener {
    UniqueFd fd;
    ForwardedPort port;
  };
  // One end of a connection.
  struct Side {
    UniqueFd fd;
    std::string pending;  // to be written here
    bool ended = false;   // nothing more comes from here
  };
  struct Connection {
    const Listener* listener = nullptr;
    Side client;
    Side container;
    bool connecting = true;
  };
  // What one client sends to one UDP port.
  struct Flow {
    UniqueFd fd;  // connected to the container
    const Listener* listener = nullptr;
    SocketAddress client;
    in6_pktinfo to = {};  // which of the host's addresses the client sent to
    int64_t last = 0;     // monotonic nanoseconds
  };

  explicit PortForward(std::list<Listener> listeners) : listeners_(std::move(listeners)) {}
  absl::Status Watch(Listener& listener);
  // Ends what came by this listener.
  void EndAll(const Listener& listener);
  void OnListener(Listener& listener);
  void Accepting(bool on);
  void OnSide(uint64_t number, bool from_client, uint32_t events);
  // False: the connection cannot go on.
  bool Read(Side& from, Side& to);
  bool Flush(Side& side, const Side& from);
  void Arm(Connection& connection);
  void Close(uint64_t number);

  void OnDatagrams(Listener& listener);
  void OnFlow(uint64_t number);
  void EndIdleFlows();

  EventLoop* loop_ = nullptr;
  std::list<Listener> listeners_;
  bool accepting_ = true;
  std::map<uint64_t, Connection> connections_;
  std::map<uint64_t, Flow> flows_;
  std::map<std::string, uint64_t> flow_numbers_;  // by listener, client and address of the host
  uint64_t next_ = 1;
  EventLoop::TimerId idle_timer_ = 0;
  EventLoop::TimerId accept_timer_ = 0;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_PORT_FORWARD_H_
