#include "supervisor/network/pool_source.h"

#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace gantry::network {

absl::StatusOr<PoolSource> ParsePoolSource(absl::string_view text) {
  const absl::Status refused = absl::InvalidArgumentError(
      absl::StrCat("\"", text,
                   "\" is not base=SUBNET,size=LENGTH, with blocks of at most the "
                   "subnet's size"));
  std::optional<Prefix> base;
  int size = 0;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    if (absl::ConsumePrefix(&part, "base=")) {
      const absl::StatusOr<Prefix> parsed = Prefix::Parse(part);
      if (!parsed.ok()) return refused;
      base = *parsed;
    } else if (!absl::ConsumePrefix(&part, "size=") || !absl::SimpleAtoi(part, &size)) {
      return refused;
    }
  }
  if (!base.has_value() || size < base->length() || size > base->first().bits()) return refused;
  return PoolSource{*base, size};
}

}  // namespace gantry::network
