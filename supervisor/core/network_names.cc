#include "supervisor/core/network_names.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/resolv_conf.h"
#include "supervisor/network/names_file.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;

constexpr size_t kShortId = 12;
constexpr size_t kMaxHostFile = 1 << 20;
constexpr char kDefaultNetwork[] = "bridge";

absl::Status Unlink(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoToStatus(errno, path);
}

network::NamedMember MemberOf(const record::v1::NetworkEndpoint& endpoint) {
  network::NamedMember member;
  member.name = endpoint.container_name();
  // Those of older records are without the container's name.
  member.names = {endpoint.names().begin(), endpoint.names().end()};
  member.names.push_back(endpoint.container_name());
  member.names.push_back(endpoint.container_id().substr(0, kShortId));
  for (const std::string& text : endpoint.addresses())
    member.addresses.push_back(text.substr(0, text.find('/')));
  return member;
}

// "NAME:ALIAS", or "NAME" for itself.
std::pair<std::string, std::string> LinkOf(absl::string_view text) {
  const size_t colon = text.rfind(':');
  absl::string_view target = text.substr(0, colon);
  absl::string_view alias = colon == absl::string_view::npos ? target : text.substr(colon + 1);
  if (absl::StartsWith(target, "/")) target.remove_prefix(1);
  return {std::string(alias.substr(alias.rfind('/') + 1)), std::string(target)};
}

}  // namespace

std::string LinkTarget(absl::string_view link) { return LinkOf(link).second; }

NetworkNames::NetworkNames(metadata::NetworkStore* store, std::string state_directory,
                           std::string host_resolv_conf)
    : store_(store),
      directory_(std::move(state_directory) + "/names"),
      host_resolv_conf_(std::move(host_resolv_conf)) {}

std::string NetworkNames::NetworkPath(absl::string_view ns, absl::string_view network_id) const {
  return absl::StrCat(directory_, "/networks/", ns, "/", network_id);
}

std::string NetworkNames::ResolverPath(absl::string_view ns, absl::string_view container_id) const {
  return absl::StrCat(directory_, "/containers/", ns, "/", container_id);
}

bool NetworkNames::HasNames(const StoredNetwork& network) {
  return network.record.name() != kDefaultNetwork;
}

bool NetworkNames::HasLinks(const v1::ContainerConfig& config) {
  return config.links_size() > 0 ||
         std::any_of(config.networks().begin(), config.networks().end(),
                     [](const v1::NetworkAttachment& one) { return one.links_size() > 0; });
}

absl::Status NetworkNames::NetworkChanged(const StoredNetwork& network) {
  absl::MutexLock lock(&mu_);
  const std::string path = NetworkPath(network.ns, network.record.id());
  if (!HasNames(network) && access(path.c_str(), F_OK) != 0) return absl::OkStatus();
  return WriteNetwork(network);
}

absl::Status NetworkNames::WriteNetwork(const StoredNetwork& network) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(absl::StrCat(directory_, "/networks/", network.ns), 0700));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints, store_->Endpoints(network));
  std::vector<network::NamedMember> members;
  for (const StoredEndpoint& one : endpoints) members.push_back(MemberOf(one.record));
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          network::PrintNames(network.record.name(), members));
  return network::ReplaceFile(NetworkPath(network.ns, network.record.id()), text);
}

absl::Status NetworkNames::NetworkRemoved(const StoredNetwork& network) {
  absl::MutexLock lock(&mu_);
  return Unlink(NetworkPath(network.ns, network.record.id()));
}

absl::Status NetworkNames::ContainerChanged(absl::string_view ns, absl::string_view container_id,
                                            const v1::ContainerConfig& config,
                                            const std::vector<StoredNetwork>& networks) {
  network::ResolverConfig resolver;
  bool outside = false;
  for (const StoredNetwork& one : networks) {
    outside = outside || !one.settings.internal();
    if (!HasNames(one)) {
      if (!HasLinks(config)) continue;
      absl::MutexLock lock(&mu_);
      GANTRY_RETURN_IF_ERROR(WriteNetwork(one));
    }
    resolver.networks.push_back(NetworkPath(ns, one.record.id()));
  }
  for (const v1::NetworkAttachment& attachment : config.networks()) {
    for (const std::string& link : attachment.links()) resolver.links.push_back(LinkOf(link));
  }
  for (const std::string& link : config.links()) resolver.links.push_back(LinkOf(link));
  for (const auto& [alias, target] : resolver.links) {
    if (!network::IsDnsName(alias) || !network::IsDnsName(target))
      return FieldError("links", absl::StrCat("\"", target, ":", alias, "\" is not NAME:ALIAS"));
  }
  resolver.servers = {config.dns().begin(), config.dns().end()};
  if (resolver.servers.empty() && outside) resolver.host_servers = host_resolv_conf_;
  resolver.single_labels_stay =
      KeepsSingleLabels(ReadFile(host_resolv_conf_, kMaxHostFile).value_or(""), config);
  const absl::StatusOr<std::string> text = network::PrintResolver(resolver);
  if (!text.ok()) return FieldError("dns", text.status().message());
  GANTRY_RETURN_IF_ERROR(MakeDirectories(absl::StrCat(directory_, "/containers/", ns), 0700));
  return network::ReplaceFile(ResolverPath(ns, container_id), *text);
}

absl::Status NetworkNames::ContainerRemoved(absl::string_view ns, absl::string_view container_id) {
  return Unlink(ResolverPath(ns, container_id));
}

absl::Status NetworkNames::Reconcile() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks, store_->List(""));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints, store_->AllEndpoints());
  absl::Status first;
  std::set<std::string> kept;
  for (const StoredNetwork& one : networks) {
    kept.insert(NetworkPath(one.ns, one.record.id()));
    first.Update(NetworkChanged(one));
  }
  for (const StoredEndpoint& one : endpoints)
    kept.insert(ResolverPath(one.ns, one.record.container_id()));
  for (const char* kind : {"/networks", "/containers"}) {
    const absl::StatusOr<std::vector<std::string>> namespaces = ListDirectory(directory_ + kind);
    if (!namespaces.ok()) continue;
    for (const std::string& ns : *namespaces) {
      const std::string directory = absl::StrCat(directory_, kind, "/", ns);
      const absl::StatusOr<std::vector<std::string>> files = ListDirectory(directory);
      if (!files.ok()) continue;
      for (const std::string& file : *files) {
        const std::string path = absl::StrCat(directory, "/", file);
        if (kept.count(path) == 0) first.Update(Unlink(path));
      }
    }
  }
  return first;
}

}  // namespace gantry::core
