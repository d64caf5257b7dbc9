#include "ctl/compose/node.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace gantry::compose {

std::string Position::Text() const {
  if (file == nullptr) return "";
  if (line == 0) return *file;
  return absl::StrCat(*file, ":", line, ":", column);
}

Node Node::String(absl::string_view text) {
  Node node;
  node.kind = Kind::kString;
  node.text = std::string(text);
  return node;
}

Node Node::Bool(bool value) {
  Node node;
  node.kind = Kind::kBool;
  node.text = value ? "true" : "false";
  return node;
}

Node Node::Number(int64_t value) {
  Node node;
  node.kind = Kind::kNumber;
  node.text = absl::StrCat(value);
  return node;
}

Node Node::List() {
  Node node;
  node.kind = Kind::kList;
  return node;
}

Node Node::Map() {
  Node node;
  node.kind = Kind::kMap;
  return node;
}

const Node* Node::Find(absl::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

Node* Node::Find(absl::string_view key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->Find(key));
}

std::string Node::TextOf(absl::string_view key) const {
  const Node* node = Find(key);
  return node == nullptr || !node->is_scalar() ? std::string() : node->text;
}

bool Node::TrueAt(absl::string_view key) const { return TextOf(key) == "true"; }

Node& Node::Set(absl::string_view key, Node value) {
  if (is_null()) kind = Kind::kMap;
  if (Node* there = Find(key)) {
    *there = std::move(value);
    return *there;
  }
  entries.emplace_back(std::string(key), std::move(value));
  return entries.back().second;
}

void Node::Remove(absl::string_view key) {
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [&](const Entry& entry) { return entry.first == key; }),
                entries.end());
}

Node& Node::Append(Node value) {
  if (is_null()) kind = Kind::kList;
  items.push_back(std::move(value));
  return items.back();
}

bool operator==(const Node& a, const Node& b) {
  return a.kind == b.kind && a.text == b.text && a.items == b.items && a.entries == b.entries;
}

}  // namespace gantry::compose
