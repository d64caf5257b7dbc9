#include "supervisor/runtime/runtime_probe.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"

namespace gantry::runtime {
namespace {

constexpr absl::Duration kProbeTimeout = absl::Seconds(10);
constexpr size_t kMaxAnswerBytes = 1 << 20;
constexpr absl::string_view kContainerdShim = "containerd-shim-";
// The only runtime of containerd 1.0 to 1.3, in records of those days.
constexpr absl::string_view kRuntimeOfContainerd1 = "io.containerd.runtime.v1.linux";
// What every 1.x runtime takes, for those that do not say more of themselves.
constexpr char kOldestOciVersion[] = "1.0.0";

// Controllers of the v2 tree that also exist as v1 hierarchies, by their v1 names.
constexpr absl::string_view kBothKinds[] = {"cpuset", "cpu",  "cpuacct", "blkio",
                                            "memory", "pids", "hugetlb", "rdma"};

std::string FindInPath(const std::string& program) {
  const char* path = getenv("PATH");
  std::string searched = path == nullptr ? "" : path;
  // A daemon is often started with a short PATH; these are where packages put runtimes.
  absl::StrAppend(&searched, ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  for (const absl::string_view directory : absl::StrSplit(searched, ':')) {
    if (!absl::StartsWith(directory, "/")) continue;
    const std::string candidate = absl::StrCat(directory, "/", program);
    struct stat info;
    if (stat(candidate.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
        access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
  }
  return "";
}

// Tells one build of a program from the next at the same path.
struct ProgramStamp {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t modified_nanos = 0;
  friend bool operator==(const ProgramStamp&, const ProgramStamp&) = default;
};

absl::StatusOr<ProgramStamp> StampOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(ErrnoToStatus(errno, path).message()));
  }
  if (!S_ISREG(info.st_mode) || access(path.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not an executable file"));
  }
  return ProgramStamp{info.st_dev, info.st_ino, info.st_size,
                      info.st_mtim.tv_sec * int64_t{1000000000} + info.st_mtim.tv_nsec};
}

std::string FirstWords(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  return std::string(text.substr(0, 200));
}

// What the program says of itself.
struct Answers {
  ProgramStamp stamp;
  std::string version;
  std::string oci_version_max;
  bool is_crun = false;
  bool idmap_mounts = false;
  bool checkpoint = false;
  std::string features_json;
  bool complete = false;  // --version was answered
};

// nullopt: it was executed, and failed.
absl::StatusOr<std::optional<std::string>> Ask(const std::string& path, const std::string& question,
                                               CancelToken* cancel) {
  Command command;
  command.argv = {path, question};
  command.timeout = kProbeTimeout;
  const absl::StatusOr<CommandResult> result =
      RunCommand(command, /*input=*/"", kMaxAnswerBytes, cancel);
  if (absl::IsDeadlineExceeded(result.status())) {
    return absl::UnavailableError(absl::StrCat(path, " ", question, ": no answer within ",
                                               absl::FormatDuration(kProbeTimeout)));
  }
  if (absl::IsCancelled(result.status())) return result.status();
  if (!result.ok()) return absl::FailedPreconditionError(result.status().message());
  if (result->status.ok()) return result->out;
  LOG(INFO) << path << " " << question << ": " << result->status.ToString() << ": "
            << FirstWords(result->err);
  return std::nullopt;
}

absl::StatusOr<Answers> AskAll(const std::string& path, CancelToken* cancel) {
  Answers answers;
  GANTRY_ASSIGN_OR_RETURN(answers.stamp, StampOf(path));
  answers.oci_version_max = kOldestOciVersion;
  GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string> version, Ask(path, "--version", cancel));
  // Wrappers answer nothing, and what fails now may work for a container.
  answers.complete = version.has_value();
  // "crun version 1.8.1\ncommit: ...\nspec: 1.0.0\n", "runc version 1.1.5+ds1\n...spec:
  // 1.0.2-dev\n"
  const std::vector<std::string> lines = absl::StrSplit(version.value_or(""), '\n');
  std::vector<std::string> words = absl::StrSplit(lines[0], ' ', absl::SkipEmpty());
  if (words.size() < 2) words = {"", ""};
  answers.is_crun = words[0] == "crun";
  answers.version = words.back();
  for (absl::string_view line : lines) {
    if (absl::ConsumePrefix(&line, "spec: ")) answers.oci_version_max = std::string(line);
    if (absl::StrContains(line, "+CRIU")) answers.checkpoint = true;
  }
  // crun lists what it was built with; runc always has the verb. crun mounts id-mapped since long
  // before it says so.
  if (words[0] == "runc") answers.checkpoint = true;
  answers.idmap_mounts = answers.is_crun;

  GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string> features, Ask(path, "features", cancel));
  if (!features.has_value()) return answers;  // an older runtime without the verb
  const nlohmann::json in = nlohmann::json::parse(*features, nullptr, /*allow_exceptions=*/false);
  if (!in.is_object()) return answers;
  answers.features_json = *features;
  if (in.contains("ociVersionMax") && in["ociVersionMax"].is_string()) {
    answers.oci_version_max = in["ociVersionMax"].get<std::string>();
  }
  const nlohmann::json::json_pointer idmap("/linux/mountExtensions/idmap/enabled");
  if (in.contains(idmap) && in[idmap].is_boolean()) answers.idmap_mounts = in[idmap].get<bool>();
  return answers;
}

}  // namespace

