#include "shim/oci_runtime.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "shim/runtime_guard.h"

namespace gantry::shim {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxLogBytes = 1 << 20;
constexpr size_t kMaxMessageBytes = 8192;
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string SearchPath() {
  const char* path = getenv("PATH");
  return path == nullptr || *path == '\0' ? kDefaultPath : path;
}

bool IsInPath(absl::string_view program) {
  const std::string search = SearchPath();
  for (absl::string_view directory : absl::StrSplit(search, ':', absl::SkipEmpty())) {
    if (access(absl::StrCat(directory, "/", program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

// Parent of a process, alive or zombie; 0 if there is none.
pid_t ParentOf(pid_t pid) {
  const absl::StatusOr<std::string> stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"), 4096);
  if (!stat.ok()) return 0;
  // The name in parentheses may contain anything.
  const size_t end = stat->rfind(')');
  if (end == std::string::npos) return 0;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*stat).substr(end + 1), ' ', absl::SkipEmpty());
  pid_t parent;
  if (fields.size() < 2 || !absl::SimpleAtoi(fields[1], &parent)) return 0;
  return parent;
}

// Whether this process has made `pid`, directly or through others that may be ending just now: crun
// detaches by forking twice and says that it is done before the one between us and the container
// has exited. When that one has, the container becomes our child.
bool IsDescendant(pid_t pid) {
  constexpr int kMaxDepth = 8;
  constexpr int kMaxTries = 16;
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    pid_t ancestor = pid;
    for (int depth = 0; depth < kMaxDepth; ++depth) {
      ancestor = ParentOf(ancestor);
      if (ancestor == getpid()) return true;
      if (ancestor <= 1) break;
    }
    // Came to an end at a process that is gone by now: its children have another parent, look
    // again.
    if (ancestor != 0 || ParentOf(pid) == 0) return false;
  }
  return false;
}

// A file for the standard error of a program, which takes so much and no more. Not valid where the
// machine gives none.
UniqueFd MakeWordsFile() {
  UniqueFd file(memfd_create("runtime-stderr", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (ftruncate(file.get(), kMaxLogBytes) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
    file.reset();
  }
  return file;
}

std::string ReadWordsFile(int file) {
  std::string text(kMaxLogBytes, '\0');
  const ssize_t count = pread(file, text.data(), text.size(), 0);
  text.resize(count < 0 ? 0 : static_cast<size_t>(count));
  text.erase(std::min(text.find('\0'), text.size()));
  return text;
}

// What goes into messages, records and events: one line of valid UTF-8.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
  }
  return ToValidUtf8(text);
}

}  // namespace

std::string LastRuntimeError(absl::string_view log) {
  std::string error;
  std::string last;
  for (absl::string_view line : absl::StrSplit(log, '\n', absl::SkipWhitespace())) {
    const Json json = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      last = std::string(absl::StripAsciiWhitespace(line));
      continue;
    }
    const auto message = json.find("msg");
    const auto level = json.find("level");
    if (message == json.end() || !message->is_string()) continue;
    last = message->get<std::string>();
    if (level != json.end() && level->is_string() &&
        (*level == "error" || *level == "fatal" || *level == "panic")) {
      error = last;
    }
  }
  return Printable((error.empty() ? last : error).substr(0, kMaxMessageBytes));
}

std::string NormaliseRuntimeError(absl::string_view message) {
  std::string text =
      absl::StrReplaceAll(message, {{"No such file or directory", "no such file or directory"},
                                    {"Not a directory", "not a directory"},
                                    {"Permission denied", "permission denied"},
                                    // crun, of what is no regular file
                                    {"open executable: Operation not permitted",
                                     "open executable: permission denied: not a regular file"}});
  // crun: executable file `x` not found in $PATH: no such file or directory
  static const std::string kBefore = "executable file `";
  static const std::string kAfter = "` not found in $PATH: no such file or directory";
  const size_t begin = text.find(kBefore);
  const size_t end = text.find(kAfter, begin == std::string::npos ? 0 : begin);
  if (begin != std::string::npos && end != std::string::npos) {
    const std::string name = text.substr(begin + kBefore.size(), end - begin - kBefore.size());
    const std::string better =
        absl::StrContains(name, '/')
            ? absl::StrCat("exec: \"", name, "\": stat ", name, ": no such file or directory")
            : absl::StrCat("exec: \"", name, "\": executable file not found in $PATH");
    text.replace(begin, end + kAfter.size() - begin, better);
  }
  return text;
}

bool SaysNotRunning(absl::string_view message) {
  for (absl::string_view phrase :
       {"container not running", "process already finished", "does not exist", "no such process",
        "No such process", "is not running", "container is stopped"}) {
    if (absl::StrContains(message, phrase)) return true;
  }
  // crun, of its own state directory.
  return (absl::StrContains(message, "/status`: ") ||
          absl::StartsWith(message, "cannot open directory")) &&
         absl::StrContains(absl::AsciiStrToLower(message), "no such file or directory");
}

absl::Status RuntimeFailure(absl::string_view verb, absl::string_view message) {
  // "create" is how clients know it, also when we run and create in one step.
  const absl::string_view known_verb = verb == "run" ? "create" : verb;
  const std::string full = absl::StrCat("OCI runtime ", known_verb, " failed: ", message);
  if ((known_verb == "create" || verb == "restore") && absl::StrContains(message, "already exists"))
    return absl::AlreadyExistsError(full);
  const bool about_the_container = verb == "kill" || verb == "delete" || verb == "state";
  if (about_the_container && SaysNotRunning(message)) return absl::NotFoundError(full);
  return absl::InternalError(full);
}

OciRuntime::OciRuntime(v1::Runtime config, std::string program, std::string bundle, std::string id,
                       int oom_score_adj, Reaper* reaper)
    : config_(std::move(config)),
      program_(std::move(program)),
      bundle_(std::move(bundle)),
      id_(std::move(id)),
      oom_score_adj_(oom_score_adj),
      reaper_(reaper) {}

std::string OciRuntime::ScratchName(absl::string_view kind) {
  return absl::StrCat(bundle_, "/", kind, "-", sequence_.fetch_add(1));
}

absl::Status OciRuntime::Call(absl::string_view verb, absl::Span<const std::string> args,
                              const RuntimeStdio& stdio, absl::Duration timeout) {
  const std::string log = ScratchName("runtime-log");
  absl::Cleanup remove_log = [&] { unlink(log.c_str()); };

  SpawnRequest request;
  request.program = program_;
  request.oom_score_adj = oom_score_adj_;
  // crun dies of it when a poststart or poststop hook ends without reading the state from its
  // standard input. No process of the container inherits this from a start or a delete.
  request.ignore_sigpipe = verb == "delete" || verb == "start";
  request.argv = {config_.path()};
  if (!config_.state_root().empty()) {
    request.argv.insert(request.argv.end(), {"--root", config_.state_root()});
  }
  request.argv.insert(request.argv.end(), {"--log", log, "--log-format", "json"});
  if (config_.systemd_cgroup()) request.argv.push_back("--systemd-cgroup");
  request.argv.emplace_back(verb);
  request.argv.insert(request.argv.end(), args.begin(), args.end());
  request.env = {absl::StrCat("PATH=", SearchPath())};
  // Without a terminal a new process has the standard error of the runtime that makes it.
  const bool makes_process =
      verb == "create" || verb == "run" || verb == "exec" || verb == "restore";
  UniqueFd words;
  if (!makes_process || !stdio.console_socket.empty()) words = MakeWordsFile();
  const int err = words.valid() ? words.get() : stdio.err;
  for (const auto& [ours, theirs] : {std::pair(stdio.in, 0), {stdio.out, 1}, {err, 2}}) {
    if (ours >= 0) request.fds.emplace_back(ours, theirs);
  }

  // Where it cannot be made, a shim that is killed now may leave what its runtime goes on to make;
  // the start does not fail because of that.
  const UniqueFd guard(open(absl::StrCat(bundle_, kRuntimeGuardFile).c_str(),
                            O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (guard.valid() && flock(guard.get(), LOCK_SH | LOCK_NB) == 0)
    request.fds.emplace_back(guard.get(), kRuntimeGuardFd);

  const absl::StatusOr<int> wait_status = reaper_->Run(request, timeout);
  if (absl::IsDeadlineExceeded(wait_status.status())) {
    return absl::UnavailableError(absl::StrCat("OCI runtime ", config_.name(), " ", verb,
                                               ": no answer within ", absl::FormatDuration(timeout),
                                               ", killed"));
  }
  if (!wait_status.ok()) {
    return WithContext(wait_status.status(),
                       absl::StrCat("OCI runtime ", config_.name(), " cannot be run"));
  }
  if (WIFEXITED(*wait_status) && WEXITSTATUS(*wait_status) == 0) return absl::OkStatus();

  std::string message;
  if (const absl::StatusOr<std::string> text = ReadFile(log, kMaxLogBytes); text.ok()) {
    message = NormaliseRuntimeError(LastRuntimeError(*text));
  }
  if (message.empty()) {
    const std::string said = words.valid()      ? ReadWordsFile(words.get())
                             : stdio.last_words ? stdio.last_words()
                                                : "";
    message = NormaliseRuntimeError(LastRuntimeError(said));
  }
  if (message.empty()) {
    message = WIFSIGNALED(*wait_status)
                  ? absl::StrCat("killed by signal ", WTERMSIG(*wait_status))
                  : absl::StrCat("exit status ", WEXITSTATUS(*wait_status), " and no message");
  }
  return RuntimeFailure(verb, message);
}

absl::StatusOr<pid_t> OciRuntime::CallForPid(absl::string_view verb, std::vector<std::string> args,
                                             const RuntimeStdio& stdio, absl::Duration timeout) {
  const std::string pid_file = ScratchName("pid");
  absl::Cleanup remove_pid_file = [&] { unlink(pid_file.c_str()); };
  std::vector<std::string> all = {"--pid-file", pid_file};
  if (!stdio.console_socket.empty()) {
    all.insert(all.end(), {"--console-socket", stdio.console_socket});
  }
  all.insert(all.end(), args.begin(), args.end());
  const absl::Status status = Call(verb, all, stdio, timeout);
  if (!status.ok()) {
    reaper_->KillUnclaimed();
    return status;
  }
  const absl::StatusOr<std::string> text = ReadFile(pid_file, 64);
  pid_t pid = 0;
  if (!text.ok() || !absl::SimpleAtoi(*text, &pid) || pid <= 1) {
    reaper_->KillUnclaimed();
    return absl::InternalError(absl::StrCat("OCI runtime ", config_.name(), " ", verb,
                                            ": it reported success but no usable pid"));
  }
  // We are going to signal this number: a runtime may not talk us into signalling a stranger.
  if (!IsDescendant(pid)) {
    reaper_->KillUnclaimed();
    return absl::InternalError(absl::StrCat("OCI runtime ", config_.name(), " ", verb, ": pid ",
                                            pid, ", which it reported, is not a process it made"));
  }
  return pid;
}

absl::StatusOr<pid_t> OciRuntime::Create(bool start, const RuntimeStdio& stdio,
                                         absl::Duration timeout) {
  std::vector<std::string> args = {"--bundle", bundle_};
  if (start) args.push_back("--detach");
  if (config_.no_pivot_root()) args.push_back("--no-pivot");
  if (config_.no_new_keyring()) args.push_back("--no-new-keyring");
  args.push_back(id_);
  return CallForPid(start ? "run" : "create", std::move(args), stdio, timeout);
}

absl::StatusOr<pid_t> OciRuntime::Restore(const std::string& image_path,
                                          const std::string& work_path, const RuntimeStdio& stdio,
                                          absl::Duration timeout) {
  if (!IsInPath("criu")) {
    return absl::FailedPreconditionError(
        "restore needs the program criu, which is not installed on this machine");
  }
  std::vector<std::string> args = {"--bundle", bundle_, "--image-path", image_path, "--detach"};
  if (!work_path.empty()) args.insert(args.end(), {"--work-path", work_path});
  args.push_back(id_);
  return CallForPid("restore", std::move(args), stdio, timeout);
}

absl::Status OciRuntime::Start(absl::Duration timeout) { return Call("start", {id_}, {}, timeout); }

absl::StatusOr<pid_t> OciRuntime::Exec(const std::string& process_json, const RuntimeStdio& stdio,
                                       absl::Duration timeout) {
  const std::string process_file = ScratchName("process");
  absl::Cleanup remove_process_file = [&] { unlink(process_file.c_str()); };
  GANTRY_RETURN_IF_ERROR(WriteFile(process_file, process_json, 0600));
  return CallForPid("exec", {"--process", process_file, "--detach", id_}, stdio, timeout);
}

absl::Status OciRuntime::Kill(uint32_t signal, bool all, absl::Duration timeout) {
  std::vector<std::string> args;
  if (all) args.push_back("--all");
  args.insert(args.end(), {id_, absl::StrCat(signal)});
  return Call("kill", args, {}, timeout);
}

absl::Status OciRuntime::Delete(bool force, absl::Duration timeout) {
  std::vector<std::string> args;
  if (force) args.push_back("--force");
  args.push_back(id_);
  const absl::Status status = Call("delete", args, {}, timeout);
  return absl::IsNotFound(status) && SaysNotRunning(status.message()) ? absl::OkStatus() : status;
}

absl::Status OciRuntime::Pause(absl::Duration timeout) { return Call("pause", {id_}, {}, timeout); }

absl::Status OciRuntime::Resume(absl::Duration timeout) {
  return Call("resume", {id_}, {}, timeout);
}

absl::Status OciRuntime::Update(const std::string& resources_json, absl::Duration timeout) {
  const std::string resources_file = ScratchName("resources");
  absl::Cleanup remove_resources_file = [&] { unlink(resources_file.c_str()); };
  GANTRY_RETURN_IF_ERROR(WriteFile(resources_file, resources_json, 0600));
  return Call("update", {"--resources", resources_file, id_}, {}, timeout);
}

absl::Status OciRuntime::Checkpoint(const v1::CheckpointRequest& request, absl::Duration timeout) {
  if (!IsInPath("criu")) {
    return absl::FailedPreconditionError(
        "checkpoint needs the program criu, which is not installed on this machine");
  }
  std::vector<std::string> args = {"--image-path", request.image_path()};
  if (!request.work_path().empty()) args.insert(args.end(), {"--work-path", request.work_path()});
  if (request.leave_running()) args.push_back("--leave-running");
  if (request.tcp_established()) args.push_back("--tcp-established");
  if (request.external_unix_sockets()) args.push_back("--ext-unix-sk");
  if (request.terminal()) args.push_back("--shell-job");
  if (request.file_locks()) args.push_back("--file-locks");
  args.push_back(id_);
  return Call("checkpoint", args, {}, timeout);
}

absl::StatusOr<std::vector<pid_t>> OciRuntime::Ps(absl::Duration timeout) {
  const std::string list = ScratchName("ps");
  absl::Cleanup remove_list = [&] { unlink(list.c_str()); };
  UniqueFd out(open(list.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!out.valid()) return ErrnoToStatus(errno, absl::StrCat("make ", list));
  RuntimeStdio stdio;
  stdio.out = out.get();
  GANTRY_RETURN_IF_ERROR(Call("ps", {"--format", "json", id_}, stdio, timeout));
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(list, kMaxLogBytes));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  std::vector<pid_t> pids;
  if (json.is_array()) {
    for (const Json& pid : json) {
      if (pid.is_number_integer()) pids.push_back(pid.get<pid_t>());
    }
  }
  return pids;
}

absl::string_view OciRuntime::ProgramName() const {
  return absl::string_view(config_.path()).substr(config_.path().rfind('/') + 1);
}

// crun, from its first release on: the init waits for a byte from the named pipe exec.fifo, and
// while that exists the container counts as created.
bool OciRuntime::StartByHand() const {
  if (ProgramName() != "crun" || config_.state_root().empty()) return false;
  const std::string fifo = absl::StrCat(config_.state_root(), "/", id_, "/exec.fifo");
  // Without O_NONBLOCK this would wait for an init that has ended.
  const UniqueFd fd(open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  struct stat stat;
  if (!fd.valid() || fstat(fd.get(), &stat) != 0 || !S_ISFIFO(stat.st_mode)) return false;
  if (unlink(fifo.c_str()) != 0) return false;
  const char go = 0;
  return write(fd.get(), &go, 1) == 1;
}

bool OciRuntime::InitIsOnHost() const { return ProgramName() == "crun" || ProgramName() == "runc"; }

bool OciRuntime::RemoveState() const {
  if (!InitIsOnHost()) return false;
  if (config_.state_root().empty() || config_.systemd_cgroup()) return false;
  return RemoveTree(absl::StrCat(config_.state_root(), "/", id_)).ok();
}

}  // namespace gantry::shim
