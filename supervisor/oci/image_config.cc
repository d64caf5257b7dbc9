#include "supervisor/oci/image_config.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/json_fields.h"
#include "supervisor/oci/manifest.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

// Old images have Latin-1 in labels and comments; docker runs them.
constexpr JsonLimits kConfigLimits = {.max_bytes = kMaxManifestBytes, .replace_invalid_utf8 = true};

absl::StatusOr<HealthCheck> ReadHealthCheck(const json& value, absl::string_view what) {
  HealthCheck out;
  int64_t interval = 0;
  int64_t timeout = 0;
  int64_t start_period = 0;
  int64_t start_interval = 0;
  JsonFields fields(value, absl::StrCat(what, ": Healthcheck"));
  fields.Get("Test", out.test);
  fields.Get("Interval", interval);
  fields.Get("Timeout", timeout);
  fields.Get("StartPeriod", start_period);
  fields.Get("StartInterval", start_interval);
  fields.Get("Retries", out.retries);
  GANTRY_RETURN_IF_ERROR(fields.status());
  out.interval = absl::Nanoseconds(interval);
  out.timeout = absl::Nanoseconds(timeout);
  out.start_period = absl::Nanoseconds(start_period);
  out.start_interval = absl::Nanoseconds(start_interval);
  return out;
}

json HealthCheckToJson(const HealthCheck& check) {
  json out = json::object();
  if (!check.test.empty()) out["Test"] = check.test;
  const auto put = [&](const char* key, absl::Duration d) {
    if (d != absl::ZeroDuration()) out[key] = absl::ToInt64Nanoseconds(d);
  };
  put("Interval", check.interval);
  put("Timeout", check.timeout);
  put("StartPeriod", check.start_period);
  put("StartInterval", check.start_interval);
  if (check.retries != 0) out["Retries"] = check.retries;
  return out;
}

bool SameHistory(const std::vector<History>& a, const std::vector<History>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].created != b[i].created || a[i].author != b[i].author ||
        a[i].created_by != b[i].created_by || a[i].comment != b[i].comment ||
        a[i].empty_layer != b[i].empty_layer) {
      return false;
    }
  }
  return true;
}

void PutText(json& object, const char* key, const std::string& now, const std::string& before) {
  if (now == before) return;
  if (now.empty()) {
    object.erase(key);
  } else {
    object[key] = now;
  }
}

template <typename T>
void PutList(json& object, const char* key, const T& now, const T& before) {
  if (now == before) return;
  if (now.empty()) {
    object.erase(key);
  } else {
    object[key] = now;
  }
}

void PutNames(json& object, const char* key, const std::set<std::string>& now,
              const std::set<std::string>& before) {
  if (now == before) return;
  object.erase(key);
  for (const std::string& name : now) object[key][name] = json::object();
}

}  // namespace

absl::StatusOr<ImageConfig> ParseImageConfig(absl::string_view bytes, absl::string_view what) {
  GANTRY_ASSIGN_OR_RETURN(const json object, ParseJson(bytes, what, kConfigLimits));
  if (!object.is_object())
    return absl::InvalidArgumentError(absl::StrCat(what, ": not a JSON object"));
  ImageConfig out;
  out.original = std::string(bytes);
  JsonFields top(object, what);
  top.Get("created", out.created);
  top.Get("author", out.author);
  top.Get("os", out.platform.os);
  top.Get("architecture", out.platform.architecture);
  top.Get("variant", out.platform.variant);
  top.Get("os.version", out.platform.os_version);
  top.Get("os.features", out.platform.os_features);
  GANTRY_RETURN_IF_ERROR(top.status());

  static const json nothing;
  const json* config = top.Find("config");
  JsonFields fields(config == nullptr ? nothing : *config, absl::StrCat(what, ": config"));
  fields.Get("User", out.user);
  fields.GetNames("ExposedPorts", out.exposed_ports);
  fields.Get("Env", out.env);
  fields.Get("Entrypoint", out.entrypoint);
  fields.Get("Cmd", out.cmd);
  fields.GetNames("Volumes", out.volumes);
  fields.Get("WorkingDir", out.working_dir);
  fields.Get("Labels", out.labels);
  fields.Get("StopSignal", out.stop_signal);
  fields.Get("ArgsEscaped", out.args_escaped);
  fields.Get("OnBuild", out.on_build);
  fields.Get("Shell", out.shell);
  fields.Get("StopTimeout", out.stop_timeout_seconds);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (const json* check = fields.Find("Healthcheck")) {
    GANTRY_ASSIGN_OR_RETURN(out.health_check, ReadHealthCheck(*check, what));
  }

  const json* rootfs = top.Find("rootfs");
  std::vector<std::string> diff_ids;
  JsonFields root(rootfs == nullptr ? nothing : *rootfs, absl::StrCat(what, ": rootfs"));
  root.Get("diff_ids", diff_ids);
  GANTRY_RETURN_IF_ERROR(root.status());
  for (const std::string& text : diff_ids) {
    absl::StatusOr<content::Digest> digest = content::Digest::Parse(text);
    if (!digest.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": diff_ids: ", digest.status().message()));
    }
    out.diff_ids.push_back(*std::move(digest));
  }

  if (const json* history = top.Find("history")) {
    if (!history->is_array())
      return absl::InvalidArgumentError(absl::StrCat(what, ": `history` is not a list"));
    for (const json& item : *history) {
      History entry;
      JsonFields line(item, absl::StrCat(what, ": history"));
      line.Get("created", entry.created);
      line.Get("author", entry.author);
      line.Get("created_by", entry.created_by);
      line.Get("comment", entry.comment);
      line.Get("empty_layer", entry.empty_layer);
      GANTRY_RETURN_IF_ERROR(line.status());
      out.history.push_back(std::move(entry));
    }
  }
  return out;
}

