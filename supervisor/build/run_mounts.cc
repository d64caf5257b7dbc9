#include "supervisor/build/run_mounts.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "supervisor/build/build_paths.h"
#include "supervisor/build/dockerfile_parser.h"

namespace gantry::build {
namespace {

// Fields of one line of CSV: a field that begins with a quote may hold commas, "" stands for one.
absl::StatusOr<std::vector<std::string>> Fields(absl::string_view text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        fields.back().push_back(c);
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        fields.back().push_back('"');
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"' && fields.back().empty()) {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else {
      fields.back().push_back(c);
    }
  }
  if (quoted) return absl::InvalidArgumentError("a quote is not closed");
  return fields;
}

absl::StatusOr<bool> Switch(const std::string& key, const std::string& value, bool bare) {
  if (bare || value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return absl::InvalidArgumentError(absl::StrCat("invalid value for ", key, ": ", value));
}

absl::StatusOr<uint32_t> Number(const std::string& key, const std::string& value, int base) {
  uint32_t number = 0;
  const bool good = base == 8 ? !value.empty() && value.size() < 8 &&
                                    value.find_first_not_of("01234567") == std::string::npos
                              : absl::SimpleAtoi(value, &number);
  if (!good)
    return absl::InvalidArgumentError(absl::StrCat("invalid value for ", key, ": ", value));
  if (base == 8) number = static_cast<uint32_t>(std::stoul(value, nullptr, 8));
  return number;
}

absl::Status SetType(const std::string& value, RunMount& mount) {
  static const std::vector<std::pair<std::string, RunMount::Type>> kTypes = {
      {"bind", RunMount::Type::kBind},
      {"cache", RunMount::Type::kCache},
      {"tmpfs", RunMount::Type::kTmpfs},
      {"secret", RunMount::Type::kSecret},
      {"ssh", RunMount::Type::kSsh}};
  std::vector<std::string> names;
  for (const auto& [name, type] : kTypes) {
    names.push_back(name);
    if (value == name) {
      mount.type = type;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unsupported mount type \"", value, "\"", DidYouMean(value, names)));
}

absl::Status SetSharing(const std::string& value, RunMount& mount) {
  if (value == "shared") {
    mount.sharing = RunMount::Sharing::kShared;
  } else if (value == "private") {
    mount.sharing = RunMount::Sharing::kPrivate;
  } else if (value == "locked") {
    mount.sharing = RunMount::Sharing::kLocked;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("unsupported sharing value \"", value, "\"",
                     DidYouMean(value, {"shared", "private", "locked"})));
  }
  return absl::OkStatus();
}

// One key. False: there is no such key for this type.
absl::StatusOr<bool> SetKey(const std::string& key, const std::string& value, bool bare,
                            RunMount& mount) {
  using Type = RunMount::Type;
  const bool file = mount.type == Type::kSecret || mount.type == Type::kSsh;
  if (key == "target" || key == "dst" || key == "destination") {
    mount.target = value;
  } else if ((key == "source" || key == "src") && !file && mount.type != Type::kTmpfs) {
    mount.source = value;
  } else if ((key == "source" || key == "src" || key == "id") && mount.type == Type::kSecret) {
    mount.id = value;
  } else if (key == "id" && (mount.type == Type::kCache || mount.type == Type::kSsh)) {
    mount.id = value;
  } else if (key == "from" && !file && mount.type != Type::kTmpfs) {
    mount.from = value;
  } else if ((key == "ro" || key == "readonly") && !file) {
    GANTRY_ASSIGN_OR_RETURN(mount.read_only, Switch(key, value, bare));
  } else if ((key == "rw" || key == "readwrite") && !file) {
    GANTRY_ASSIGN_OR_RETURN(const bool writable, Switch(key, value, bare));
    mount.read_only = !writable;
  } else if (key == "required" && file) {
    GANTRY_ASSIGN_OR_RETURN(mount.required, Switch(key, value, bare));
  } else if (key == "sharing" && mount.type == Type::kCache) {
    GANTRY_RETURN_IF_ERROR(SetSharing(value, mount));
  } else if (key == "env" && mount.type == Type::kSecret) {
    mount.environment = value;
  } else if (key == "size" && mount.type == Type::kTmpfs) {
    absl::StatusOr<int64_t> size = engine::ParseBytes(value);
    if (!size.ok())
      return absl::InvalidArgumentError(absl::StrCat("invalid value for size: ", value));
    mount.size_bytes = *size;
  } else if (key == "mode" && (file || mount.type == Type::kCache)) {
    GANTRY_ASSIGN_OR_RETURN(mount.mode, Number(key, value, 8));
  } else if (key == "uid" && (file || mount.type == Type::kCache)) {
    GANTRY_ASSIGN_OR_RETURN(mount.uid, Number(key, value, 10));
  } else if (key == "gid" && (file || mount.type == Type::kCache)) {
    GANTRY_ASSIGN_OR_RETURN(mount.gid, Number(key, value, 10));
  } else {
    return false;
  }
  return true;
}

