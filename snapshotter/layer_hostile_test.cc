// Layers that try to reach what is outside of their target. A canary tree beside it must not change
// in any way, whatever the unpacker says to the layer.
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/layer_test_tree.h"
#include "snapshotter/mount.h"

namespace gantry::snapshot {
namespace {

struct Case {
  std::string name;
  std::string layer;
};

TarEntry Node(TarType type, const std::string& path, const std::string& target = "") {
  TarEntry entry;
  entry.type = type;
  entry.path = path;
  entry.link_target = target;
  entry.mode = 0777;
  entry.uid = 12;
  entry.device_major = 1;
  entry.device_minor = 3;
  return entry;
}

constexpr TarType kTypes[] = {TarType::kFile,       TarType::kHardLink,    TarType::kSymlink,
                              TarType::kCharDevice, TarType::kBlockDevice, TarType::kDirectory,
                              TarType::kFifo};

// `outside` is the canary's absolute path; the target lies beside it.
std::vector<Case> Corpus(const std::string& outside) {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, LayerBuilder& builder) {
    cases.push_back({name, builder.Finish()});
  };

  const std::vector<std::string> names = {"../outside/victim",
                                          "../../outside/victim",
                                          "/../outside/victim",
                                          "a/../../outside/victim",
                                          "./../outside/victim",
                                          "..",
                                          "../",
                                          "/..",
                                          "../outside",
                                          "a/../..",
                                          outside,
                                          outside + "/victim",
                                          "/" + outside + "/victim",
                                          "//" + outside + "/victim",
                                          ".wh...",
                                          "../.wh.outside",
                                          "../outside/.wh.victim",
                                          "../outside/.wh..wh..opq",
                                          ".wh..",
                                          ".wh.",
                                          ".wh../outside",
                                          ".",
                                          "/",
                                          "./",
                                          "",
                                          "a/./../../outside/victim",
                                          "..\\outside\\victim",
                                          "a/b/../../../outside/victim",
                                          "proc/self/root" + outside + "/victim",
                                          "/proc/self/cwd/../outside/victim",
                                          "dev/fd/3",
                                          std::string(300, '.'),
                                          "...",
                                          ".. ",
                                          "~/victim",
                                          "$HOME"};
  for (const std::string& name : names) {
    if (name.empty()) continue;
    for (const TarType type : kTypes) {
      for (const char* target : {"../outside/victim", "victim"}) {
        const bool link = type == TarType::kHardLink || type == TarType::kSymlink;
        if (!link && target[0] == 'v') continue;
        LayerBuilder builder;
        builder.File("a/b/c").Entry(Node(type, name, link ? target : ""));
        add(absl::StrCat("name ", name, " type ", static_cast<int>(type), " ", target), builder);
      }
    }
  }

