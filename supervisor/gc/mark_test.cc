#include "supervisor/gc/mark.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace gantry::gc {
namespace {

// Graphs in a line of text: "r>a a>b c" has a root r, edges r->a, a->b and a lone c. ">" is a deep
// edge, "=" a flat one; names that only stand behind an edge sign in `missing` do not exist.
class Sketch {
 public:
  explicit Sketch(const std::string& edges, const std::string& missing = "") {
    for (size_t i = 0; i < edges.size(); ++i) {
      if (edges[i] == ' ') continue;
      const Graph::Id from = Of(edges[i], missing);
      if (i + 2 < edges.size() && edges[i + 1] != ' ') {
        graph.AddEdge(from, Of(edges[i + 2], missing),
                      edges[i + 1] == '>' ? Reach::kDeep : Reach::kFlat);
        i += 2;
      }
    }
  }

  Graph::Id Of(char name, const std::string& missing = "") {
    const Graph::Id id = graph.Intern({Type::kContent, "ns", std::string(1, name), ""});
    if (missing.find(name) == std::string::npos) graph.SetExists(id);
    return id;
  }

  std::string Kept() const {
    std::set<char> names;
    const std::vector<bool> kept = graph.Mark();
    for (Graph::Id id = 0; id < graph.size(); ++id) {
      if (kept[id]) names.insert(graph.node(id).name[0]);
    }
    return std::string(names.begin(), names.end());
  }

  Graph graph;
};

TEST(MarkTest, NothingIsKeptWithoutRoots) { EXPECT_EQ(Sketch("a>b b>a").Kept(), ""); }

TEST(MarkTest, ChainsAndCyclesAreFollowed) {
  Sketch sketch("r>a a>b b>a b>c x>y y>x");
  sketch.graph.AddRoot(sketch.Of('r'), Reach::kDeep);
  EXPECT_EQ(sketch.Kept(), "abcr");
}

TEST(MarkTest, WhatDoesNotExistKeepsNothing) {
  Sketch sketch("r>m m>a", "m");
  sketch.graph.AddRoot(sketch.graph.Intern({Type::kContent, "ns", "r", ""}), Reach::kDeep);
  EXPECT_EQ(sketch.Kept(), "r");
}

TEST(MarkTest, AFlatRootFollowsFlatEdgesOnly) {
  Sketch sketch("r>a r=p p=q p>b");
  sketch.graph.AddRoot(sketch.Of('r'), Reach::kFlat);
  EXPECT_EQ(sketch.Kept(), "pqr");
}

TEST(MarkTest, ADeepRootFollowsBoth) {
  Sketch sketch("r>a r=p p=q p>b");
  sketch.graph.AddRoot(sketch.Of('r'), Reach::kDeep);
  EXPECT_EQ(sketch.Kept(), "abpqr");
}

TEST(MarkTest, DeepWinsWhicheverComesFirst) {
  for (bool flat_first : {true, false}) {
    Sketch sketch("r>a d=r");
    sketch.graph.AddRoot(sketch.Of(flat_first ? 'r' : 'd'),
                         flat_first ? Reach::kFlat : Reach::kDeep);
    sketch.graph.AddRoot(sketch.Of(flat_first ? 'd' : 'r'),
                         flat_first ? Reach::kDeep : Reach::kFlat);
    EXPECT_EQ(sketch.Kept(), "adr");
  }
}

TEST(MarkTest, NamespacesAndSnapshottersKeepEqualNamesApart) {
  Graph graph;
  const Graph::Id a = graph.Intern({Type::kSnapshot, "a", "k", "overlayfs"});
  EXPECT_EQ(graph.Intern({Type::kSnapshot, "a", "k", "overlayfs"}), a);
  EXPECT_NE(graph.Intern({Type::kSnapshot, "b", "k", "overlayfs"}), a);
  EXPECT_NE(graph.Intern({Type::kSnapshot, "a", "k", "native"}), a);
  EXPECT_NE(graph.Intern({Type::kContent, "a", "k", "overlayfs"}), a);
}

TEST(MarkTest, ChainsAreNotLimitedByTheStack) {
  Graph graph;
  constexpr int kLength = 300'000;
  Graph::Id last = graph.Intern({Type::kContent, "ns", "0", ""});
  graph.SetExists(last);
  graph.AddRoot(last, Reach::kDeep);
  for (int i = 1; i < kLength; ++i) {
    const Graph::Id next = graph.Intern({Type::kContent, "ns", std::to_string(i), ""});
    graph.SetExists(next);
    graph.AddEdge(last, next, Reach::kDeep);
    last = next;
  }
  EXPECT_TRUE(graph.Mark()[last]);
}

TEST(MarkTest, ReachableFromLeavesTheStartOut) {
  Sketch sketch("r>a a=b b>r x>a");
  EXPECT_EQ(sketch.graph.ReachableFrom(sketch.Of('r')).size(), 2u);
}

}  // namespace
}  // namespace gantry::gc
