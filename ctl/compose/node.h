// One value of a compose file, with the place where it was written.
//
// A tree of maps that keep their order, lists and scalars. Scalars keep their text: what a number
// or a boolean is depends on the key, because "80", 80 and ${PORT} may stand in the same place.
// Copying copies the tree; files are bounded (yaml_reader.h). Thread-compatible.
// Spec: compose-spec "Fragments", "Merge and override".
#ifndef GANTRY_CTL_COMPOSE_NODE_H_
#define GANTRY_CTL_COMPOSE_NODE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry::compose {

// Where something was written: "compose.yaml:12:5".
struct Position {
  std::shared_ptr<const std::string> file;  // as it was named; null: made by us
  int line = 0;                             // from 1; 0: not known
  int column = 0;

  std::string Text() const;
};

struct Node {
  enum class Kind { kNull, kBool, kNumber, kString, kList, kMap };
  // What a later file asks for with !reset and !override.
  enum class Tag { kNone, kReset, kOverride };
  using Entry = std::pair<std::string, Node>;

  Kind kind = Kind::kNull;
  Tag tag = Tag::kNone;
  // A scalar's text: "true" and "false" for booleans, numbers as they were written.
  std::string text;
  // A string that interpolation changed: it may stand for a number or a boolean.
  bool interpolated = false;
  std::vector<Node> items;
  std::vector<Entry> entries;
  Position at;

  static Node Null() { return Node(); }
  static Node String(absl::string_view text);
  static Node Bool(bool value);
  static Node Number(int64_t value);
  static Node List();
  static Node Map();

  bool is_null() const { return kind == Kind::kNull; }
  bool is_string() const { return kind == Kind::kString; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }
  bool is_scalar() const { return !is_null() && !is_list() && !is_map(); }

  // The value of a key of a map; null pointer: none, or this is no map.
  const Node* Find(absl::string_view key) const;
  Node* Find(absl::string_view key);
  // The text of a scalar below `key`; "" if there is none.
  std::string TextOf(absl::string_view key) const;
  // Whether the boolean below `key` is true.
  bool TrueAt(absl::string_view key) const;
  // Sets a key of a map, in its place if it is there. A null node becomes a map first.
  Node& Set(absl::string_view key, Node value);
  void Remove(absl::string_view key);
  // Adds to a list. A null node becomes a list first.
  Node& Append(Node value);
};

// Equal in kind and content; places do not count.
bool operator==(const Node& a, const Node& b);
inline bool operator!=(const Node& a, const Node& b) { return !(a == b); }

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_NODE_H_