absl::string_view CgroupLayoutName(CgroupLayout layout) {
  switch (layout) {
    case CgroupLayout::kV1:
      return "v1";
    case CgroupLayout::kHybrid:
      return "hybrid";
    case CgroupLayout::kUnified:
      return "v2";
  }
  return "";
}

absl::StatusOr<CgroupHost> ReadCgroupHost(const std::string& root) {
  const std::string base = root == "/" ? "" : root;
  CgroupHost host;
  host.systemd = access((base + "/run/systemd/system").c_str(), F_OK) == 0;

  // mountinfo tells what statfs would, and can be given by a test.
  GANTRY_ASSIGN_OR_RETURN(const std::string mountinfo,
                          ReadFile(base + "/proc/self/mountinfo", 16 << 20));
  bool unified_at_top = false;
  bool v2_beside_v1 = false;
  std::set<std::string> v1_options;
  for (const absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] == "cgroup2") {
      if (left[4] == "/sys/fs/cgroup") unified_at_top = true;
      if (left[4] == "/sys/fs/cgroup/unified") v2_beside_v1 = true;
    }
    if (right[0] == "cgroup" && absl::StartsWith(left[4], "/sys/fs/cgroup/")) {
      for (const absl::string_view option : absl::StrSplit(right[2], ',')) {
        v1_options.emplace(option);
      }
    }
  }
  if (unified_at_top) {
    host.layout = CgroupLayout::kUnified;
    return host;
  }
  if (!v2_beside_v1) return host;

  // A controller that no v1 mount shows is in the v2 tree, or in a hierarchy that is mounted
  // nowhere, or on its way between the two; which of them changes with every container that starts
  // or ends. All three ask for the same.
  GANTRY_ASSIGN_OR_RETURN(const std::string controllers, ReadFile(base + "/proc/cgroups", 1 << 16));
  for (const absl::string_view line : absl::StrSplit(controllers, '\n')) {
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (fields.size() != 4 || fields[3] != "1") continue;
    const bool both_kinds =
        std::find(std::begin(kBothKinds), std::end(kBothKinds), fields[0]) != std::end(kBothKinds);
    if (both_kinds && v1_options.count(std::string(fields[0])) == 0) {
      host.unmounted_v1_controllers.emplace_back(fields[0]);
    }
  }
  if (!host.unmounted_v1_controllers.empty()) host.layout = CgroupLayout::kHybrid;
  return host;
}

shim::v1::Runtime RuntimeInfo::ForShim(absl::string_view ns) const {
  shim::v1::Runtime out;
  out.set_name(name);
  out.set_path(path);
  out.set_state_root(absl::StrCat(state_root, "/", ns));
  out.set_systemd_cgroup(systemd_cgroup);
  out.set_no_pivot_root(no_pivot_root);
  out.set_no_new_keyring(no_new_keyring);
  for (const std::string& controller : mount_v1_controllers) {
    out.add_mount_v1_controllers(controller);
  }
  return out;
}

