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

enum class Document { kContainer, kImage, kEvent, kNetwork };

// The zero value at `path` as a template writes it: "nil", "[]", "map[]", "{}" (an empty struct),
// "\"\"", "0", "false"; "<no value>" for a key of a map; "=name" where the client's name of a field
// is not the key in JSON. An element of a list is "#" in the path. nullopt: the client knows no
// such field either.
//
// With "{}" as the path's last part: the fields of the object at the rest of it, in the order in
// which a template prints them, "Name" or "Name=zero" with what is printed where it is absent;
// ":ns" behind a name is a duration in nanoseconds; "{ A B }" is a struct within. "%" in front: the
// object has a text of its own, with [Field] for its fields. nullopt: it is a map.
absl::optional<absl::string_view> AbsentField(Document document,
                                              const std::vector<std::string>& path);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_ABSENT_FIELDS_H_
