// Which network a container's configuration asks for. Parsed here and nowhere else.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_CHOICE_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_CHOICE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::v1 {
class ContainerConfig;
class NetworkAttachment;
}  // namespace gantry::v1

namespace gantry::core {

struct NetworkChoice {
  enum class Kind {
    kNone,       // a network namespace of its own, with loopback only
    kHost,       // the host's
    kContainer,  // that of another container
    kNetwork,    // one of its own, connected to a network
  };
  Kind kind = Kind::kNone;
  std::string container;  // kContainer: its id, or what the client named it by
  std::string network;    // kNetwork: its name or id

  bool host() const { return kind == Kind::kHost; }
  // "none", "host", "container:ID" or the network.
  std::string Print() const;
};

// "" and "default" are kNone; any other word is a network's name or id, which need not exist.
// kInvalidArgument, of field network_mode: no network can have that name.
absl::StatusOr<NetworkChoice> ParseNetworkMode(absl::string_view network_mode);

// The same with the rest of the configuration: a container that publishes ports and does not choose
// a network is connected to "bridge".
absl::StatusOr<NetworkChoice> NetworkOf(const v1::ContainerConfig& config);

// All networks of a configuration whose choice is kNetwork, with what it wants in each: the chosen
// one in front, named in the list or not.
std::vector<v1::NetworkAttachment> AttachmentsOf(absl::string_view network,
                                                 const v1::ContainerConfig& config);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_CHOICE_H_
