#include "ctl/commands/build_agents.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/file.h"

namespace gantry::ctl {

absl::StatusOr<std::map<std::string, std::string>> FindAgents(
    Context& context, const std::vector<std::string>& flags,
    std::vector<std::unique_ptr<KeyAgent>>& own) {
  std::map<std::string, std::string> sockets;
  for (const std::string& text : flags) {
    const size_t equals = text.find('=');
    const std::string id = text.substr(0, equals);
    const std::string place = equals == std::string::npos ? context.Environment("SSH_AUTH_SOCK")
                                                          : text.substr(equals + 1);
    if (place.empty())
      return absl::FailedPreconditionError(
          absl::StrCat("--ssh ", text, ": SSH_AUTH_SOCK is not set; start an agent, or name a key ",
                       "file, --ssh ", id.empty() ? "default" : id, "=FILE"));
    const std::vector<std::string> paths = absl::StrSplit(place, ',', absl::SkipEmpty());
    bool socket = false;
    for (const std::string& path : paths) {
      struct stat info;
      if (stat(path.c_str(), &info) != 0) return ErrnoToStatus(errno, absl::StrCat("--ssh ", text));
      socket = S_ISSOCK(info.st_mode);
      if ((socket && paths.size() > 1) || (!socket && !S_ISREG(info.st_mode)))
        return absl::InvalidArgumentError(absl::StrCat(
            "--ssh ", text, ": name the socket of one agent, or files that hold keys"));
    }
    if (socket) {
      sockets[id] = place;
      continue;
    }
    absl::StatusOr<std::unique_ptr<KeyAgent>> agent = KeyAgent::Start(paths);
    if (!agent.ok()) return WithContext(agent.status(), absl::StrCat("--ssh ", text));
    sockets[id] = (*agent)->socket();
    own.push_back(*std::move(agent));
  }
  return sockets;
}

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
