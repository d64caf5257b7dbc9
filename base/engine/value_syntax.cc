#include "base/engine/value_syntax.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/engine/units.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::engine {
namespace {

absl::Status Bad(absl::string_view what, absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("invalid ", what, " \"", text, "\": ", why));
}

bool IsPropagation(absl::string_view option) {
  return option == "shared" || option == "rshared" || option == "slave" || option == "rslave" ||
         option == "private" || option == "rprivate";
}

// Resolved against `cwd`, without . and .. components.
std::string CleanPath(absl::string_view path, const std::string& cwd) {
  const std::string full =
      absl::StartsWith(path, "/") ? std::string(path) : absl::StrCat(cwd, "/", path);
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(full, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

absl::Status ApplyVolumeOption(absl::string_view option, v1::Mount* mount) {
  if (option == "ro" || option == "rw") {
    const auto& others = mount->options();
    if (mount->read_only() || std::find(others.begin(), others.end(), "rw") != others.end())
      return absl::InvalidArgumentError("it says twice whether it is read-only");
    if (option == "ro") {
      mount->set_read_only(true);
    } else {
      mount->add_options("rw");
    }
  } else if (option == "consistent" || option == "cached" || option == "delegated" ||
             option == "z" || option == "Z") {
    // Like rw without an effect: another system's tuning, or a label where there is no SELinux.
    // They are kept because docker repeats them.
    mount->add_options(std::string(option));
  } else if (option == "nocopy") {
    mount->set_no_copy(true);
  } else if (option == "idmap") {
    mount->add_options("idmap");
  } else if (IsPropagation(option)) {
    mount->set_propagation(std::string(option));
  } else {
    return absl::InvalidArgumentError(absl::StrCat("unknown option \"", option, "\""));
  }
  return absl::OkStatus();
}

struct PortRange {
  int first = 0;
  int last = 0;
};

absl::StatusOr<PortRange> ParsePortRange(absl::string_view text) {
  PortRange range;
  const std::pair<absl::string_view, absl::string_view> ends =
      absl::StrSplit(text, absl::MaxSplits('-', 1));
  if (!absl::SimpleAtoi(ends.first, &range.first) || range.first < 1 || range.first > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a port number"));
  }
  range.last = range.first;
  if (absl::StrContains(text, "-") && (!absl::SimpleAtoi(ends.second, &range.last) ||
                                       range.last < range.first || range.last > 65535)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a range of ports"));
  }
  return range;
}

// Comma-separated fields, each possibly in double quotes as CSV has them.
std::vector<std::string> SplitCsv(absl::string_view text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      if (quoted && i + 1 < text.size() && text[i + 1] == '"') {
        fields.back().push_back('"');
        ++i;
      } else {
        quoted = !quoted;
      }
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back().push_back(c);
    }
  }
  return fields;
}

absl::StatusOr<bool> ParseMountBool(absl::string_view value) {
  if (value.empty()) return true;
  bool parsed;
  if (!absl::SimpleAtob(value, &parsed)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", value, "\" is neither true nor false"));
  }
  return parsed;
}

}  // namespace

absl::StatusOr<v1::Mount> ParseVolume(absl::string_view text, const std::string& cwd) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  if (parts.size() > 3) return Bad("volume", text, "too many colons");
  for (absl::string_view part : parts) {
    if (part.empty()) return Bad("volume", text, "empty part");
  }
  v1::Mount mount;
  absl::string_view target = parts[0];
  absl::string_view options;
  if (parts.size() == 1) {
    mount.set_type(v1::Mount::VOLUME);
  } else {
    absl::string_view source = parts[0];
    target = parts[1];
    if (parts.size() == 3) options = parts[2];
    if (absl::StartsWith(source, "/") || absl::StartsWith(source, ".") ||
        absl::StartsWith(source, "~")) {
      mount.set_type(v1::Mount::BIND);
      mount.set_source(CleanPath(source, cwd));
      mount.set_create_source(true);
    } else {
      mount.set_type(v1::Mount::VOLUME);
      mount.set_source(std::string(source));
    }
  }
  if (!absl::StartsWith(target, "/")) {
    return Bad("volume", text, absl::StrCat("the target \"", target, "\" is not absolute"));
  }
  mount.set_target(CleanPath(target, "/"));
  if (mount.target() == "/") return Bad("volume", text, "the target cannot be '/'");
  if (!options.empty()) {
    for (absl::string_view option : absl::StrSplit(options, ',')) {
      const absl::Status status = ApplyVolumeOption(option, &mount);
      if (!status.ok()) return Bad("volume", text, status.message());
    }
  }
  return mount;
}