absl::StatusOr<std::string> ChooseAuto(const AutoInputs& inputs, std::string* reason) {
  const std::string layout(CgroupLayoutName(inputs.host.layout));
  if (!inputs.have_crun && !inputs.have_runc) {
    return absl::NotFoundError(
        "no OCI runtime: neither crun nor runc is in PATH; install the package crun or runc, or "
        "name one under [runtimes] in the configuration");
  }
  if (!inputs.have_crun) {
    *reason = "crun is not installed";
    return "runc";
  }
  if (inputs.host.unmounted_v1_controllers.empty()) {
    *reason = absl::StrCat("crun works on cgroup ", layout);
    return "crun";
  }
  const std::string controllers = absl::StrJoin(inputs.host.unmounted_v1_controllers, ",");
  if (inputs.controllers_mountable) {
    *reason = absl::StrCat("crun works on cgroup ", layout, " with v1 ", controllers,
                           " mounted for each container");
    return "crun";
  }
  if (inputs.have_runc) {
    *reason = absl::StrCat("crun refuses cgroup ", layout, " with ", controllers,
                           " in the v2 tree, and it cannot be mounted as v1");
    return "runc";
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "crun refuses cgroup ", layout, " with ", controllers,
      " in the v2 tree, which cannot be mounted as v1 here; install the package runc"));
}

constexpr int kBusyAttempts = 40;
constexpr absl::Duration kBusyPause = absl::Milliseconds(25);

absl::StatusOr<UniqueFd> MountDetachedController(const std::string& controller) {
  const UniqueFd context(fsopen("cgroup", FSOPEN_CLOEXEC));
  if (!context.valid()) return ErrnoToStatus(errno, "fsopen cgroup");
  if (fsconfig(context.get(), FSCONFIG_SET_FLAG, controller.c_str(), nullptr, 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("mount cgroup v1 controller ", controller));
  }
  UniqueFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!mount.valid()) {
    return ErrnoToStatus(errno, absl::StrCat("mount cgroup v1 controller ", controller));
  }
  return mount;
}

struct RuntimeProbe::State {
  // Serialises probing, which runs programs; never taken while mu is held.
  absl::Mutex probe_mu ABSL_ACQUIRED_BEFORE(mu);

  absl::Mutex mu;
  std::map<std::string, RuntimeSettings> settings ABSL_GUARDED_BY(mu);
  std::string state_dir ABSL_GUARDED_BY(mu);
  std::string default_runtime ABSL_GUARDED_BY(mu);
  std::map<std::string, Answers> answers ABSL_GUARDED_BY(mu);  // by path
  std::optional<CgroupHost> host ABSL_GUARDED_BY(mu);
  std::map<std::string, UniqueFd> held ABSL_GUARDED_BY(mu);  // v1 controllers, detached mounts
  std::string last_choice ABSL_GUARDED_BY(mu);

  std::atomic<bool> waited = false;  // for a controller that stayed busy
  CancelToken stopping;              // a runtime that hangs does not hold up the daemon's end

  std::thread warm;

  absl::StatusOr<RuntimeInfo> Resolve(absl::string_view name);
  // The name of the runtime that a name of containerd's, or a path to a shim of its, stands for; ""
  // for the default.
  absl::StatusOr<std::string> NameFor(absl::string_view asked);
  bool Knows(const std::string& name);
  absl::StatusOr<std::string> Choose();
  absl::StatusOr<CgroupHost> Host();
  absl::Status Hold(const std::vector<std::string>& controllers);
};

absl::StatusOr<CgroupHost> RuntimeProbe::State::Host() {
  {
    absl::MutexLock lock(&mu);
    if (host.has_value()) return *host;
  }
  GANTRY_ASSIGN_OR_RETURN(CgroupHost found, ReadCgroupHost("/"));
  absl::MutexLock lock(&mu);
  host = found;
  return found;
}

