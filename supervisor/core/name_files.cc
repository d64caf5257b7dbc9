#include "supervisor/core/name_files.h"

#include <unistd.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_choice.h"

namespace gantry::core {
namespace {

constexpr size_t kMaxHostFile = 1 << 20;

std::string HostnameOf(const v1::ContainerConfig& config, const NetworkChoice& network,
                       absl::string_view container_id) {
  const bool host_uts =
      config.uts_mode() == "host" || (network.host() && config.hostname().empty());
  char host[256] = {};
  if (host_uts && gethostname(host, sizeof host - 1) == 0) return host;
  return config.hostname().empty() ? std::string(container_id.substr(0, 12)) : config.hostname();
}

// A name server at the host's loopback address is out of a container's reach.
std::string WithoutLoopbackServers(absl::string_view resolv) {
  std::string kept;
  for (absl::string_view line : absl::StrSplit(resolv, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    const bool loopback = words.size() > 1 && words[0] == "nameserver" &&
                          (absl::StartsWith(words[1], "127.") || words[1] == "::1");
    if (!loopback) absl::StrAppend(&kept, line, "\n");
  }
  return kept;
}

}  // namespace

absl::Status WriteNameFiles(const std::string& directory, const v1::ContainerConfig& config,
                            absl::string_view container_id,
                            const std::vector<std::string>& addresses,
                            const std::string& host_etc) {
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(config));
  const std::string hostname = HostnameOf(config, network, container_id);
  std::string hosts;
  std::string resolv;
  if (network.host()) {
    absl::StatusOr<std::string> text = ReadFile(host_etc + "/hosts", kMaxHostFile);
    if (text.ok()) hosts = *std::move(text);
    text = ReadFile(host_etc + "/resolv.conf", kMaxHostFile);
    if (text.ok()) resolv = *std::move(text);
  } else {
    hosts =
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
        "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    const std::string names = config.domainname().empty()
                                  ? hostname
                                  : absl::StrCat(hostname, ".", config.domainname(), " ", hostname);
    for (const std::string& address : addresses)
      absl::StrAppend(&hosts, address, "\t", names, "\n");
    if (addresses.empty()) absl::StrAppend(&hosts, "127.0.1.1\t", hostname, "\n");
    if (network.kind == NetworkChoice::Kind::kNetwork) {
      absl::StatusOr<std::string> text = ReadFile(host_etc + "/resolv.conf", kMaxHostFile);
      if (text.ok()) resolv = WithoutLoopbackServers(*text);
    }
  }
  for (const std::string& extra : config.extra_hosts()) {
    const size_t colon = extra.find(':');
    if (colon == std::string::npos || colon == 0 ||
        extra.find_first_of(" \t\n\r") != std::string::npos) {
      return FieldError("extra_hosts", absl::StrCat("\"", extra, "\" is not NAME:ADDRESS"));
    }
    absl::StrAppend(&hosts, extra.substr(colon + 1), "\t", extra.substr(0, colon), "\n");
  }
  if (config.dns_size() + config.dns_search_size() + config.dns_options_size() > 0) {
    resolv.clear();
    for (const std::string& server : config.dns())
      absl::StrAppend(&resolv, "nameserver ", server, "\n");
    if (config.dns_search_size() > 0)
      absl::StrAppend(&resolv, "search ", absl::StrJoin(config.dns_search(), " "), "\n");
    if (config.dns_options_size() > 0)
      absl::StrAppend(&resolv, "options ", absl::StrJoin(config.dns_options(), " "), "\n");
  }
  GANTRY_RETURN_IF_ERROR(WriteFile(directory + "/hostname", hostname + "\n", 0644));
  GANTRY_RETURN_IF_ERROR(WriteFile(directory + "/hosts", hosts, 0644));
  return WriteFile(directory + "/resolv.conf", resolv, 0644);
}

}  // namespace gantry::core
