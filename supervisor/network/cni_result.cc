#include "supervisor/network/cni_result.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/network/cni_config.h"
#include "supervisor/oci/json_document.h"

namespace gantry::network {
namespace {

using nlohmann::json;

absl::Status WrongField(absl::string_view field) {
  return absl::InvalidArgumentError(
      absl::StrCat("the result's field \"", field, "\" is not of the kind that CNI gives it"));
}

// Null counts as absent, as Go's encoders write it.
const json* Find(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::Status Take(const json& object, const char* key, std::string& into) {
  const json* found = Find(object, key);
  if (found == nullptr) return absl::OkStatus();
  if (!found->is_string()) return WrongField(key);
  into = found->get<std::string>();
  return absl::OkStatus();
}

absl::Status Take(const json& object, const char* key, std::vector<std::string>& into) {
  const json* found = Find(object, key);
  if (found == nullptr) return absl::OkStatus();
  if (!found->is_array()) return WrongField(key);
  for (const json& one : *found) {
    if (!one.is_string()) return WrongField(key);
    into.push_back(one.get<std::string>());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<const json*>> Objects(const json& object, const char* key) {
  std::vector<const json*> all;
  const json* found = Find(object, key);
  if (found == nullptr) return all;
  if (!found->is_array()) return WrongField(key);
  for (const json& one : *found) {
    if (!one.is_object()) return WrongField(key);
    all.push_back(&one);
  }
  return all;
}

absl::Status TakeRoutes(const json& object, CniResult& result) {
  GANTRY_ASSIGN_OR_RETURN(const auto routes, Objects(object, "routes"));
  for (const json* one : routes) {
    CniRoute route;
    GANTRY_RETURN_IF_ERROR(Take(*one, "dst", route.destination));
    GANTRY_RETURN_IF_ERROR(Take(*one, "gw", route.gateway));
    result.routes.push_back(std::move(route));
  }
  return absl::OkStatus();
}

absl::Status TakeDns(const json& object, CniResult& result) {
  const json* dns = Find(object, "dns");
  if (dns == nullptr) return absl::OkStatus();
  if (!dns->is_object()) return WrongField("dns");
  GANTRY_RETURN_IF_ERROR(Take(*dns, "nameservers", result.nameservers));
  GANTRY_RETURN_IF_ERROR(Take(*dns, "domain", result.domain));
  GANTRY_RETURN_IF_ERROR(Take(*dns, "search", result.search));
  return Take(*dns, "options", result.options);
}

// Versions 0.1 and 0.2: at most one address of each family, and no interfaces.
absl::Status ReadOld(const json& document, CniResult& result) {
  for (const char* key : {"ip4", "ip6"}) {
    const json* one = Find(document, key);
    if (one == nullptr) continue;
    if (!one->is_object()) return WrongField(key);
    CniAddress address;
    GANTRY_RETURN_IF_ERROR(Take(*one, "ip", address.address));
    GANTRY_RETURN_IF_ERROR(Take(*one, "gateway", address.gateway));
    GANTRY_RETURN_IF_ERROR(TakeRoutes(*one, result));
    result.addresses.push_back(std::move(address));
  }
  return TakeDns(document, result);
}

absl::Status ReadCurrent(const json& document, CniResult& result) {
  GANTRY_ASSIGN_OR_RETURN(const auto interfaces, Objects(document, "interfaces"));
  for (const json* one : interfaces) {
    CniInterface interface;
    GANTRY_RETURN_IF_ERROR(Take(*one, "name", interface.name));
    GANTRY_RETURN_IF_ERROR(Take(*one, "mac", interface.mac));
    GANTRY_RETURN_IF_ERROR(Take(*one, "sandbox", interface.sandbox));
    if (const json* mtu = Find(*one, "mtu"); mtu != nullptr) {
      if (!mtu->is_number_integer()) return WrongField("mtu");
      interface.mtu = mtu->get<int64_t>();
    }
    result.interfaces.push_back(std::move(interface));
  }
  GANTRY_ASSIGN_OR_RETURN(const auto addresses, Objects(document, "ips"));
  for (const json* one : addresses) {
    CniAddress address;
    GANTRY_RETURN_IF_ERROR(Take(*one, "address", address.address));
    GANTRY_RETURN_IF_ERROR(Take(*one, "gateway", address.gateway));
    if (const json* index = Find(*one, "interface"); index != nullptr) {
      if (!index->is_number_integer()) return WrongField("interface");
      address.interface = index->get<int64_t>();
    }
    result.addresses.push_back(std::move(address));
  }
  GANTRY_RETURN_IF_ERROR(TakeRoutes(document, result));
  return TakeDns(document, result);
}

bool IsIpv6(absl::string_view address) { return absl::StrContains(address, ':'); }

// What a version's form knows of it. Fields that only the other version has are lost, as they are
// in every conversion.
json Print(const CniResult& result, absl::string_view version) {
  json document = {{"cniVersion", std::string(version)}};
  json dns = json::object();
  if (!result.nameservers.empty()) dns["nameservers"] = result.nameservers;
  if (!result.domain.empty()) dns["domain"] = result.domain;
  if (!result.search.empty()) dns["search"] = result.search;
  if (!result.options.empty()) dns["options"] = result.options;
  document["dns"] = std::move(dns);

  const auto print_route = [](const CniRoute& route) {
    json one = {{"dst", route.destination}};
    if (!route.gateway.empty()) one["gw"] = route.gateway;
    return one;
  };
  if (!CniVersionAtLeast(version, "0.3.0")) {
    for (const CniAddress& address : result.addresses) {
      const bool six = IsIpv6(address.address);
      const char* key = six ? "ip6" : "ip4";
      if (document.contains(key)) continue;
      json one = {{"ip", address.address}};
      if (!address.gateway.empty()) one["gateway"] = address.gateway;
      for (const CniRoute& route : result.routes) {
        if (IsIpv6(route.destination) == six) one["routes"].push_back(print_route(route));
      }
      document[key] = std::move(one);
    }
    return document;
  }
  for (const CniInterface& interface : result.interfaces) {
    json one = {{"name", interface.name}};
    if (!interface.mac.empty()) one["mac"] = interface.mac;
    if (interface.mtu != 0 && CniVersionAtLeast(version, "1.1.0")) one["mtu"] = interface.mtu;
    if (!interface.sandbox.empty()) one["sandbox"] = interface.sandbox;
    document["interfaces"].push_back(std::move(one));
  }
  for (const CniAddress& address : result.addresses) {
    json one = {{"address", address.address}};
    if (!CniVersionAtLeast(version, "1.0.0")) one["version"] = IsIpv6(address.address) ? "6" : "4";
    if (!address.gateway.empty()) one["gateway"] = address.gateway;
    if (address.interface.has_value()) one["interface"] = *address.interface;
    document["ips"].push_back(std::move(one));
  }
  for (const CniRoute& route : result.routes) document["routes"].push_back(print_route(route));
  return document;
}

// 0: before 0.3; 1: 0.3 and 0.4; 2: 1.0 and later.
int FormOf(absl::string_view version) {
  if (!CniVersionAtLeast(version, "0.3.0")) return 0;
  return CniVersionAtLeast(version, "1.0.0") ? 2 : 1;
}

}  // namespace

std::vector<std::string> CniResult::PodAddresses() const {
  const auto of_pod = [this](const CniAddress& one) {
    if (!one.interface.has_value() || interfaces.empty()) return true;
    const int64_t index = *one.interface;
    return index >= 0 && index < static_cast<int64_t>(interfaces.size()) &&
           !interfaces[static_cast<size_t>(index)].sandbox.empty();
  };
  std::vector<std::string> all;
  for (const CniAddress& one : addresses) {
    if (of_pod(one)) all.push_back(one.address.substr(0, one.address.find('/')));
  }
  const auto first_four =
      std::find_if(all.begin(), all.end(), [](const std::string& one) { return !IsIpv6(one); });
  if (first_four != all.end()) std::rotate(all.begin(), first_four, first_four + 1);
  return all;
}

absl::StatusOr<CniResult> ParseCniResult(absl::string_view text, absl::string_view version) {
  GANTRY_ASSIGN_OR_RETURN(
      json document,
      oci::ParseJson(text, "the result", {.max_bytes = kMaxCniBytes, .max_depth = kMaxCniDepth}));
  if (!document.is_object()) return absl::InvalidArgumentError("the result is not a JSON object");
  std::string printed_in;
  GANTRY_RETURN_IF_ERROR(Take(document, "cniVersion", printed_in));
  if (printed_in.empty()) printed_in = version.empty() ? "0.1.0" : std::string(version);
  if (!IsCniVersion(printed_in)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the result has version \"", printed_in, "\", which is not known here"));
  }
  CniResult result;
  GANTRY_RETURN_IF_ERROR(FormOf(printed_in) == 0 ? ReadOld(document, result)
                                                 : ReadCurrent(document, result));
  if (FormOf(printed_in) == FormOf(version)) {
    document["cniVersion"] = std::string(version);
    result.json = oci::PrintJson(document);
  } else {
    result.json = oci::PrintJson(Print(result, version));
  }
  return result;
}

}  // namespace gantry::network
