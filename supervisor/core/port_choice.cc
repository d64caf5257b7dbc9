#include "supervisor/core/port_choice.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_records.h"
#include "supervisor/network/address.h"
#include "supervisor/network/port_use.h"

namespace gantry::core {
namespace {

using network::Address;

constexpr size_t kMaxTableBytes = 64 << 20;

// Inodes of sockets that are bound to the port, of one family and protocol.
std::set<std::string> SocketsAt(absl::string_view table, network::Protocol protocol,
                                uint16_t port) {
  std::set<std::string> inodes;
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat("/proc/thread-self/net/", table), kMaxTableBytes);
  if (!text.ok()) return inodes;
  const std::string wanted = absl::StrFormat(":%04X", port);
  bool head = true;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (std::exchange(head, false)) continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    // Number, local address, remote address, state, ..., the inode tenth.
    constexpr absl::string_view kListening = "0A";
    if (fields.size() < 10 || !absl::EndsWith(fields[1], wanted) ||
        (protocol == network::Protocol::kTcp && fields[3] != kListening))
      continue;
    inodes.insert(absl::StrCat("socket:[", fields[9], "]"));
  }
  return inodes;
}

// The process that holds one of the sockets.
std::optional<std::string> HolderOf(const std::set<std::string>& sockets) {
  if (sockets.empty()) return std::nullopt;
  std::error_code error;
  for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    for (auto fd = std::filesystem::directory_iterator(process.path() / "fd", error);
         !error && fd != std::filesystem::directory_iterator(); fd.increment(error)) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(fd->path(), gone);
      if (gone || sockets.count(target) == 0) continue;
      absl::StatusOr<std::string> name = ReadFile(process.path() / "comm", 64);
      return absl::StrCat(
          name.ok() ? absl::StripTrailingAsciiWhitespace(*name) : absl::string_view("process"),
          " (pid ", pid, ")");
    }
    error.clear();
  }
  return std::nullopt;
}

// The program of the host that has a port, as a message says it; nothing when it is free.
// `address`: "" for every address of both families. Sockets of all processes are looked through
// only when the port is in use.
std::optional<std::string> PortHolder(const std::string& address, network::Protocol protocol,
                                      uint16_t port) {
  if (!network::PortInUse(address, protocol, port)) return std::nullopt;
  std::set<std::string> sockets;
  if (protocol != network::Protocol::kSctp) {
    for (const char* family : {"", "6"}) {
      sockets.merge(
          SocketsAt(absl::StrCat(network::ProtocolName(protocol), family), protocol, port));
    }
  }
  return HolderOf(sockets).value_or("a program of the host");
}

// Ports that the kernel gives to programs which ask for any (net.ipv4.ip_local_port_range), without
// those an administrator reserved (ip_local_reserved_ports).
struct EphemeralPorts {
  uint32_t first = 49153;
  uint32_t last = 65535;
  std::set<uint32_t> reserved;
};

EphemeralPorts ReadEphemeralPorts() {
  EphemeralPorts ports;
  const auto range = ReadFile("/proc/sys/net/ipv4/ip_local_port_range", 64);
  if (range.ok()) {
    const std::vector<absl::string_view> ends =
        absl::StrSplit(*range, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
    uint32_t first = 0;
    uint32_t last = 0;
    if (ends.size() == 2 && absl::SimpleAtoi(ends[0], &first) && absl::SimpleAtoi(ends[1], &last) &&
        first > 0 && first <= last && last <= 65535) {
      ports.first = first;
      ports.last = last;
    }
  }
  // "8080,9148-9150"
  const auto reserved = ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports", 1 << 20);
  if (!reserved.ok()) return ports;
  for (const absl::string_view part :
       absl::StrSplit(absl::StripAsciiWhitespace(*reserved), ',', absl::SkipEmpty())) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    uint32_t first = 0;
    uint32_t last = 0;
    if (!absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) continue;
    for (uint32_t port = first; port <= last && port <= 65535; ++port) ports.reserved.insert(port);
  }
  return ports;
}