absl::Status Complete(absl::string_view working_dir, RunMount& mount) {
  using Type = RunMount::Type;
  if (mount.type == Type::kSecret) {
    if (mount.id.empty() && mount.target.empty())
      return absl::InvalidArgumentError("a secret needs an id or a target");
    if (mount.id.empty()) mount.id = BaseName(mount.target);
    if (mount.target.empty() && mount.environment.empty())
      mount.target = absl::StrCat("/run/secrets/", BaseName(mount.id));
  } else if (mount.type == Type::kSsh) {
    if (mount.id.empty()) mount.id = "default";
  } else if (mount.target.empty()) {
    return absl::InvalidArgumentError("a mount needs a target");
  }
  if (!mount.target.empty()) mount.target = JoinPath(working_dir, mount.target);
  if (mount.target == "/") return absl::InvalidArgumentError("invalid mount target \"/\"");
  if (mount.type == Type::kCache && mount.id.empty()) mount.id = mount.target;
  if (mount.type == Type::kBind || mount.type == Type::kCache)
    mount.source = JoinPath("/", mount.source);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunMount> ParseRunMount(absl::string_view text, absl::string_view working_dir,
                                       char escape, const Lookup& lookup) {
  static const std::vector<std::string> kKeys = {
      "type",    "target", "source", "from", "id",  "ro",       "rw",  "required", "size",
      "sharing", "mode",   "uid",    "gid",  "env", "readonly", "dst", "readwrite"};
  RunMount mount;
  mount.read_only = true;  // a bind; SetType() is first where there is another
  absl::StatusOr<std::vector<std::string>> fields = Fields(text);
  if (!fields.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("RUN --mount=", text, ": ", fields.status().message()));
  for (const std::string& field : *fields) {
    const size_t equals = field.find('=');
    const bool bare = equals == std::string::npos;
    const std::string key =
        absl::AsciiStrToLower(absl::StripAsciiWhitespace(field.substr(0, equals)));
    std::string value = bare ? "" : field.substr(equals + 1);
    if (key != "from") {
      GANTRY_ASSIGN_OR_RETURN(value, ExpandWord(value, escape, lookup));
    }
    if (key == "type") {
      GANTRY_RETURN_IF_ERROR(SetType(value, mount));
      mount.read_only = mount.type == RunMount::Type::kBind;
      continue;
    }
    GANTRY_ASSIGN_OR_RETURN(const bool known, SetKey(key, value, bare, mount));
    if (!known) {
      return absl::InvalidArgumentError(absl::StrCat("RUN --mount: unexpected key '", key, "' in '",
                                                     field, "'", DidYouMean(key, kKeys)));
    }
  }
  if (absl::Status complete = Complete(working_dir, mount); !complete.ok())
    return absl::InvalidArgumentError(absl::StrCat("RUN --mount=", text, ": ", complete.message()));
  return mount;
}

}  // namespace gantry::build
