#include "ctl/option_files.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadAssignments(
    const std::string& path, bool labels, const std::map<std::string, std::string>& environment) {
  GANTRY_ASSIGN_OR_RETURN(std::string content, ReadFile(path, kMaxFileBytes));
  absl::string_view text = content;
  absl::ConsumePrefix(&text, "\xEF\xBB\xBF");
  std::vector<std::string> assignments;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    absl::ConsumeSuffix(&line, "\r");
    line = absl::StripLeadingAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const absl::string_view name = line.substr(0, line.find('='));
    if (name.empty() || name.find_first_of(" \t") != name.npos) {
      return absl::InvalidArgumentError(absl::StrCat(path, ", line ", number, ": the name \"", name,
                                                     "\" is empty or has a space in it"));
    }
    if (absl::StrContains(line, "=") || labels) {
      assignments.push_back(std::string(line));
      continue;
    }
    // A bare name is left out when ctl's environment does not have it.
    const auto it = environment.find(std::string(name));
    if (it != environment.end()) assignments.push_back(absl::StrCat(name, "=", it->second));
  }
  return assignments;
}

absl::StatusOr<std::string> ParseSecurityOption(absl::string_view text) {
  absl::string_view rest = text;
  if (!absl::ConsumePrefix(&rest, "seccomp=") && !absl::ConsumePrefix(&rest, "seccomp:")) {
    return std::string(text);
  }
  if (rest == "unconfined" || rest == "builtin") return absl::StrCat("seccomp=", rest);
  auto profile = ReadFile(std::string(rest), kMaxFileBytes);
  if (!profile.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("seccomp profile ", rest, ": ", profile.status().message()));
  }
  return absl::StrCat("seccomp=", *profile);
}

}  // namespace gantry::ctl
