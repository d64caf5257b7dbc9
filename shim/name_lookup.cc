#include "shim/name_lookup.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

constexpr size_t kMaxHostFile = 1 << 20;
constexpr size_t kMaxServers = 3;

}  // namespace

absl::Status NameLookup::ReadConfig() {
  absl::StatusOr<std::string> text = ReadFile(config_path_, network::kMaxResolverBytes);
  if (!text.ok()) return text.status();
  absl::StatusOr<network::ResolverConfig> config = network::ParseResolver(*text);
  if (!config.ok()) return WithContext(config.status(), config_path_);
  config_ = *std::move(config);
  std::vector<std::unique_ptr<network::NamesFile>> networks;
  for (const std::string& path : config_.networks) {
    std::unique_ptr<network::NamesFile> file;
    for (std::unique_ptr<network::NamesFile>& known : networks_) {
      if (known != nullptr && known->path() == path) file = std::move(known);
    }
    if (file == nullptr) file = std::make_unique<network::NamesFile>(path);
    networks.push_back(std::move(file));
  }
  networks_ = std::move(networks);
  host_version_ = network::FileVersion();
  servers_.clear();
  for (const std::string& server : config_.servers) {
    if (servers_.size() < kMaxServers) servers_.push_back({server, false});
  }
  return absl::OkStatus();
}

absl::Status NameLookup::Refresh() {
  absl::Status first;
  if (config_version_.Changed(config_path_)) first.Update(ReadConfig());
  for (const std::unique_ptr<network::NamesFile>& file : networks_) first.Update(file->Refresh());
  // The host's servers may change while the container runs.
  if (!config_.host_servers.empty() && host_version_.Changed(config_.host_servers)) {
    std::erase_if(servers_, [](const Server& server) { return server.of_host; });
    const absl::StatusOr<std::string> text = ReadFile(config_.host_servers, kMaxHostFile);
    if (text.ok()) {
      for (std::string& server : network::ServersOf(*text, kMaxServers - servers_.size()))
        servers_.push_back({std::move(server), true});
    }
  }
  return first;
}

NameLookup::Found NameLookup::Find(absl::string_view name) const {
  Found found;
  if (name.empty()) return found;
  for (const auto& [alias, target] : config_.links) {
    if (alias != name) continue;
    for (const auto& file : networks_) {
      found.addresses = file->table().Find(target);
      found.known = !found.addresses.empty();
      if (found.known) return found;
    }
  }
  for (const auto& file : networks_) {
    found.addresses = file->table().Find(name);
    found.known = !found.addresses.empty();
    if (found.known) return found;
  }
  for (size_t dot = name.rfind('.'); dot != absl::string_view::npos && dot > 0;
       dot = name.rfind('.', dot - 1)) {
    const absl::string_view network = name.substr(dot + 1);
    for (const auto& file : networks_) {
      if (!absl::EqualsIgnoreCase(file->table().network(), network)) continue;
      found.addresses = file->table().Find(name.substr(0, dot));
      found.known = !found.addresses.empty();
      if (found.known) return found;
    }
  }
  return found;
}

std::string NameLookup::NameOf(const network::NameAddress& address) const {
  for (const auto& file : networks_) {
    const absl::string_view name = file->table().NameOf(address);
    if (name.empty()) continue;
    const std::string whole = absl::StrCat(name, ".", file->table().network());
    return network::IsDnsName(whole) ? whole : std::string(name);
  }
  return "";
}

}  // namespace gantry::shim
