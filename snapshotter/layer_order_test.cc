// Entries of a layer in any order give what the OCI rules say, whichever way the layer is unpacked.
//
// Random layers are unpacked three ways: onto a copy of the layers below, onto an overlay, and
// without the layers below (completed afterwards). Each result is compared with a model, a tree in
// memory that takes the entries one by one. A failure prints the seed; GANTRY_TEST_SEED repeats it.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/layer_test_tree.h"
#include "snapshotter/mount.h"

namespace gantry::snapshot {
namespace {

struct Step {
  enum class Kind { kFile, kDirectory, kSymlink, kHardLink, kFifo, kWhiteout, kOpaque };
  Kind kind;
  std::string path;
  std::string target;  // of links; content of files
  uint32_t mode;

  // NOLINTNEXTLINE(google-explicit-constructor): tests spell lists of these
  Step(Kind kind, std::string path, std::string target = "", uint32_t mode = 0644)
      : kind(kind), path(std::move(path)), target(std::move(target)), mode(mode) {}
};

std::string Text(const std::vector<Step>& steps) {
  static const char* const kNames[] = {"file", "dir", "symlink", "hardlink", "fifo", ".wh.", "opq"};
  std::string text;
  for (const Step& step : steps)
    absl::StrAppend(&text, kNames[static_cast<int>(step.kind)], " ", step.path,
                    step.target.empty() ? "" : " -> ", step.target, "\n");
  return text;
}

std::string Pack(const std::vector<Step>& steps) {
  LayerBuilder layer;
  for (const Step& step : steps) {
    const size_t slash = step.path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : step.path.substr(0, slash + 1);
    const std::string name = slash == std::string::npos ? step.path : step.path.substr(slash + 1);
    switch (step.kind) {
      case Step::Kind::kFile:
        layer.File(step.path, step.target, step.mode);
        break;
      case Step::Kind::kDirectory:
        layer.Directory(step.path, step.mode);
        break;
      case Step::Kind::kSymlink:
        layer.Symlink(step.path, step.target);
        break;
      case Step::Kind::kHardLink:
        layer.HardLink(step.path, step.target);
        break;
      case Step::Kind::kFifo: {
        TarEntry entry;
        entry.path = step.path;
        entry.type = TarType::kFifo;
        entry.mode = step.mode;
        layer.Entry(entry);
        break;
      }
      case Step::Kind::kWhiteout:
        layer.File(parent + ".wh." + name, "");
        break;
      case Step::Kind::kOpaque:
        layer.File(step.path.empty() ? ".wh..wh..opq" : step.path + "/.wh..wh..opq", "");
        break;
    }
  }
  return layer.Finish();
}

// The rules, on a tree in memory. An entry replaces what has its name (a directory on a directory
// only changes it); a hard link names the file that its target is at that moment; a whiteout
// removes what the layers below have and leaves what this layer has brought.
class Model {
 public:
  enum class Outcome { kGood, kRefused, kUnspecified };

  Model() {
    root_.node = std::make_shared<Node>();
    root_.node->mode = S_IFDIR | 0755;
  }

  Outcome Add(const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      const Outcome outcome = Apply(step);
      if (outcome != Outcome::kGood) return outcome;
    }
    Forget(root_);
    return Outcome::kGood;
  }

  std::vector<std::string> Describe() const {
    std::vector<std::string> lines;
    std::map<const Node*, int> names;
    Count(root_, names);
    std::map<const Node*, std::string> first;
    Describe(root_, "", names, first, lines);
    return lines;
  }

 private:
  struct Node;
  struct Name {
    std::shared_ptr<Node> node;
    bool brought = false;
  };
  struct Node {
    mode_t mode = 0;
    std::string content;
    std::map<std::string, Name> names;
    bool directory() const { return S_ISDIR(mode); }
  };

