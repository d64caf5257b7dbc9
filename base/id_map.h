// Ids of users and groups in a user namespace, and the host's ids that they stand for.
//
// Pure functions, thread-safe.

#ifndef GANTRY_BASE_ID_MAP_H_
#define GANTRY_BASE_ID_MAP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace gantry {

// `length` ids from container_id on stand for as many of the host's from host_id on.
struct IdRange {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t length = 0;

  friend bool operator==(const IdRange&, const IdRange&) = default;
};

// The map of a user namespace: none of both is the host's own.
struct IdMaps {
  std::vector<IdRange> uids;
  std::vector<IdRange> gids;

  bool empty() const { return uids.empty() && gids.empty(); }
  friend bool operator==(const IdMaps&, const IdMaps&) = default;
};

// nullopt: no range has it.
std::optional<uint32_t> HostIdOf(absl::Span<const IdRange> ranges, uint32_t container_id);
std::optional<uint32_t> ContainerIdOf(absl::Span<const IdRange> ranges, uint32_t host_id);

// "0:100000:65536[,...]", container id first: how mount options and labels of snapshots write it.
// kInvalidArgument: malformed. Whether the ranges make sense is CheckIdRanges()'s.
absl::StatusOr<std::vector<IdRange>> ParseIdRanges(absl::string_view text);
std::string PrintIdRanges(absl::Span<const IdRange> ranges);

// Refuses what the kernel refuses, with a reason, and what no container can start with: empty
// ranges, ids above 4294967294, ids that two ranges have, no id 0 inside. The root of the host is
// refused as well, because a map that has it protects nothing.
// kInvalidArgument; `what` leads the message: "user ids".
absl::Status CheckIdRanges(absl::string_view what, absl::Span<const IdRange> ranges);

}  // namespace gantry

#endif  // GANTRY_BASE_ID_MAP_H_