absl::Status RuntimeProbe::State::Hold(const std::vector<std::string>& controllers) {
  for (const std::string& controller : controllers) {
    {
      absl::MutexLock lock(&mu);
      if (held.count(controller) > 0) continue;
    }
    absl::StatusOr<UniqueFd> mount = MountDetachedController(controller);
    // A daemon that has just been stopped had it mounted; the kernel takes a moment to take that
    // down. Waited for once: a controller that the v2 tree uses stays busy. Other errors do not
    // pass: without the right to mount (EPERM) there is nothing to wait for.
    for (int attempt = 0;
         attempt < kBusyAttempts && absl::IsFailedPrecondition(mount.status()) && !waited.load();
         ++attempt) {
      if (!stopping.Sleep(kBusyPause).ok()) break;
      mount = MountDetachedController(controller);
    }
    if (!mount.ok()) waited = true;
    GANTRY_RETURN_IF_ERROR(mount.status());
    absl::MutexLock lock(&mu);
    held.emplace(controller, *std::move(mount));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RuntimeProbe::State::Choose() {
  AutoInputs inputs;
  std::string crun_path;
  std::string runc_path;
  {
    absl::MutexLock lock(&mu);
    const auto crun = settings.find("crun");
    const auto runc = settings.find("runc");
    if (crun != settings.end()) crun_path = crun->second.path;
    if (runc != settings.end()) runc_path = runc->second.path;
  }
  const auto installed = [](const std::string& path) {
    return absl::StrContains(path, '/') ? access(path.c_str(), X_OK) == 0
                                        : !FindInPath(path).empty();
  };
  inputs.have_crun = installed(crun_path.empty() ? "crun" : crun_path);
  inputs.have_runc = installed(runc_path.empty() ? "runc" : runc_path);
  GANTRY_ASSIGN_OR_RETURN(inputs.host, Host());
  if (inputs.have_crun) {
    inputs.controllers_mountable = Hold(inputs.host.unmounted_v1_controllers).ok();
  }
  std::string reason;
  GANTRY_ASSIGN_OR_RETURN(std::string choice, ChooseAuto(inputs, &reason));
  absl::MutexLock lock(&mu);
  if (choice != last_choice) {
    LOG(INFO) << "runtime auto: " << choice << " (" << reason << ")";
    last_choice = choice;
  }
  return choice;
}

bool RuntimeProbe::State::Knows(const std::string& name) {
  absl::MutexLock lock(&mu);
  return name == "auto" || name == "crun" || name == "runc" || settings.count(name) > 0;
}

absl::StatusOr<std::string> RuntimeProbe::State::NameFor(absl::string_view asked) {
  std::string shim;
  if (absl::StartsWith(asked, "/")) {
    shim = std::string(asked.substr(asked.rfind('/') + 1));
    if (!absl::StartsWith(shim, kContainerdShim)) return std::string(asked);
  } else {
    const std::vector<std::string> parts = absl::StrSplit(asked, '.');
    if (parts.size() < 3 || Knows(std::string(asked))) return std::string(asked);
    if (asked == kRuntimeOfContainerd1) return std::string();
    // As containerd makes the name of the program: of the last two parts.
    const std::string& kind = parts[parts.size() - 2];
    shim = absl::StrCat(kContainerdShim, kind, "-", parts.back());
    if (absl::StartsWith(asked, "io.containerd.") && kind != "runc" && Knows(kind)) return kind;
  }
  if (shim == "containerd-shim-runc-v2" || shim == "containerd-shim-runc-v1") return std::string();
  const bool installed = absl::StartsWith(asked, "/")
                             ? access(std::string(asked).c_str(), F_OK) == 0
                             : !FindInPath(shim).empty();
  if (!installed) {
    return absl::FailedPreconditionError(absl::StrCat(
        "runtime \"", asked, "\" binary not installed \"", shim, "\": file does not exist"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "runtime \"", asked, "\": its program ", shim,
      " is a shim of containerd's; gantryd runs OCI runtimes with a shim of its own. Add one of "
      "that kind under [runtimes.NAME] in the configuration"));
}

absl::StatusOr<RuntimeInfo> RuntimeProbe::State::Resolve(absl::string_view asked) {
  GANTRY_ASSIGN_OR_RETURN(std::string name, NameFor(asked));
  std::string directory;
  RuntimeSettings chosen;
  {
    absl::MutexLock lock(&mu);
    if (name.empty()) name = default_runtime;
    directory = state_dir;
  }
  if (name == "auto") {
    GANTRY_ASSIGN_OR_RETURN(name, Choose());
  }
  std::string path;
  if (absl::StartsWith(name, "/")) {
    path = name;
    name = name.substr(name.rfind('/') + 1);
  } else {
    absl::MutexLock lock(&mu);
    const auto it = settings.find(name);
    if (it != settings.end()) {
      chosen = it->second;
    } else if (name != "crun" && name != "runc") {
      std::vector<std::string> known = {"auto", "crun", "runc"};
      for (const auto& [other, unused] : settings) {
        if (other != "crun" && other != "runc") known.push_back(other);
      }
      return absl::NotFoundError(absl::StrCat("no runtime \"", name,
                                              "\"; known: ", absl::StrJoin(known, ", "),
                                              "; add [runtimes.", name, "] to the configuration"));
    }
    path = chosen.path;
  }
  // A configuration may name a program, as containerd's BinaryName may.
  const std::string program = path.empty() ? name : path;
  if (!absl::StrContains(program, '/')) path = FindInPath(program);
  if (path.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "runtime ", name, ": no program ", program,
        " in PATH; install the package that has it, or set path under [runtimes.", name, "]"));
  }
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) path = resolved;

  const std::string what = absl::StrCat("runtime ", name);
  const absl::StatusOr<ProgramStamp> stamp = StampOf(path);
  if (!stamp.ok()) return WithContext(stamp.status(), what);
  Answers answers;
  bool known = false;
  {
    absl::MutexLock lock(&mu);
    const auto it = this->answers.find(path);
    if (it != this->answers.end() && it->second.stamp == *stamp) {
      answers = it->second;
      known = true;
    }
  }
  if (!known) {
    absl::StatusOr<Answers> asked_now = AskAll(path, &stopping);
    if (!asked_now.ok()) return WithContext(asked_now.status(), what);
    answers = *std::move(asked_now);
    absl::MutexLock lock(&mu);
    if (answers.complete) this->answers[path] = answers;
  }

  RuntimeInfo info;
  info.name = name;
  info.path = path;
  info.version = answers.version;
  info.state_root =
      chosen.state_root.empty() ? absl::StrCat(directory, "/runtime/", name) : chosen.state_root;
  info.oci_version_max = answers.oci_version_max;
  info.is_crun = answers.is_crun;
  info.idmap_mounts = answers.idmap_mounts;
  info.checkpoint = answers.checkpoint;
  info.features_json = answers.features_json;
  info.systemd_cgroup = chosen.systemd_cgroup;
  info.no_pivot_root = chosen.no_pivot_root;
  info.no_new_keyring = chosen.no_new_keyring;
  if (info.is_crun) {
    GANTRY_ASSIGN_OR_RETURN(const CgroupHost here, Host());
    if (Hold(here.unmounted_v1_controllers).ok()) {
      info.mount_v1_controllers = here.unmounted_v1_controllers;
    }
  }
  return info;
}

