#include "supervisor/core/container_names.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace gantry::core {

absl::Status CheckContainerName(absl::string_view name) {
  constexpr size_t kMaxLength = 255;
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-';
  };
  if (name.size() >= 2 && name.size() <= kMaxLength && absl::ascii_isalnum(name[0]) &&
      std::all_of(name.begin(), name.end(), allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("Invalid container name (", absl::CHexEscape(name.substr(0, 64)),
                   name.size() > 64 ? "..." : "",
                   "), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, 2 to ", kMaxLength, " of them"));
}

std::string MakeUpName(uint64_t random) {
  static constexpr const char* kFirst[] = {
      "amber",   "brisk",  "calm",   "copper",  "crisp",  "dapper", "eager",  "early",
      "fleet",   "gentle", "golden", "handy",   "humble", "ivory",  "jolly",  "keen",
      "level",   "lively", "lucid",  "mellow",  "merry",  "modest", "nimble", "noble",
      "patient", "plucky", "polite", "proud",   "quick",  "quiet",  "rapid",  "ready",
      "rosy",    "sandy",  "silver", "sincere", "sober",  "solid",  "sunny",  "sturdy",
      "swift",   "tidy",   "upbeat", "vivid",   "warm",   "wise",   "witty",  "zesty"};
  static constexpr const char* kSecond[] = {
      "anchor",  "barge",   "beacon",  "bollard", "bridge",  "buoy",    "cable",   "canal",
      "capstan", "cargo",   "compass", "crane",   "davit",   "derrick", "dock",    "ferry",
      "girder",  "gulf",    "hangar",  "harbor",  "hoist",   "hull",    "jetty",   "keel",
      "ladder",  "lantern", "lever",   "lock",    "mast",    "mooring", "pallet",  "pier",
      "piston",  "pulley",  "quay",    "rigger",  "rudder",  "sextant", "shackle", "sling",
      "spindle", "strait",  "tackle",  "tender",  "trolley", "tugboat", "wharf",   "winch"};
  return absl::StrCat(kFirst[random % std::size(kFirst)], "_",
                      kSecond[(random >> 16) % std::size(kSecond)]);
}

}  // namespace gantry::core
