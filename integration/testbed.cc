#include "integration/testbed.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/images.h"

namespace gantry::integration {
namespace {

constexpr absl::Duration kReadyLimit = absl::Seconds(30);
constexpr absl::Duration kStopLimit = absl::Seconds(20);
constexpr size_t kMaxOutput = 64 << 20;

std::vector<std::string> ListNames(const std::string& path) {
  std::vector<std::string> names;
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return names;
  while (const dirent* entry = readdir(directory)) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

std::string ReadAllOf(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, 64 << 20);
  return text.ok() ? *std::move(text) : std::string();
}

std::string ReadLinkOf(const std::string& path) {
  char target[4096];
  const ssize_t n = readlink(path.c_str(), target, sizeof(target));
  return n < 0 ? "" : std::string(target, static_cast<size_t>(n));
}

std::vector<std::string> Environment(const std::map<std::string, std::string>& more) {
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name = std::string(*entry).substr(0, std::string(*entry).find('='));
    // A test under Bazel, or a shell with settings of its own, must not change what the programs
    // do.
    if (absl::StartsWith(name, "GANTRY_") || name == "NOTIFY_SOCKET" || more.count(name) > 0)
      continue;
    env.emplace_back(*entry);
  }
  for (const auto& [name, value] : more) env.push_back(absl::StrCat(name, "=", value));
  return env;
}

// Hierarchies of cgroups as directories; `held` keeps those that are mounted nowhere.
std::vector<std::string> Hierarchies(UniqueFd& held) {
  std::vector<std::string> out;
  if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0) return {"/sys/fs/cgroup"};
  for (const std::string& name : ListNames("/sys/fs/cgroup")) {
    struct stat info;
    const std::string path = "/sys/fs/cgroup/" + name;
    if (lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) out.push_back(path);
  }
  // crun's containers have a cgroup in hugetlb as well, where that is in use as v1 without being
  // mounted.
  for (const absl::string_view line : absl::StrSplit(ReadAllOf("/proc/cgroups"), '\n')) {
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (fields.size() != 4 || fields[0] != "hugetlb" || fields[1] == "0") continue;
    if (access("/sys/fs/cgroup/hugetlb", F_OK) == 0) continue;
    const UniqueFd context(fsopen("cgroup", FSOPEN_CLOEXEC));
    if (!context.valid() ||
        fsconfig(context.get(), FSCONFIG_SET_FLAG, "hugetlb", nullptr, 0) != 0 ||
        fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
      continue;
    }
    held = UniqueFd(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    if (held.valid()) out.push_back(absl::StrCat("/proc/self/fd/", held.get()));
  }
  return out;
}

bool IsFullId(absl::string_view word) {
  return word.size() == 64 && std::all_of(word.begin(), word.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

testing::AssertionResult Ok(const Outcome& outcome) {
  if (outcome.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << outcome.command << "\n  exit status " << outcome.code
                                     << "\n  stdout: " << outcome.out.substr(0, 2000)
                                     << "\n  stderr: " << outcome.err.substr(0, 4000);
}

bool Eventually(const std::function<bool()>& condition, absl::Duration limit) {
  const absl::Duration deadline = Clock::Real().Monotonic() + limit;
  while (!condition()) {
    if (Clock::Real().Monotonic() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

Outcome RunProgram(std::vector<std::string> argv, const std::string& input, absl::Duration timeout,
                   const std::map<std::string, std::string>& more_env) {
  Outcome outcome;
  outcome.command = absl::StrJoin(argv, " ");
  Command command;
  command.argv = std::move(argv);
  command.env = Environment(more_env);
  command.timeout = timeout;
  const absl::StatusOr<CommandResult> result = RunCommand(command, input, kMaxOutput);
  if (!result.ok()) {
    outcome.err = result.status().ToString();
    return outcome;
  }
  outcome.code = result->status.signal != 0 ? 128 + result->status.signal : result->status.code;
  outcome.out = result->out;
  outcome.err = result->err;
  return outcome;
}

std::set<std::string> ContainerCgroups() {
  std::set<std::string> found;
  UniqueFd held;
  for (const std::string& hierarchy : Hierarchies(held)) {
    for (const std::string& name : ListNames(hierarchy + "/gantry")) {
      struct stat info;
      if (stat(absl::StrCat(hierarchy, "/gantry/", name).c_str(), &info) == 0 &&
          S_ISDIR(info.st_mode)) {
        found.insert(name);
      }
    }
  }
  return found;
}

Testbed::Testbed(Options options) : options_(std::move(options)) {
  // Short, because sockets lie below it and their paths have little room.
  char base[] = "/tmp/gt-XXXXXX";
  if (mkdtemp(base) == nullptr) {
    ADD_FAILURE() << "mkdtemp: " << strerror(errno);
    return;
  }
  // As the directories above a daemon's are on a machine: the root of a container with a user
  // namespace walks through them.
  if (chmod(base, 0711) != 0) ADD_FAILURE() << "chmod " << base << ": " << strerror(errno);
  base_ = base;
  token_ = base_.substr(base_.rfind('/') + 1);
  root_ = base_ + "/root";
  state_ = base_ + "/state";
  scratch_ = base_ + "/scratch";
  address_ = state_ + "/gantry.sock";
  namespace_ = absl::StrCat("t-", token_.substr(3));
  log_path_ = base_ + "/gantryd.log";
  (void)MakeDirectories(scratch_, 0755);
  (void)WriteFile(base_ + "/config.toml",
                  absl::StrReplaceAll(options_.config, {{"@base@", base_}}));
  cgroups_before_ = ContainerCgroups();
  if (options_.start) {
    EXPECT_TRUE(StartDaemon());
  }
}

Testbed::~Testbed() {
  if (base_.empty()) return;
  if (daemon_.pid() > 0) {
    if (WaitDaemonGone(absl::ZeroDuration()) >= 0 && !daemon_may_be_dead_) {
      ADD_FAILURE() << "gantryd died during the test:\n" << daemon_log();
    }
  }
  if (daemon_.pid() <= 0) {
    // What a test left behind with its daemon dead is cleaned by another one: that this works is
    // part of the promise.
    if (!Bundles().empty()) {
      EXPECT_TRUE(StartDaemon());
    }
  }
  if (daemon_.pid() > 0) {
    RemoveContainers();
    StopDaemon();
  }
  std::vector<std::string> leaks;
  const bool clean = Eventually(
      [&] {
        leaks = Leaks();
        return leaks.empty();
      },
      absl::Seconds(10));
  EXPECT_TRUE(clean) << "left behind:\n  " << absl::StrJoin(leaks, "\n  ");
  // Clients of containerd put containers below /<namespace>, and leave that directory, as its
  // runtimes do.
  UniqueFd held;
  for (const std::string& hierarchy : Hierarchies(held))
    rmdir(absl::StrCat(hierarchy, "/", namespace_).c_str());
  if (testing::Test::HasFailure()) {
    const std::string log = daemon_log();
    std::fprintf(stderr, "--- gantryd of %s, last of its log ---\n%s\n", base_.c_str(),
                 log.substr(log.size() > 8000 ? log.size() - 8000 : 0).c_str());
  }
  for (const absl::string_view line : absl::StrSplit(ReadAllOf("/proc/self/mountinfo"), '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4 && absl::StartsWith(fields[4], base_ + "/"))
      umount2(fields[4].c_str(), MNT_DETACH);
  }
  const absl::Status removed = RemoveTree(base_);
  EXPECT_TRUE(removed.ok()) << removed;
}

std::string Testbed::Binary(const std::string& name) const {
  std::vector<std::string> directories;
  if (const char* bin = getenv("GANTRY_BIN")) directories.push_back(bin);
  const char* sources = getenv("TEST_SRCDIR");
  const char* workspace = getenv("TEST_WORKSPACE");
  if (sources != nullptr && workspace != nullptr)
    directories.push_back(absl::StrCat(sources, "/", workspace));
  directories.push_back("out/bin");
  for (const std::string& directory : directories) {
    const std::string path = absl::StrCat(directory, "/", name);
    char real[4096];
    if (access(path.c_str(), X_OK) == 0 && realpath(path.c_str(), real) != nullptr) return real;
  }
  ADD_FAILURE() << "no " << name << " in " << absl::StrJoin(directories, ", ");
  return name;
}

testing::AssertionResult Testbed::SpawnDaemon(const std::map<std::string, std::string>& more_env) {
  const UniqueFd log(open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!log.valid()) return testing::AssertionFailure() << log_path_ << ": " << strerror(errno);
  std::map<std::string, std::string> env = options_.daemon_env;
  for (const auto& [name, value] : more_env) env[name] = value;
  Command command;
  command.argv = options_.daemon_wrapper;
  for (const std::string& word :
       {Binary("supervisor/gantryd"), std::string("--shim"), Binary("shim/gantry-shim"),
        std::string("--config"), base_ + "/config.toml",
        // Tests of networks say so, and are in network namespaces of their own.
        std::string("--default-network"), std::string("none")}) {
    command.argv.push_back(word);
  }
  if (!options_.places_from_config) {
    for (const std::string& word : {std::string("--root"), root_, std::string("--state"), state_,
                                    std::string("--address"), address_}) {
      command.argv.push_back(word);
    }
  }
  command.argv.insert(command.argv.end(), options_.daemon_flags.begin(),
                      options_.daemon_flags.end());
  command.env = Environment(env);
  command.cwd = base_;
  command.stdout_fd = log.get();
  command.stderr_fd = log.get();
  command.new_session = true;
  absl::StatusOr<Process> started = Spawn(command);
  if (!started.ok()) return testing::AssertionFailure() << started.status();
  daemon_ = *std::move(started);
  return testing::AssertionSuccess();
}

testing::AssertionResult Testbed::StartDaemon(const std::map<std::string, std::string>& more_env) {
  const UniqueFd notify(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = base_ + "/notify";
  unlink(path.c_str());
  memcpy(address.sun_path, path.data(), path.size());
  if (bind(notify.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return testing::AssertionFailure() << "bind " << path << ": " << strerror(errno);
  }
  std::map<std::string, std::string> env = more_env;
  env["NOTIFY_SOCKET"] = path;
  const absl::Duration begin = Clock::Real().Monotonic();
  if (testing::AssertionResult spawned = SpawnDaemon(env); !spawned) return spawned;
  while (true) {
    pollfd waits[] = {{notify.get(), POLLIN, 0}, {daemon_.pidfd(), POLLIN, 0}};
    const absl::Duration left = begin + kReadyLimit - Clock::Real().Monotonic();
    const int ready =
        poll(waits, 2, std::max(0, static_cast<int>(absl::ToInt64Milliseconds(left))));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0)
      return testing::AssertionFailure() << "gantryd not ready within 30 s:\n" << daemon_log();
    if (waits[0].revents != 0) {
      char message[4096];
      const ssize_t n = recv(notify.get(), message, sizeof(message), 0);
      if (n > 0 && absl::StrContains(absl::string_view(message, static_cast<size_t>(n)), "READY=1"))
        break;
      continue;
    }
    const int code = WaitDaemonGone(absl::Seconds(1));
    return testing::AssertionFailure() << "gantryd ended with " << code << " before it was ready:\n"
                                       << daemon_log();
  }
  start_took_ = Clock::Real().Monotonic() - begin;
  return testing::AssertionSuccess();
}

void Testbed::KillDaemon() {
  ASSERT_GT(daemon_.pid(), 0);
  EXPECT_TRUE(daemon_.Kill(SIGKILL).ok());
  EXPECT_EQ(WaitDaemonGone(), 128 + SIGKILL);
}

int Testbed::WaitDaemonGone(absl::Duration limit) {
  const absl::StatusOr<ExitStatus> status = daemon_.Wait(limit);
  if (!status.ok()) return -1;
  daemon_ = Process();
  return status->signal != 0 ? 128 + status->signal : status->code;
}

void Testbed::StopDaemon() {
  EXPECT_TRUE(daemon_.Kill(SIGTERM).ok());
  const int code = WaitDaemonGone(kStopLimit);
  EXPECT_EQ(code, 0) << "gantryd after SIGTERM:\n" << daemon_log();
  if (code < 0) KillDaemon();
}

pid_t Testbed::daemon_pid() const { return daemon_.pid(); }
std::string Testbed::daemon_log() const { return ReadAllOf(log_path_); }

std::vector<std::string> Testbed::CtlCommand(std::vector<std::string> args) const {
  std::vector<std::string> argv = {Binary("ctl/ctl"), "--address", address_, "--namespace",
                                   namespace_};
  argv.insert(argv.end(), args.begin(), args.end());
  return argv;
}

Outcome Testbed::Ctl(std::vector<std::string> args, const std::string& input,
                     absl::Duration timeout) const {
  return RunProgram(CtlCommand(std::move(args)), input, timeout, {{"HOME", scratch_}});
}

std::string Testbed::CtlOut(std::vector<std::string> args) const {
  const Outcome outcome = Ctl(std::move(args));
  EXPECT_TRUE(Ok(outcome));
  return std::string(absl::StripSuffix(outcome.out, "\n"));
}

Outcome Testbed::Ctr(std::vector<std::string> args, absl::Duration timeout) const {
  std::vector<std::string> argv = {"ctr", "--address", address_, "--namespace", namespace_};
  argv.insert(argv.end(), args.begin(), args.end());
  return RunProgram(std::move(argv), "", timeout, {{"HOME", scratch_}});
}

absl::StatusOr<Process> Testbed::SpawnCtl(std::vector<std::string> args, int out_fd,
                                          int in_fd) const {
  Command command;
  command.argv = CtlCommand(std::move(args));
  command.env = Environment({{"HOME", scratch_}});
  command.stdin_fd = in_fd;
  command.stdout_fd = out_fd;
  command.stderr_fd = out_fd;
  return Spawn(command);
}

testing::AssertionResult Testbed::LoadBusybox(const std::string& name) {
  const std::string archive = absl::StrCat(scratch_, "/busybox.tar");
  if (access(archive.c_str(), F_OK) != 0) {
    if (const absl::Status made = WriteBusyboxArchive(archive, name); !made.ok()) {
      return testing::AssertionFailure() << made;
    }
  }
  return Ok(Ctl({"load", "-i", archive}));
}

std::string Testbed::Inspect(const std::string& container, const std::string& format) const {
  const Outcome outcome = Ctl({"inspect", "--type", "container", "--format", format, container});
  return outcome.ok() ? std::string(absl::StripSuffix(outcome.out, "\n")) : "";
}

testing::AssertionResult Testbed::StatusBecomes(const std::string& container,
                                                const std::string& status,
                                                absl::Duration limit) const {
  std::string last;
  if (Eventually(
          [&] {
            last = Inspect(container, "{{.State.Status}}");
            return last == status;
          },
          limit)) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << container << " is " << last << ", not " << status;
}

pid_t Testbed::ZygotePid() const {
  if (daemon_.pid() <= 0) return 0;
  for (const std::string& task : ListNames(absl::StrCat("/proc/", daemon_.pid(), "/task"))) {
    const std::string children =
        ReadAllOf(absl::StrCat("/proc/", daemon_.pid(), "/task/", task, "/children"));
    for (const absl::string_view word : absl::StrSplit(children, ' ', absl::SkipWhitespace())) {
      pid_t pid = 0;
      if (!absl::SimpleAtoi(word, &pid)) continue;
      if (absl::StrContains(ReadAllOf(absl::StrCat("/proc/", pid, "/cmdline")), "--zygote"))
        return pid;
    }
  }
  return 0;
}

std::vector<std::string> Testbed::Bundles() const {
  std::vector<std::string> ids;
  for (const std::string& ns : ListNames(state_ + "/tasks")) {
    for (const std::string& id : ListNames(absl::StrCat(state_, "/tasks/", ns))) ids.push_back(id);
  }
  return ids;
}

std::string Testbed::Metrics(const std::string& path) const {
  const std::string mark = "metrics on port ";
  const std::string log = daemon_log();
  const size_t at = log.rfind(mark);  // of the last start
  int port = 0;
  if (at == std::string::npos ||
      !absl::SimpleAtoi(log.substr(at + mark.size(), log.find(',', at) - at - mark.size()), &port))
    return "";
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return "";
  const timeval limit = {20, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.1\r\n\r\n");
  if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return "";
  std::string answer;
  char buffer[4096];
  ssize_t got = 0;
  while ((got = recv(fd.get(), buffer, sizeof buffer, 0)) > 0)
    answer.append(buffer, static_cast<size_t>(got));
  return answer;
}

pid_t Testbed::ShimPid(const std::string& full_id, const std::string& ns) const {
  const std::string text = ReadAllOf(
      absl::StrCat(state_, "/tasks/", ns.empty() ? namespace_ : ns, "/", full_id, "/shim.json"));
  const size_t at = text.find("\"pid\":");
  return at == std::string::npos ? 0 : atoi(text.c_str() + at + 6);
}

void Testbed::RemoveContainers() {
  const Outcome all = Ctl({"ps", "--all", "--quiet", "--no-trunc"});
  EXPECT_TRUE(Ok(all));
  std::vector<std::string> command = {"rm", "--force"};
  for (const absl::string_view id : absl::StrSplit(all.out, '\n', absl::SkipEmpty())) {
    ids_seen_.emplace(id);
    command.emplace_back(id);
  }
  if (command.size() > 2) {
    EXPECT_TRUE(Ok(Ctl(std::move(command))));
  }
}

std::vector<std::string> Testbed::Leaks() const {
  std::vector<std::string> leaks;
  // Processes. The daemon itself counts only when it should be gone.
  for (const std::string& name : ListNames("/proc")) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(name, &pid) || pid == getpid()) continue;
    if (daemon_.pid() > 0) continue;
    const std::string proc = "/proc/" + name;
    std::string cmdline = ReadAllOf(proc + "/cmdline");
    std::replace(cmdline.begin(), cmdline.end(), '\0', ' ');
    const std::string cgroup = ReadAllOf(proc + "/cgroup");
    bool ours = absl::StrContains(cmdline, base_) ||
                absl::StrContains(ReadLinkOf(proc + "/cwd"), base_) ||
                absl::StrContains(ReadAllOf(proc + "/environ"), base_);
    for (const std::string& id : ids_seen_) ours = ours || absl::StrContains(cgroup, id);
    if (!ours) continue;
    // A zombie is dead already; its parent, often the machine's init, may take its time.
    const std::string stat = ReadAllOf(proc + "/stat");
    const size_t end = stat.rfind(')');
    if (end != std::string::npos && end + 2 < stat.size() && stat[end + 2] == 'Z') continue;
    leaks.push_back(absl::StrCat("process ", pid, ": ", cmdline));
  }
  for (const absl::string_view line : absl::StrSplit(ReadAllOf("/proc/self/mountinfo"), '\n')) {
    if (absl::StrContains(line, base_)) leaks.push_back(absl::StrCat("mount ", line));
  }
  // Bundles, sockets and what runtimes keep.
  for (const std::string& id : Bundles()) leaks.push_back("bundle " + id);
  for (const std::string& name : ListNames(state_ + "/s")) leaks.push_back("shim socket " + name);
  for (const std::string& runtime : ListNames(state_ + "/runtime")) {
    for (const std::string& ns : ListNames(absl::StrCat(state_, "/runtime/", runtime))) {
      for (const std::string& id : ListNames(absl::StrCat(state_, "/runtime/", runtime, "/", ns))) {
        leaks.push_back(absl::StrCat("runtime state ", runtime, "/", ns, "/", id));
      }
    }
  }
  // Cgroups are named by container ids. A new one without another owner is ours: other testbeds
  // have a bundle for theirs.
  std::set<std::string> foreign;
  for (const std::string& name : ListNames("/tmp")) {
    if (!absl::StartsWith(name, "gt-") || name == token_) continue;
    for (const std::string& ns : ListNames(absl::StrCat("/tmp/", name, "/state/tasks"))) {
      for (const std::string& id : ListNames(absl::StrCat("/tmp/", name, "/state/tasks/", ns)))
        foreign.insert(id);
    }
  }
  UniqueFd held;
  for (const std::string& hierarchy : Hierarchies(held)) {
    const std::string parent = absl::StrCat(hierarchy, "/", namespace_);
    for (const std::string& name : ListNames(parent)) {
      struct stat info;
      if (stat(absl::StrCat(parent, "/", name).c_str(), &info) == 0 && S_ISDIR(info.st_mode))
        leaks.push_back(absl::StrCat("cgroup ", parent, "/", name));
    }
  }
  const std::string log = daemon_log();
  for (const std::string& id : ContainerCgroups()) {
    if (cgroups_before_.count(id) > 0 || foreign.count(id) > 0) continue;
    const bool ours = ids_seen_.count(id) > 0 || (IsFullId(id) && absl::StrContains(log, id));
    if (ours) leaks.push_back("cgroup /gantry/" + id);
  }
  return leaks;
}

}  // namespace gantry::integration
