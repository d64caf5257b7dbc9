// A container's resolv.conf, made of the host's and of what its configuration says. Pure.
//
// `--dns`, `--dns-search` and `--dns-option` each replace what the host's file says of the same
// thing; a search list of "." is an empty one. Comments of the host's file are dropped, lines of
// other kinds are kept.
#ifndef GANTRY_SUPERVISOR_CORE_RESOLV_CONF_H_
#define GANTRY_SUPERVISOR_CORE_RESOLV_CONF_H_

#include <string>

#include "absl/strings/string_view.h"

namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

enum class ResolvConfFor {
  kHostNetwork,  // the host's servers
  // Servers that the container reaches itself: not the host's loopback, and of IPv6 only with
  // addresses of that family. Where none is left, its shim's resolver, which asks on the host.
  kPlainNetwork,
  kPlainNetworkWithIpv6,
  kNamedNetwork,  // its shim's resolver
  kNoNetwork,     // none, but for those of the configuration
};

// `host` is the text of the host's file.
std::string MakeResolvConf(absl::string_view host, const v1::ContainerConfig& config,
                           ResolvConfFor kind);

// Whether the number of dots that a name needs to be asked for as it stands was set to more than 0,
// by the configuration or else by the host's file: then names without a dot are not asked for
// outside.
bool KeepsSingleLabels(absl::string_view host, const v1::ContainerConfig& config);

// Whether all its servers are systemd's stub, 127.0.0.53.
bool NamesOnlyResolvedStub(absl::string_view host);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RESOLV_CONF_H_
