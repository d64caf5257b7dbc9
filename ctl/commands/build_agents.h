// Connections of a build to SSH agents of this machine: the daemon asks for them, bytes go both ways
// over the build's stream.
//
// Take() on one thread; what agents answer is written by a thread for each connection. All end with
// the object.
#ifndef GANTRY_CTL_COMMANDS_BUILD_AGENTS_H_
#define GANTRY_CTL_COMMANDS_BUILD_AGENTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

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
