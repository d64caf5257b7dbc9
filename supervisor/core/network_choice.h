// What the network_mode of a container's configuration asks for. Parsed here and nowhere else.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_CHOICE_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_CHOICE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::core {

struct NetworkChoice {
  enum class Kind {
    kNone,       // a network namespace of its own, with loopback only
    kHost,       // the host's
    kContainer,  // that of another container
  };
  Kind kind = Kind::kNone;
  std::string container;  // kContainer: its id, or what the client named it by

  bool host() const { return kind == Kind::kHost; }
  // "none", "host" or "container:ID".
  std::string Print() const;
};

// "" and "default" are kNone. kInvalidArgument, of field network_mode: there is no such network.
absl::StatusOr<NetworkChoice> ParseNetworkMode(absl::string_view network_mode);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_CHOICE_H_