  const std::vector<std::string> targets = {"..",
                                            "../..",
                                            "../outside",
                                            "../../outside",
                                            outside,
                                            outside + "/",
                                            "/proc/self/root" + outside,
                                            "/proc/self/cwd/../outside",
                                            "./../outside",
                                            "d/../../outside",
                                            "../target/../outside",
                                            "/proc/thread-self/root",
                                            "/dev/fd",
                                            "/"};
  const std::vector<std::string> ways = {"l", "d/l", "l/", "d/../l"};
  using Step = std::function<void(LayerBuilder&, const std::string&)>;
  const std::vector<std::pair<std::string, Step>> steps = {
      {"write through",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/victim", "evil"); }},
      {"new file through",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/planted", "evil"); }},
      {"new file deep",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/x/y/planted", "evil"); }},
      {"outside through",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/outside/victim", "evil"); }},
      {"whiteout through",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/.wh.victim", ""); }},
      {"whiteout outside",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/.wh.outside", ""); }},
      {"opaque through",
       [](LayerBuilder& b, const std::string& l) { b.File(l + "/.wh..wh..opq", ""); }},
      {"chmod through",
       [](LayerBuilder& b, const std::string& l) { b.Directory(l + "/sub", 0777); }},
      {"chmod itself",
       [](LayerBuilder& b, const std::string& l) { b.Entry(Node(TarType::kDirectory, l + "/")); }},
      {"device through",
       [](LayerBuilder& b, const std::string& l) {
         b.Entry(Node(TarType::kCharDevice, l + "/dev"));
       }},
      {"link to victim",
       [](LayerBuilder& b, const std::string& l) {
         b.HardLink("got", l + "/victim").File("got", "evil");
       }},
      {"link in", [](LayerBuilder& b,
                     const std::string& l) { b.File("mine").HardLink(l + "/planted", "mine"); }},
      {"link to link", [](LayerBuilder& b,
                          const std::string& l) { b.HardLink("l2", l).File("l2/victim", "evil"); }},
      {"symlink through",
       [](LayerBuilder& b, const std::string& l) { b.Symlink(l + "/planted", "/etc"); }},
      {"file over", [](LayerBuilder& b, const std::string& l) { b.File(l, "evil"); }},
      {"swap",
       [](LayerBuilder& b, const std::string& l) {
         b.Directory("s").File("s/f").Symlink("s", "../outside").File("s/victim", l);
       }},
      {"two links",
       [](LayerBuilder& b, const std::string& l) { b.Symlink("m", l).File("m/victim", "evil"); }},
  };
  for (const std::string& target : targets) {
    for (const std::string& way : ways) {
      const std::string link = way == "l/" || way == "d/../l" ? "l" : way;
      for (const auto& [name, step] : steps) {
        LayerBuilder builder;
        builder.Directory("d").Symlink(link, target);
        step(builder, way == "l/" ? "l" : way);
        add(absl::StrCat("symlink ", link, " -> ", target, ", ", name), builder);
      }
    }
  }

  for (const std::string& target :
       {std::string("../outside/victim"), outside + "/victim", std::string("/../outside/victim"),
        std::string("d/../../outside/victim"),
        std::string("/proc/self/root") + outside + "/victim"}) {
    LayerBuilder builder;
    builder.Directory("d").HardLink("got", target).File("got", "evil").Directory("got");
    add("hard link to " + target, builder);
    LayerBuilder open;
    open.HardLink("got", target).Entry(Node(TarType::kFile, "got/x"));
    add("hard link and below " + target, open);
  }

  {
    LayerBuilder builder;
    std::string deep;
    for (int i = 0; i < 600; ++i) deep += "d/";
    builder.File(deep + "f");
    add("deep", builder);
    LayerBuilder dots;
    std::string up;
    for (int i = 0; i < 1000; ++i) up += "../";
    dots.File(up + "outside/victim");
    add("many dots", dots);
    LayerBuilder loop;
    loop.Symlink("a", "b").Symlink("b", "a").File("a/x").HardLink("h", "a/x");
    add("loop", loop);
  }

  // One whole archive cut at every block, and with every byte of its headers changed.
  LayerBuilder sample;
  sample.Directory("d")
      .File("d/f", std::string(3000, 'f'))
      .Symlink("d/l", "../../outside")
      .HardLink("d/h", "d/f")
      .File(std::string(180, 'n'))
      .File("d/.wh.x", "")
      .File("d/l/victim", "evil");
  const std::string archive = sample.Finish();
  for (size_t size = 512; size < archive.size(); size += 512)
    cases.push_back({absl::StrCat("cut at ", size), archive.substr(0, size)});
  for (size_t at = 0; at < 512; at += 3) {
    std::string damaged = archive;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x5a);
    cases.push_back({absl::StrCat("byte ", at), damaged});
  }
  // The same with a checksum that fits.
  for (size_t block : {size_t{0}, size_t{512}}) {
    for (size_t at = 0; at < 512; at += 13) {
      if (at >= 148 && at < 156) continue;
      for (const char value : {'\0', '\xff', '7', '/', '.'}) {
        std::string damaged = archive;
        damaged[block + at] = value;
        memset(&damaged[block + 148], ' ', 8);
        unsigned int sum = 0;
        for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(damaged[block + i]);
        snprintf(&damaged[block + 148], 8, "%06o", sum & 0777777);
        damaged[block + 155] = ' ';
        cases.push_back({absl::StrCat("block ", block, " byte ", at, " is ",
                                      absl::CHexEscape(std::string(1, value))),
                         damaged});
      }
    }
  }
  return cases;
}

class HostileLayerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "unpacking needs root";
    // In memory: thousands of trees come and go here.
    absl::StatusOr<ScopedMount> memory = ScopedMount::Create(
        {{.type = "tmpfs", .source = "tmpfs", .options = {"size=64m"}}}, directory_.path());
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    outside_ = directory_.Join("outside");
    ASSERT_TRUE(MakeDirectories(outside_ + "/sub").ok());
    ASSERT_TRUE(WriteFile(outside_ + "/victim", "untouched").ok());
    ASSERT_TRUE(WriteFile(outside_ + "/sub/inner", "untouched").ok());
    ASSERT_EQ(symlink("victim", (outside_ + "/link").c_str()), 0);
    canary_ = Canary();
  }

  std::vector<std::string> Canary() const {
    std::vector<std::string> lines = DescribeTree(outside_);
    struct stat stat = {};
    EXPECT_EQ(lstat(outside_.c_str(), &stat), 0);
    lines.push_back(absl::StrCat(stat.st_mode, " ", stat.st_uid, " ", stat.st_mtim.tv_sec, ".",
                                 stat.st_mtim.tv_nsec, " ", stat.st_ino));
    EXPECT_EQ(lstat((outside_ + "/victim").c_str(), &stat), 0);
    lines.push_back(absl::StrCat(stat.st_nlink, " ", stat.st_ino));
    return lines;
  }

  std::string NewTarget(const std::string& name) const {
    const std::string target = directory_.Join(name);
    EXPECT_TRUE(MakeDirectories(target).ok());
    return target;
  }

  static bool IsClear(const absl::Status& status) {
    return status.ok() || absl::IsInvalidArgument(status) || absl::IsDataLoss(status) ||
           absl::IsResourceExhausted(status);
  }

  TempDir directory_;
  ScopedMount memory_;
  std::string outside_;
  std::vector<std::string> canary_;
};

TEST_F(HostileLayerTest, NothingOutsideIsTouched) {
  const std::vector<Case> corpus = Corpus(outside_);
  ASSERT_GT(corpus.size(), 300u);
  int number = 0;
  for (const Whiteouts whiteouts : {Whiteouts::kDelete, Whiteouts::kOverlay}) {
    for (const Case& test : corpus) {
      const std::string target = NewTarget("target");
      StringSource source(test.layer);
      const absl::Status status =
          ApplyLayerToDirectory(source, target, {.whiteouts = whiteouts}).status();
      EXPECT_TRUE(IsClear(status)) << test.name << ": " << status;
      ASSERT_EQ(Canary(), canary_) << test.name << ": " << status;
      ASSERT_TRUE(RemoveTree(target).ok()) << test.name;
      ++number;
    }
  }
  RecordProperty("layers", number);
}

TEST_F(HostileLayerTest, NotEvenByLayersThatRace) {
  const std::vector<Case> corpus = Corpus(outside_);
  const std::string shared = NewTarget("target");
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      // Each thread takes its own order through the corpus, all unpack into one directory.
      for (size_t i = 0; i < corpus.size(); i += 4) {
        StringSource source(corpus[(i * 7 + t * 131) % corpus.size()].layer);
        ApplyLayerToDirectory(source, shared,
                              {.whiteouts = t % 2 == 0 ? Whiteouts::kDelete : Whiteouts::kOverlay})
            .status()
            .IgnoreError();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Canary(), canary_);
}

TEST_F(HostileLayerTest, CanaryWouldNotice) {
  ASSERT_TRUE(WriteFile(outside_ + "/planted", "x").ok());
  EXPECT_NE(Canary(), canary_);
  ASSERT_EQ(unlink((outside_ + "/planted").c_str()), 0);
  EXPECT_NE(Canary(), canary_) << "the directory's time tells";
}

}  // namespace
}  // namespace gantry::snapshot
