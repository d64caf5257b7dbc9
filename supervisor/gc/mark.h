// Reachability over the objects of the database. Pure: no database, no clock, no I/O.
//
// Immutable value Node; Graph is thread-compatible, filled once and marked once.
#ifndef GANTRY_SUPERVISOR_GC_MARK_H_
#define GANTRY_SUPERVISOR_GC_MARK_H_

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace gantry::gc {

enum class Type : uint8_t {
  kContent,
  kSnapshot,
  kImage,
  kContainer,
  kSandbox,
  kLease,
  kIngest,
  kMount,  // an activation of mounts
};

struct Node {
  Type type;
  std::string ns;
  std::string name;         // digest, key, name, id or ref
  std::string snapshotter;  // of a snapshot, else ""

  friend bool operator==(const Node&, const Node&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Node& n) {
    return H::combine(std::move(h), n.type, n.ns, n.name, n.snapshotter);
  }
};

// How far a root or an edge reaches.
enum class Reach : uint8_t {
  kDeep,  // what a label says, or a root: followed by deep reachability only
  kFlat,  // what an object cannot be without (a snapshot's parent, an image's target, a lease's list): followed by flat reachability too
};

class Graph {
 public:
  using Id = uint32_t;

  // The node's number; the same for an equal node. Naming a node does not say that it exists.
  Id Intern(const Node& node);
  const Node& node(Id id) const { return nodes_[id]; }
  size_t size() const { return nodes_.size(); }

  // The object is in the database. Only these are collected.
  void SetExists(Id id) { exists_[id] = true; }
  bool exists(Id id) const { return exists_[id]; }

  // `from` keeps `to`.
  void AddEdge(Id from, Id to, Reach reach) { edges_[from].push_back({to, reach}); }

  // Kept for its own sake: with all that it keeps (kDeep), or with what it cannot be without
  // (kFlat: flat leases).
  void AddRoot(Id id, Reach reach) { roots_.push_back({id, reach}); }

  // By Id: reachable from the roots. An object that does not exist keeps nothing.
  std::vector<bool> Mark() const;

  // The same from one node, deeply; as a list, without the node itself.
  std::vector<Id> ReachableFrom(Id id) const;

 private:
  struct Edge {
    Id to;
    Reach reach;
  };

  absl::flat_hash_map<Node, Id> ids_;
  std::deque<Node> nodes_;
  std::vector<bool> exists_;
  std::vector<std::vector<Edge>> edges_;
  std::vector<std::pair<Id, Reach>> roots_;
};

}  // namespace gantry::gc

#endif  // GANTRY_SUPERVISOR_GC_MARK_H_