  // The directory that the components lead to; made where missing if `make`.
  Outcome Walk(std::vector<std::string> components, bool make, Node*& found) {
    std::vector<Node*> way = {root_.node.get()};
    std::reverse(components.begin(), components.end());
    int links = 0;
    while (!components.empty()) {
      const std::string name = components.back();
      components.pop_back();
      if (name.empty() || name == ".") continue;
      if (name == "..") {
        if (way.size() > 1) way.pop_back();
        continue;
      }
      const auto at = way.back()->names.find(name);
      if (at == way.back()->names.end()) {
        if (!make) return Outcome::kRefused;
        Name made{std::make_shared<Node>(), false};
        made.node->mode = S_IFDIR | 0755;
        way.push_back(made.node.get());
        way[way.size() - 2]->names[name] = made;
        continue;
      }
      const Name& entry = at->second;
      if (entry.node->directory()) {
        way.push_back(entry.node.get());
        continue;
      }
      // A single overlay layer cannot know that it walks into a file or link below.
      if (!entry.brought) return Outcome::kUnspecified;
      // A place for a file below is a file until that is known to be a link.
      if (below_links_.count(entry.node.get()) > 0) return Outcome::kUnspecified;
      if (!S_ISLNK(entry.node->mode) || ++links > 40) return Outcome::kRefused;
      if (entry.node->content[0] == '/') way.resize(1);
      std::vector<std::string> target = absl::StrSplit(entry.node->content, '/');
      components.insert(components.end(), target.rbegin(), target.rend());
    }
    found = way.back();
    return Outcome::kGood;
  }

  static void Forget(Name& name) {
    name.brought = false;
    for (auto& [child, below] : name.node->names) Forget(below);
  }

  // Whether anything is left.
  static bool Clear(Node& directory) {
    bool left = false;
    for (auto at = directory.names.begin(); at != directory.names.end();) {
      const bool stays =
          (at->second.node->directory() && Clear(*at->second.node)) || at->second.brought;
      left |= stays;
      at = stays ? std::next(at) : directory.names.erase(at);
    }
    return left;
  }

  Outcome Apply(const Step& step) {
    std::vector<std::string> parts = absl::StrSplit(step.path, '/', absl::SkipEmpty());
    Node* parent = nullptr;
    if (step.kind == Step::Kind::kOpaque) {
      if (const Outcome outcome = Walk(parts, true, parent); outcome != Outcome::kGood)
        return outcome;
      Clear(*parent);
      return Outcome::kGood;
    }
    const std::string name = parts.back();
    parts.pop_back();
    std::shared_ptr<Node> existing;
    if (step.kind == Step::Kind::kHardLink) {
      std::vector<std::string> target = absl::StrSplit(step.target, '/', absl::SkipEmpty());
      const std::string last = target.back();
      target.pop_back();
      Node* directory = nullptr;
      if (const Outcome outcome = Walk(target, false, directory); outcome != Outcome::kGood)
        return outcome;
      const auto at = directory->names.find(last);
      if (at == directory->names.end() || at->second.node->directory() || step.target == step.path)
        return Outcome::kRefused;
      existing = at->second.node;
      // Links to links of the layers below are made at the end only.
      if (S_ISLNK(existing->mode) && !at->second.brought) below_links_.insert(existing.get());
    }
    if (const Outcome outcome = Walk(parts, true, parent); outcome != Outcome::kGood)
      return outcome;
    const auto at = parent->names.find(name);
    if (step.kind == Step::Kind::kWhiteout) {
      if (at == parent->names.end()) return Outcome::kGood;
      const bool left = at->second.node->directory() && Clear(*at->second.node);
      if (!at->second.brought && !left) parent->names.erase(at);
      return Outcome::kGood;
    }
    if (step.kind == Step::Kind::kDirectory) {
      if (at == parent->names.end() || !at->second.node->directory())
        parent->names[name] = {std::make_shared<Node>(), true};
      parent->names[name].brought = true;
      parent->names[name].node->mode = S_IFDIR | step.mode;
      return Outcome::kGood;
    }
    if (existing != nullptr) {
      // The target goes with the directory that the link replaces.
      if (at != parent->names.end() && at->second.node->directory() &&
          LiesIn(*at->second.node, step.target))
        return Outcome::kRefused;
      parent->names[name] = {existing, true};
      return Outcome::kGood;
    }
    auto node = std::make_shared<Node>();
    node->content = step.target;
    node->mode = step.kind == Step::Kind::kFile      ? S_IFREG | step.mode
                 : step.kind == Step::Kind::kSymlink ? S_IFLNK | 0777
                                                     : S_IFIFO | step.mode;
    parent->names[name] = {node, true};
    return Outcome::kGood;
  }

  // Whether the name `target` lies in the directory.
  bool LiesIn(const Node& directory, const std::string& target) {
    std::vector<std::string> parts = absl::StrSplit(target, '/', absl::SkipEmpty());
    parts.pop_back();
    Node* parent = nullptr;
    if (Walk(parts, false, parent) != Outcome::kGood) return false;
    return parent == &directory || ContainsDirectory(directory, parent);
  }
  static bool ContainsDirectory(const Node& directory, const Node* node) {
    for (const auto& [name, child] : directory.names) {
      if (!child.node->directory()) continue;
      if (child.node.get() == node || ContainsDirectory(*child.node, node)) return true;
    }
    return false;
  }

