// containerd's filter language: `labels."com.example/x"==1,id~=^web`.
//
// A list of texts is OR-ed, selectors within one text (`,`) are AND-ed, an empty list or text
// matches everything.
//   selector   path | path (== | != | ~=) value
//   path       field ("." field)*      field: [A-Za-z0-9_]+ or "quoted"
//   value      "quoted", or a run up to `,` or white space; after ~= also /regex/ and |regex|
// Absent fields: presence and == are false, != is true, ~= is tried on "".
// Immutable after Parse, cheap to copy; Matches() is thread-safe. Regular expressions are RE2's:
// linear time, bounded memory.
#ifndef GANTRY_SUPERVISOR_METADATA_FILTER_H_
#define GANTRY_SUPERVISOR_METADATA_FILTER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace gantry::metadata {

class Filter {
 public:
  // An object's field, nullopt when it has none. `path` is never empty: {"labels", "a", "b"} for
  // labels.a.b.
  using Fields = std::function<std::optional<std::string>(absl::Span<const std::string> path)>;

  // Matches everything.
  Filter() = default;

  // kInvalidArgument: the text and the position of the error.
  static absl::StatusOr<Filter> Parse(absl::Span<const std::string> texts);

  bool Matches(const Fields& fields) const;

  // True when no object can fail: a list may then skip decoding.
  bool matches_everything() const { return alternatives_ == nullptr; }

 private:
  struct Selector;
  using Alternatives = std::vector<std::vector<Selector>>;
  std::shared_ptr<const Alternatives> alternatives_;  // shared by copies, immutable
};

// The rest of a path as one map key: {"labels", "a", "b"} -> "a.b".
std::string MapKey(absl::Span<const std::string> path_after_map);

// Looks a map key up for Filter::Fields.
template <typename Map>
std::optional<std::string> MapField(const Map& map, absl::Span<const std::string> path_after_map) {
  auto it = map.find(MapKey(path_after_map));
  if (it == map.end()) return std::nullopt;
  return it->second;
}

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_FILTER_H_
