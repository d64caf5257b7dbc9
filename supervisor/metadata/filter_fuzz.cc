// containerd's filter language, as clients send it.
#include <string>
#include <vector>

#include "absl/strings/str_split.h"

#include "base/fuzz/fuzz.h"
#include "supervisor/metadata/filter.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {"name==foo,labels.a.\"b.c\"!=x", "labels.foo~=^[a-z]+$", "id~=/(a|b)*c/", "name",
          "a==\"\\x41\\u00e9\\101\\n\"\nb!=|c|"};
}

void FuzzOne(absl::string_view bytes) {
  const std::vector<std::string> texts = absl::StrSplit(bytes, '\n');
  absl::StatusOr<metadata::Filter> filter = metadata::Filter::Parse(texts);
  if (!filter.ok()) return;
  (void)filter->Matches([](absl::Span<const std::string> path) -> std::optional<std::string> {
    if (path[0] == "name") return "foo";
    if (path[0] == "labels" && path.size() > 1) return metadata::MapKey(path.subspan(1));
    return std::nullopt;
  });
}

}  // namespace gantry