  static void Count(const Name& name, std::map<const Node*, int>& names) {
    for (const auto& [child, below] : name.node->names) {
      ++names[below.node.get()];
      Count(below, names);
    }
  }
  static void Describe(const Name& name, const std::string& path,
                       const std::map<const Node*, int>& names,
                       std::map<const Node*, std::string>& first, std::vector<std::string>& lines) {
    for (const auto& [child_name, child] : name.node->names) {
      const Node* node = child.node.get();
      const std::string child_path = path.empty() ? child_name : path + "/" + child_name;
      std::string line = absl::StrCat(child_path, " ", absl::Hex(node->mode), " 0:0");
      if (!node->directory() && names.at(node) > 1)
        absl::StrAppend(&line, " same as ", first.try_emplace(node, child_path).first->second);
      absl::StrAppend(&line, " ", S_ISLNK(node->mode) ? "-> " : "", node->content);
      lines.push_back(line);
      if (node->directory()) Describe(child, child_path, names, first, lines);
    }
  }

  Name root_;
  std::set<const Node*> below_links_;
};

// The mark that makes an overlay directory opaque shows through no mount; a tree described from a
// plain directory has none either.
class LayerOrderTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "unpacking needs root";
  }

  struct Result {
    absl::Status status;
    std::vector<std::string> tree;
  };

  static absl::Status Unpack(const std::string& layer, const std::string& directory) {
    StringSource source(layer);
    return ApplyLayerToDirectory(source, directory, {}).status();
  }
  static Result OntoCopy(const std::string& lower, const std::string& upper) {
    TempDir directory;
    Result result;
    result.status = Unpack(lower, directory.path());
    if (result.status.ok()) result.status = Unpack(upper, directory.path());
    result.tree = DescribeTree(directory.path(), false);
    return result;
  }
  static Result OntoOverlay(const std::string& lower, const std::string& upper, bool detached) {
    TempDir directory;
    Result result;
    for (const char* name : {"lower", "snapshots/1/fs", "snapshots/1/work", "merged"}) {
      result.status = MakeDirectories(directory.Join(name));
      if (!result.status.ok()) return result;
    }
    const std::string fs = directory.Join("snapshots/1/fs");
    const Mount overlay{.type = "overlay",
                        .source = "overlay",
                        .options = {"volatile",  // or each unmount waits for the disk
                                    "workdir=" + directory.Join("snapshots/1/work"),
                                    "upperdir=" + fs, "lowerdir=" + directory.Join("lower")}};
    const Mount below{
        .type = "bind", .source = directory.Join("lower"), .options = {"ro", "rbind"}};
    const Mount alone{.type = "bind", .source = fs, .options = {"rw", "rbind"}};
    result.status = Unpack(lower, directory.Join("lower"));
    if (!result.status.ok()) return result;
    StringSource source(upper);
    absl::StatusOr<ApplyResult> applied = ApplyLayer(source, {detached ? alone : overlay}, {});
    result.status = applied.status();
    if (!applied.ok()) return result;
    if (detached) {
      result.status = CompleteLayer(applied->deferred, {alone}, {below});
      if (!result.status.ok()) return result;
    }
    absl::StatusOr<ScopedMount> mounted = ScopedMount::Create({overlay}, directory.Join("merged"));
    result.status = mounted.status();
    if (mounted.ok()) result.tree = DescribeTree(directory.Join("merged"), false);
    return result;
  }

  // Whether all ways agree with the model.
  static bool Check(const std::vector<Step>& lower, const std::vector<Step>& upper,
                    bool& compared) {
    Model model;
    compared = false;
    if (model.Add(lower) != Model::Outcome::kGood) return true;
    const Model::Outcome expected = model.Add(upper);
    if (expected == Model::Outcome::kUnspecified) return true;
    compared = true;
    const std::string below = Pack(lower);
    const std::string above = Pack(upper);
    const std::pair<const char*, Result> results[] = {
        {"onto a copy", OntoCopy(below, above)},
        {"onto an overlay", OntoOverlay(below, above, false)},
        {"without its parent", OntoOverlay(below, above, true)},
    };
    bool good = true;
    for (const auto& [way, result] : results) {
      if (expected == Model::Outcome::kRefused) {
        if (!result.status.ok()) continue;
        ADD_FAILURE() << way << ": accepted what should be refused";
        good = false;
      } else if (!result.status.ok()) {
        ADD_FAILURE() << way << ": " << result.status;
        good = false;
      } else if (result.tree != model.Describe()) {
        ADD_FAILURE() << way << " gives:\n"
                      << absl::StrJoin(result.tree, "\n") << "\nand should give:\n"
                      << absl::StrJoin(model.Describe(), "\n");
        good = false;
      }
    }
    if (!good) ADD_FAILURE() << "below:\n" << Text(lower) << "layer:\n" << Text(upper);
    return good;
  }
  static void MustAgree(const std::vector<Step>& lower, const std::vector<Step>& upper) {
    bool compared = false;
    Check(lower, upper, compared);
    EXPECT_TRUE(compared) << "the model says nothing about\n" << Text(upper);
  }
};

