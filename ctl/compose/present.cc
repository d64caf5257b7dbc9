#include "ctl/compose/present.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "ctl/compose/value_forms.h"

namespace gantry::compose {
namespace {

// Keys of the maps with a fixed set of them, in their order; "*" is any name, "[]" a list's item.
const char* const kOrders[][2] = {
    {"", "name services networks volumes secrets configs models"},
    {"services.*",
     "profiles annotations attach build develop blkio_config cap_add cap_drop cgroup_parent cgroup "
     "cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpus cpuset "
     "cpu_shares command configs container_name credential_spec depends_on deploy "
     "device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint provider "
     "environment env_file expose extends external_links extra_hosts group_add gpus hostname "
     "healthcheck image init ipc isolation labels label_file links logging mem_limit "
     "mem_reservation memswap_limit mem_swappiness mac_address models network_mode networks "
     "oom_kill_disable oom_score_adj pid pids_limit platform ports privileged pull_policy "
     "read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period "
     "stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts "
     "volumes volumes_from working_dir post_start pre_stop"},
    {"services.*.build",
     "context dockerfile dockerfile_inline entitlements args provenance sbom ssh labels cache_from "
     "cache_to no_cache no_cache_filter additional_contexts pull extra_hosts isolation network "
     "target secrets shm_size tags ulimits platforms privileged"},
    {"services.*.build.secrets[]", "source target uid gid mode"},
    {"services.*.build.ulimits.*", "soft hard"},
    {"services.*.ulimits.*", "soft hard"},
    {"services.*.develop", "watch"},
    {"services.*.develop.watch[]", "path action target exec include ignore initial_sync"},
    {"services.*.develop.watch[].exec", "command user privileged working_dir environment"},
    {"services.*.post_start[]", "command user privileged working_dir environment"},
    {"services.*.pre_stop[]", "command user privileged working_dir environment"},
    {"services.*.blkio_config",
     "weight weight_device device_read_bps device_read_iops device_write_bps device_write_iops"},
    {"services.*.blkio_config.weight_device[]", "path weight"},
    {"services.*.blkio_config.device_read_bps[]", "path rate"},
    {"services.*.blkio_config.device_read_iops[]", "path rate"},
    {"services.*.blkio_config.device_write_bps[]", "path rate"},
    {"services.*.blkio_config.device_write_iops[]", "path rate"},
    {"services.*.configs[]", "source target uid gid mode"},
    {"services.*.secrets[]", "source target uid gid mode"},
    {"services.*.credential_spec", "config file registry"},
    {"services.*.depends_on.*", "condition restart required"},
    {"services.*.deploy",
     "mode replicas labels update_config rollback_config resources restart_policy placement "
     "endpoint_mode"},
    {"services.*.deploy.update_config",
     "parallelism delay failure_action monitor max_failure_ratio order"},
    {"services.*.deploy.rollback_config",
     "parallelism delay failure_action monitor max_failure_ratio order"},
    {"services.*.deploy.resources", "limits reservations"},
    {"services.*.deploy.resources.limits", "cpus memory pids"},
    {"services.*.deploy.resources.reservations", "cpus memory devices generic_resources"},
    {"services.*.deploy.resources.reservations.devices[]",
     "capabilities driver count device_ids options"},
    {"services.*.deploy.restart_policy", "condition delay max_attempts window"},
    {"services.*.deploy.placement", "constraints preferences max_replicas_per_node"},
    {"services.*.devices[]", "source target permissions"},
    {"services.*.env_file[]", "path required format"},
    {"services.*.gpus[]", "capabilities driver count device_ids options"},
    {"services.*.healthcheck", "test timeout interval retries start_period start_interval disable"},
    {"services.*.logging", "driver options"},
    {"services.*.models.*", "endpoint_var model_var"},
    {"services.*.networks.*",
     "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips "
     "mac_address priority"},
    {"services.*.ports[]", "name mode host_ip target published protocol app_protocol"},
    {"services.*.provider", "type options"},
    {"services.*.volumes[]", "type source target read_only consistency bind volume tmpfs image"},
    {"services.*.volumes[].bind", "selinux propagation create_host_path recursive"},
    {"services.*.volumes[].volume", "labels nocopy subpath"},
    {"services.*.volumes[].tmpfs", "size mode"},
    {"services.*.volumes[].image", "subpath"},
    {"networks.*",
     "name driver driver_opts ipam external internal attachable labels enable_ipv4 enable_ipv6"},
    {"networks.*.ipam", "driver config options"},
    {"networks.*.ipam.config[]", "subnet gateway ip_range aux_addresses"},
    {"volumes.*", "name driver driver_opts external labels"},
    {"secrets.*",
     "name file environment content external labels driver driver_opts template_driver"},
    {"configs.*",
     "name file environment content external labels driver driver_opts template_driver"},
    {"models.*", "name model context_size runtime_flags"},
};

const std::map<std::string, std::vector<std::string>>& Orders() {
  static const auto orders = [] {
    std::map<std::string, std::vector<std::string>> out;
    for (const auto& [pattern, keys] : kOrders) out[pattern] = absl::StrSplit(keys, ' ');
    return out;
  }();
  return orders;
}

// Maps below these patterns have names of the file's as keys.
bool FreeNames(const std::string& pattern) {
  static const std::set<std::string> kFree{"services",
                                           "networks",
                                           "volumes",
                                           "secrets",
                                           "configs",
                                           "models",
                                           "services.*.ulimits",
                                           "services.*.build.ulimits",
                                           "services.*.depends_on",
                                           "services.*.networks",
                                           "services.*.models"};
  return kFree.count(pattern) > 0;
}

// False or empty, and yet not what follows from its absence.
bool Says(const std::string& key, const Node& value, const std::string& pattern) {
  if (value.kind == Node::Kind::kBool) {
    return key == "attach" || key == "init" || key == "required" || key == "enable_ipv4" ||
           key == "enable_ipv6" || key == "create_host_path";
  }
  if (value.kind == Node::Kind::kNumber) {
    return key == "replicas" || key == "scale" || key == "parallelism" || key == "max_attempts" ||
           key == "retries" || key == "soft" || key == "hard" || key == "value" ||
           pattern == "services.*.ulimits" || pattern == "services.*.build.ulimits";
  }
  if (value.is_list()) return key == "command" || key == "entrypoint";
  if (value.is_map()) {
    return key == "blkio_config" || key == "deploy" || key == "develop" || key == "healthcheck" ||
           key == "logging" || key == "bind" || key == "volume" || key == "tmpfs" || key == "image";
  }
  return false;
}

bool ZeroSize(const std::string& key, const std::string& text) {
  if (text == "0s") return key == "delay" || key == "monitor";
  return text == "0" &&
         (key == "mem_limit" || key == "mem_reservation" || key == "memswap_limit" ||
          key == "mem_swappiness" || key == "shm_size" || key == "size" || key == "memory");
}

// Whether `key: value` of a map with fixed keys is the default.
bool Silent(const std::string& key, const Node& value, const std::string& pattern) {
  switch (value.kind) {
    case Node::Kind::kNull:
      return true;
    case Node::Kind::kBool:
      return value.text == "false" && !Says(key, value, pattern);
    case Node::Kind::kNumber:
      return value.text == "0" && !Says(key, value, pattern);
    case Node::Kind::kString:
      return value.text.empty() || ZeroSize(key, value.text);
    case Node::Kind::kList:
      return value.items.empty() && !Says(key, value, pattern);
    case Node::Kind::kMap:
      return value.entries.empty() && !Says(key, value, pattern);
  }
  return false;
}

std::string PatternBelow(const std::string& pattern, const std::string& key) {
  if (FreeNames(pattern)) return absl::StrCat(pattern, ".*");
  return pattern.empty() ? key : absl::StrCat(pattern, ".", key);
}

Node Sorted(Node node) {
  std::stable_sort(
      node.entries.begin(), node.entries.end(),
      [](const Node::Entry& a, const Node::Entry& b) { return NaturalLess(a.first, b.first); });
  return node;
}

// An extension, or a map of the file's own.
Node PresentFree(const Node& node) {
  Node out = node;
  if (out.kind == Node::Kind::kNumber) out.text = PlainNumber(out.text);
  for (Node& item : out.items) item = PresentFree(item);
  for (auto& [key, value] : out.entries) value = PresentFree(value);
  return Sorted(std::move(out));
}

// "HOST=ADDRESS" by host; the addresses of one keep their order.
Node SortedHosts(Node node) {
  std::stable_sort(node.items.begin(), node.items.end(), [](const Node& a, const Node& b) {
    return a.text.substr(0, a.text.find('=')) < b.text.substr(0, b.text.find('='));
  });
  return node;
}

Node PresentAt(const Node& node, const std::string& pattern) {
  if (node.is_list()) {
    Node out = node;
    for (Node& item : out.items) item = PresentAt(item, pattern + "[]");
    return absl::EndsWith(pattern, ".extra_hosts") ? SortedHosts(std::move(out)) : out;
  }
  if (!node.is_map()) return PresentFree(node);
  if (FreeNames(pattern)) {
    Node out = node;
    for (auto& [key, value] : out.entries) value = PresentAt(value, pattern + ".*");
    return Sorted(std::move(out));
  }
  const auto order = Orders().find(pattern);
  if (order == Orders().end()) return PresentFree(node);
  Node out = node;
  out.entries.clear();
  for (const std::string& key : order->second) {
    const Node* value = node.Find(key);
    if (value == nullptr) continue;
    // Its labels are among the service's; its name counts for the hash only.
    if (key == "label_file" && pattern == "services.*") continue;
    Node presented = PresentAt(*value, PatternBelow(pattern, key));
    if (Silent(key, presented, pattern)) continue;
    out.entries.emplace_back(key, std::move(presented));
  }
  Node extensions = Node::Map();
  for (const auto& [key, value] : node.entries) {
    if (absl::StartsWith(key, "x-")) extensions.entries.emplace_back(key, PresentFree(value));
  }
  for (Node::Entry& entry : Sorted(std::move(extensions)).entries)
    out.entries.push_back(std::move(entry));
  return out;
}

std::string PatternOf(const std::string& path) {
  std::string pattern;
  if (path.empty()) return pattern;
  for (absl::string_view part : absl::StrSplit(path, '.'))
    pattern = PatternBelow(pattern, std::string(part));
  return pattern;
}

void KeepOnly(Node& model, const char* section, const std::set<std::string>& used) {
  Node* resources = model.Find(section);
  if (resources == nullptr) return;
  auto& entries = resources->entries;
  entries.erase(
      std::remove_if(entries.begin(), entries.end(),
                     [&](const Node::Entry& entry) { return used.count(entry.first) == 0; }),
      entries.end());
}

void AddSources(const Node* list, std::set<std::string>& used) {
  if (list == nullptr) return;
  for (const Node& item : list->items) used.insert(item.TextOf("source"));
}

}  // namespace

bool NaturalLess(absl::string_view a, absl::string_view b) {
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (absl::ascii_isdigit(a[i]) && absl::ascii_isdigit(b[j])) {
      const auto number = [](absl::string_view text, size_t& at) {
        const size_t begin = at;
        while (at < text.size() && absl::ascii_isdigit(text[at])) ++at;
        absl::string_view digits = text.substr(begin, at - begin);
        while (digits.size() > 1 && digits[0] == '0') digits.remove_prefix(1);
        return digits;
      };
      const absl::string_view left = number(a, i);
      const absl::string_view right = number(b, j);
      if (left.size() != right.size()) return left.size() < right.size();
      if (left != right) return left < right;
      continue;
    }
    if (a[i] != b[j]) {
      // Letters come after everything else.
      const bool letter_a = absl::ascii_isalpha(a[i]);
      const bool letter_b = absl::ascii_isalpha(b[j]);
      if (letter_a != letter_b) return letter_b;
      return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
    }
    ++i;
    ++j;
  }
  return a.size() - i < b.size() - j;
}

