#include "supervisor/core/mount_plan.h"

#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::core {
namespace {

constexpr absl::string_view kMkdirPrefix = "X-containerd.mkdir.";
constexpr absl::string_view kMkfsPrefix = "X-containerd.mkfs.";

std::optional<MountStep> StepNamed(absl::string_view name) {
  if (name == "format") return MountStep::kFormat;
  if (name == "mkdir") return MountStep::kMkdir;
  if (name == "mkfs") return MountStep::kMkfs;
  return std::nullopt;
}

absl::Status Malformed(absl::string_view what, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("mount activation: ", what, " \"", text, "\""));
}

// What "name N [M]" stands for.
absl::StatusOr<std::string> ValueOf(absl::string_view expression,
                                    const std::vector<ActiveMount>& before) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(expression, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  std::vector<size_t> numbers;
  for (size_t i = 1; i < words.size(); ++i) {
    size_t number = 0;
    if (!absl::SimpleAtoi(words[i], &number)) return Malformed("malformed template", expression);
    if (number >= before.size()) {
      return absl::InvalidArgumentError(absl::StrCat("mount activation: template \"", expression,
                                                     "\": there are ", before.size(),
                                                     " mounts before this one"));
    }
    numbers.push_back(number);
  }
  if (words.size() == 2) {
    const ActiveMount& mount = before[numbers[0]];
    if (words[0] == "source") return mount.mount.source;
    if (words[0] == "target") return mount.mount.target;
    if (words[0] == "mount") return mount.mount_point;
  }
  if (words.size() == 3 && words[0] == "overlay") {
    std::vector<std::string> directories;
    const auto [from, to] = std::pair(numbers[0], numbers[1]);
    const size_t count = (from > to ? from - to : to - from) + 1;
    for (size_t i = 0; i < count; ++i)
      directories.push_back(before[from > to ? from - i : from + i].mount_point);
    return absl::StrJoin(directories, ":");
  }
  return Malformed("unknown template", expression);
}

absl::Status Format(std::string& text, const std::vector<ActiveMount>& before) {
  size_t at = 0;
  while ((at = text.find("{{", at)) != std::string::npos) {
    const size_t end = text.find("}}", at);
    if (end == std::string::npos) return Malformed("template without end", text);
    GANTRY_ASSIGN_OR_RETURN(const std::string value,
                            ValueOf(text.substr(at + 2, end - at - 2), before));
    text.replace(at, end + 2 - at, value);
    at += value.size();
  }
  return absl::OkStatus();
}

// "64MiB", "1g", "4096": powers of 1024, as docker reads sizes of memory.
std::optional<int64_t> Bytes(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits]))) ++digits;
  int64_t number = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &number)) return std::nullopt;
  std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(digits)));
  if (absl::EndsWith(unit, "ib")) unit.resize(unit.size() - 2);
  if (absl::EndsWith(unit, "b")) unit.resize(unit.size() - 1);
  constexpr absl::string_view kUnits = "kmgt";
  int shift = 0;
  if (!unit.empty()) {
    const size_t place = unit.size() == 1 ? kUnits.find(unit[0]) : absl::string_view::npos;
    if (place == absl::string_view::npos) return std::nullopt;
    shift = 10 * static_cast<int>(place + 1);
  }
  if (number > (INT64_MAX >> shift)) return std::nullopt;
  return number << shift;
}

}  // namespace

MountPlan PlanMounts(const std::vector<snapshot::Mount>& mounts, bool temporary) {
  MountPlan plan;
  plan.steps.resize(mounts.size());
  for (size_t i = 0; i < mounts.size(); ++i) {
    absl::string_view type = mounts[i].type;
    for (size_t slash = type.find('/'); slash != absl::string_view::npos; slash = type.find('/')) {
      const std::optional<MountStep> step = StepNamed(type.substr(0, slash));
      if (!step.has_value()) break;  // the kernel's own business: it will refuse the type
      plan.steps[i].push_back(*step);
      // It needs what is before it, and is then the client's.
      plan.performed = i;
      type.remove_prefix(slash + 1);
    }
    plan.types.emplace_back(type);
    if (type == "loop" || temporary) plan.performed = i + 1;
  }
  return plan;
}

absl::StatusOr<snapshot::Mount> FormatMount(snapshot::Mount mount,
                                            const std::vector<ActiveMount>& before) {
  GANTRY_RETURN_IF_ERROR(Format(mount.source, before));
  GANTRY_RETURN_IF_ERROR(Format(mount.target, before));
  for (std::string& option : mount.options) GANTRY_RETURN_IF_ERROR(Format(option, before));
  return mount;
}

absl::StatusOr<std::vector<MkdirOption>> TakeMkdirOptions(snapshot::Mount& mount) {
  std::vector<MkdirOption> taken;
  std::vector<std::string> rest;
  for (const std::string& option : mount.options) {
    absl::string_view value = option;
    if (!absl::ConsumePrefix(&value, kMkdirPrefix)) {
      rest.push_back(option);
      continue;
    }
    if (!absl::ConsumePrefix(&value, "path=")) return Malformed("unknown option", option);
    const std::vector<std::string> parts = absl::StrSplit(value, ':');
    MkdirOption made;
    made.path = parts[0];
    if (made.path.empty() || parts.size() == 3 || parts.size() > 4)
      return Malformed("malformed option", option);
    if (parts.size() > 1) {
      int mode = 0;
      for (const char digit : parts[1]) {
        if (digit < '0' || digit > '7' || mode > 0777)
          return Malformed("malformed mode in", option);
        mode = mode * 8 + (digit - '0');
      }
      if (parts[1].empty() || mode > 0777) return Malformed("malformed mode in", option);
      made.mode = static_cast<mode_t>(mode);
    }
    if (parts.size() == 4) {
      uid_t uid = 0;
      gid_t gid = 0;
      if (!absl::SimpleAtoi(parts[2], &uid) || !absl::SimpleAtoi(parts[3], &gid))
        return Malformed("malformed owner in", option);
      made.uid = uid;
      made.gid = gid;
    }
    taken.push_back(std::move(made));
  }
  mount.options = std::move(rest);
  return taken;
}

absl::StatusOr<MkfsOption> TakeMkfsOption(snapshot::Mount& mount) {
  MkfsOption taken;
  std::vector<std::string> rest;
  for (const std::string& option : mount.options) {
    absl::string_view value = option;
    if (!absl::ConsumePrefix(&value, kMkfsPrefix)) {
      rest.push_back(option);
    } else if (absl::ConsumePrefix(&value, "size=")) {
      const std::optional<int64_t> bytes = Bytes(value);
      if (!bytes.has_value()) return Malformed("malformed size in", option);
      taken.size_bytes = *bytes;
    } else if (absl::ConsumePrefix(&value, "fs=")) {
      if (value != "ext2" && value != "ext3" && value != "ext4" && value != "xfs")
        return Malformed("unsupported file system in", option);
      taken.file_system = std::string(value);
    } else if (absl::ConsumePrefix(&value, "uuid=")) {
      taken.uuid = std::string(value);
    } else {
      return Malformed("unknown option", option);
    }
  }
  if (taken.size_bytes <= 0)
    return absl::InvalidArgumentError("mount activation: mkfs needs X-containerd.mkfs.size");
  mount.options = std::move(rest);
  return taken;
}

}  // namespace gantry::core