using Kind = Step::Kind;
const std::vector<Step> kBase = {{Kind::kDirectory, "a", "", 0700},
                                 {Kind::kFile, "a/x", "old x"},
                                 {Kind::kDirectory, "base", "", 0711},
                                 {Kind::kFile, "base/f", "old f"},
                                 {Kind::kFile, "other", "o"}};

TEST_F(LayerOrderTest, DirectoryPassedThroughIsReplaced) {
  for (const Step& replacement :
       {Step{Kind::kSymlink, "a", "base"}, Step{Kind::kFile, "a", "new"}, Step{Kind::kFifo, "a"},
        Step{Kind::kHardLink, "a", "base/f"}, Step{Kind::kHardLink, "a", "mine"}}) {
    MustAgree(kBase, {{Kind::kFile, "mine", "m"}, {Kind::kWhiteout, "a/x"}, replacement});
    MustAgree(kBase, {{Kind::kFile, "mine", "m"}, {Kind::kFile, "a/deep/er", "d"}, replacement});
  }
}

TEST_F(LayerOrderTest, DirectoryAfterAFileOfItsNameIsEmpty) {
  MustAgree(kBase, {{Kind::kFile, "a", "new"}, {Kind::kDirectory, "a", "", 0755}});
  MustAgree(kBase, {{Kind::kSymlink, "a", "base"}, {Kind::kDirectory, "a", "", 0755}});
  MustAgree(kBase, {{Kind::kWhiteout, "a"}, {Kind::kFile, "a/new", "n"}});
}

TEST_F(LayerOrderTest, LinkToAFileBelowOutlivesItsName) {
  MustAgree(kBase, {{Kind::kHardLink, "keep", "base/f"}, {Kind::kWhiteout, "base/f"}});
  MustAgree(kBase, {{Kind::kHardLink, "keep", "base/f"}, {Kind::kWhiteout, "base"}});
  MustAgree(kBase, {{Kind::kHardLink, "keep", "base/f"}, {Kind::kOpaque, "base"}});
  MustAgree(kBase, {{Kind::kHardLink, "keep", "base/f"}, {Kind::kFile, "base/f", "new f"}});
  MustAgree(kBase, {{Kind::kHardLink, "keep", "base/f"}, {Kind::kSymlink, "base", "a"}});
  MustAgree(kBase, {{Kind::kHardLink, "keep", "base/f"}, {Kind::kFile, "keep", "new"}});
}

TEST_F(LayerOrderTest, LinksToAFileBelowMakeAChain) {
  MustAgree(kBase, {{Kind::kHardLink, "one", "base/f"},
                    {Kind::kHardLink, "two", "one"},
                    {Kind::kHardLink, "three", "two"},
                    {Kind::kWhiteout, "base/f"},
                    {Kind::kFile, "one", "new"}});
  MustAgree({{Kind::kSymlink, "l", "nowhere"}, {Kind::kFifo, "p"}},
            {{Kind::kHardLink, "d/one", "l"},
             {Kind::kHardLink, "two", "d/one"},
             {Kind::kHardLink, "pipe", "p"},
             {Kind::kWhiteout, "p"}});
}

TEST_F(LayerOrderTest, LinkToARemovedFileIsRefused) {
  MustAgree(kBase, {{Kind::kWhiteout, "base/f"}, {Kind::kHardLink, "keep", "base/f"}});
  MustAgree(kBase, {{Kind::kWhiteout, "base"}, {Kind::kHardLink, "keep", "base/f"}});
  MustAgree(kBase, {{Kind::kOpaque, ""}, {Kind::kHardLink, "keep", "base/f"}});
  MustAgree(kBase, {{Kind::kFile, "base", "b"}, {Kind::kHardLink, "keep", "base/f"}});
  MustAgree(kBase, {{Kind::kHardLink, "base", "base/f"}});
}