std::string PrintImageConfig(const ImageConfig& config) {
  json object = json::object();
  ImageConfig before;
  if (!config.original.empty()) {
    absl::StatusOr<ImageConfig> parsed = ParseImageConfig(config.original, "original");
    absl::StatusOr<json> original = ParseJson(config.original, "original", kConfigLimits);
    if (parsed.ok() && original.ok()) {
      before = *std::move(parsed);
      object = *std::move(original);
    }
  }
  PutText(object, "created", config.created, before.created);
  PutText(object, "author", config.author, before.author);
  PutText(object, "os", config.platform.os, before.platform.os);
  PutText(object, "architecture", config.platform.architecture, before.platform.architecture);
  PutText(object, "variant", config.platform.variant, before.platform.variant);
  PutText(object, "os.version", config.platform.os_version, before.platform.os_version);
  PutList(object, "os.features", config.platform.os_features, before.platform.os_features);

  if (!object.contains("config") || !object["config"].is_object())
    object["config"] = json::object();
  json& c = object["config"];
  PutText(c, "User", config.user, before.user);
  PutNames(c, "ExposedPorts", config.exposed_ports, before.exposed_ports);
  PutList(c, "Env", config.env, before.env);
  PutList(c, "Entrypoint", config.entrypoint, before.entrypoint);
  PutList(c, "Cmd", config.cmd, before.cmd);
  PutNames(c, "Volumes", config.volumes, before.volumes);
  PutText(c, "WorkingDir", config.working_dir, before.working_dir);
  PutList(c, "Labels", config.labels, before.labels);
  PutText(c, "StopSignal", config.stop_signal, before.stop_signal);
  if (config.args_escaped != before.args_escaped) c["ArgsEscaped"] = config.args_escaped;
  PutList(c, "OnBuild", config.on_build, before.on_build);
  PutList(c, "Shell", config.shell, before.shell);
  if (config.stop_timeout_seconds != before.stop_timeout_seconds) {
    c.erase("StopTimeout");
    if (config.stop_timeout_seconds.has_value()) c["StopTimeout"] = *config.stop_timeout_seconds;
  }
  if (config.health_check != before.health_check) {
    c.erase("Healthcheck");
    if (config.health_check.has_value()) c["Healthcheck"] = HealthCheckToJson(*config.health_check);
  }

  if (config.diff_ids != before.diff_ids || !object.contains("rootfs")) {
    json ids = json::array();
    for (const content::Digest& id : config.diff_ids) ids.push_back(id.str());
    object["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(ids)}};
  }
  if (!SameHistory(config.history, before.history)) {
    json list = json::array();
    for (const History& h : config.history) {
      json entry = json::object();
      PutText(entry, "created", h.created, "");
      PutText(entry, "author", h.author, "");
      PutText(entry, "created_by", h.created_by, "");
      PutText(entry, "comment", h.comment, "");
      if (h.empty_layer) entry["empty_layer"] = true;
      list.push_back(std::move(entry));
    }
    object["history"] = std::move(list);
  }
  return PrintJson(object);
}

}  // namespace gantry::oci
