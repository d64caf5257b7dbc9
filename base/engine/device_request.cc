#include "base/engine/device_request.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/engine/field_reader.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::engine {
namespace {

constexpr char kCdi[] = "cdi";
constexpr char kGpu[] = "gpu";

absl::Status Bad(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("gpus \"", absl::Utf8SafeCEscape(text), "\": ", why));
}

bool LooksLikeCdiName(absl::string_view text) {
  const size_t slash = text.find('/');
  return slash != absl::string_view::npos && slash > 0 &&
         text.find('=', slash) != absl::string_view::npos;
}

// Comma separated; a field in double quotes may hold commas.
std::vector<std::string> Fields(absl::string_view text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back().push_back(c);
    }
  }
  return fields;
}

absl::StatusOr<int32_t> Count(absl::string_view text, absl::string_view value) {
  if (value == "all") return -1;
  int32_t count = 0;
  if (!absl::SimpleAtoi(value, &count) || count < -1)
    return Bad(text, absl::StrCat("the count \"", absl::Utf8SafeCEscape(value),
                                  "\" is neither a number nor \"all\""));
  return count;
}

}  // namespace

absl::Status AddDevice(absl::string_view text, v1::ContainerConfig& config) {
  if (!LooksLikeCdiName(text)) {
    GANTRY_ASSIGN_OR_RETURN(v1::Device device, ParseDevice(text));
    *config.mutable_resources()->add_devices() = std::move(device);
    return absl::OkStatus();
  }
  for (v1::DeviceRequest& request : *config.mutable_device_requests()) {
    if (request.driver() != kCdi) continue;
    request.add_device_ids(std::string(text));
    return absl::OkStatus();
  }
  v1::DeviceRequest& request = *config.add_device_requests();
  request.set_driver(kCdi);
  request.add_device_ids(std::string(text));
  return absl::OkStatus();
}

absl::StatusOr<v1::DeviceRequest> ParseGpus(absl::string_view text) {
  if (text.empty()) return Bad(text, "write all, a number, or device=ID");
  v1::DeviceRequest request;
  v1::StringList capabilities;
  std::set<std::string> seen;
  bool counted = false;
  for (const std::string& field : Fields(text)) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(field, absl::MaxSplits('=', 1));
    const bool bare = !absl::StrContains(field, "=");
    const std::string key = bare ? "count" : pair.first;
    const std::string& value = bare ? pair.first : pair.second;
    if (!seen.insert(key).second) return Bad(text, absl::StrCat("\"", key, "\" is given twice"));
    if (key == "count") {
      GANTRY_ASSIGN_OR_RETURN(const int32_t count, Count(text, value));
      request.set_count(count);
      counted = true;
    } else if (key == "driver") {
      request.set_driver(value);
    } else if (key == "device") {
      for (const absl::string_view id : absl::StrSplit(value, ',', absl::SkipEmpty()))
        request.add_device_ids(std::string(id));
      if (request.device_ids().empty()) return Bad(text, "device= names none");
    } else if (key == "capabilities") {
      for (const absl::string_view one : absl::StrSplit(value, ',', absl::SkipEmpty()))
        capabilities.add_values(std::string(one));
    } else if (key == "options") {
      for (const std::string& one : Fields(value)) {
        const auto [name, setting] = SplitAssignment(one);
        if (name.empty()) return Bad(text, "an option without a name");
        (*request.mutable_options())[name] = setting;
      }
    } else {
      return Bad(text, absl::StrCat("unknown key \"", absl::Utf8SafeCEscape(key), "\""));
    }
  }
  if (counted && request.count() != 0 && request.device_ids_size() > 0)
    return Bad(text, "a count and ids of devices exclude each other");
  if (!counted && request.device_ids().empty()) request.set_count(1);
  if (std::find(capabilities.values().begin(), capabilities.values().end(), kGpu) ==
      capabilities.values().end())
    capabilities.add_values(kGpu);
  *request.add_capabilities() = std::move(capabilities);
  return request;
}

void ReadDeviceRequest(FieldReader& in, v1::DeviceRequest& out) {
  out.set_driver(in.String("Driver"));
  out.set_count(static_cast<int32_t>(in.Integer("Count", -1, std::numeric_limits<int32_t>::max())));
  in.Strings("DeviceIDs", [&](std::string id) { out.add_device_ids(std::move(id)); });
  if (const Value* alternatives = in.Find("Capabilities")) {
    in.EachOf(*alternatives, in.PathOf("Capabilities"),
              [&](const Value& all, const std::string& path) {
                v1::StringList& one = *out.add_capabilities();
                in.EachOf(all, path, [&](const Value& word, const std::string& at) {
                  one.add_values(in.StringAt(word, at));
                });
              });
  }
  in.StringMap("Options", out.mutable_options());
  if (in.ok() && out.driver().empty() && out.capabilities().empty())
    in.Refuse("Capabilities", "are needed where no driver is named");
}

Value DeviceRequestsDocument(const v1::ContainerConfig& config) {
  if (config.device_requests().empty()) return Value();
  Value list = Value::EmptyList();
  for (const v1::DeviceRequest& request : config.device_requests()) {
    Value entry = Value::EmptyObject();
    entry.Set("Driver", request.driver());
    entry.Set("Count", request.count());
    entry.Set("DeviceIDs",
              request.device_ids().empty() ? Value() : Value::StringRange(request.device_ids()));
    Value alternatives;
    if (!request.capabilities().empty()) {
      alternatives = Value::EmptyList();
      for (const v1::StringList& all : request.capabilities())
        alternatives.Append(Value::StringRange(all.values()));
    }
    entry.Set("Capabilities", std::move(alternatives));
    Value options;
    // docker's --gpus has an empty map there, --device null.
    if (request.driver() != kCdi || !request.options().empty()) {
      options = Value::EmptyObject();
      for (const auto& [name, value] : request.options()) options.Set(name, value);
    }
    entry.Set("Options", std::move(options));
    list.Append(std::move(entry));
  }
  return list;
}

}  // namespace gantry::engine
