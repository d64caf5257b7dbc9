// Connections of a build to SSH agents of this machine: the daemon asks for them, bytes go both
// ways over the build's stream.
//
// Take() on one thread; what agents answer is written by a thread for each connection. All end with
// the object.
#ifndef GANTRY_CTL_COMMANDS_BUILD_AGENTS_H_
#define GANTRY_CTL_COMMANDS_BUILD_AGENTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"
#include "ctl/commands/key_agent.h"
#include "ctl/verb.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

// The sockets of the agents that --ssh names, by id: "default", "ID=SOCKET" or "ID=KEYFILE,...",
// whose agents go to `own`. kFailedPrecondition: there is no agent; kInvalidArgument: neither a
// socket nor a key.
absl::StatusOr<std::map<std::string, std::string>> FindAgents(
    Context& context, const std::vector<std::string>& flags,
    std::vector<std::unique_ptr<KeyAgent>>& own);

class BuildAgents {
 public:
  using Write = std::function<bool(const v1::BuildRequest&)>;

  // `sockets` are the agents' by id. `write` may be called from several threads, and outlives this.
  BuildAgents(const std::map<std::string, std::string>& sockets, const Write& write)
      : sockets_(sockets), write_(write) {}
  ~BuildAgents();
  BuildAgents(const BuildAgents&) = delete;
  BuildAgents& operator=(const BuildAgents&) = delete;

  void Take(const v1::AgentBytes& bytes);

 private:
  struct Connection {
    UniqueFd agent;
    std::thread answers;
  };
  void Connect(const v1::AgentBytes& bytes);
  void SendAnswers(uint32_t number, int agent) const;

  const std::map<std::string, std::string>& sockets_;
  const Write& write_;
  std::map<uint32_t, Connection> connections_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_AGENTS_H_