TEST_F(LayerOrderTest, WhiteoutAfterOneInsideLeavesNothing) {
  MustAgree(kBase, {{Kind::kWhiteout, "a/x"}, {Kind::kWhiteout, "a"}});
  MustAgree(kBase, {{Kind::kWhiteout, "a/x"}, {Kind::kOpaque, ""}});
  MustAgree(kBase, {{Kind::kFile, "a/new", "n"}, {Kind::kWhiteout, "a"}});
}

TEST_F(LayerOrderTest, AttributesOfADirectoryAreTheLastOnes) {
  // "b" leads to "a" while a/new is made, and the entry for a/new comes by another name.
  MustAgree({{Kind::kDirectory, "a", "", 0755}, {Kind::kDirectory, "a/new", "", 0700}},
            {{Kind::kSymlink, "b", "a"},
             {Kind::kFile, "a/new/f", "f"},
             {Kind::kDirectory, "b/new", "", 0751}});
  MustAgree({{Kind::kDirectory, "a", "", 0755}, {Kind::kDirectory, "a/new", "", 0700}},
            {{Kind::kSymlink, "b", "a"}, {Kind::kFile, "b/new/f", "f"}, {Kind::kFile, "b", "now"}});
}

class RandomLayers {
 public:
  explicit RandomLayers(uint64_t seed) : random_(seed) {}

  std::vector<Step> Lower() {
    std::vector<Step> steps;
    const int n = Below(8);
    for (int i = 0; i < n; ++i) {
      const int kind = Below(10);
      steps.push_back({kind < 4   ? Kind::kDirectory
                       : kind < 8 ? Kind::kFile
                       : kind < 9 ? Kind::kFifo
                                  : Kind::kSymlink,
                       Path(), "", Mode()});
      if (steps.back().kind == Kind::kSymlink) steps.back().target = "nowhere";
      if (steps.back().kind == Kind::kFile) steps.back().target = absl::StrCat("below ", i);
    }
    return steps;
  }
  std::vector<Step> Upper() {
    std::vector<Step> steps;
    const int n = 1 + Below(9);
    for (int i = 0; i < n; ++i) {
      Step step{Kind::kFile, Path(), "", Mode()};
      switch (Below(12)) {
        case 0:
        case 1:
          step.target = absl::StrCat("above ", i);
          break;
        case 2:
        case 3:
          step.kind = Kind::kDirectory;
          break;
        case 4:
          step.kind = Kind::kSymlink;
          step.target = Below(2) == 0 ? Path() : "/" + Path();
          break;
        case 5:
        case 6:
        case 7:
          step.kind = Kind::kHardLink;
          step.target = Path();
          break;
        case 8:
          step.kind = Kind::kFifo;
          break;
        case 9:
        case 10:
          step.kind = Kind::kWhiteout;
          break;
        default:
          step.kind = Kind::kOpaque;
          if (Below(4) == 0) step.path = "";
          break;
      }
      steps.push_back(step);
    }
    return steps;
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  uint32_t Mode() { return Below(2) == 0 ? 0755 : 0710; }
  std::string Path() {
    std::string path(1, static_cast<char>('a' + Below(3)));
    const int depth = Below(3);
    for (int i = 0; i < depth; ++i)
      absl::StrAppend(&path, "/", std::string(1, static_cast<char>('a' + Below(3))));
    return path;
  }
  std::mt19937_64 random_;
};

TEST_F(LayerOrderTest, RandomLayersAgreeWithTheModel) {
  uint64_t seed = std::random_device()();
  int rounds = 100;
  if (const char* given = getenv("GANTRY_TEST_SEED"); given != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(given, &seed));
    rounds = 1;
  }
  if (const char* given = getenv("GANTRY_TEST_ROUNDS"); given != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(given, &rounds));
  }
  int all_compared = 0;
  for (int i = 0; i < rounds; ++i, ++seed) {
    RandomLayers layers(seed);
    const std::vector<Step> lower = layers.Lower();
    const std::vector<Step> upper = layers.Upper();
    bool compared = false;
    ASSERT_TRUE(Check(lower, upper, compared)) << "GANTRY_TEST_SEED=" << seed;
    all_compared += compared ? 1 : 0;
  }
  // Most of them say something.
  EXPECT_GT(all_compared, rounds >= 100 ? rounds / 4 : 0);
}

}  // namespace
}  // namespace gantry::snapshot