// Which of the host's addresses a recorded port is at.
struct HostAddresses {
  explicit HostAddresses(const record::v1::NetworkPort& port) {
    if (port.host_address().empty()) return;
    one = Address::Parse(port.host_address()).value_or(Address());
    ipv4 = one.family() == network::Family::kIpv4;
    ipv6 = !ipv4;
    every = one.is_unspecified();
  }
  bool ipv4 = true;
  bool ipv6 = true;
  bool every = true;  // of these families
  Address one;
};

bool Collide(const record::v1::NetworkPort& a, const record::v1::NetworkPort& b) {
  if (a.host_port() != b.host_port() || a.protocol() != b.protocol()) return false;
  const HostAddresses of_a(a);
  const HostAddresses of_b(b);
  const bool families = (of_a.ipv4 && of_b.ipv4) || (of_a.ipv6 && of_b.ipv6);
  return families && (of_a.every || of_b.every || of_a.one == of_b.one);
}

std::string PortText(const record::v1::NetworkPort& port) {
  const std::string& address = port.host_address();
  const bool ipv6 = address.find(':') != std::string::npos;
  return absl::StrCat(ipv6 ? "[" : "", address.empty() ? "0.0.0.0" : address, ipv6 ? "]" : "", ":",
                      port.host_port());
}

// A binding's port but for the host's number.
absl::StatusOr<record::v1::NetworkPort> PlaceOf(const v1::PortBinding& binding,
                                                absl::string_view default_address) {
  record::v1::NetworkPort port;
  port.set_protocol(binding.protocol().empty() ? "tcp" : binding.protocol());
  port.set_container_port(binding.container_port());
  const std::string host =
      binding.host_ip().empty() ? std::string(default_address) : binding.host_ip();
  if (host.empty()) return port;
  absl::StatusOr<Address> address = Address::Parse(host);
  if (!address.ok()) return FieldError("port_bindings", address.status().message());
  // A default of 0.0.0.0 is no choice: the binding is for both families then, as without one.
  if (!binding.host_ip().empty() || !address->is_unspecified())
    port.set_host_address(address->ToString());
  return port;
}

// Which of the host's ports a binding asks for.
struct PortRange {
  bool any = false;
  uint32_t first = 0;
  uint32_t last = 0;
};

absl::StatusOr<PortRange> RangeOf(const v1::PortBinding& binding) {
  PortRange range;
  range.any = binding.host_port().empty() || binding.host_port() == "0";
  if (range.any) return range;
  const std::vector<std::string> ends = absl::StrSplit(binding.host_port(), '-');
  if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &range.first) ||
      !absl::SimpleAtoi(ends.back(), &range.last) || range.first == 0 || range.last > 65535 ||
      range.first > range.last) {
    return FieldError("port_bindings",
                      absl::StrCat("\"", binding.host_port(), "\" is not a port or a range"));
  }
  return range;
}

// Where the search for any free port begins: behind the last one given, so that a port that was
// just given back is not the next one's.
std::atomic<uint32_t> last_given{0};

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

absl::StatusOr<record::v1::NetworkPort> OpenedPort(const v1::PortBinding& binding) {
  record::v1::NetworkPort port;
  port.set_protocol(binding.protocol().empty() ? "tcp" : binding.protocol());
  port.set_container_port(binding.container_port());
  if (binding.host_ip().empty()) return port;
  // It says which family is meant, and whether others than the host are.
  absl::StatusOr<Address> address = Address::Parse(binding.host_ip());
  if (!address.ok()) return FieldError("port_bindings", address.status().message());
  port.set_host_address(address->ToString());
  return port;
}

