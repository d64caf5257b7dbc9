// What a pod asks of its network, checked and in the form that plugins read.
//
// Values are thread-compatible, the functions thread-safe. Spec: CNI 1.1 section 2 ("Parameters"),
// and the conventions of the CNI project for well-known capabilities.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_REQUEST_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_REQUEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gantry::network {

struct CniPortMapping {
  int32_t host_port = 0;
  int32_t container_port = 0;
  std::string protocol = "tcp";  // or udp, sctp
  std::string host_ip;           // "" all
};

// Bits per second and bits; 0: no limit in this direction.
struct CniBandwidth {
  uint64_t ingress_rate = 0;
  uint64_t ingress_burst = 0;
  uint64_t egress_rate = 0;
  uint64_t egress_burst = 0;
};

struct CniDns {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
};

// What a pod asks of its network.
struct CniRequest {
  std::string container_id;  // of the pod
  // A path that the plugins, which run in this process's mount namespace, can open: a bind mount
  // of the namespace, or /proc/PID/ns/net. It must lead to the namespace until Remove() returns.
  std::string netns;
  std::string interface = "eth0";
  // CNI_ARGS, in order, such as {"K8S_POD_NAME", "web"}. Neither may contain ';', names no '='.
  std::vector<std::pair<std::string, std::string>> args;

  // Capability arguments. A plugin gets those that its configuration declares a capability for.
  std::vector<CniPortMapping> port_mappings;
  std::optional<CniBandwidth> bandwidth;
  std::optional<CniDns> dns;
  std::vector<std::string> ips;  // wanted addresses, with prefix length
  std::string mac;
  std::string cgroup_path;
  // Others: capability -> JSON text, as {"io.kubernetes.cri.pod-annotations", "{...}"}.
  std::map<std::string, std::string> more;
};

// kInvalidArgument: an id, an interface name or an argument that plugins refuse or would take apart
// in another way; `more` is not JSON.
absl::Status CheckCniRequest(const CniRequest& request);

// Capability -> JSON text of its argument, of all that the request has.
std::map<std::string, std::string> CapabilityArguments(const CniRequest& request);

// "A=1;B=2".
std::string ArgsText(const std::vector<std::pair<std::string, std::string>>& args);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_REQUEST_H_
