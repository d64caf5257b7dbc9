#include "supervisor/core/network_choice.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/field_error.h"

namespace gantry::core {

std::string NetworkChoice::Print() const {
  switch (kind) {
    case Kind::kNone:
      return "none";
    case Kind::kHost:
      return "host";
    case Kind::kContainer:
      return absl::StrCat("container:", container);
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
  return FieldError("network_mode", absl::StrCat("there is no network \"", network_mode,
                                                 "\"; use host, none or container:NAME"));
}

}  // namespace gantry::core
