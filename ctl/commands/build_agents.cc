#include "ctl/commands/build_agents.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/file.h"

namespace gantry::ctl {

BuildAgents::~BuildAgents() {
  for (auto& [number, connection] : connections_) {
    shutdown(connection.agent.get(), SHUT_RDWR);
    if (connection.answers.joinable()) connection.answers.join();
  }
}

void BuildAgents::Take(const v1::AgentBytes& bytes) {
  if (!bytes.agent().empty()) Connect(bytes);
  const auto found = connections_.find(bytes.connection());
  if (found == connections_.end()) return;
  // An agent that has gone is seen by the thread that reads from it.
  if (!bytes.data().empty()) WriteAll(found->second.agent.get(), bytes.data()).IgnoreError();
  if (bytes.closed()) shutdown(found->second.agent.get(), SHUT_WR);
}

void BuildAgents::Connect(const v1::AgentBytes& bytes) {
  const auto path = sockets_.find(bytes.agent());
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  UniqueFd agent(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  bool connected = false;
  if (path != sockets_.end() && path->second.size() < sizeof address.sun_path) {
    std::memcpy(address.sun_path, path->second.c_str(), path->second.size() + 1);
    connected =
        connect(agent.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  if (!connected) {
    v1::BuildRequest closed;
    closed.mutable_agent()->set_connection(bytes.connection());
    closed.mutable_agent()->set_closed(true);
    write_(closed);
    return;
  }
  Connection& connection = connections_[bytes.connection()];
  connection.agent = std::move(agent);
  connection.answers = std::thread([this, number = bytes.connection(),
                                    fd = connection.agent.get()] { SendAnswers(number, fd); });
}

void BuildAgents::SendAnswers(uint32_t number, int agent) const {
  std::string piece;
  while (true) {
    piece.resize(16 << 10);
    const ssize_t n = read(agent, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    v1::BuildRequest request;
    v1::AgentBytes& bytes = *request.mutable_agent();
    bytes.set_connection(number);
    if (n <= 0) {
      bytes.set_closed(true);
    } else {
      piece.resize(static_cast<size_t>(n));
      bytes.set_data(piece);
    }
    if (!write_(request) || n <= 0) return;
  }
}

}  // namespace gantry::ctl