RuntimeProbe::RuntimeProbe(std::map<std::string, RuntimeSettings> configured, std::string state_dir,
                           std::string default_runtime)
    : state_(std::make_unique<State>()) {
  absl::MutexLock lock(&state_->mu);
  state_->settings = std::move(configured);
  state_->state_dir = std::move(state_dir);
  state_->default_runtime = default_runtime.empty() ? "auto" : std::move(default_runtime);
}

RuntimeProbe::~RuntimeProbe() {
  state_->stopping.Cancel("the daemon stops");
  if (state_->warm.joinable()) state_->warm.join();
}

void RuntimeProbe::Warm() {
  if (state_->warm.joinable()) return;
  // A failure is reported to the first call that needs a runtime.
  state_->warm = std::thread([this] { (void)Resolve(""); });
}

absl::StatusOr<RuntimeInfo> RuntimeProbe::Resolve(absl::string_view name) {
  absl::MutexLock probing(&state_->probe_mu);
  return state_->Resolve(name);
}

absl::StatusOr<RuntimeInfo> RuntimeProbe::ResolveForContainerd(absl::string_view name,
                                                               absl::string_view binary) {
  absl::MutexLock probing(&state_->probe_mu);
  if (binary.empty()) return state_->Resolve(name);
  GANTRY_ASSIGN_OR_RETURN(const std::string named, state_->NameFor(name));
  // Options of runc's kind for another runtime: that one was asked for.
  if (!named.empty()) return state_->Resolve(named);
  if (absl::StartsWith(binary, "/") || state_->Knows(std::string(binary)))
    return state_->Resolve(binary);
  const std::string path = FindInPath(std::string(binary));
  if (path.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("runtime option BinaryName \"", binary,
                     "\" binary not installed: ", "executable file not found in $PATH"));
  }
  return state_->Resolve(path);
}

void RuntimeProbe::Reconfigure(std::map<std::string, RuntimeSettings> configured,
                               std::string default_runtime) {
  absl::MutexLock lock(&state_->mu);
  state_->settings = std::move(configured);
  state_->default_runtime = default_runtime.empty() ? "auto" : std::move(default_runtime);
  state_->answers.clear();
  state_->host.reset();
  state_->last_choice.clear();
}

std::vector<std::string> RuntimeProbe::names() const {
  absl::MutexLock lock(&state_->mu);
  std::set<std::string> names = {"crun", "runc"};
  for (const auto& [name, unused] : state_->settings) names.insert(name);
  return {names.begin(), names.end()};
}

absl::StatusOr<CgroupHost> RuntimeProbe::cgroup_host() const { return state_->Host(); }

}  // namespace gantry::runtime
