#include "supervisor/core/name_files.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "content-store/digest.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/resolv_conf.h"

namespace gantry::core {
namespace {

constexpr size_t kMaxHostFile = 1 << 20;
constexpr size_t kMaxHashFile = 256;
constexpr char kHostGateway[] = "host-gateway";
constexpr char kLocalHosts[] =
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

std::string HostnameOf(const v1::ContainerConfig& config, const NetworkChoice& network,
                       absl::string_view container_id) {
  const bool host_uts =
      config.uts_mode() == "host" || (network.host() && config.hostname().empty());
  char host[256] = {};
  if (host_uts && gethostname(host, sizeof host - 1) == 0) return host;
  return config.hostname().empty() ? std::string(container_id.substr(0, 12)) : config.hostname();
}

std::string ReadHostFile(const std::string& path) {
  return ReadFile(path, kMaxHostFile).value_or("");
}

std::string HostResolvConf(const HostNameFiles& host) {
  std::string text = ReadHostFile(host.etc + "/resolv.conf");
  if (NamesOnlyResolvedStub(text)) {
    std::string resolved = ReadHostFile(host.resolved);
    if (!resolved.empty()) return resolved;
  }
  return text;
}

bool IsAddress(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

absl::StatusOr<std::string> ExtraHosts(const v1::ContainerConfig& config,
                                       const NamesOfNetworks& names) {
  std::string lines;
  for (const std::string& extra : config.extra_hosts()) {
    const size_t colon = extra.find(':');
    if (colon == std::string::npos || colon == 0 ||
        extra.find_first_of(" \t\n\r") != std::string::npos)
      return FieldError("extra_hosts", absl::StrCat("bad format for add-host: \"", extra, "\""));
    const std::string name = extra.substr(0, colon);
    const std::string address = extra.substr(colon + 1);
    if (address == kHostGateway) {
      for (const std::string& gateway : names.host_gateways)
        absl::StrAppend(&lines, gateway, "\t", name, "\n");
      continue;
    }
    if (!IsAddress(address)) {
      return FieldError("extra_hosts",
                        absl::StrCat("invalid IP address in add-host: \"", address, "\""));
    }
    absl::StrAppend(&lines, address, "\t", name, "\n");
  }
  return lines;
}

// "HOST.DOMAIN HOST".
std::string OwnNames(const v1::ContainerConfig& config, const std::string& hostname) {
  const std::string whole =
      config.domainname().empty() ? hostname : absl::StrCat(hostname, ".", config.domainname());
  const size_t dot = whole.find('.');
  return dot == std::string::npos ? whole : absl::StrCat(whole, " ", whole.substr(0, dot));
}

std::string OwnLine(const std::string& address, const std::string& names) {
  return absl::StrCat(address, "\t", names);
}

ResolvConfFor KindOf(const NetworkChoice& network, const NamesOfNetworks& names) {
  if (network.host()) return ResolvConfFor::kHostNetwork;
  if (names.resolver) return ResolvConfFor::kNamedNetwork;
  if (names.addresses.empty()) return ResolvConfFor::kNoNetwork;
  const bool ipv6 = std::any_of(names.addresses.begin(), names.addresses.end(),
                                [](const std::string& one) { return absl::StrContains(one, ':'); });
  return ipv6 ? ResolvConfFor::kPlainNetworkWithIpv6 : ResolvConfFor::kPlainNetwork;
}

// Over what is there, so that a container that has it mounted sees it.
absl::Status WriteInPlace(const std::string& path, absl::string_view text) {
  const UniqueFd file(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  return WithContext(WriteAll(file.get(), text), path);
}

absl::Status WriteResolvConf(const std::string& directory, const std::string& text) {
  const std::string path = directory + "/resolv.conf";
  const std::string hash_path = path + ".hash";
  const absl::StatusOr<std::string> ours = ReadFile(hash_path, kMaxHashFile);
  const absl::StatusOr<std::string> there = ReadFile(path, kMaxHostFile);
  const std::string before = content::Digest::Sha256Of(there.value_or("")).str();
  // Edited, or grown beyond what anyone would read.
  if (ours.ok() && !absl::IsNotFound(there.status()) &&
      (!there.ok() || !absl::StrContains(*ours, before)))
    return absl::OkStatus();
  const std::string now = content::Digest::Sha256Of(text).str();
  if (ours.ok() && there.ok() && before == now) return absl::OkStatus();
  // Both, until the file is written: a crash in between leaves one of them.
  GANTRY_RETURN_IF_ERROR(WriteInPlace(hash_path, absl::StrCat(before, "\n", now, "\n")));
  GANTRY_RETURN_IF_ERROR(WriteInPlace(path, text));
  return WriteInPlace(hash_path, now + "\n");
}

}  // namespace

bool NeedsHostGateway(const v1::ContainerConfig& config) {
  return std::any_of(config.extra_hosts().begin(), config.extra_hosts().end(),
                     [](const std::string& extra) {
                       return absl::EndsWith(extra, absl::StrCat(":", kHostGateway));
                     });
}

absl::Status WriteNameFiles(const std::string& directory, const v1::ContainerConfig& config,
                            absl::string_view container_id, const NamesOfNetworks& names,
                            const HostNameFiles& host) {
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(config));
  GANTRY_ASSIGN_OR_RETURN(const std::string extra, ExtraHosts(config, names));
  const std::string hostname = HostnameOf(config, network, container_id);
  std::string hosts;
  if (network.host() && extra.empty()) {
    hosts = ReadHostFile(host.etc + "/hosts");
  } else {
    hosts = absl::StrCat(kLocalHosts, extra);
    const std::string own = OwnNames(config, hostname);
    for (const std::string& address : names.addresses)
      absl::StrAppend(&hosts, OwnLine(address, own), "\n");
    // A name that is its own must resolve, also without an address.
    if (names.addresses.empty()) absl::StrAppend(&hosts, OwnLine("127.0.1.1", own), "\n");
  }
  GANTRY_RETURN_IF_ERROR(WriteInPlace(directory + "/hostname", hostname + "\n"));
  GANTRY_RETURN_IF_ERROR(WriteInPlace(directory + "/hosts", hosts));
  return WriteResolvConf(directory,
                         MakeResolvConf(HostResolvConf(host), config, KindOf(network, names)));
}

absl::Status UpdateNameFiles(const std::string& directory, const v1::ContainerConfig& config,
                             absl::string_view container_id, const NamesOfNetworks& before,
                             const NamesOfNetworks& now, const HostNameFiles& host) {
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(config));
  const std::string own = OwnNames(config, HostnameOf(config, network, container_id));
  const std::string path = directory + "/hosts";
  GANTRY_ASSIGN_OR_RETURN(const std::string hosts, ReadFile(path, kMaxHostFile));
  std::vector<std::string> lines = absl::StrSplit(hosts, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  const auto has = [](const std::vector<std::string>& all, const std::string& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  for (const std::string& address : before.addresses) {
    if (!has(now.addresses, address)) std::erase(lines, OwnLine(address, own));
  }
  for (const std::string& address : now.addresses) {
    const std::string line = OwnLine(address, own);
    if (!has(lines, line)) lines.push_back(line);
  }
  lines.emplace_back();
  const std::string changed = absl::StrJoin(lines, "\n");
  if (changed != hosts) GANTRY_RETURN_IF_ERROR(WriteInPlace(path, changed));
  return WriteResolvConf(directory,
                         MakeResolvConf(HostResolvConf(host), config, KindOf(network, now)));
}

absl::Status CopyNameFiles(const std::string& other, const std::string& directory) {
  for (const char* name : {"/hostname", "/hosts", "/resolv.conf"}) {
    const absl::StatusOr<std::string> text = ReadFile(other + name, kMaxHostFile);
    if (text.ok()) GANTRY_RETURN_IF_ERROR(WriteInPlace(directory + name, *text));
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