absl::StatusOr<v1::Mount> ParseMount(absl::string_view text, const std::string& cwd) {
  v1::Mount mount;
  mount.set_type(v1::Mount::VOLUME);
  for (const std::string& field : SplitCsv(text)) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(field, absl::MaxSplits('=', 1));
    const std::string key = absl::AsciiStrToLower(pair.first);
    const std::string& value = pair.second;
    if (key == "type") {
      const std::string type = absl::AsciiStrToLower(value);
      if (type == "bind") {
        mount.set_type(v1::Mount::BIND);
      } else if (type == "volume") {
        mount.set_type(v1::Mount::VOLUME);
      } else if (type == "tmpfs") {
        mount.set_type(v1::Mount::TMPFS);
      } else if (type == "image") {
        mount.set_type(v1::Mount::IMAGE);
      } else {
        return Bad("mount", text,
                   absl::StrCat("type \"", value, "\"; there is bind, volume, tmpfs and image"));
      }
    } else if (key == "source" || key == "src") {
      mount.set_source(value);
    } else if (key == "target" || key == "dst" || key == "destination") {
      if (!absl::StartsWith(value, "/")) {
        return Bad("mount", text, absl::StrCat("the target \"", value, "\" is not absolute"));
      }
      mount.set_target(CleanPath(value, "/"));
    } else if (key == "readonly" || key == "ro") {
      auto on = ParseMountBool(value);
      if (!on.ok()) return Bad("mount", text, on.status().message());
      mount.set_read_only(*on);
    } else if (key == "bind-propagation") {
      if (!IsPropagation(value)) return Bad("mount", text, "unknown propagation");
      mount.set_propagation(value);
    } else if (key == "bind-nonrecursive") {
      auto on = ParseMountBool(value);
      if (!on.ok()) return Bad("mount", text, on.status().message());
      mount.set_non_recursive(*on);
    } else if (key == "bind-recursive") {
      if (value == "disabled") {
        mount.set_non_recursive(true);
      } else if (value == "writable") {
        mount.set_read_only_non_recursive(true);
      } else if (value == "readonly") {
        mount.set_read_only_force_recursive(true);
      } else if (value != "enabled") {
        return Bad("mount", text, "bind-recursive is one of enabled, disabled, writable, readonly");
      }
    } else if (key == "bind-create-src") {
      auto on = ParseMountBool(value);
      if (!on.ok()) return Bad("mount", text, on.status().message());
      mount.set_create_source(*on);
    } else if (key == "volume-nocopy") {
      auto on = ParseMountBool(value);
      if (!on.ok()) return Bad("mount", text, on.status().message());
      mount.set_no_copy(*on);
    } else if (key == "volume-subpath" || key == "image-subpath") {
      mount.set_subpath(value);
    } else if (key == "volume-driver") {
      mount.set_volume_driver(value);
    } else if (key == "volume-opt" || key == "volume-label") {
      const auto [name, setting] = SplitAssignment(value);
      (*(key == "volume-opt" ? mount.mutable_volume_options()
                             : mount.mutable_volume_labels()))[name] = setting;
    } else if (key == "tmpfs-size") {
      auto bytes = ParseBytes(value);
      if (!bytes.ok()) return Bad("mount", text, bytes.status().message());
      mount.set_tmpfs_size_bytes(*bytes);
    } else if (key == "tmpfs-mode") {
      uint32_t mode = 0;
      for (const char c : value) {
        if (c < '0' || c > '7' || value.size() > 5)
          return Bad("mount", text, "tmpfs-mode is octal");
        mode = mode * 8 + static_cast<uint32_t>(c - '0');
      }
      mount.set_tmpfs_mode(mode);
    } else if (key != "consistency") {
      return Bad("mount", text, absl::StrCat("unknown key \"", pair.first, "\""));
    }
  }
  if (mount.target().empty()) return Bad("mount", text, "target is missing");
  if (mount.type() == v1::Mount::BIND) {
    if (mount.source().empty()) return Bad("mount", text, "source is missing");
    mount.set_source(CleanPath(mount.source(), cwd));
  }
  if (mount.type() == v1::Mount::TMPFS && !mount.source().empty()) {
    return Bad("mount", text, "a tmpfs has no source");
  }
  if (mount.type() == v1::Mount::IMAGE && mount.source().empty()) {
    return Bad("mount", text, "source is missing: the image");
  }
  return mount;
}

