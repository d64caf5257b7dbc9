#include "supervisor/build/agent_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::build {
namespace {

// Of one step: a client of an agent needs one or a few.
constexpr size_t kMaxConnections = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<AgentRelay>> AgentRelay::Listen(const std::string& directory,
                                                               const std::string& name,
                                                               const Rights& rights,
                                                               ConnectFn connect) {
  std::unique_ptr<AgentRelay> relay(new AgentRelay(std::move(connect)));
  const std::string path = absl::StrCat(directory, "/", name);
  const UniqueFd at(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  relay->listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  relay->ended_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!at.valid() || !relay->listener_.valid() || !relay->ended_.valid())
    return ErrnoToStatus(errno, path);
  // By descriptor: the path may be longer than an address may be.
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string near = absl::StrCat("/proc/self/fd/", at.get(), "/", name);
  if (near.size() >= sizeof address.sun_path)
    return absl::InvalidArgumentError(absl::StrCat(path, ": the name is too long for a socket"));
  std::memcpy(address.sun_path, near.c_str(), near.size() + 1);
  if (bind(relay->listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0 ||
      chown(path.c_str(), rights.uid, rights.gid) != 0 || chmod(path.c_str(), rights.mode) != 0 ||
      listen(relay->listener_.get(), 16) != 0)
    return ErrnoToStatus(errno, path);
  GANTRY_ASSIGN_OR_RETURN(relay->acceptor_, NewThread([raw = relay.get()] { raw->Accept(); }));
  return relay;
}

AgentRelay::~AgentRelay() {
  const uint64_t one = 1;
  if (ended_.valid() && write(ended_.get(), &one, sizeof one) < 0)
    PLOG(ERROR) << "end of an SSH agent's relay";
  if (acceptor_.joinable()) acceptor_.join();
  for (std::thread& carrier : carriers_) carrier.join();
}

void AgentRelay::Accept() {
  while (carriers_.size() < kMaxConnections) {
    pollfd wait[] = {{listener_.get(), POLLIN, 0}, {ended_.get(), POLLIN, 0}};
    if (poll(wait, 2, -1) < 0 && errno != EINTR) return;
    if (wait[1].revents != 0) return;
    if (wait[0].revents == 0) continue;
    UniqueFd step(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!step.valid()) continue;
    auto shared = std::make_shared<UniqueFd>(std::move(step));
    absl::StatusOr<std::thread> carrier = NewThread([this, shared] { Carry(std::move(*shared)); });
    if (carrier.ok()) carriers_.push_back(*std::move(carrier));
  }
}

void AgentRelay::Carry(UniqueFd step) {
  absl::StatusOr<UniqueFd> agent = connect_();
  if (!agent.ok()) {
    LOG(WARNING) << "SSH agent of a build's client: " << agent.status();
    return;
  }
  const int ends[] = {step.get(), agent->get()};
  bool open[] = {true, true};
  char piece[16 << 10];
  while (open[0] || open[1]) {
    pollfd wait[] = {{open[0] ? ends[0] : -1, POLLIN, 0},
                     {open[1] ? ends[1] : -1, POLLIN, 0},
                     {ended_.get(), POLLIN, 0}};
    if (poll(wait, 3, -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (wait[2].revents != 0) return;
    for (const int from : {0, 1}) {
      if (wait[from].revents == 0) continue;
      const ssize_t n = read(ends[from], piece, sizeof piece);
      if (n > 0 && WriteAll(ends[1 - from], absl::string_view(piece, static_cast<size_t>(n))).ok())
        continue;
      open[from] = false;
      shutdown(ends[1 - from], SHUT_WR);
    }
  }
}

}  // namespace gantry::build