absl::StatusOr<record::v1::NetworkPort> ChoosePort(const v1::PortBinding& binding,
                                                   absl::string_view default_address,
                                                   const std::vector<metadata::StoredNetns>& all,
                                                   const record::v1::NetworkNamespace& made) {
  GANTRY_ASSIGN_OR_RETURN(record::v1::NetworkPort port, PlaceOf(binding, default_address));
  GANTRY_ASSIGN_OR_RETURN(const PortRange asked, RangeOf(binding));
  std::vector<std::pair<uint32_t, uint32_t>> ranges = {{asked.first, asked.last}};
  std::set<uint32_t> reserved;
  if (asked.any) {
    EphemeralPorts any = ReadEphemeralPorts();
    const uint32_t begin = std::clamp(last_given + 1, any.first, any.last);
    ranges = {{begin, any.last}};
    if (begin > any.first) ranges.emplace_back(any.first, begin - 1);
    reserved = std::move(any.reserved);
  }
  const auto holder_of = [&]() -> std::string {
    for (const record::v1::NetworkPort& one : made.ports()) {
      if (Collide(one, port)) return "this container";
    }
    for (const metadata::StoredNetns& other : all) {
      if (other.record.container_id() == made.container_id()) continue;
      for (const auto* ports : {&other.record.ports(), &other.record.leaving_ports()}) {
        for (const record::v1::NetworkPort& one : *ports) {
          if (Collide(one, port)) return absl::StrCat("container ", other.record.container_name());
        }
      }
    }
    return "";
  };
  const bool one_only = ranges.size() == 1 && ranges[0].first == ranges[0].second;
  for (const auto& [first, last] : ranges) {
    for (uint32_t number = first; number <= last; ++number) {
      if (reserved.count(number) > 0) continue;
      port.set_host_port(number);
      const std::string holder = holder_of();
      if (!holder.empty()) {
        if (!one_only) continue;
        return absl::AlreadyExistsError(absl::StrCat("Bind for ", PortText(port),
                                                     " failed: port is already allocated; ", holder,
                                                     " has it"));
      }
      // What the container gives back is still bound by its own shim, if by anything.
      const auto& leaving = made.leaving_ports();
      const bool own = std::any_of(leaving.begin(), leaving.end(),
                                   [&port](const auto& one) { return Collide(one, port); });
      const std::optional<std::string> program =
          own ? std::nullopt
              : PortHolder(port.host_address(), ProtocolOf(port.protocol()),
                           static_cast<uint16_t>(number));
      if (program.has_value()) {
        if (!one_only) continue;
        return absl::AlreadyExistsError(
            absl::StrCat("failed to bind host port ", PortText(port), "/", port.protocol(),
                         ": address already in use; ", *program, " has it"));
      }
      if (asked.any) last_given = number;
      return port;
    }
  }
  return absl::ResourceExhaustedError(absl::StrCat("all ports from ", ranges.back().first, " to ",
                                                   ranges.front().second, " are allocated"));
}

absl::Status ChoosePorts(const std::vector<v1::PortBinding>& wanted,
                         absl::string_view default_address, bool only_opened,
                         const std::vector<metadata::StoredNetns>& all,
                         record::v1::NetworkNamespace& made) {
  std::vector<record::v1::NetworkPort> held(made.ports().begin(), made.ports().end());
  std::vector<std::optional<record::v1::NetworkPort>> chosen(wanted.size());
  made.clear_ports();
  // Kept ones first: none of them is in the way of a binding that stands before its own.
  for (size_t i = 0; i < wanted.size(); ++i) {
    GANTRY_ASSIGN_OR_RETURN(
        const record::v1::NetworkPort place,
        only_opened ? OpenedPort(wanted[i]) : PlaceOf(wanted[i], default_address));
    GANTRY_ASSIGN_OR_RETURN(const PortRange range, RangeOf(wanted[i]));
    const auto kept =
        std::find_if(held.begin(), held.end(), [&](const record::v1::NetworkPort& one) {
          return one.host_address() == place.host_address() && one.protocol() == place.protocol() &&
                 one.container_port() == place.container_port() &&
                 (only_opened
                      ? one.host_port() == 0
                      : one.host_port() != 0 && (range.any || (range.first <= one.host_port() &&
                                                               one.host_port() <= range.last)));
        });
    if (kept == held.end()) continue;
    *made.add_ports() = *kept;
    chosen[i] = *kept;
    held.erase(kept);
  }
  for (const record::v1::NetworkPort& one : held) *made.add_leaving_ports() = one;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (chosen[i].has_value()) continue;
    GANTRY_ASSIGN_OR_RETURN(chosen[i], only_opened
                                           ? OpenedPort(wanted[i])
                                           : ChoosePort(wanted[i], default_address, all, made));
    *made.add_ports() = *chosen[i];
  }
  made.clear_ports();
  for (const auto& one : chosen) *made.add_ports() = *one;
  return absl::OkStatus();
}

}  // namespace gantry::core
