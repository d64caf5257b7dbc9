#include "ctl/commands/key_agent.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

constexpr absl::Duration kStartPatience = absl::Seconds(5);

absl::Status Missing(const absl::Status& why, const char* program) {
  if (!absl::IsNotFound(why)) return why;
  return absl::FailedPreconditionError(absl::StrCat(
      "--ssh with a key file needs ", program, " in PATH (Debian: openssh-client); or start an ",
      "agent, add the key, and write --ssh default"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyAgent>> KeyAgent::Start(const std::vector<std::string>& keys) {
  std::unique_ptr<KeyAgent> agent(new KeyAgent());
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  std::string directory =
      absl::StrCat(runtime == nullptr || *runtime == '\0' ? "/tmp" : runtime, "/ctl-ssh-XXXXXX");
  if (mkdtemp(directory.data()) == nullptr) return ErrnoToStatus(errno, directory);
  agent->directory_ = std::move(directory);
  agent->socket_ = agent->directory_ + "/agent";
  Command command;
  command.argv = {"ssh-agent", "-D", "-a", agent->socket_};
  absl::StatusOr<Process> process = Spawn(command);
  if (!process.ok()) return Missing(process.status(), "ssh-agent");
  agent->agent_ = *std::move(process);
  const absl::Time deadline = absl::Now() + kStartPatience;
  struct stat info;
  while (stat(agent->socket_.c_str(), &info) != 0) {
    if (agent->agent_.Wait(absl::Milliseconds(10)).ok() || absl::Now() > deadline)
      return absl::UnavailableError("--ssh: ssh-agent does not start");
  }
  Command add;
  add.argv = {"ssh-add", "-q", "--"};
  add.argv.insert(add.argv.end(), keys.begin(), keys.end());
  std::vector<std::string> environment = {absl::StrCat("SSH_AUTH_SOCK=", agent->socket_)};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, "SSH_AUTH_SOCK=")) environment.emplace_back(*entry);
  }
  add.env = std::move(environment);
  absl::StatusOr<CommandResult> added = RunCommand(add);
  if (!added.ok()) return Missing(added.status(), "ssh-add");
  if (!added->status.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("--ssh: ssh-add: ", absl::StripAsciiWhitespace(added->err)));
  return agent;
}

KeyAgent::~KeyAgent() {
  if (agent_.pid() > 0 && agent_.Kill(SIGTERM).ok()) (void)agent_.Wait(absl::Seconds(2));
  if (!socket_.empty()) unlink(socket_.c_str());
  if (!directory_.empty()) rmdir(directory_.c_str());
}

}  // namespace gantry::ctl
