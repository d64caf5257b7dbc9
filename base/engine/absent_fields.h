// What docker's typed clients see where a document leaves a field out or holds null.
//
// A Go template that asks for an optional field gets its zero value: <nil> for a pointer, [] for a
// list, "" for a string. JSON alone does not say which; this table does.
#ifndef GANTRY_BASE_ENGINE_ABSENT_FIELDS_H_
#define GANTRY_BASE_ENGINE_ABSENT_FIELDS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace gantry::engine {

enum class Document { kContainer, kImage, kEvent };

// The zero value at `path` as a template writes it: "nil", "[]", "map[]", "{}" (an empty struct),
// "\"\"", "0", "false"; "<no value>" for a key of a map; "=name" where the client's name of a field
// is not the key in JSON. An element of a list is "#" in the path. nullopt: the client knows no
// such field either.
absl::optional<absl::string_view> AbsentField(Document document,
                                              const std::vector<std::string>& path);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_ABSENT_FIELDS_H_
