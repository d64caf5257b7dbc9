#include "supervisor/core/port_choice.h"

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_records.h"
#include "supervisor/network/address.h"
#include "supervisor/network/port_use.h"

namespace gantry::core {
namespace {

using network::Address;

bool Collide(const record::v1::NetworkPort& a, const record::v1::NetworkPort& b) {
  return a.host_port() == b.host_port() && a.protocol() == b.protocol() &&
         (a.host_address().empty() || b.host_address().empty() ||
          a.host_address() == b.host_address());
}

// Whether a program of the host has the port.
bool HostHas(const record::v1::NetworkPort& port) {
  return network::PortInUse(port.host_address(), ProtocolOf(port.protocol()),
                            static_cast<uint16_t>(port.host_port()));
}

std::string PortText(const record::v1::NetworkPort& port) {
  return absl::StrCat(port.host_address().empty() ? "0.0.0.0" : port.host_address(), ":",
                      port.host_port(), "/", port.protocol());
}

}  // namespace

std::vector<v1::PortBinding> WantedPorts(const v1::ContainerConfig& config) {
  std::vector<v1::PortBinding> wanted(config.port_bindings().begin(), config.port_bindings().end());
  if (!config.publish_all_ports()) return wanted;
  for (const std::string& text : config.exposed_ports()) {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('/', 1));
    const std::string protocol = parts.size() == 2 ? parts[1] : "tcp";
    const std::vector<std::string> ends = absl::StrSplit(parts[0], '-');
    uint32_t first = 0;
    uint32_t last = 0;
    // An image may expose what is not a port: it is shown, and not published.
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first == 0 || last > 65535)
      continue;
    for (uint32_t number = first; number <= last; ++number) {
      bool bound = false;
      for (const v1::PortBinding& one : wanted) {
        bound = bound || (one.container_port() == number &&
                          (one.protocol().empty() ? "tcp" : one.protocol()) == protocol);
      }
      if (bound) continue;
      v1::PortBinding any;
      any.set_container_port(number);
      any.set_protocol(protocol);
      wanted.push_back(std::move(any));
    }
  }
  return wanted;
}

absl::StatusOr<record::v1::NetworkPort> ChoosePort(const v1::PortBinding& binding,
                                                   absl::string_view default_address,
                                                   const std::vector<metadata::StoredNetns>& all,
                                                   const record::v1::NetworkNamespace& made) {
  record::v1::NetworkPort port;
  port.set_protocol(binding.protocol().empty() ? "tcp" : binding.protocol());
  port.set_container_port(binding.container_port());
  const std::string host =
      binding.host_ip().empty() ? std::string(default_address) : binding.host_ip();
  if (!host.empty()) {
    absl::StatusOr<Address> address = Address::Parse(host);
    if (!address.ok()) return FieldError("port_bindings", address.status().message());
    if (!address->is_unspecified()) port.set_host_address(address->ToString());
  }
  uint32_t first = 0;
  uint32_t last = 0;
  if (binding.host_port().empty() || binding.host_port() == "0") {
    // As the kernel's own ephemeral ports are by default.
    first = 32768;
    last = 60999;
  } else {
    const std::vector<std::string> ends = absl::StrSplit(binding.host_port(), '-');
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first == 0 || last > 65535 || first > last) {
      return FieldError("port_bindings",
                        absl::StrCat("\"", binding.host_port(), "\" is not a port or a range"));
    }
  }
  std::string holder;
  for (uint32_t number = first; number <= last; ++number) {
    port.set_host_port(number);
    holder.clear();
    for (const metadata::StoredNetns& other : all) {
      for (const record::v1::NetworkPort& one : other.record.ports()) {
        if (Collide(one, port)) holder = absl::StrCat("container ", other.record.container_name());
      }
    }
    for (const record::v1::NetworkPort& one : made.ports()) {
      if (Collide(one, port)) holder = "this container";
    }
    if (holder.empty() && HostHas(port)) holder = "a program of the host";
    if (holder.empty()) return port;
  }
  port.set_host_port(first);
  if (first != last) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ports from ", first, " to ", last, " are allocated"));
  }
  return absl::AlreadyExistsError(absl::StrCat(
      "Bind for ", PortText(port), " failed: port is already allocated; ", holder, " has it"));
}

}  // namespace gantry::core