absl::StatusOr<v1::Mount> ParseTmpfs(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (!absl::StartsWith(parts.first, "/")) return Bad("tmpfs", text, "the target is not absolute");
  v1::Mount mount;
  mount.set_type(v1::Mount::TMPFS);
  mount.set_target(CleanPath(parts.first, "/"));
  if (!parts.second.empty()) {
    for (absl::string_view option : absl::StrSplit(parts.second, ',')) {
      if (option == "ro") mount.set_read_only(true);
      mount.add_options(std::string(option));
    }
  }
  return mount;
}

absl::StatusOr<std::vector<v1::PortBinding>> ParsePublish(absl::string_view text) {
  absl::string_view rest = text;
  std::string protocol = "tcp";
  if (const size_t slash = rest.rfind('/'); slash != rest.npos) {
    protocol = absl::AsciiStrToLower(rest.substr(slash + 1));
    rest = rest.substr(0, slash);
    if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
      return Bad("port", text, absl::StrCat("protocol \"", protocol, "\""));
    }
  }
  std::string host_ip;
  absl::string_view host;
  const size_t colon = rest.rfind(':');
  const absl::string_view container = colon == rest.npos ? rest : rest.substr(colon + 1);
  if (colon != rest.npos) {
    rest = rest.substr(0, colon);
    // An IPv6 address is in brackets.
    const size_t bracket = rest.rfind(']');
    const size_t second = rest.rfind(':');
    if (second != rest.npos && (bracket == rest.npos || second > bracket)) {
      host_ip = std::string(rest.substr(0, second));
      host = rest.substr(second + 1);
    } else if (bracket != rest.npos) {
      host_ip = std::string(rest);
    } else if (absl::StrContains(rest, ".")) {
      host_ip = std::string(rest);
    } else {
      host = rest;
    }
    if (host_ip.size() >= 2 && host_ip.front() == '[')
      host_ip = host_ip.substr(1, host_ip.size() - 2);
  }
  if (host == "0") host = {};  // any free one
  auto inside = ParsePortRange(container);
  if (!inside.ok()) return Bad("port", text, inside.status().message());
  std::vector<v1::PortBinding> bindings;
  PortRange outside;
  if (!host.empty()) {
    auto parsed = ParsePortRange(host);
    if (!parsed.ok()) return Bad("port", text, parsed.status().message());
    outside = *parsed;
    const int inside_count = inside->last - inside->first;
    const int outside_count = outside.last - outside.first;
    if (inside_count != outside_count && inside_count != 0) {
      return Bad("port", text, "the two ranges differ in length");
    }
  }
  for (int port = inside->first; port <= inside->last; ++port) {
    v1::PortBinding binding;
    binding.set_container_port(static_cast<uint32_t>(port));
    binding.set_protocol(protocol);
    binding.set_host_ip(host_ip);
    if (!host.empty()) {
      binding.set_host_port(inside->first == inside->last
                                ? std::string(host)
                                : absl::StrCat(outside.first + port - inside->first));
    }
    bindings.push_back(std::move(binding));
  }
  return bindings;
}

