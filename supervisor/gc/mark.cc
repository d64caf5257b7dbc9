#include "supervisor/gc/mark.h"

namespace gantry::gc {
namespace {

// How a node was reached so far.
enum class Seen : uint8_t { kNot, kFlat, kDeep };

}  // namespace

Graph::Id Graph::Intern(const Node& node) {
  auto [it, added] = ids_.try_emplace(node, static_cast<Id>(nodes_.size()));
  if (added) {
    nodes_.push_back(node);
    exists_.push_back(false);
    edges_.emplace_back();
  }
  return it->second;
}

std::vector<bool> Graph::Mark() const {
  std::vector<Seen> seen(nodes_.size(), Seen::kNot);
  std::vector<std::pair<Id, Reach>> todo(roots_.begin(), roots_.end());
  while (!todo.empty()) {
    const auto [id, reach] = todo.back();
    todo.pop_back();
    const Seen now = reach == Reach::kDeep ? Seen::kDeep : Seen::kFlat;
    if (!exists_[id] || seen[id] >= now) continue;
    seen[id] = now;
    for (const Edge& edge : edges_[id]) {
      if (reach == Reach::kDeep) {
        todo.emplace_back(edge.to, Reach::kDeep);
      } else if (edge.reach == Reach::kFlat) {
        todo.emplace_back(edge.to, Reach::kFlat);
      }
    }
  }
  std::vector<bool> kept(nodes_.size());
  for (size_t i = 0; i < seen.size(); ++i) kept[i] = seen[i] != Seen::kNot;
  return kept;
}

std::vector<Graph::Id> Graph::ReachableFrom(Id id) const {
  std::vector<bool> seen(nodes_.size());
  std::vector<Id> todo = {id};
  std::vector<Id> found;
  seen[id] = true;
  while (!todo.empty()) {
    const Id at = todo.back();
    todo.pop_back();
    for (const Edge& edge : edges_[at]) {
      if (!exists_[edge.to] || seen[edge.to]) continue;
      seen[edge.to] = true;
      found.push_back(edge.to);
      todo.push_back(edge.to);
    }
  }
  return found;
}

}  // namespace gantry::gc
