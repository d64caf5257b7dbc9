#include "supervisor/api/buildkit/solve_request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/engine/value.h"
#include "base/status_macros.h"

namespace gantry::api::buildkit {
namespace {

// A client's upload as its session serves it.
constexpr absl::string_view kUpload = "http://buildkit-session/";

absl::StatusOr<int64_t> Number(absl::string_view what, absl::string_view text) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number < 0)
    return absl::InvalidArgumentError(absl::StrCat(what, ": \"", text, "\" is not a number"));
  return number;
}

absl::StatusOr<bool> Flag(absl::string_view what, absl::string_view text) {
  bool flag = false;
  if (!absl::SimpleAtob(text, &flag))
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": \"", text, "\" is neither true nor false"));
  return flag;
}

// Comma-separated values, of which one with a comma or a quote in it is in quotes.
std::vector<std::string> Fields(absl::string_view text) {
  std::vector<std::string> fields;
  std::string field;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      if (quoted && i + 1 < text.size() && text[i + 1] == '"') {
        field.push_back('"');
        ++i;
      } else {
        quoted = !quoted;
      }
    } else if (c == ',' && !quoted) {
      fields.push_back(std::exchange(field, std::string()));
    } else {
      field.push_back(c);
    }
  }
  fields.push_back(std::move(field));
  return fields;
}

// "name=1.2.3.4,..."
absl::Status ReadHosts(const std::string& text, v1::BuildRequest::Open& open) {
  if (text.empty()) return absl::OkStatus();
  for (const std::string& field : Fields(text)) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    if (parts.first.empty() || parts.second.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("add-hosts: \"", field, "\" is not NAME=ADDRESS"));
    open.add_extra_hosts(absl::StrCat(parts.first, ":", parts.second));
  }
  return absl::OkStatus();
}

// "nofile=1024:2048,..."
absl::Status ReadUlimits(const std::string& text, v1::BuildRequest::Open& open) {
  if (text.empty()) return absl::OkStatus();
  for (const std::string& field : Fields(text)) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    const std::pair<std::string, std::string> limits =
        absl::StrSplit(parts.second, absl::MaxSplits(':', 1));
    int64_t soft = 0;
    int64_t hard = 0;
    if (parts.first.empty() || !absl::SimpleAtoi(limits.first, &soft) ||
        !absl::SimpleAtoi(limits.second.empty() ? limits.first : limits.second, &hard))
      return absl::InvalidArgumentError(
          absl::StrCat("ulimit: \"", field, "\" is not NAME=SOFT[:HARD]"));
    v1::Ulimit& ulimit = *open.mutable_resources()->add_ulimits();
    ulimit.set_name(parts.first);
    ulimit.set_soft(soft);
    ulimit.set_hard(hard);
  }
  return absl::OkStatus();
}

// A name of an image that holds docker's Dockerfile frontend.
bool IsDockerfileFrontend(absl::string_view image) {
  image = image.substr(0, image.find('@'));
  absl::ConsumePrefix(&image, "docker.io/");
  for (const absl::string_view known : {"docker/dockerfile", "docker/dockerfile-upstream"}) {
    absl::string_view rest = image;
    if (absl::ConsumePrefix(&rest, known) && (rest.empty() || rest[0] == ':')) return true;
  }
  return false;
}

// A URL, or a git repository as people write it.
bool IsRemote(absl::string_view place) {
  for (const char* prefix : {"https://", "http://", "git://", "ssh://", "git@", "github.com/"}) {
    if (absl::StartsWith(place, prefix)) return true;
  }
  return false;
}

// A context beside the main one: an image, an address, or files or a layout of the client.
absl::Status ReadContext(absl::string_view name, const std::string& value, Solve& solve) {
  v1::NamedContext context;
  context.set_name(std::string(name));
  const int number = solve.request.contexts_size() + 1;
  absl::string_view rest = value;
  if (absl::ConsumePrefix(&rest, "local:")) {
    solve.sources.directories[number] = std::string(rest);
  } else if (absl::ConsumePrefix(&rest, "oci-layout://")) {
    const size_t at = rest.rfind('@');
    if (at == absl::string_view::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("build context \"", name, "\": ", value, " names no digest"));
    SolveStore& store = solve.sources.layouts[number];
    store.digest = std::string(rest.substr(at + 1));
    store.id = absl::StrCat("oci:", rest.substr(0, std::min(at, rest.find(':'))));
    context.set_source(value);
  } else if (absl::StartsWith(value, "docker-image://") || IsRemote(value)) {
    context.set_source(value);
  } else {
    return absl::UnimplementedError(
        absl::StrCat("build context \"", name, "\": ", value, " is not supported: there are ",
                     "directories, images, OCI layouts, URLs and git repositories"));
  }
  *solve.request.add_contexts() = std::move(context);
  return absl::OkStatus();
}

