#include "supervisor/core/cgroup_use.h"

#include <unistd.h>

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/file.h"

namespace gantry::core {
namespace {

constexpr size_t kMostBytes = 1 << 20;
constexpr uint64_t kNanosPerMicro = 1000;

// "max" is no number.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMostBytes);
  uint64_t number = 0;
  if (!text.ok() || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &number))
    return std::nullopt;
  return number;
}

std::map<std::string, uint64_t> ReadCounters(const std::string& path) {
  std::map<std::string, uint64_t> counters;
  const absl::StatusOr<std::string> text = ReadFile(path, kMostBytes);
  if (!text.ok()) return counters;
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    uint64_t number = 0;
    if (words.size() == 2 && absl::SimpleAtoi(words[1], &number))
      counters[std::string(words[0])] = number;
  }
  return counters;
}

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same of "full".
std::optional<Pressure> ReadPressure(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMostBytes);
  if (!text.ok()) return std::nullopt;
  Pressure pressure;
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    Pressure::Wait& wait = words[0] == "full" ? pressure.full : pressure.some;
    for (absl::string_view word : words) {
      uint64_t micros = 0;
      if (absl::ConsumePrefix(&word, "avg10=")) {
        (void)absl::SimpleAtod(word, &wait.share_10);
      } else if (absl::ConsumePrefix(&word, "avg60=")) {
        (void)absl::SimpleAtod(word, &wait.share_60);
      } else if (absl::ConsumePrefix(&word, "avg300=")) {
        (void)absl::SimpleAtod(word, &wait.share_300);
      } else if (absl::ConsumePrefix(&word, "total=") && absl::SimpleAtoi(word, &micros)) {
        wait.total_nanos = micros * kNanosPerMicro;
      }
    }
  }
  return pressure;
}

Pressures PressuresIn(const std::string& directory) {
  Pressures all;
  all.cpu = ReadPressure(directory + "/cpu.pressure");
  all.memory = ReadPressure(directory + "/memory.pressure");
  all.io = ReadPressure(directory + "/io.pressure");
  return all;
}

bool IsV2(const std::string& mount) {
  return access((mount + "/cgroup.controllers").c_str(), F_OK) == 0;
}

CgroupUse ReadV2(const std::string& directory) {
  CgroupUse use;
  use.v2 = true;
  const std::map<std::string, uint64_t> cpu = ReadCounters(directory + "/cpu.stat");
  const auto micros = cpu.find("usage_usec");
  if (micros != cpu.end()) use.cpu_nanos = micros->second * kNanosPerMicro;
  use.memory_bytes = ReadNumber(directory + "/memory.current");
  use.memory_limit_bytes = ReadNumber(directory + "/memory.max").value_or(UINT64_MAX);
  use.memory_stat = ReadCounters(directory + "/memory.stat");
  use.tasks = ReadNumber(directory + "/pids.current");
  use.pressures = PressuresIn(directory);
  return use;
}

CgroupUse ReadV1(const std::string& mount, const std::string& path) {
  CgroupUse use;
  const std::string memory = absl::StrCat(mount, "/memory", path);
  use.cpu_nanos = ReadNumber(absl::StrCat(mount, "/cpuacct", path, "/cpuacct.usage"));
  use.memory_bytes = ReadNumber(memory + "/memory.usage_in_bytes");
  use.memory_limit_bytes = ReadNumber(memory + "/memory.limit_in_bytes").value_or(UINT64_MAX);
  use.memory_stat = ReadCounters(memory + "/memory.stat");
  use.tasks = ReadNumber(absl::StrCat(mount, "/pids", path, "/pids.current"));
  return use;
}

}  // namespace

std::string PathOfCgroup(absl::string_view parent) {
  if (absl::StrContains(parent, '/') || !absl::EndsWith(parent, ".slice")) {
    return absl::StartsWith(parent, "/") ? std::string(parent) : absl::StrCat("/", parent);
  }
  std::string path;
  for (size_t dash = parent.find('-'); dash != absl::string_view::npos;
       dash = parent.find('-', dash + 1))
    absl::StrAppend(&path, "/", parent.substr(0, dash), ".slice");
  return absl::StrCat(path, "/", parent);
}

std::optional<CgroupUse> ReadCgroupUse(absl::string_view parent, const std::string& mount) {
  const std::string path = PathOfCgroup(parent);
  // The root is the machine's, and a client's path stays below it.
  if (path == "/" || absl::StrContains(path, "..")) return std::nullopt;
  CgroupUse use = IsV2(mount) ? ReadV2(mount + path) : ReadV1(mount, path);
  if (!use.cpu_nanos.has_value() && !use.memory_bytes.has_value()) return std::nullopt;
  use.at = absl::Now();
  return use;
}

Pressures ReadPressures(pid_t pid, const std::string& mount) {
  if (!IsV2(mount)) return {};
  const absl::StatusOr<std::string> groups =
      ReadFile(absl::StrCat("/proc/", pid, "/cgroup"), kMostBytes);
  if (!groups.ok()) return {};  // it has ended
  for (absl::string_view line : absl::StrSplit(*groups, '\n')) {
    if (absl::ConsumePrefix(&line, "0::")) return PressuresIn(absl::StrCat(mount, line));
  }
  return {};
}

}  // namespace gantry::core