const std::vector<std::string>* PresentedKeys(const std::string& pattern) {
  const auto order = Orders().find(pattern);
  return order == Orders().end() ? nullptr : &order->second;
}

Node Present(const Node& node, const std::string& path) { return PresentAt(node, PatternOf(path)); }

void DropUnused(Node& model) {
  std::set<std::string> networks, volumes, secrets, configs;
  if (const Node* services = model.Find("services")) {
    for (const auto& [name, service] : services->entries) {
      if (const Node* used = service.Find("networks")) {
        for (const auto& [key, value] : used->entries) networks.insert(key);
      }
      AddSources(service.Find("volumes"), volumes);
      AddSources(service.Find("secrets"), secrets);
      AddSources(service.Find("configs"), configs);
      if (const Node* build = service.Find("build")) AddSources(build->Find("secrets"), secrets);
    }
  }
  KeepOnly(model, "networks", networks);
  KeepOnly(model, "volumes", volumes);
  KeepOnly(model, "secrets", secrets);
  KeepOnly(model, "configs", configs);
}

void AddJsonDefaults(Node& presented) {
  const auto add = [](Node& node, const char* key, Node value) {
    if (node.Find(key) == nullptr) node.Set(key, std::move(value));
  };
  if (Node* services = presented.Find("services")) {
    for (auto& [name, service] : services->entries) {
      add(service, "command", Node::Null());
      add(service, "entrypoint", Node::Null());
      if (Node* deploy = service.Find("deploy")) {
        add(*deploy, "resources", Node::Map());
        add(*deploy, "placement", Node::Map());
      }
    }
  }
  if (Node* networks = presented.Find("networks")) {
    for (auto& [name, network] : networks->entries) add(network, "ipam", Node::Map());
  }
}

}  // namespace gantry::compose