// [{"Type": ..., "Attrs": {...}}]
absl::Status ReadImports(const std::string& text, Solve& solve) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<engine::Value> imports = engine::Value::FromJson(text);
  if (!imports.ok() || !imports->is_list())
    return absl::InvalidArgumentError("cache-imports: not a list in JSON");
  for (const engine::Value& one : imports->list()) {
    const engine::Value* type = one.Find("Type");
    const engine::Value* given = one.Find("Attrs");
    Attributes attributes;
    if (given != nullptr && given->is_object()) {
      for (const auto& [key, value] : given->object().fields) {
        if (value.is_string()) attributes[key] = value.string();
      }
    }
    GANTRY_RETURN_IF_ERROR(AddCacheImport(
        type != nullptr && type->is_string() ? type->string() : "", attributes, solve));
  }
  return absl::OkStatus();
}

absl::Status ReadOption(const std::string& key, const std::string& value, Solve& solve) {
  v1::BuildRequest::Open& open = solve.request;
  absl::string_view name = key;
  if (absl::ConsumePrefix(&name, "build-arg:")) {
    if (name == "SOURCE_DATE_EPOCH" && !value.empty()) {
      GANTRY_ASSIGN_OR_RETURN(const int64_t epoch, Number("SOURCE_DATE_EPOCH", value));
      open.set_source_date_epoch(epoch);
    }
    if (name == "BUILDKIT_CACHE_MOUNT_NS") open.set_namespace_of_caches(value);
    v1::BuildArgument& argument = *open.add_arguments();
    argument.set_name(std::string(name));
    argument.set_value(value);
  } else if (absl::ConsumePrefix(&name, "label:")) {
    (*open.mutable_labels())[std::string(name)] = value;
  } else if (absl::ConsumePrefix(&name, "local-sessionid:")) {
    // "UNIQUE:ID" or the id alone.
    const std::string id = value.substr(value.find(':') + 1);
    if (name == solve.sources.context) solve.sources.context_session = id;
    if (name == solve.sources.dockerfile) solve.sources.dockerfile_session = id;
  } else if (absl::ConsumePrefix(&name, "context:")) {
    return ReadContext(name, value, solve);
  } else if (absl::ConsumePrefix(&name, "attest:")) {
    return AddAttestation(std::string(name), value, open);
  } else if (key == "target") {
    open.set_target(value);
  } else if (key == "no-cache") {
    if (value.empty()) {
      open.set_no_cache(true);
    } else {
      for (const absl::string_view stage : absl::StrSplit(value, ','))
        open.add_no_cache_stages(std::string(stage));
    }
  } else if (key == "platform") {
    const std::vector<std::string> platforms = absl::StrSplit(value, ',', absl::SkipEmpty());
    if (platforms.size() == 1) open.set_platform(platforms[0]);
    if (platforms.size() > 1) {
      for (const std::string& platform : platforms) open.add_platforms(platform);
    }
  } else if (key == "multi-platform") {
    // Several platforms make an index in any case, one makes a manifest.
    return Flag(key, value).status();
  } else if (key == "force-network-mode") {
    if (value != "default" && value != "sandbox") open.set_network_mode(value);
  } else if (key == "add-hosts") {
    return ReadHosts(value, open);
  } else if (key == "ulimit") {
    return ReadUlimits(value, open);
  } else if (key == "shm-size") {
    GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, Number(key, value));
    open.set_shm_size_bytes(bytes);
  } else if (key == "cgroup-parent") {
    open.set_cgroup_parent(value);
  } else if (key == "image-resolve-mode") {
    open.set_pull(value == "pull");
  } else if (key == "requestid") {
    constexpr std::pair<const char*, const char*> kCalls[] = {
        {"frontend.lint", "check"},
        {"frontend.outline", "outline"},
        {"frontend.targets", "targets"},
        {"frontend.subrequests.describe", "describe"}};
    for (const auto& [id, call] : kCalls) {
      if (value == id) open.set_call(call);
    }
    if (open.call().empty())
      return absl::UnimplementedError(
          absl::StrCat(value, " is not supported: there is check, outline and targets (--call)"));
  } else if (key == "cache-imports") {
    return ReadImports(value, solve);
  } else if (key == "cache-from") {
    for (const absl::string_view one : absl::StrSplit(value, ',', absl::SkipEmpty()))
      GANTRY_RETURN_IF_ERROR(AddCacheImport("registry", {{"ref", std::string(one)}}, solve));
  } else if (key == "contextsubdir") {
    return absl::UnimplementedError(
        "contextsubdir is not supported: write the directory behind the URL, #REF:DIR");
  } else if (key == "hostname") {
    open.set_hostname(value);
  }
  // filename, contextkey, dockerfilekey and context were read before; what else there is says how
  // the client works, or is of a frontend that does not exist yet.
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Solve> ReadFrontend(const std::string& frontend, const Attributes& attributes,
                                   const std::vector<std::string>& entitlements) {
  const auto find = [&](const char* key) {
    const auto found = attributes.find(key);
    return found == attributes.end() ? std::string() : found->second;
  };
  Solve solve;
  solve.frontend = frontend;
  solve.attributes = attributes;
  if (frontend == "gateway.v0") {
    if (!IsDockerfileFrontend(find("source")))
      return absl::UnimplementedError(absl::StrCat(
          "frontend ", find("source"), " is not supported: Gantry reads Dockerfiles itself"));
    solve.notes.push_back(
        absl::StrCat("the Dockerfile is read by Gantry itself, not by ", find("source")));
  } else if (frontend != "dockerfile.v0") {
    return absl::UnimplementedError(
        absl::StrCat("frontend \"", frontend,
                     "\" is not supported: Gantry builds Dockerfiles only; for others "
                     "run buildkitd with its containerd worker on Gantry's socket"));
  }
  if (const std::string name = find("filename"); !name.empty()) solve.sources.filename = name;
  if (const std::string name = find("contextkey"); !name.empty()) solve.sources.context = name;
  if (const std::string name = find("dockerfilekey"); !name.empty())
    solve.sources.dockerfile = name;
  if (const std::string place = find("context"); !place.empty()) {
    if (absl::StartsWith(place, kUpload)) {
      solve.sources.upload = place.substr(kUpload.size() - 1);
    } else if (IsRemote(place)) {
      solve.request.set_remote_context(place);
    } else {
      return absl::UnimplementedError(absl::StrCat("context ", place, " is not supported"));
    }
    // The Dockerfile is in it, too, unless the client has one apart.
    if (attributes.count("dockerfilekey") == 0) solve.sources.dockerfile.clear();
    solve.sources.context.clear();
  }
  solve.request.set_dockerfile(solve.sources.filename);
  solve.request.set_has_context(true);
  for (const auto& [key, value] : attributes) GANTRY_RETURN_IF_ERROR(ReadOption(key, value, solve));
  std::map<std::string, std::string> vcs;
  for (const auto& [key, value] : attributes) {
    if (absl::StartsWith(key, "vcs:")) vcs[key.substr(4)] = value;
  }
  if (solve.request.has_attestations())
    solve.request.mutable_attestations()->mutable_vcs()->insert(vcs.begin(), vcs.end());
  for (const std::string& one : entitlements) solve.request.add_allow(one);
  return solve;
}

