#include "ctl/compose/merge.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"

namespace gantry::compose {
namespace {

// "services.web.volumes" -> "services.*.volumes".
std::string Pattern(const std::string& path) {
  std::vector<std::string> parts = absl::StrSplit(path, '.');
  if (parts.size() >= 2) parts[1] = "*";
  std::string out;
  for (const std::string& part : parts) absl::StrAppend(&out, out.empty() ? "" : ".", part);
  return out;
}

bool ReplacedWhole(const std::string& pattern) {
  return pattern == "services.*.command" || pattern == "services.*.entrypoint" ||
         pattern == "services.*.healthcheck.test" ||
         absl::StartsWith(pattern, "services.*.ulimits.");
}

// What makes an item of a list unique; null: items are kept as they are.
using Identity = std::function<std::string(const Node& item)>;

Identity IdentityAt(const std::string& pattern) {
  const std::string key = pattern.substr(pattern.rfind('.') + 1);
  if (!absl::StartsWith(pattern, "services.*.")) {
    if (pattern == "networks.*.ipam.config")
      return [](const Node& item) { return item.TextOf("subnet"); };
    return nullptr;
  }
  if (pattern == "services.*.volumes" || pattern == "services.*.devices")
    return [](const Node& item) { return item.TextOf("target"); };
  if (pattern == "services.*.ports") {
    return [](const Node& item) {
      return absl::StrCat(item.TextOf("host_ip"), ":", item.TextOf("published"), ":",
                          item.TextOf("target"), "/", item.TextOf("protocol"));
    };
  }
  if (pattern == "services.*.secrets" || pattern == "services.*.configs") {
    const std::string directory = key == "secrets" ? "/run/secrets/" : "/";
    return [directory](const Node& item) {
      const std::string target = item.TextOf("target");
      if (target.empty()) return directory + item.TextOf("source");
      return absl::StartsWith(target, "/") ? target : directory + target;
    };
  }
  if (pattern == "services.*.env_file") return [](const Node& item) { return item.TextOf("path"); };
  if (pattern == "services.*.extra_hosts") return [](const Node& item) { return item.text; };
  if (key == "expose" || key == "cap_add" || key == "cap_drop" || key == "dns" ||
      key == "dns_search" || key == "dns_opt" || key == "profiles" || key == "links" ||
      key == "external_links" || key == "tmpfs" || key == "aliases" || key == "security_opt" ||
      key == "group_add" || key == "volumes_from" || key == "label_file")
    return [](const Node& item) {
      const std::string text = item.is_map() ? item.TextOf("source") : item.text;
      return text.substr(0, text.find('='));
    };
  return nullptr;
}

void MergeLists(Node& base, const Node& over, const std::string& pattern) {
  const Identity identity = IdentityAt(pattern);
  std::map<std::string, size_t> places;
  if (identity != nullptr) {
    for (size_t i = 0; i < base.items.size(); ++i) places.emplace(identity(base.items[i]), i);
  }
  for (const Node& item : over.items) {
    if (identity != nullptr) {
      const auto [place, fresh] = places.emplace(identity(item), base.items.size());
      if (!fresh) {
        base.items[place->second] = item;
        continue;
      }
    }
    base.items.push_back(item);
  }
}

}  // namespace

absl::Status Merge(Node& base, const Node& over, const std::string& path) {
  if (over.tag == Node::Tag::kReset) {
    base = over;
    return absl::OkStatus();
  }
  const std::string pattern = Pattern(path);
  // Null keeps what is there, but for a command: there it is the image's own.
  if (over.is_null() && !ReplacedWhole(pattern)) return absl::OkStatus();
  if (over.tag == Node::Tag::kOverride || base.is_null() || base.tag == Node::Tag::kReset ||
      (base.is_scalar() && over.is_scalar()) || ReplacedWhole(pattern)) {
    base = over;
    return absl::OkStatus();
  }
  if (base.is_list() && over.is_list()) {
    MergeLists(base, over, pattern);
    return absl::OkStatus();
  }
  if (!base.is_map() || !over.is_map()) {
    return absl::InvalidArgumentError(absl::StrCat(over.at.Text(), ": cannot override ", path, ": ",
                                                   base.at.Text(), " has another kind of value"));
  }
  // Options belong to their driver.
  if (pattern == "services.*.logging") {
    const std::string before = base.TextOf("driver");
    const std::string after = over.TextOf("driver");
    if (!before.empty() && !after.empty() && before != after) {
      base = over;
      return absl::OkStatus();
    }
  }
  for (const auto& [key, value] : over.entries) {
    Node* there = base.Find(key);
    if (there == nullptr) {
      base.entries.emplace_back(key, value);
      continue;
    }
    GANTRY_RETURN_IF_ERROR(Merge(*there, value, path.empty() ? key : absl::StrCat(path, ".", key)));
  }
  return absl::OkStatus();
}

void CollapseLists(Node& document) {
  Node* services = document.Find("services");
  if (services == nullptr) return;
  for (auto& [name, service] : services->entries) {
    for (auto& [key, value] : service.entries) {
      if (!value.is_list() || key == "volumes") continue;
      const std::string pattern = absl::StrCat("services.*.", key);
      if (IdentityAt(pattern) == nullptr) continue;
      const std::vector<Node> items = std::move(value.items);
      value.items.clear();
      Node over = Node::List();
      over.items = items;
      MergeLists(value, over, pattern);
    }
  }
}

void DropReset(Node& node) {
  node.entries.erase(std::remove_if(node.entries.begin(), node.entries.end(),
                                    [](const Node::Entry& entry) {
                                      return entry.second.tag == Node::Tag::kReset;
                                    }),
                     node.entries.end());
  for (auto& [key, value] : node.entries) DropReset(value);
  for (Node& item : node.items) DropReset(item);
}

}  // namespace gantry::compose
