// What a CNI plugin reports: the interfaces, addresses, routes and name servers that it made.
//
// Results of every version of the specification are read; one is printed in the form that a given
// version has, since each plugin of a chain reads the result of the one before it. Values are
// thread-compatible, the functions thread-safe. Spec: CNI 1.1 section 5.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_RESULT_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_RESULT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::network {

struct CniInterface {
  std::string name;
  std::string mac;      // "" not reported
  int64_t mtu = 0;      // 0 not reported
  std::string sandbox;  // path of the network namespace; "" on the host
};

struct CniAddress {
  std::string address;               // with prefix length: "10.1.0.2/24"
  std::string gateway;               // "" none
  std::optional<int64_t> interface;  // index in CniResult::interfaces
};

struct CniRoute {
  std::string destination;  // with prefix length
  std::string gateway;      // "" none
};

struct CniResult {
  std::vector<CniInterface> interfaces;
  std::vector<CniAddress> addresses;
  std::vector<CniRoute> routes;
  std::vector<std::string> nameservers;
  std::string domain;
  std::vector<std::string> search;
  std::vector<std::string> options;
  // The document as the last plugin printed it, in the version of the network.
  std::string json;

  // Addresses of the pod, without prefix length: those of interfaces in a namespace, the first of
  // IPv4 before all others, which keep their order. In a result that names no interfaces (before
  // version 0.3), or whose addresses name none, all are the pod's.
  std::vector<std::string> PodAddresses() const;
};

// `version` is the network's. A result that names another version is read as that version says, and
// its json is printed anew.
//   kInvalidArgument  not a JSON object of this shape; the message says which field
absl::StatusOr<CniResult> ParseCniResult(absl::string_view json, absl::string_view version);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_RESULT_H_