std::vector<std::string> IgnorePatterns(absl::string_view text) {
  absl::ConsumePrefix(&text, "\xEF\xBB\xBF");
  std::vector<std::string> patterns;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "#")) continue;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const bool taken = absl::ConsumePrefix(&line, "!");
    line = absl::StripAsciiWhitespace(line);
    // Clean: no "." and "..", no empty parts, and relative.
    std::vector<absl::string_view> parts;
    for (const absl::string_view part : absl::StrSplit(line, '/', absl::SkipEmpty())) {
      if (part == ".") continue;
      if (part == ".." && !parts.empty() && parts.back() != "..") {
        parts.pop_back();
      } else if (part != ".." || line[0] != '/') {
        parts.push_back(part);
      }
    }
    std::string pattern = absl::StrJoin(parts, "/");
    if (pattern.empty() && !line.empty()) pattern.push_back(line[0] == '/' ? '/' : '.');
    if (pattern.empty()) continue;
    patterns.push_back(taken ? absl::StrCat("!", pattern) : std::move(pattern));
  }
  return patterns;
}

Place PlaceOf(const std::string& file, absl::string_view message) {
  Place place;
  place.message = std::string(message);
  absl::string_view rest = message;
  if (!absl::ConsumePrefix(&rest, file) || !absl::ConsumePrefix(&rest, ":")) return place;
  const size_t colon = rest.find(": ");
  int line = 0;
  if (colon != absl::string_view::npos && absl::SimpleAtoi(rest.substr(0, colon), &line)) {
    place.line = line;
    place.message = std::string(rest.substr(colon + 2));
    return place;
  }
  // The parser's way: "FILE: dockerfile parse error on line 3: ..."
  absl::string_view parsed = absl::StripLeadingAsciiWhitespace(rest);
  constexpr absl::string_view kParse = "dockerfile parse error on line ";
  if (!absl::StartsWith(parsed, kParse)) return place;
  const absl::string_view after = parsed.substr(kParse.size());
  if (absl::SimpleAtoi(after.substr(0, after.find(':')), &line)) {
    place.line = line;
    place.message = std::string(parsed);
  }
  return place;
}

}  // namespace gantry::api::buildkit