absl::StatusOr<v1::NetworkAttachment> ParseNetwork(absl::string_view text) {
  v1::NetworkAttachment network;
  if (text.empty()) return Bad("network", text, "empty");
  if (!absl::StrContains(text, "=")) {
    network.set_network(std::string(text));
    return network;
  }
  for (const std::string& field : SplitCsv(text)) {
    const auto [key, value] = SplitAssignment(field);
    if (key == "name") {
      network.set_network(value);
    } else if (key == "alias") {
      network.add_aliases(value);
    } else if (key == "ip") {
      network.set_ipv4_address(value);
    } else if (key == "ip6") {
      network.set_ipv6_address(value);
    } else if (key == "mac-address") {
      network.set_mac_address(value);
    } else if (key == "link-local-ip") {
      network.add_link_local_addresses(value);
    } else if (key == "gw-priority") {
      int32_t priority = 0;
      if (!absl::SimpleAtoi(value, &priority))
        return Bad("network", text, absl::StrCat("gw-priority \"", value, "\" is not a number"));
      network.set_gateway_priority(priority);
    } else if (key == "driver-opt") {
      const auto [name, setting] = SplitAssignment(value);
      (*network.mutable_driver_options())[name] = setting;
    } else {
      return Bad("network", text, absl::StrCat("unknown key \"", key, "\""));
    }
  }
  if (network.network().empty()) return Bad("network", text, "name is missing");
  return network;
}

absl::StatusOr<v1::Device> ParseDevice(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  const auto is_mode = [](absl::string_view s) {
    return !s.empty() && s.size() <= 3 && s.find_first_not_of("rwm") == s.npos;
  };
  v1::Device device;
  device.set_host_path(parts[0]);
  device.set_container_path(parts[0]);
  device.set_permissions("rwm");
  if (!absl::StartsWith(parts[0], "/") || parts.size() > 3) {
    return Bad("device", text, "write HOST[:CONTAINER][:rwm] with absolute paths");
  }
  if (parts.size() == 3) {
    if (!is_mode(parts[2])) return Bad("device", text, "permissions are some of r, w and m");
    device.set_permissions(parts[2]);
  }
  if (parts.size() >= 2) {
    if (parts.size() == 2 && is_mode(parts[1])) {
      device.set_permissions(parts[1]);
    } else if (absl::StartsWith(parts[1], "/")) {
      device.set_container_path(parts[1]);
    } else {
      return Bad("device", text, "the path in the container is not absolute");
    }
  }
  return device;
}

absl::StatusOr<v1::DeviceRate> ParseDeviceRate(absl::string_view text, bool bytes) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos || !absl::StartsWith(text, "/dev/")) {
    return Bad("device rate", text, "write /dev/NAME:RATE");
  }
  v1::DeviceRate rate;
  rate.set_path(std::string(text.substr(0, colon)));
  const absl::string_view number = text.substr(colon + 1);
  uint64_t value = 0;
  if (bytes) {
    auto parsed = ParseBytes(number);
    if (!parsed.ok() || *parsed < 0) return Bad("device rate", text, "the rate is not a size");
    value = static_cast<uint64_t>(*parsed);
  } else if (!absl::SimpleAtoi(number, &value)) {
    return Bad("device rate", text, "the rate is not a whole number");
  }
  rate.set_rate(value);
  return rate;
}

