#include "ctl/dial.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

extern char** environ;

namespace gantry::ctl {
namespace {

constexpr absl::string_view kSsh = "ssh://";

std::string WhatToDo(const std::string& path) {
  return absl::StrCat("Is it running? Start it with `gantryd --address ", path,
                      "` or `systemctl start gantry`; --address, GANTRY_ADDRESS or a context "
                      "chooses another socket");
}

absl::StatusOr<UniqueFd> DialUnix(const std::string& path) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(name.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket path \"", path, "\": ", path.empty() ? "empty" : "too long"));
  }
  memcpy(name.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return absl::InternalError(absl::StrCat("socket: ", strerror(errno)));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0) return fd;
  const int error = errno;
  if (error == EACCES || error == EPERM) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot connect to gantryd at ", path, ": permission denied. ",
                     "Run as root, or join the group that owns the socket"));
  }
  return absl::UnavailableError(absl::StrCat("cannot connect to gantryd at ", path, ": ",
                                             error == ENOENT         ? "no such socket"
                                             : error == ECONNREFUSED ? "nothing listens there"
                                                                     : strerror(error),
                                             ". ", WhatToDo(path)));
}

absl::StatusOr<UniqueFd> DialSsh(absl::string_view address) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> command, SshCommand(address));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::InternalError(absl::StrCat("socketpair: ", strerror(errno)));
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // In our process group: ssh reads passwords from the terminal, which stops background groups.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), 1);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot connect to ", address, ": ssh: ", strerror(error)));
  }
  return ours;
}

}  // namespace

bool IsSshAddress(absl::string_view address) { return absl::StartsWith(address, kSsh); }

absl::StatusOr<std::vector<std::string>> SshCommand(absl::string_view address) {
  absl::string_view rest = address;
  absl::ConsumePrefix(&rest, kSsh);
  const size_t slash = rest.find('/');
  const absl::string_view path = slash == rest.npos ? "" : rest.substr(slash);
  absl::string_view host = rest.substr(0, slash);
  std::vector<std::string> command = {"ssh", "-o", "ConnectTimeout=30", "-T"};
  if (const size_t at = host.rfind('@'); at != host.npos) {
    const absl::string_view user = host.substr(0, at);
    if (user.empty() || user.find(':') != user.npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(address, ": write ssh://[USER@]HOST[:PORT], without a password"));
    }
    command.insert(command.end(), {"-l", std::string(user)});
    host = host.substr(at + 1);
  }
  // [::1]:22 has its colons in brackets.
  const size_t colon = host.rfind(':');
  if (colon != host.npos && host.find(']', colon) == host.npos &&
      (host.find(':') == colon || host[0] == '[')) {
    command.insert(command.end(), {"-p", std::string(host.substr(colon + 1))});
    host = host.substr(0, colon);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  if (host.empty() || host[0] == '-') {
    return absl::InvalidArgumentError(absl::StrCat(address, ": there is no host in it"));
  }
  command.insert(command.end(), {"--", std::string(host), "ctl"});
  if (path.size() > 1) {
    // ssh hands the words to a shell there.
    std::string quoted = "'";
    for (const char c : path) absl::StrAppend(&quoted, c == '\'' ? "'\\''" : std::string(1, c));
    command.insert(command.end(), {"--address", quoted + "'"});
  }
  command.insert(command.end(), {"system", "dial-stdio"});
  return command;
}

absl::StatusOr<UniqueFd> Dial(const std::string& address) {
  if (IsSshAddress(address)) return DialSsh(address);
  absl::string_view path = address;
  absl::ConsumePrefix(&path, "unix://");
  if (absl::StrContains(path, "://")) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot connect to ", address,
                     ": ctl speaks to unix sockets and over ssh; write /path/to/socket or "
                     "ssh://[USER@]HOST"));
  }
  return DialUnix(std::string(path));
}

}  // namespace gantry::ctl
