// The DNS server of one container, at 127.0.0.11:53 of its network namespace.
//
// Names of neighbours are answered from the names files of its networks (name_lookup.h), others are
// forwarded to the servers of its resolver file: up to three in order, four seconds each, over the
// transport of the query, from the host's network namespace or the container's as the file says.
// All of it is the shim's: the supervisor may be away.
//
// The container is not trusted, nor is any server: queries are bounded in size and number, work per
// wake-up of the event loop is bounded, and an answer must come from where the query went, with its
// random id and its question, in one whole message. Queries go out from a random port each, as long
// as there are fewer than kMaxSockets of them under way to one server.
//
// Deviations from docker's resolver: a query of another type for a known name is answered empty
// rather than forwarded, because a name that is answered here exists here (RFC 8020) and is no
// outsider's business; and what comes when 1,024 queries are under way is refused at once, not
// after a wait that would take memory.
//
// Open() may be called on any thread, everything else on the event loop's.
#ifndef GANTRY_SHIM_RESOLVER_H_
#define GANTRY_SHIM_RESOLVER_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "shim/dns_message.h"
#include "shim/event_loop.h"
#include "shim/name_lookup.h"

namespace gantry::shim {

class Resolver {
 public:
  static constexpr size_t kMaxForwards = 1024;
  static constexpr size_t kMaxSockets = 64;  // to one server
  static constexpr size_t kMaxConnections = 32;

  // Opens its sockets in the network namespace at the path `netns` and makes the rules there. The
  // calling thread is back in its own namespace afterwards. `netns` "": this thread's, and no rules.
  //   kNotFound  there is no such namespace
  //   otherwise  what a socket or the rules failed with
  static absl::StatusOr<std::unique_ptr<Resolver>> Open(const std::string& netns,
                                                        std::string config_path);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Begins to answer. `loop` outlives this object.
  absl::Status Start(EventLoop* loop);

  // Where it listens, of 127.0.0.11.
  uint16_t port() const { return port_; }
  // For tests, before Start(): how long a server has, and its port; four seconds and 53 otherwise.
  void SetServers(absl::Duration patience, uint16_t port) {
    patience_ = patience;
    server_port_ = port;
  }

 private:
  // A query that waits for a server.
  struct Forward {
    std::string query;  // as it came
    size_t question_bytes = 0;
    sockaddr_in peer = {};    // over UDP
    uint64_t connection = 0;  // over TCP; else 0
    size_t server = 0;
    int64_t deadline = 0;  // monotonic nanoseconds
    uint16_t id = 0;       // towards the server
    int socket = -1;
  };
  // A socket to a server.
  struct Upstream {
    UniqueFd fd;
    std::string server;
    bool tcp = false;
    std::map<uint16_t, uint64_t> forwards;  // by id; over TCP one
    std::string out;                        // over TCP, what is still to be sent
    std::string in;                         // over TCP
  };
  struct Connection {
    UniqueFd fd;
    std::string in;
    std::string out;
    bool waiting = false;  // for a forward
    EventLoop::TimerId timer = 0;
  };

  Resolver(UniqueFd host_netns, UniqueFd netns, UniqueFd udp, UniqueFd tcp, uint16_t port,
           std::string config_path);

  void RefreshNames();
  // What this shim knows by itself; nothing: to be forwarded.
  std::optional<std::string> AnswerByItself(const DnsQuery& query, size_t limit);
  void OnUdp();
  void OnListener();
  void OnConnection(uint64_t number, uint32_t events);
  void TakeQueries(uint64_t number);
  // False: the connection is closed.
  bool Flush(uint64_t number);
  void CloseConnection(uint64_t number);
  void ArmConnection(uint64_t number);

  // False: too many are under way.
  bool BeginForward(const DnsQuery& query, absl::string_view message, const sockaddr_in& peer,
                    uint64_t connection);
  // Asks its server, or the next that can be asked; answers when there is none.
  void Ask(uint64_t number);
  bool AskOverUdp(uint64_t number, Forward& forward, const NameLookup::Server& server);
  bool AskOverTcp(uint64_t number, Forward& forward, const NameLookup::Server& server);
  absl::StatusOr<UniqueFd> Connect(const NameLookup::Server& server, int type);
  void LeaveUpstream(uint64_t number, Forward& forward);
  void TryNext(uint64_t number);
  void OnUpstreamUdp(int fd);
  void OnUpstreamTcp(int fd);
  void TakeAnswer(int fd, char* message, size_t size);
  // Every query that waits there asks the next server.
  void UpstreamFailed(int fd);
  void Answer(uint64_t number, absl::string_view message);
  void AnswerFailure(uint64_t number);
  void OnDeadline();
  void ArmDeadline();

  uint16_t Random16();
  void Shuffle(std::vector<network::NameAddress>& addresses);

  const UniqueFd host_netns_;
  const UniqueFd netns_;  // invalid: one namespace for all
  const UniqueFd udp_;
  const UniqueFd listener_;
  const uint16_t port_;
  EventLoop* loop_ = nullptr;
  absl::Duration patience_ = absl::Seconds(4);
  uint16_t server_port_ = 53;

  NameLookup names_;
  std::map<uint64_t, Forward> forwards_;
  uint64_t next_forward_ = 1;
  std::map<int, Upstream> upstreams_;                 // by descriptor
  std::set<std::pair<int64_t, uint64_t>> deadlines_;  // of forwards that wait for a server
  EventLoop::TimerId deadline_timer_ = 0;
  std::map<uint64_t, Connection> connections_;
  uint64_t next_connection_ = 1;
  std::string random_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_RESOLVER_H_
