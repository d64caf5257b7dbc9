#include "supervisor/network/cni_plugin.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include <nlohmann/json.hpp>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "supervisor/network/cni_config.h"
#include "supervisor/oci/json_document.h"

namespace gantry::network {
namespace {

using nlohmann::json;

constexpr size_t kMaxWords = 1024;  // of what a plugin says, in an error
constexpr size_t kMostEnvironment = 1 << 20;
constexpr int kMostPasses = 10;
constexpr int kKillMillis = 1000;

std::vector<std::string> Environment(const CniRunner& runner, const CniParameters& parameters) {
  std::vector<std::string> all;
  std::string path = "PATH=/usr/bin:/bin";
  for (char** one = environ; *one != nullptr; ++one) {
    if (absl::StartsWith(*one, "PATH=")) {
      path = *one;
    } else if (!absl::StartsWith(*one, "CNI_")) {
      all.emplace_back(*one);
    }
  }
  // Plugins run iptables, ip and the like, which a daemon of a narrow PATH would hide from them.
  all.push_back(absl::StrCat(path, ":/usr/local/sbin:/usr/sbin:/sbin"));
  const auto set = [&all](absl::string_view name, absl::string_view value) {
    all.push_back(absl::StrCat(name, "=", value));
  };
  set("CNI_COMMAND", parameters.command);
  set("CNI_CONTAINERID", parameters.container_id);
  set("CNI_NETNS", parameters.netns);
  set("CNI_IFNAME", parameters.interface);
  set("CNI_ARGS", parameters.args);
  set("CNI_PATH", absl::StrJoin(runner.bin_dirs, ":"));
  return all;
}

absl::StatusCode CodeOf(int64_t cni_code) {
  switch (cni_code) {
    case 1:  // version
    case 2:  // unsupported field
    case 4:  // environment
    case 6:  // not decodable
    case 7:  // configuration
      return absl::StatusCode::kInvalidArgument;
    case 3:
      return absl::StatusCode::kNotFound;
    default:  // 5 input or output, 11 try again, 50 and 51 not available, 100 and up the plugin's
      return absl::StatusCode::kUnavailable;
  }
}

std::string Shortened(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  return text.size() <= kMaxWords ? std::string(text)
                                  : absl::StrCat(text.substr(0, kMaxWords), "...");
}

absl::Status Failure(const std::string& what, const CommandResult& result) {
  const absl::StatusOr<json> said = oci::ParseJson(result.out, "");
  if (said.ok() && said->is_object() && said->contains("code")) {
    const json& code = said->at("code");
    const auto text = [&said](const char* key) {
      const auto found = said->find(key);
      return found != said->end() && found->is_string() ? found->get<std::string>() : "";
    };
    std::string message = absl::StrCat(what, ": ", Shortened(text("msg")));
    if (const std::string details = text("details"); !details.empty())
      absl::StrAppend(&message, "; ", Shortened(details));
    if (!code.is_number_integer()) return absl::UnavailableError(message);
    absl::StrAppend(&message, " (code ", code.get<int64_t>(), ")");
    return absl::Status(CodeOf(code.get<int64_t>()), message);
  }
  std::string message = absl::StrCat(what, ": ", result.status.ToString());
  const std::string words = Shortened(result.err.empty() ? result.out : result.err);
  if (!words.empty()) absl::StrAppend(&message, ", it printed: ", words);
  return absl::UnavailableError(message);
}

// Whether this is a process that EndFormerPlugins() ends. It inherits the environment of the
// plugin that it is, or is a child of.
bool IsFormerPlugin(const std::string& pid, const std::map<std::string, bool>& containers) {
  const absl::StatusOr<std::string> environment =
      ReadFile(absl::StrCat("/proc/", pid, "/environ"), kMostEnvironment);
  if (!environment.ok()) return false;  // it has ended, or has too much to be a plugin
  std::string container, command;
  for (absl::string_view one : absl::StrSplit(*environment, '\0')) {
    if (absl::ConsumePrefix(&one, "CNI_CONTAINERID=")) {
      container = std::string(one);
    } else if (absl::ConsumePrefix(&one, "CNI_COMMAND=")) {
      command = std::string(one);
    }
  }
  const auto found = containers.find(container);
  if (found == containers.end()) return false;
  return command == "DEL" || (command == "ADD" && found->second);
}

// In containers anybody may have such an environment.
bool InOurPidNamespace(const std::string& pid) {
  struct stat ours = {}, its = {};
  return stat("/proc/self/ns/pid", &ours) == 0 &&
         stat(absl::StrCat("/proc/", pid, "/ns/pid").c_str(), &its) == 0 &&
         ours.st_ino == its.st_ino;
}

}  // namespace

void EndFormerPlugins(const std::map<std::string, bool>& containers) {
  if (containers.empty()) return;
  // Again as long as there are any: one may have started another meanwhile.
  for (int pass = 0; pass < kMostPasses; ++pass) {
    const absl::StatusOr<std::vector<std::string>> all = ListDirectory("/proc");
    if (!all.ok()) return;
    int killed = 0;
    for (const std::string& name : *all) {
      int pid = 0;
      if (!absl::SimpleAtoi(name, &pid) || pid == getpid()) continue;
      // The signal goes to this process or to none, should the number become another one's.
      const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
      if (!process.valid() || !IsFormerPlugin(name, containers) || !InOurPidNamespace(name))
        continue;
      if (syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0) continue;
      ++killed;
      LOG(WARNING) << "CNI: process " << pid
                   << " is a plugin of a daemon that was killed; it is ended";
      pollfd end = {process.get(), POLLIN, 0};
      poll(&end, 1, kKillMillis);
    }
    if (killed == 0) return;
  }
}

absl::StatusOr<std::string> FindCniPlugin(const CniRunner& runner, absl::string_view type) {
  for (const std::string& directory : runner.bin_dirs) {
    std::string path = absl::StrCat(directory, "/", type);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "CNI plugin ", type, ": no such program in ", absl::StrJoin(runner.bin_dirs, " or "),
      "; install it there, or name its directory in the configuration"));
}

absl::StatusOr<std::string> RunCniPlugin(const CniRunner& runner, absl::string_view type,
                                         const CniParameters& parameters, const std::string& input,
                                         CancelToken* cancel) {
  GANTRY_ASSIGN_OR_RETURN(const std::string program, FindCniPlugin(runner, type));
  Command command;
  command.argv = {program};
  command.env = Environment(runner, parameters);
  command.timeout = runner.timeout;
  const std::string what = absl::StrCat("CNI plugin ", type, ", ", parameters.command);
  absl::StatusOr<CommandResult> result = RunCommand(command, input, kMaxCniBytes, cancel);
  if (!result.ok()) return WithContext(result.status(), what);
  // Standard error is for people: it may be as long as it likes.
  const bool too_long = result->out.size() >= kMaxCniBytes;
  if (too_long) result->out.resize(kMaxWords);
  if (!result->status.ok()) return Failure(what, *result);
  if (too_long) {
    return absl::UnavailableError(
        absl::StrCat(what, ": it printed more than ", kMaxCniBytes, " bytes"));
  }
  return std::move(result->out);
}

}  // namespace gantry::network
