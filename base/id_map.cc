#include "base/id_map.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace gantry {
namespace {

// 4294967295 is "no id" to the kernel.
constexpr uint64_t kIds = UINT32_MAX;

bool Overlap(uint32_t a, uint32_t a_length, uint32_t b, uint32_t b_length) {
  return uint64_t{a} < uint64_t{b} + b_length && uint64_t{b} < uint64_t{a} + a_length;
}

}  // namespace

std::optional<uint32_t> HostIdOf(absl::Span<const IdRange> ranges, uint32_t container_id) {
  for (const IdRange& one : ranges) {
    if (container_id >= one.container_id && container_id - one.container_id < one.length)
      return one.host_id + (container_id - one.container_id);
  }
  return std::nullopt;
}

std::optional<uint32_t> ContainerIdOf(absl::Span<const IdRange> ranges, uint32_t host_id) {
  for (const IdRange& one : ranges) {
    if (host_id >= one.host_id && host_id - one.host_id < one.length)
      return one.container_id + (host_id - one.host_id);
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<IdRange>> ParseIdRanges(absl::string_view text) {
  std::vector<IdRange> ranges;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> words = absl::StrSplit(part, ':');
    IdRange one;
    if (words.size() != 3 || !absl::SimpleAtoi(words[0], &one.container_id) ||
        !absl::SimpleAtoi(words[1], &one.host_id) || !absl::SimpleAtoi(words[2], &one.length) ||
        one.length == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("id map \"", text, "\": not of the form inside:outside:length"));
    }
    ranges.push_back(one);
  }
  return ranges;
}

std::string PrintIdRanges(absl::Span<const IdRange> ranges) {
  return absl::StrJoin(ranges, ",", [](std::string* out, const IdRange& one) {
    absl::StrAppend(out, one.container_id, ":", one.host_id, ":", one.length);
  });
}

absl::Status CheckIdRanges(absl::string_view what, absl::Span<const IdRange> ranges) {
  // The kernel's own limit.
  if (ranges.size() > 340)
    return absl::InvalidArgumentError(absl::StrCat(what, ": more than 340 ranges"));
  for (size_t i = 0; i < ranges.size(); ++i) {
    const IdRange& one = ranges[i];
    const std::string shown = PrintIdRanges({one});
    if (one.length == 0)
      return absl::InvalidArgumentError(absl::StrCat(what, " ", shown, ": the range is empty"));
    if (uint64_t{one.container_id} + one.length > kIds ||
        uint64_t{one.host_id} + one.length > kIds) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " ", shown, ": the last id is above 4294967294"));
    }
    if (one.host_id == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " ", shown, ": the host's root would be an id of the container"));
    }
    for (size_t j = 0; j < i; ++j) {
      const IdRange& other = ranges[j];
      if (Overlap(one.container_id, one.length, other.container_id, other.length) ||
          Overlap(one.host_id, one.length, other.host_id, other.length)) {
        return absl::InvalidArgumentError(
            absl::StrCat(what, " ", shown, ": has ids of ", PrintIdRanges({other}), " as well"));
      }
    }
  }
  if (!HostIdOf(ranges, 0).has_value())
    return absl::InvalidArgumentError(absl::StrCat(what, ": id 0 of the container has no id"));
  return absl::OkStatus();
}

}  // namespace gantry
