// The socket of an SSH agent that a step of a build sees: connections to it go to the agent of the
// build's client.
//
// A thread accepts, one for each connection carries bytes both ways; all end with the object. What
// is asked and signed passes through and is not looked at. Thread-compatible.
#ifndef GANTRY_SUPERVISOR_BUILD_AGENT_RELAY_H_
#define GANTRY_SUPERVISOR_BUILD_AGENT_RELAY_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry::build {

class AgentRelay {
 public:
  // A connection to the client's agent. Called on a thread of the relay.
  using ConnectFn = std::function<absl::StatusOr<UniqueFd>()>;

  // Listens at `directory`/`name`, which is made with these rights.
  struct Rights {
    mode_t mode = 0600;
    uid_t uid = 0;
    gid_t gid = 0;
  };
  static absl::StatusOr<std::unique_ptr<AgentRelay>> Listen(const std::string& directory,
                                                            const std::string& name,
                                                            const Rights& rights,
                                                            ConnectFn connect);
  ~AgentRelay();
  AgentRelay(const AgentRelay&) = delete;
  AgentRelay& operator=(const AgentRelay&) = delete;

 private:
  explicit AgentRelay(ConnectFn connect) : connect_(std::move(connect)) {}
  void Accept();
  void Carry(UniqueFd step);

  const ConnectFn connect_;
  UniqueFd listener_;
  UniqueFd ended_;  // readable once the relay ends
  std::thread acceptor_;
  std::vector<std::thread> carriers_;  // of the acceptor until it has ended
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_AGENT_RELAY_H_
