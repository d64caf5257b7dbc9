#include "supervisor/oci/host_facts.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/unique_fd.h"
#include "supervisor/oci/platform.h"

namespace gantry::oci {
namespace {

constexpr long kCgroup2Magic = 0x63677270;

constexpr std::pair<const char*, int> kLimits[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

std::string ReadSmall(const char* path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

// Having the capability is not enough inside a user namespace, so try: raise the limit that is
// nearly always finite, put it back.
bool TryRaiseRlimit() {
  rlimit old{};
  if (getrlimit(RLIMIT_NICE, &old) != 0 || old.rlim_max == RLIM_INFINITY) return true;
  rlimit raised = old;
  raised.rlim_max += 1;
  if (setrlimit(RLIMIT_NICE, &raised) != 0) return false;
  setrlimit(RLIMIT_NICE, &old);
  return true;
}

bool WriteOomScore(int value) {
  UniqueFd fd(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  const std::string text = absl::StrCat(value);
  return fd.valid() &&
         write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// The root of the hierarchy never has the file; any cgroup below it shows what all have. With none
// below, assume the best.
bool HasBlockWeight() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/fs/cgroup/blkio", ignored)) {
    if (!entry.is_directory(ignored)) continue;
    return std::filesystem::exists(entry.path() / "blkio.weight", ignored);
  }
  return true;
}

// Where runtimes look for it, which need not be where it is mounted.
bool HasHugetlb(bool cgroup_v2) {
  if (cgroup_v2) {
    const std::string controllers = ReadSmall("/sys/fs/cgroup/cgroup.controllers");
    return absl::StrContains(absl::StrCat(" ", absl::StripAsciiWhitespace(controllers), " "),
                             " hugetlb ");
  }
  std::error_code ignored;
  return std::filesystem::exists("/sys/fs/cgroup/hugetlb", ignored);
}

}  // namespace

HostFacts HostFacts::Probe() {
  HostFacts facts;
  facts.architecture = HostPlatform().architecture;
  utsname names{};
  if (uname(&names) == 0)
    std::sscanf(names.release, "%d.%d", &facts.kernel_major, &facts.kernel_minor);

  int number = 0;
  if (absl::SimpleAtoi(ReadSmall("/proc/sys/kernel/cap_last_cap"), &number))
    facts.last_capability = number;
  const std::string status = ReadSmall("/proc/self/status");
  if (size_t at = status.find("\nCapBnd:\t"); at != std::string::npos) {
    facts.bounding_capabilities = std::strtoull(status.c_str() + at + 9, nullptr, 16);
  }

  struct statfs fs {};
  facts.cgroup_v2 = statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == kCgroup2Magic;
  facts.no_apparmor = !absl::StartsWith(ReadSmall("/sys/module/apparmor/parameters/enabled"), "Y");
  // Naming a profile that is not loaded makes the runtime fail, so the switch alone is not enough.
  facts.apparmor =
      absl::StartsWith(ReadSmall("/sys/module/apparmor/parameters/enabled"), "Y") &&
      absl::StrContains(ReadSmall("/sys/kernel/security/apparmor/profiles"), "docker-default (");

  facts.selinux = access("/sys/fs/selinux/enforce", F_OK) == 0;

  for (const auto& [name, which] : kLimits) {
    rlimit limit{};
    if (getrlimit(which, &limit) == 0) {
      facts.hard_rlimits[name] = limit.rlim_max == RLIM_INFINITY ? ~uint64_t{0} : limit.rlim_max;
    }
  }
  facts.may_raise_rlimits = TryRaiseRlimit();
  if (absl::SimpleAtoi(ReadSmall("/proc/self/oom_score_adj"), &number)) {
    facts.own_oom_score_adj = number;
    if (number > -1000) {
      facts.may_lower_oom_score = WriteOomScore(number - 1);
      if (facts.may_lower_oom_score) WriteOomScore(number);
    }
  }

  facts.block_io_weight = facts.cgroup_v2 || HasBlockWeight();
  facts.hugetlb = HasHugetlb(facts.cgroup_v2);
  facts.online_cpus =
      std::string(absl::StripAsciiWhitespace(ReadSmall("/sys/devices/system/cpu/online")));
  facts.online_memory_nodes =
      std::string(absl::StripAsciiWhitespace(ReadSmall("/sys/devices/system/node/online")));
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/devices/system/cpu", ignored)) {
    const std::string name = entry.path().filename().string();
    absl::string_view digits = name;
    if (!absl::ConsumePrefix(&digits, "cpu") || !absl::SimpleAtoi(digits, &number)) continue;
    const std::string path = absl::StrCat(entry.path().string(), "/thermal_throttle");
    if (std::filesystem::exists(path, ignored)) facts.thermal_throttle_paths.push_back(path);
  }
  return facts;
}

}  // namespace gantry::oci
