#include "supervisor/oci/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace gantry::oci {
namespace {

using content::Platform;

bool IsKnownOs(absl::string_view os) {
  static constexpr const char* kOs[] = {"linux",   "windows", "darwin",    "freebsd", "netbsd",
                                        "openbsd", "solaris", "dragonfly", "aix",     "android",
                                        "illumos", "ios",     "js",        "plan9",   "wasip1"};
  return std::find(std::begin(kOs), std::end(kOs), os) != std::end(kOs);
}

bool IsWord(absl::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  });
}

// Variants a machine of `platform` can run, best first.
std::vector<Platform> WithFallbacks(const Platform& platform) {
  std::vector<Platform> out = {platform};
  const auto add = [&](absl::string_view arch, absl::string_view variant) {
    Platform p = platform;
    p.architecture = std::string(arch);
    p.variant = std::string(variant);
    out.push_back(std::move(p));
  };
  const auto add_arm_below = [&](int version) {
    for (int v = version; v >= 5; --v) add("arm", absl::StrCat("v", v));
  };
  if (platform.architecture == "amd64" && platform.variant.size() == 2 &&
      platform.variant[0] == 'v') {
    for (int v = platform.variant[1] - '0' - 1; v >= 2; --v) add("amd64", absl::StrCat("v", v));
    add("amd64", "");
  } else if (platform.architecture == "arm" && platform.variant.size() == 2 &&
             platform.variant[0] == 'v') {
    add_arm_below(platform.variant[1] - '0' - 1);
  } else if (platform.architecture == "arm64") {
    if (!platform.variant.empty()) add("arm64", "");
    add_arm_below(8);
  }
  return out;
}

Platform ProbeHost() {
  Platform host;
  host.os = "linux";
  utsname names{};
  host.architecture = uname(&names) == 0 ? names.machine : "x86_64";
  host = NormalizePlatform(std::move(host));
#if defined(__x86_64__)
  // What tells the levels of the x86-64 psABI apart; the rest of each level came with it.
  const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  host.variant = v4 ? "v4" : v3 ? "v3" : v2 ? "v2" : "";
#endif
  return host;
}

}  // namespace

Platform NormalizePlatform(Platform p) {
  absl::AsciiStrToLower(&p.os);
  absl::AsciiStrToLower(&p.architecture);
  absl::AsciiStrToLower(&p.variant);
  if (p.os == "macos") p.os = "darwin";
  if (p.architecture == "x86_64" || p.architecture == "x86-64") p.architecture = "amd64";
  if (p.architecture == "i386" || p.architecture == "i686" || p.architecture == "x86")
    p.architecture = "386";
  if (p.architecture == "aarch64") p.architecture = "arm64";
  if (p.architecture == "armhf" || p.architecture == "armv7l") {
    p.architecture = "arm";
    p.variant = "v7";
  } else if (p.architecture == "armel" || p.architecture == "armv6l") {
    p.architecture = "arm";
    p.variant = "v6";
  }
  if (p.architecture == "amd64" && (p.variant == "v1" || p.variant == "1")) p.variant.clear();
  if (p.architecture == "386") p.variant.clear();
  if (p.architecture == "arm64" && (p.variant == "v8" || p.variant == "8" || p.variant == "v8.0")) {
    p.variant.clear();
  }
  if (p.architecture == "arm" && p.variant.empty()) p.variant = "v7";
  if (p.variant.size() == 1 && absl::ascii_isdigit(static_cast<unsigned char>(p.variant[0]))) {
    p.variant.insert(p.variant.begin(), 'v');
  }
  return p;
}

absl::StatusOr<Platform> ParsePlatform(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  const bool words =
      std::all_of(parts.begin(), parts.end(), [](const std::string& s) { return IsWord(s); });
  if (!words || parts.size() > 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("platform \"", text, "\": expected os, arch, os/arch or os/arch/variant"));
  }
  Platform p;
  if (parts.size() == 1) {
    Platform one;
    one.os = parts[0];
    one = NormalizePlatform(std::move(one));
    if (IsKnownOs(one.os)) {
      p = HostPlatform();
      p.os = one.os;
      return p;
    }
    p.os = HostPlatform().os;
    p.architecture = parts[0];
    return NormalizePlatform(std::move(p));
  }
  p.os = parts[0];
  p.architecture = parts[1];
  if (parts.size() == 3) p.variant = parts[2];
  p = NormalizePlatform(std::move(p));
  if (!IsKnownOs(p.os)) {
    return absl::InvalidArgumentError(
        absl::StrCat("platform \"", text, "\": unknown system ", p.os));
  }
  return p;
}

std::string FormatPlatform(const Platform& p) {
  std::vector<absl::string_view> parts;
  for (const std::string* part : {&p.os, &p.architecture, &p.variant}) {
    if (!part->empty()) parts.push_back(*part);
  }
  return absl::StrJoin(parts, "/");
}

const Platform& HostPlatform() {
  static const Platform host = ProbeHost();
  return host;
}

PlatformMatcher PlatformMatcher::All() {
  PlatformMatcher matcher;
  matcher.description_ = "all";
  return matcher;
}

PlatformMatcher PlatformMatcher::Only(const Platform& platform) { return AnyOf({platform}); }

PlatformMatcher PlatformMatcher::AnyOf(const std::vector<Platform>& platforms) {
  if (platforms.empty()) return All();
  PlatformMatcher matcher;
  for (const Platform& platform : platforms) {
    const Platform normal = NormalizePlatform(platform);
    for (Platform& p : WithFallbacks(normal)) matcher.wanted_.push_back(std::move(p));
    absl::StrAppend(&matcher.description_, matcher.description_.empty() ? "" : ", ",
                    FormatPlatform(normal));
  }
  return matcher;
}

int PlatformMatcher::Rank(const Platform& platform) const {
  if (wanted_.empty()) return 0;
  const Platform p = NormalizePlatform(platform);
  for (size_t i = 0; i < wanted_.size(); ++i) {
    const Platform& w = wanted_[i];
    if (w.os == p.os && w.architecture == p.architecture && w.variant == p.variant) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

std::string PlatformMatcher::Describe() const { return description_; }

std::vector<content::Descriptor> SelectManifests(const std::vector<content::Descriptor>& manifests,
                                                 const PlatformMatcher& matcher) {
  std::vector<std::pair<int, const content::Descriptor*>> ranked;
  for (const content::Descriptor& d : manifests) {
    auto type = d.annotations.find("vnd.docker.reference.type");
    if (type != d.annotations.end() && type->second == "attestation-manifest") continue;
    const int rank = d.platform.has_value() ? matcher.Rank(*d.platform) : 1 << 20;
    if (rank >= 0) ranked.emplace_back(rank, &d);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<content::Descriptor> out;
  out.reserve(ranked.size());
  for (const auto& [rank, descriptor] : ranked) out.push_back(*descriptor);
  return out;
}

}  // namespace gantry::oci
