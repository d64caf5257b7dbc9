#include "ctl/compose/docker_json.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "ctl/compose/present.h"

namespace gantry::compose {
namespace {

// Text in quotes as Go's encoder writes it: also what HTML could read is escaped.
std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == '<' || c == '>' || c == '&') {
          char escaped[8];
          std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
          out += escaped;
        } else if (absl::StartsWith(text.substr(i), "\xe2\x80\xa8") ||
                   absl::StartsWith(text.substr(i), "\xe2\x80\xa9")) {
          out += text[i + 2] == '\xa8' ? "\\u2028" : "\\u2029";
          i += 2;
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

// The shortest digits that read back as the same number of 32 bits.
std::string ShortFloat(const std::string& text) {
  const float value = std::strtof(text.c_str(), nullptr);
  char digits[32];
  for (int precision = 1; precision <= 9; ++precision) {
    std::snprintf(digits, sizeof digits, "%.*g", precision, value);
    if (std::strtof(digits, nullptr) == value) break;
  }
  // An exponent only where Go's encoder has one: beyond these bounds nothing is a share of
  // processors.
  if (!absl::StrContains(digits, "e")) return digits;
  std::snprintf(digits, sizeof digits, "%.0f", value);
  return digits;
}

bool OneOf(absl::string_view key, std::initializer_list<absl::string_view> keys) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

bool IsRatio(const std::string& key) {
  return OneOf(key, {"cpus", "cpu_percent", "max_failure_ratio"});
}

// Values that are there even where they say nothing: docker compose's type has no notion of their
// absence, or tells absence and emptiness apart.
bool KeptEmpty(const std::string& key, const Node& value, const std::string& pattern) {
  switch (value.kind) {
    case Node::Kind::kNull:
      // A key that is there without a value is the same as an absent one, but for these maps.
      return pattern == "services.*.networks" || pattern == "services.*.environment" ||
             pattern == "services.*.models" ||
             (absl::EndsWith(pattern, ".environment") && !pattern.empty());
    case Node::Kind::kBool:
      return OneOf(key, {"attach", "init", "enable_ipv4", "enable_ipv6"}) ||
             (key == "required" && absl::EndsWith(pattern, "env_file[]"));
    case Node::Kind::kNumber:
      return OneOf(key, {"parallelism", "max_attempts", "retries", "weight", "value"}) &&
             pattern != "services.*.blkio_config";
    case Node::Kind::kString:
      // Free maps keep empty texts; of the fixed keys only what is told apart from absence.
      return OneOf(key, {"rate", "path", "kind", "action"});
    case Node::Kind::kList:
      return false;
    case Node::Kind::kMap:
      return OneOf(
          key, {"blkio_config", "credential_spec", "deploy", "develop", "healthcheck", "logging",
                "provider", "update_config", "rollback_config", "limits", "reservations",
                "restart_policy", "bind", "volume", "tmpfs", "image", "discrete_resource_spec"});
  }
  return false;
}

bool IsZero(const std::string& key, const Node& value, const std::string& pattern) {
  switch (value.kind) {
    case Node::Kind::kNull:
      return true;
    case Node::Kind::kBool:
      return value.text == "false";
    case Node::Kind::kNumber:
      return std::strtod(value.text.c_str(), nullptr) == 0;
    case Node::Kind::kString:
      if (value.text.empty()) return true;
      if (value.text == "0s") {
        // Durations of updates; others are told apart from absence.
        return OneOf(key, {"delay", "monitor"}) && !absl::EndsWith(pattern, "restart_policy");
      }
      return value.text == "0" && OneOf(key, {"mem_limit", "mem_reservation", "memswap_limit",
                                              "mem_swappiness", "shm_size", "size", "memory"});
    case Node::Kind::kList:
      return value.items.empty();
    case Node::Kind::kMap:
      return value.entries.empty();
  }
  return true;
}

class Writer {
 public:
  std::string Value(const Node& node, const std::string& key, const std::string& pattern) {
    switch (node.kind) {
      case Node::Kind::kNull:
        return "null";
      case Node::Kind::kBool:
        return node.text;
      case Node::Kind::kNumber:
        return IsRatio(key) ? ShortFloat(node.text) : node.text;
      case Node::Kind::kString:
        return IsRatio(key) ? ShortFloat(node.text) : Quoted(node.text);
      case Node::Kind::kList: {
        std::vector<std::string> parts;
        for (const Node& item : node.items) parts.push_back(Item(item, key, pattern));
        if (key == "extra_hosts") std::sort(parts.begin(), parts.end());
        return absl::StrCat("[", absl::StrJoin(parts, ","), "]");
      }
      case Node::Kind::kMap:
        return KeysOf(pattern) == nullptr ? FreeMap(node, key, pattern) : FixedMap(node, pattern);
    }
    return "null";
  }

 private:
  std::string Item(const Node& item, const std::string& key, const std::string& pattern) {
    const std::string below = absl::StrCat(pattern, "[]");
    // An environment file that must be there is its path alone.
    if (key == "env_file" && item.is_map() && item.TrueAt("required"))
      return Quoted(item.TextOf("path"));
    // Lists of names: numbers in them are texts.
    if (item.kind == Node::Kind::kNumber && KeysOf(below) == nullptr) return Quoted(item.text);
    return Value(item, key, below);
  }

  // A map whose keys are the file's own, sorted by their bytes.
  std::string FreeMap(const Node& node, const std::string& key, const std::string& pattern) {
    std::vector<const Node::Entry*> entries;
    for (const Node::Entry& entry : node.entries) entries.push_back(&entry);
    std::sort(entries.begin(), entries.end(),
              [](const auto* a, const auto* b) { return a->first < b->first; });
    std::vector<std::string> parts;
    for (const Node::Entry* entry : entries) {
      const Node& value = entry->second;
      std::string text;
      if (key == "ulimits") {
        text = Value(value, "", "services.*.ulimits.*");
      } else if (pattern == "services.*.networks" || pattern == "services.*.models") {
        text = Value(value, "", absl::StrCat(pattern, ".*"));
      } else if (key == "options" && absl::EndsWith(pattern, "provider.options")) {
        Node list = value;
        if (!value.is_list()) {
          list = Node::List();
          list.Append(value);
        }
        text = Value(list, entry->first, absl::StrCat(pattern, ".*"));
      } else if (value.is_null()) {
        text = key == "environment" ? "null" : "\"\"";
      } else if (value.is_scalar()) {
        text = Quoted(value.text);
      } else {
        text = Value(value, entry->first, absl::StrCat(pattern, ".*"));
      }
      parts.push_back(absl::StrCat(Quoted(entry->first), ":", text));
    }
    return absl::StrCat("{", absl::StrJoin(parts, ","), "}");
  }

  std::string FixedMap(const Node& node, const std::string& pattern) {
    std::vector<std::string> parts;
    for (const std::string& key : *KeysOf(pattern)) {
      const std::string below = absl::StrCat(pattern, ".", key);
      const Node* value = node.Find(key);
      std::string text;
      if (value == nullptr || (IsZero(key, *value, pattern) && !KeptEmpty(key, *value, pattern))) {
        text = Always(key, value, pattern);
        if (text.empty()) continue;
      } else {
        text = Value(*value, key, below);
      }
      parts.push_back(absl::StrCat(Quoted(Spelled(key, pattern)), ":", text));
    }
    return absl::StrCat("{", absl::StrJoin(parts, ","), "}");
  }

  // What stands for a key that says nothing; "": nothing does.
  std::string Always(const std::string& key, const Node* value, const std::string& pattern) {
    const bool command = key == "command" || (key == "entrypoint" && pattern == "services.*");
    if (command) return value != nullptr && value->is_list() ? "[]" : "null";
    if (pattern == "services.*.deploy" && (key == "resources" || key == "placement")) return "{}";
    if (pattern == "networks.*" && key == "ipam") return "{}";
    if (pattern == "services.*.develop.watch[]" && key == "exec") return R"({"command":null})";
    return "";
  }

  static std::string Spelled(const std::string& key, const std::string& pattern) {
    if (!absl::StartsWith(pattern, "services.*.blkio_config.")) return key;
    return key == "path" ? "Path" : key == "weight" ? "Weight" : key == "rate" ? "Rate" : key;
  }

  // The keys of a map at `pattern`, in their order; null: it has the file's own.
  static const std::vector<std::string>* KeysOf(const std::string& pattern) {
    static const auto* const kOwn = new std::map<std::string, std::vector<std::string>>{
        {"services.*.ulimits.*", {"single", "soft", "hard"}},
        {"services.*.deploy.resources.limits",
         {"cpus", "memory", "pids", "devices", "generic_resources"}},
        {"services.*.deploy.resources.reservations",
         {"cpus", "memory", "pids", "devices", "generic_resources"}},
        {"services.*.deploy.resources.limits.devices[]",
         {"capabilities", "driver", "count", "device_ids", "options"}},
        {"services.*.deploy.resources.reservations.generic_resources[]",
         {"discrete_resource_spec"}},
        {"services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec",
         {"kind", "value"}},
        {"services.*.deploy.placement.preferences[]", {"spread"}},
        {"networks.*.ipam", {"driver", "config"}},
    };
    const auto own = kOwn->find(pattern);
    return own != kOwn->end() ? &own->second : PresentedKeys(pattern);
  }
};

void ResolveReferences(Node& service, const std::map<std::string, std::string>& containers) {
  for (const char* key : {"network_mode", "ipc", "pid"}) {
    Node* mode = service.Find(key);
    if (mode == nullptr || !absl::StartsWith(mode->text, "service:")) continue;
    const auto found = containers.find(mode->text.substr(8));
    if (found != containers.end()) mode->text = absl::StrCat("container:", found->second);
  }
  if (Node* from = service.Find("volumes_from")) {
    for (Node& item : from->items) {
      const std::vector<std::string> parts = absl::StrSplit(item.text, ':');
      const auto found = containers.find(parts[0]);
      if (parts[0] == "container" && parts.size() > 1 && !containers.empty()) {
        item.text = parts[1];
      } else if (found != containers.end()) {
        item.text = found->second;
      }
    }
  }
}

}  // namespace

std::string DockerJsonOfService(const Node& service,
                                const std::map<std::string, std::string>& containers) {
  Node copy = service;
  for (const char* key : {"build", "pull_policy", "scale", "depends_on", "profiles"})
    copy.Remove(key);
  if (Node* deploy = copy.Find("deploy")) deploy->Remove("replicas");
  ResolveReferences(copy, containers);
  return Writer().Value(copy, "", "services.*");
}

std::string DockerJsonOfNetwork(const Node& network) {
  return Writer().Value(network, "", "networks.*");
}

std::string DockerJsonOfVolume(const Node& volume) {
  Node copy = volume;
  if (copy.TextOf("driver").empty()) copy.Set("driver", Node::String("local"));
  return Writer().Value(copy, "", "volumes.*");
}

}  // namespace gantry::compose
