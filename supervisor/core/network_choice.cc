#include "supervisor/core/network_choice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {

std::string NetworkChoice::Print() const {
  switch (kind) {
    case Kind::kNone:
      return "none";
    case Kind::kHost:
      return "host";
    case Kind::kContainer:
      return absl::StrCat("container:", container);
    case Kind::kNetwork:
      return network;
  }
  return "";
}

absl::StatusOr<NetworkChoice> ParseNetworkMode(absl::string_view network_mode) {
  NetworkChoice choice;
  if (network_mode.empty() || network_mode == "default" || network_mode == "none") return choice;
  if (network_mode == "host") {
    choice.kind = NetworkChoice::Kind::kHost;
    return choice;
  }
  absl::string_view other = network_mode;
  if (absl::ConsumePrefix(&other, "container:")) {
    choice.kind = NetworkChoice::Kind::kContainer;
    choice.container = std::string(other);
    return choice;
  }
  const bool name = absl::ascii_isalnum(static_cast<unsigned char>(network_mode.front())) &&
                    std::all_of(network_mode.begin(), network_mode.end(), [](unsigned char c) {
                      return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-';
                    });
  if (!name) {
    return FieldError("network_mode",
                      absl::StrCat("\"", network_mode,
                                   "\" is not a network; use host, none, container:NAME or a "
                                   "network's name"));
  }
  choice.kind = NetworkChoice::Kind::kNetwork;
  choice.network = std::string(network_mode);
  return choice;
}

absl::StatusOr<NetworkChoice> NetworkOf(const v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(NetworkChoice choice, ParseNetworkMode(config.network_mode()));
  const bool chosen = !config.network_mode().empty() && config.network_mode() != "default";
  if (!chosen && (config.port_bindings_size() > 0 || config.publish_all_ports())) {
    choice.kind = NetworkChoice::Kind::kNetwork;
    choice.network = "bridge";
  }
  return choice;
}

std::vector<v1::NetworkAttachment> AttachmentsOf(absl::string_view network,
                                                 const v1::ContainerConfig& config) {
  std::vector<v1::NetworkAttachment> all(config.networks().begin(), config.networks().end());
  const auto first = std::find_if(all.begin(), all.end(),
                                  [network](const auto& one) { return one.network() == network; });
  if (first == all.end()) {
    v1::NetworkAttachment main;
    main.set_network(std::string(network));
    all.insert(all.begin(), std::move(main));
  } else {
    std::rotate(all.begin(), first, first + 1);
  }
  if (all.front().mac_address().empty()) all.front().set_mac_address(config.mac_address());
  return all;
}

}  // namespace gantry::core
