#include "supervisor/network/cni_request.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/network/cni_config.h"
#include "supervisor/oci/json_document.h"

namespace gantry::network {
namespace {

using nlohmann::json;

constexpr size_t kMaxIdBytes = 200;        // it is part of a file's name
constexpr size_t kMaxInterfaceBytes = 15;  // IFNAMSIZ, less the NUL

absl::Status CheckId(const std::string& id) {
  bool valid = !id.empty() && id.size() <= kMaxIdBytes && absl::ascii_isalnum(id[0]);
  for (const char c : id) valid &= absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-';
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("CNI: container id \"", id, "\": letters, digits, \"_\", \".\" and \"-\" only"));
}

absl::Status CheckInterface(const std::string& name) {
  bool valid = !name.empty() && name.size() <= kMaxInterfaceBytes && name != "." && name != "..";
  for (const char c : name)
    valid &= absl::ascii_isgraph(c) && c != '/' && c != ':' && c != '@' && c != '%';
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("CNI: interface name \"", name,
                   "\": 1 to 15 printable characters without \"/\", \":\", \"@\" and \"%\""));
}

}  // namespace

absl::Status CheckCniRequest(const CniRequest& request) {
  GANTRY_RETURN_IF_ERROR(CheckId(request.container_id));
  GANTRY_RETURN_IF_ERROR(CheckInterface(request.interface));
  if (request.netns.empty() || request.netns[0] != '/')
    return absl::InvalidArgumentError("CNI: the network namespace needs an absolute path");
  for (const auto& [name, value] : request.args) {
    const std::string both = absl::StrCat(name, value);
    if (name.empty() || name.find('=') != std::string::npos ||
        both.find_first_of(std::string(";\n\0", 3)) != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("CNI: argument \"", name, "\": names have no \"=\", and nothing has \";\""));
    }
  }
  for (const CniPortMapping& one : request.port_mappings) {
    const auto valid = [](int32_t port) { return port > 0 && port <= 65535; };
    if (!valid(one.host_port) || !valid(one.container_port)) {
      return absl::InvalidArgumentError(absl::StrCat("CNI: port mapping ", one.host_port, " -> ",
                                                     one.container_port, ": ports are 1 to 65535"));
    }
  }
  for (const auto& [capability, text] : request.more) {
    GANTRY_RETURN_IF_ERROR(oci::ParseJson(text,
                                          absl::StrCat("CNI: argument of capability ", capability),
                                          {.max_bytes = kMaxCniBytes, .max_depth = kMaxCniDepth})
                               .status());
  }
  return absl::OkStatus();
}

std::map<std::string, std::string> CapabilityArguments(const CniRequest& request) {
  std::map<std::string, std::string> all = request.more;
  if (!request.port_mappings.empty()) {
    json list = json::array();
    for (const CniPortMapping& one : request.port_mappings) {
      json entry = {{"hostPort", one.host_port},
                    {"containerPort", one.container_port},
                    {"protocol", one.protocol}};
      if (!one.host_ip.empty()) entry["hostIP"] = one.host_ip;
      list.push_back(std::move(entry));
    }
    all["portMappings"] = oci::PrintJson(list);
  }
  if (request.bandwidth.has_value()) {
    // A plugin refuses a rate of 0 beside a burst, and the other way round.
    json limits = json::object();
    if (request.bandwidth->ingress_rate > 0) {
      limits["ingressRate"] = request.bandwidth->ingress_rate;
      limits["ingressBurst"] = request.bandwidth->ingress_burst;
    }
    if (request.bandwidth->egress_rate > 0) {
      limits["egressRate"] = request.bandwidth->egress_rate;
      limits["egressBurst"] = request.bandwidth->egress_burst;
    }
    if (!limits.empty()) all["bandwidth"] = oci::PrintJson(limits);
  }
  if (request.dns.has_value()) {
    all["dns"] = oci::PrintJson(json{{"servers", request.dns->servers},
                                     {"searches", request.dns->searches},
                                     {"options", request.dns->options}});
  }
  if (!request.ips.empty()) all["ips"] = oci::PrintJson(json(request.ips));
  if (!request.mac.empty()) all["mac"] = oci::PrintJson(json(request.mac));
  if (!request.cgroup_path.empty()) all["cgroupPath"] = oci::PrintJson(json(request.cgroup_path));
  return all;
}

std::string ArgsText(const std::vector<std::pair<std::string, std::string>>& args) {
  return absl::StrJoin(args, ";", absl::PairFormatter("="));
}

}  // namespace gantry::network