absl::StatusOr<v1::Ulimit> ParseUlimit(absl::string_view text) {
  static constexpr absl::string_view kNames[] = {
      "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue", "nice",
      "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack",    "as"};
  const auto [name, limits] = SplitAssignment(text);
  if (std::find(std::begin(kNames), std::end(kNames), name) == std::end(kNames)) {
    return Bad("ulimit", text,
               absl::StrCat("\"", name, "\" is not the name of a limit; use one of ",
                            absl::StrJoin(kNames, ", ")));
  }
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(limits, absl::MaxSplits(':', 1));
  v1::Ulimit ulimit;
  ulimit.set_name(name);
  int64_t soft;
  if (parts.first == "unlimited") {
    soft = -1;
  } else if (!absl::SimpleAtoi(parts.first, &soft)) {
    return Bad("ulimit", text, "write NAME=SOFT[:HARD]");
  }
  int64_t hard = soft;
  if (absl::StrContains(limits, ":")) {
    if (parts.second == "unlimited") {
      hard = -1;
    } else if (!absl::SimpleAtoi(parts.second, &hard)) {
      return Bad("ulimit", text, "write NAME=SOFT[:HARD]");
    }
  }
  if (hard != -1 && (soft > hard || soft == -1)) {
    return Bad("ulimit", text, "the soft limit is above the hard one");
  }
  ulimit.set_soft(soft);
  ulimit.set_hard(hard);
  return ulimit;
}

absl::StatusOr<v1::RestartPolicy> ParseRestartPolicy(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  v1::RestartPolicy policy;
  policy.set_name(std::string(parts.first));
  if (parts.first != "no" && parts.first != "always" && parts.first != "on-failure" &&
      parts.first != "unless-stopped") {
    return Bad("restart policy", text, "use no, always, on-failure[:N] or unless-stopped");
  }
  if (absl::StrContains(text, ":")) {
    int32_t count;
    if (!absl::SimpleAtoi(parts.second, &count) || count < 0) {
      return Bad("restart policy", text, "the count is not a whole number");
    }
    if (parts.first != "on-failure") {
      return Bad("restart policy", text, "only on-failure takes a count");
    }
    policy.set_maximum_retry_count(count);
  }
  return policy;
}

absl::StatusOr<v1::Filter> ParseFilter(absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == text.npos || equals == 0) {
    return Bad("filter", text, "write KEY=VALUE");
  }
  v1::Filter filter;
  // KEY!=VALUE is KEY!, a key of its own: label!=keep.
  filter.set_key(absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(0, equals))));
  if (filter.key().empty() || filter.key() == "!") return Bad("filter", text, "write KEY=VALUE");
  filter.set_value(std::string(absl::StripAsciiWhitespace(text.substr(equals + 1))));
  return filter;
}

std::pair<std::string, std::string> SplitAssignment(absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == text.npos) return {std::string(text), ""};
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

absl::StatusOr<std::string> ParseEnvironment(
    absl::string_view text, const std::map<std::string, std::string>& environment) {
  if (text.empty() || text[0] == '=') return Bad("environment variable", text, "no name");
  if (absl::StrContains(text, "=")) return std::string(text);
  const auto it = environment.find(std::string(text));
  if (it == environment.end()) return std::string(text);
  return absl::StrCat(text, "=", it->second);
}

absl::StatusOr<std::string> ParseExtraHost(absl::string_view text) {
  const size_t split = text.find_first_of("=:");
  if (split == text.npos || split == 0 || split + 1 == text.size()) {
    return Bad("host", text, "write NAME:ADDRESS");
  }
  absl::string_view address = text.substr(split + 1);
  if (address.size() > 2 && address.front() == '[' && address.back() == ']') {
    address = address.substr(1, address.size() - 2);
  }
  return absl::StrCat(text.substr(0, split), ":", address);
}

absl::StatusOr<std::vector<std::string>> SplitWords(absl::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else if (c == '\\' && quote == '"' && i + 1 < text.size()) {
        word.push_back(text[++i]);
      } else {
        word.push_back(c);
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      in_word = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word.push_back(text[++i]);
      in_word = true;
    } else if (std::isspace(static_cast<unsigned char>(c))) {
      if (in_word) words.push_back(std::exchange(word, ""));
      in_word = false;
    } else {
      word.push_back(c);
      in_word = true;
    }
  }
  if (quote != 0) return absl::InvalidArgumentError(absl::StrCat("quote without an end: ", text));
  if (in_word) words.push_back(word);
  return words;
}

}  // namespace gantry::engine
