#include "snapshotter/layer_apply.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "snapshotter/layer_test_tree.h"
#include "snapshotter/mount.h"

namespace gantry::snapshot {
namespace {

using absl::StatusCode;

class LayerApplyTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "unpacking needs root";
    for (const char* name : {"target", "lower", "upper", "work", "merged"})
      ASSERT_TRUE(MakeDirectories(directory_.Join(name)).ok());
  }
  std::string Target(const std::string& path = "") const {
    return directory_.Join("target" + path);
  }
  static bool Exists(const std::string& path) {
    struct stat stat;
    return lstat(path.c_str(), &stat) == 0;
  }
  static struct stat StatOf(const std::string& path) {
    struct stat stat = {};
    EXPECT_EQ(lstat(path.c_str(), &stat), 0) << path;
    return stat;
  }
  static std::string Read(const std::string& path) {
    return ReadFile(path, 1 << 20).value_or("(unreadable)");
  }

  absl::StatusOr<ApplyResult> Apply(const std::string& layer, const ApplyOptions& options = {}) {
    StringSource source(layer);
    return ApplyLayerToDirectory(source, Target(), options);
  }
  void MustApply(const std::string& layer, const ApplyOptions& options = {}) {
    const absl::StatusOr<ApplyResult> result = Apply(layer, options);
    ASSERT_TRUE(result.ok()) << result.status();
  }

  // An overlay of "upper" on "lower".
  Mount Overlay() const {
    return {
        .type = "overlay",
        .source = "overlay",
        .options = {"workdir=" + directory_.Join("work"), "upperdir=" + directory_.Join("upper"),
                    "lowerdir=" + directory_.Join("lower")}};
  }
  absl::StatusOr<ApplyResult> ApplyToOverlay(const std::string& layer) {
    StringSource source(layer);
    return ApplyLayer(source, {Overlay()}, {});
  }
  std::vector<std::string> Merged(bool times = false) {
    const absl::StatusOr<ScopedMount> mounted =
        ScopedMount::Create({Overlay()}, directory_.Join("merged"));
    EXPECT_TRUE(mounted.ok()) << mounted.status();
    return DescribeTree(directory_.Join("merged"), times);
  }

  TempDir directory_;
};

TEST_F(LayerApplyTest, EverythingIsMadeAsTheLayerSays) {
  TarEntry file;
  file.path = "bin/su";
  file.mode = 04755;
  file.uid = 10;
  file.gid = 20;
  file.mtime = {.seconds = 1234567890, .nanos = 0};
  file.xattrs = {
      {"security.capability", std::string("\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)},
      {"user.note", "hi"}};
  TarEntry device;
  device.path = "dev/null";
  device.type = TarType::kCharDevice;
  device.mode = 0666;
  device.device_major = 1;
  device.device_minor = 3;
  TarEntry fifo;
  fifo.path = "run/pipe";
  fifo.type = TarType::kFifo;
  fifo.mode = 0600;
  fifo.uid = 7;
  TarEntry tmp;
  tmp.path = "tmp/";
  tmp.type = TarType::kDirectory;
  tmp.mode = 01777;
  tmp.mtime = {.seconds = 1000000000, .nanos = 0};
  TarEntry group;
  group.path = "srv/";
  group.type = TarType::kDirectory;
  group.mode = 02750;
  group.gid = 50;
  TarEntry link;
  link.path = "lib";
  link.type = TarType::kSymlink;
  link.link_target = "usr/lib";
  link.uid = 3;
  link.mtime = {.seconds = 99, .nanos = 0};
  MustApply(LayerBuilder()
                .Entry(tmp)
                .Entry(file)
                .Entry(device)
                .Entry(fifo)
                .Entry(group)
                .Entry(link)
                .File("srv/f")
                .File("tmp/later")
                .HardLink("bin/sudo", "bin/su")
                .Finish());

  struct stat stat = StatOf(Target("/bin/su"));
  EXPECT_EQ(stat.st_mode, S_IFREG | 04755u);
  EXPECT_EQ(stat.st_uid, 10u);
  EXPECT_EQ(stat.st_gid, 20u);
  EXPECT_EQ(stat.st_mtim.tv_sec, 1234567890);
  EXPECT_EQ(stat.st_nlink, 2u);
  EXPECT_EQ(StatOf(Target("/bin/sudo")).st_ino, stat.st_ino);
  char value[64];
  EXPECT_EQ(getxattr(Target("/bin/su").c_str(), "security.capability", value, sizeof(value)), 20);
  EXPECT_EQ(getxattr(Target("/bin/su").c_str(), "user.note", value, sizeof(value)), 2);
  stat = StatOf(Target("/dev/null"));
  EXPECT_EQ(stat.st_mode, S_IFCHR | 0666u);
  EXPECT_EQ(stat.st_rdev, makedev(1, 3));
  stat = StatOf(Target("/run/pipe"));
  EXPECT_EQ(stat.st_mode, S_IFIFO | 0600u);
  EXPECT_EQ(stat.st_uid, 7u);
  stat = StatOf(Target("/tmp"));
  EXPECT_EQ(stat.st_mode, S_IFDIR | 01777u);
  EXPECT_EQ(stat.st_mtim.tv_sec, 1000000000) << "set after what came into it";
  stat = StatOf(Target("/srv"));
  EXPECT_EQ(stat.st_mode, S_IFDIR | 02750u);
  EXPECT_EQ(StatOf(Target("/srv/f")).st_gid, 0u)
      << "the layer says root, whatever the directory hands down";
  stat = StatOf(Target("/lib"));
  EXPECT_TRUE(S_ISLNK(stat.st_mode));
  EXPECT_EQ(stat.st_uid, 3u);
  EXPECT_EQ(stat.st_mtim.tv_sec, 99);
  stat = StatOf(Target("/bin"));
  EXPECT_EQ(stat.st_mode, S_IFDIR | 0755u) << "implied";
}

TEST_F(LayerApplyTest, ResultDescribesTheUncompressedStream) {
  const std::string layer = LayerBuilder().File("a").Directory("d").Finish();
  for (const Compression compression :
       {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    std::string packed = layer;
    if (compression != Compression::kNone) {
      StringSink sink;
      const std::unique_ptr<Compressor> compressor = OpenCompressor(sink, compression).value();
      ASSERT_TRUE(compressor->Write(layer).ok() && compressor->Finish().ok());
      packed = sink.str();
    }
    const absl::StatusOr<ApplyResult> result = Apply(packed);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->uncompressed_bytes, static_cast<int64_t>(layer.size()));
    EXPECT_EQ(result->entries, 2);
    const absl::StatusOr<ApplyResult> plain = Apply(layer);
    EXPECT_EQ(result->diff_id, plain->diff_id);
  }
}

TEST_F(LayerApplyTest, DiffIdCoversWhatFollowsTheArchive) {
  // sha256 of 10240 zero bytes: an empty archive as GNU tar pads it.
  const absl::StatusOr<ApplyResult> result = Apply(std::string(10240, '\0'));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->diff_id,
            "sha256:84ff92691f909a05b224e1c56abb4864f01b4f8e3c854e4bb4c7baf1d3f6d652");
  EXPECT_EQ(result->uncompressed_bytes, 10240);
}

TEST_F(LayerApplyTest, EmptyLayerIsALayer) {
  const absl::StatusOr<ApplyResult> result = Apply("");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->diff_id,
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_F(LayerApplyTest, LaterEntriesReplaceEarlierOnes) {
  MustApply(LayerBuilder()
                .File("file-to-dir")
                .Directory("dir-to-file")
                .File("dir-to-file/inside")
                .Symlink("link-to-dir", "elsewhere")
                .Directory("elsewhere")
                .File("file")
                .Directory("kept", 0700)
                .File("kept/inside")
                .Finish());
  MustApply(LayerBuilder()
                .Directory("file-to-dir")
                .File("dir-to-file", "new")
                .Directory("link-to-dir")
                .File("link-to-dir/x")
                .File("file", "second")
                .Directory("kept", 0711)
                .Finish());
  EXPECT_TRUE(S_ISDIR(StatOf(Target("/file-to-dir")).st_mode));
  EXPECT_EQ(Read(Target("/dir-to-file")), "new");
  EXPECT_TRUE(S_ISDIR(StatOf(Target("/link-to-dir")).st_mode));
  EXPECT_FALSE(Exists(Target("/elsewhere/x")));
  EXPECT_EQ(Read(Target("/file")), "second");
  EXPECT_EQ(StatOf(Target("/kept")).st_mode & 07777, 0711u);
  EXPECT_TRUE(Exists(Target("/kept/inside")));
}

TEST_F(LayerApplyTest, SymlinkedParentsAreFollowedInsideOnly) {
  MustApply(LayerBuilder()
                .Directory("usr/lib")
                .Symlink("lib", "/usr/lib")
                .File("lib/a")
                .Symlink("up", "../../../usr")
                .File("up/b")
                .Finish());
  EXPECT_TRUE(Exists(Target("/usr/lib/a")));
  EXPECT_TRUE(Exists(Target("/usr/b")));
  EXPECT_TRUE(S_ISLNK(StatOf(Target("/lib")).st_mode));
}

TEST_F(LayerApplyTest, DanglingParentLinkLeadsToANewDirectory) {
  MustApply(LayerBuilder().Symlink("var/run", "/run").File("var/run/lock/f", "locked").Finish());
  EXPECT_EQ(Read(Target("/run/lock/f")), "locked");
}

TEST_F(LayerApplyTest, WhiteoutsDelete) {
  MustApply(LayerBuilder().File("a").File("d/x").File("d/sub/y").File("e/z").Finish());
  MustApply(LayerBuilder()
                .File(".wh.a", "")
                .File("d/.wh.sub", "")
                .File(".wh.e", "")
                .File(".wh.absent", "")
                .Finish());
  EXPECT_EQ(DescribeTree(Target(), false).size(), 2u);
  EXPECT_TRUE(Exists(Target("/d/x")));
}

TEST_F(LayerApplyTest, WhiteoutSparesWhatTheSameLayerBrings) {
  MustApply(LayerBuilder().File("a", "old").File("d/old").Finish());
  MustApply(LayerBuilder()
                .File("a", "new")
                .File(".wh.a", "")
                .File("d/new")
                .Directory("d")
                .File(".wh.d", "")
                .Finish());
  EXPECT_EQ(Read(Target("/a")), "new");
  EXPECT_TRUE(Exists(Target("/d/new")));
  EXPECT_FALSE(Exists(Target("/d/old")));
}

TEST_F(LayerApplyTest, OpaqueHidesLowerChildrenWhicheverOrder) {
  for (const bool marker_first : {true, false}) {
    MustApply(LayerBuilder().File("d/old").File("d/sub/old").File("d/both/old").Finish());
    LayerBuilder layer;
    layer.Directory("d");
    if (marker_first) layer.File("d/.wh..wh..opq", "");
    layer.File("d/new").File("d/both/new");
    if (!marker_first) layer.File("d/.wh..wh..opq", "");
    MustApply(layer.Finish());
    EXPECT_TRUE(Exists(Target("/d/new")));
    EXPECT_TRUE(Exists(Target("/d/both/new")));
    EXPECT_FALSE(Exists(Target("/d/old")));
    EXPECT_FALSE(Exists(Target("/d/sub")));
    EXPECT_FALSE(Exists(Target("/d/both/old")));
  }
}

TEST_F(LayerApplyTest, AufsBookkeepingIsIgnored) {
  MustApply(LayerBuilder()
                .Directory(".wh..wh.plnk")
                .File(".wh..wh.aufs")
                .File(".wh..wh.plnk/123.456")
                .File("a")
                .Finish());
  EXPECT_EQ(DescribeTree(Target()).size(), 1u);
}

TEST_F(LayerApplyTest, OverlayAttributesOfTheLayerAreNotSet) {
  TarEntry entry;
  entry.path = "d/";
  entry.type = TarType::kDirectory;
  entry.mode = 0755;
  entry.xattrs = {{"trusted.overlay.opaque", "y"},
                  {"user.overlay.opaque", "y"},
                  {"trusted.overlay.redirect", "/etc"},
                  {"user.ok", "1"}};
  MustApply(LayerBuilder().Entry(entry).Finish());
  char value[16];
  EXPECT_EQ(getxattr(Target("/d").c_str(), "trusted.overlay.opaque", value, sizeof(value)), -1);
  EXPECT_EQ(getxattr(Target("/d").c_str(), "user.overlay.opaque", value, sizeof(value)), -1);
  EXPECT_EQ(getxattr(Target("/d").c_str(), "trusted.overlay.redirect", value, sizeof(value)), -1);
  EXPECT_EQ(getxattr(Target("/d").c_str(), "user.ok", value, sizeof(value)), 1);
}

TEST_F(LayerApplyTest, LongRunsOfZerosTakeNoSpace) {
  std::string content(8 << 20, '\0');
  content.replace(1000000, 5, "piece");
  content.replace(content.size() - 3, 3, "end");
  MustApply(
      LayerBuilder().File("sparse", content).File("zeros", std::string(1 << 20, '\0')).Finish());
  EXPECT_TRUE(ReadFile(Target("/sparse"), 64 << 20).value() == content);
  EXPECT_LT(StatOf(Target("/sparse")).st_blocks * 512, 1 << 20);
  EXPECT_EQ(StatOf(Target("/zeros")).st_size, 1 << 20);
  EXPECT_LT(StatOf(Target("/zeros")).st_blocks * 512, 1 << 18);
}

TEST_F(LayerApplyTest, PathsThatLeadOutAreRefusedByName) {
  const absl::Status status =
      Apply(LayerBuilder().File("ok").File("a/../../outside").Finish()).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "layer entry 2 \"a/../../outside\"")) << status;
}

TEST_F(LayerApplyTest, BadEntriesAreRefused) {
  TarEntry nothing;
  nothing.type = TarType::kSymlink;
  nothing.path = "l";
  const std::vector<std::string> layers = {
      LayerBuilder().File(".wh.", "").Finish(),
      LayerBuilder().File("d/.wh..", "").Finish(),
      LayerBuilder().File(".wh...", "").Finish(),
      LayerBuilder().File("f").File("f/below").Finish(),
      LayerBuilder().HardLink("l", "absent").Finish(),
      LayerBuilder().HardLink("l", "l").Finish(),
      LayerBuilder().HardLink("l", "/").Finish(),
      LayerBuilder().HardLink("l", "../../etc/passwd").Finish(),
      LayerBuilder().Directory("d").HardLink("l", "d").Finish(),
      LayerBuilder().Entry(nothing).Finish(),
      LayerBuilder().File(std::string(256, 'n')).Finish(),
      LayerBuilder().Symlink("a", "b").Symlink("b", "a").File("a/f").Finish(),
      LayerBuilder().File(".wh.d/inside").Finish(),
      LayerBuilder().File("x/.wh.d/inside").Finish(),
  };
  for (size_t i = 0; i < layers.size(); ++i) {
    const absl::Status status = Apply(layers[i]).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << i << " " << status;
  }
}

TEST_F(LayerApplyTest, LimitsHold) {
  ApplyOptions options;
  options.limits.entries = 3;
  EXPECT_EQ(Apply(LayerBuilder().File("a").File("b").File("c").File("d").Finish(), options)
                .status()
                .code(),
            StatusCode::kResourceExhausted);
  options = {};
  options.limits.uncompressed_bytes = 10000;
  EXPECT_EQ(
      Apply(LayerBuilder().File("a", std::string(10000, 'a')).Finish(), options).status().code(),
      StatusCode::kResourceExhausted);
  options = {};
  options.limits.file_bytes = 100;
  EXPECT_EQ(
      Apply(LayerBuilder().File("a", std::string(101, 'a')).Finish(), options).status().code(),
      StatusCode::kResourceExhausted);
  options = {};
  options.limits.path_depth = 5;
  EXPECT_TRUE(Apply(LayerBuilder().File("1/2/3/4/5").Finish(), options).ok());
  EXPECT_EQ(Apply(LayerBuilder().File("1/2/3/4/5/6").Finish(), options).status().code(),
            StatusCode::kInvalidArgument);
}

// A file of zeros, compressed: little that becomes much.
std::string Bomb(Compression compression, int64_t bytes) {
  StringSink sink;
  const std::unique_ptr<Compressor> compressor = OpenCompressor(sink, compression).value();
  TarWriter tar(*compressor);
  TarEntry entry;
  entry.path = "zeros";
  entry.mode = 0644;
  entry.size_bytes = bytes;
  EXPECT_TRUE(tar.WriteEntry(entry).ok());
  const std::string piece(1 << 20, '\0');
  for (int64_t done = 0; done < bytes; done += static_cast<int64_t>(piece.size()))
    EXPECT_TRUE(tar.WriteData(piece).ok());
  EXPECT_TRUE(tar.Finish().ok());
  EXPECT_TRUE(compressor->Finish().ok());
  return sink.str();
}

TEST_F(LayerApplyTest, BombsEndAtALimitAndCostNoMemory) {
  // More than deflate could ever do.
  const std::string zstd = Bomb(Compression::kZstd, int64_t{3} << 29);
  // As much as deflate can do: only the size of a layer ends that.
  const std::string gzip = Bomb(Compression::kGzip, int64_t{1} << 28);
  ASSERT_LT(zstd.size() + gzip.size(), size_t{4} << 20);
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  const absl::Status expanded = Apply(zstd).status();
  EXPECT_EQ(expanded.code(), StatusCode::kResourceExhausted) << expanded;
  EXPECT_TRUE(absl::StrContains(expanded.message(), "expand to more than")) << expanded;
  ApplyOptions options;
  options.limits.uncompressed_bytes = 64 << 20;
  const absl::Status large = Apply(gzip, options).status();
  EXPECT_EQ(large.code(), StatusCode::kResourceExhausted) << large;
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10) << "KiB more memory than before";
  // Holes: what was written takes no room.
  EXPECT_LT(StatOf(Target("/zeros")).st_blocks, (64 << 20) / 512);
}

TEST_F(LayerApplyTest, DamagedCompressionIsDataLoss) {
  StringSink sink;
  const std::unique_ptr<Compressor> compressor = OpenCompressor(sink, Compression::kGzip).value();
  ASSERT_TRUE(compressor->Write(LayerBuilder().File("a", std::string(100000, 'x')).Finish()).ok() &&
              compressor->Finish().ok());
  EXPECT_EQ(Apply(sink.str().substr(0, sink.str().size() / 2)).status().code(),
            StatusCode::kDataLoss);
}

TEST_F(LayerApplyTest, FullDiskIsSaidToBeFull) {
  absl::StatusOr<ScopedMount> small = ScopedMount::Create(
      {{.type = "tmpfs", .source = "tmpfs", .options = {"size=256k"}}}, Target());
  ASSERT_TRUE(small.ok()) << small.status();
  const absl::Status status =
      Apply(LayerBuilder().File("a", std::string(1 << 20, 'x')).Finish()).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "\"a\"")) << status;
}

TEST_F(LayerApplyTest, CancelEndsIt) {
  CancelToken cancel;
  cancel.Cancel("enough");
  ApplyOptions options;
  options.cancel = &cancel;
  EXPECT_EQ(Apply(LayerBuilder().File("a").Finish(), options).status().code(),
            StatusCode::kCancelled);
}

class FailingSource final : public ByteSource {
 public:
  explicit FailingSource(std::string bytes) : bytes_(std::move(bytes)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    if (at_ == bytes_.size()) return absl::UnavailableError("the network went away");
    n = std::min(n, bytes_.size() - at_);
    bytes_.copy(buffer, n, at_);
    at_ += n;
    return n;
  }

 private:
  const std::string bytes_;
  size_t at_ = 0;
};

TEST_F(LayerApplyTest, ErrorOfTheSourceIsReturned) {
  FailingSource source(
      LayerBuilder().File("a", std::string(3 << 20, 'x')).Finish().substr(0, 2 << 20));
  const absl::Status status = ApplyLayerToDirectory(source, Target(), {}).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "the network went away")) << status;
}

TEST_F(LayerApplyTest, HostSeesNoMountAndKeepsItsWorkingDirectory) {
  char before[4096], after[4096];
  ASSERT_NE(getcwd(before, sizeof(before)), nullptr);
  const mode_t mask = umask(022);
  umask(mask);
  MustApply(LayerBuilder().File("a").Finish());
  ASSERT_NE(getcwd(after, sizeof(after)), nullptr);
  EXPECT_STREQ(before, after);
  EXPECT_EQ(umask(mask), mask);
  EXPECT_FALSE(
      absl::StrContains(ReadFile("/proc/self/mountinfo", 16 << 20).value(), directory_.path()));
}

TEST_F(LayerApplyTest, OverlayLayerTakesOverlaysOwnForm) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/d/sub")).ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/a"), "a").ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/d/old"), "x").ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/replaced"), "x").ok());
  const absl::StatusOr<ApplyResult> result = ApplyToOverlay(LayerBuilder()
                                                                .File(".wh.a", "")
                                                                .Directory("d")
                                                                .File("d/.wh..wh..opq", "")
                                                                .File("d/new")
                                                                .Directory("replaced")
                                                                .File("replaced/in")
                                                                .Finish());
  ASSERT_TRUE(result.ok()) << result.status();
  const struct stat whiteout = StatOf(directory_.Join("upper/a"));
  EXPECT_TRUE(S_ISCHR(whiteout.st_mode));
  EXPECT_EQ(whiteout.st_rdev, 0u);
  char value[4];
  EXPECT_EQ(
      getxattr(directory_.Join("upper/d").c_str(), "trusted.overlay.opaque", value, sizeof(value)),
      1);
  std::vector<std::string> paths;
  for (const std::string& line : Merged()) paths.push_back(line.substr(0, line.find(' ')));
  EXPECT_EQ(paths, (std::vector<std::string>{"d", "d/new", "replaced", "replaced/in"}));
}

TEST_F(LayerApplyTest, SecondLayerOnTheSameUpperDirectoryHidesTheFirst) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/d")).ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/a"), "below").ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/d/below"), "x").ok());
  ASSERT_TRUE(ApplyToOverlay(LayerBuilder().File("a").File("d/x").File("e/z").Finish()).ok());
  ASSERT_TRUE(ApplyToOverlay(LayerBuilder()
                                 .File(".wh.a", "")
                                 .File("d/y")
                                 .File("d/.wh..wh..opq", "")
                                 .File("e/w")
                                 .File(".wh.e", "")
                                 .Finish())
                  .ok());
  std::vector<std::string> paths;
  for (const std::string& line : Merged()) paths.push_back(line.substr(0, line.find(' ')));
  EXPECT_EQ(paths, (std::vector<std::string>{"d", "d/y", "e", "e/w"}));
}

TEST_F(LayerApplyTest, DirectoryAfterItsWhiteoutIsNew) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/d/sub")).ok());
  for (const bool whiteout_first : {true, false}) {
    LayerBuilder layer;
    if (whiteout_first) layer.File(".wh.d", "");
    layer.Directory("d").File("d/new");
    if (!whiteout_first) layer.File(".wh.d", "");
    ASSERT_TRUE(ApplyToOverlay(layer.Finish()).ok());
    EXPECT_EQ(Merged().size(), 2u) << whiteout_first;
    ASSERT_TRUE(RemoveTree(directory_.Join("upper")).ok());
    ASSERT_TRUE(MakeDirectories(directory_.Join("upper")).ok());
  }
}

TEST_F(LayerApplyTest, ImpliedDirectoriesLookAsBelow) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/var/tmp")).ok());
  ASSERT_EQ(chmod(directory_.Join("lower/var/tmp").c_str(), 01777), 0);
  ASSERT_EQ(chown(directory_.Join("lower/var").c_str(), 5, 6), 0);
  ASSERT_TRUE(ApplyToOverlay(LayerBuilder().File("var/tmp/f").Finish()).ok());
  const absl::StatusOr<ScopedMount> mounted =
      ScopedMount::Create({Overlay()}, directory_.Join("merged"));
  ASSERT_TRUE(mounted.ok());
  EXPECT_EQ(StatOf(directory_.Join("merged/var/tmp")).st_mode & 07777, 01777u);
  EXPECT_EQ(StatOf(directory_.Join("merged/var")).st_uid, 5u);
}

TEST_F(LayerApplyTest, HardLinkToAFileBelowBringsItUp) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/bin")).ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/bin/a"), "content", 0750).ok());
  const absl::StatusOr<ApplyResult> result =
      ApplyToOverlay(LayerBuilder().HardLink("b", "bin/a").HardLink("c", "bin/a").Finish());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->deferred.empty());
  const absl::StatusOr<ScopedMount> mounted =
      ScopedMount::Create({Overlay()}, directory_.Join("merged"));
  ASSERT_TRUE(mounted.ok());
  EXPECT_EQ(Read(directory_.Join("merged/b")), "content");
  EXPECT_EQ(StatOf(directory_.Join("merged/b")).st_ino,
            StatOf(directory_.Join("merged/bin/a")).st_ino);
  EXPECT_EQ(StatOf(directory_.Join("merged/c")).st_ino,
            StatOf(directory_.Join("merged/bin/a")).st_ino);
  EXPECT_EQ(StatOf(directory_.Join("merged/b")).st_mode & 07777, 0750u);
}

TEST_F(LayerApplyTest, DetachedLayerIsCompletedOnItsParent) {
  const std::string layer_directory = directory_.Join("root/snapshots/7/fs");
  ASSERT_TRUE(MakeDirectories(layer_directory).ok());
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/var/tmp")).ok());
  ASSERT_EQ(chmod(directory_.Join("lower/var/tmp").c_str(), 01777), 0);
  ASSERT_TRUE(WriteFile(directory_.Join("lower/file"), "below").ok());
  const std::vector<Mount> mounts = {
      {.type = "bind", .source = layer_directory, .options = {"rw", "rbind"}}};
  StringSource source(
      LayerBuilder().File("var/tmp/f").HardLink("linked", "file").File(".wh.gone", "").Finish());
  const absl::StatusOr<ApplyResult> result = ApplyLayer(source, mounts, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->deferred.implied_directories, (std::vector<std::string>{"var", "var/tmp"}));
  ASSERT_EQ(result->deferred.links.size(), 1u);
  EXPECT_TRUE(S_ISCHR(StatOf(layer_directory + "/gone").st_mode))
      << "a layer of an overlay snapshot keeps its whiteouts";

  const std::vector<Mount> parent = {
      {.type = "bind", .source = directory_.Join("lower"), .options = {"ro", "rbind"}}};
  const absl::Status completed = CompleteLayer(result->deferred, mounts, parent);
  ASSERT_TRUE(completed.ok()) << completed;
  EXPECT_EQ(StatOf(layer_directory + "/var/tmp").st_mode & 07777, 01777u);
  EXPECT_EQ(Read(layer_directory + "/linked"), "below");
  EXPECT_FALSE(Exists(layer_directory + "/.wh..wh.links"));
}

TEST_F(LayerApplyTest, DetachedLayerThatLinksToNothingIsRefused) {
  const std::string layer_directory = directory_.Join("root/snapshots/7/fs");
  ASSERT_TRUE(MakeDirectories(layer_directory).ok());
  const std::vector<Mount> mounts = {
      {.type = "bind", .source = layer_directory, .options = {"rw", "rbind"}}};
  StringSource source(LayerBuilder().HardLink("linked", "file").Finish());
  const absl::StatusOr<ApplyResult> result = ApplyLayer(source, mounts, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(CompleteLayer(result->deferred, mounts, {}).code(), StatusCode::kInvalidArgument);
}

TEST_F(LayerApplyTest, PlacesKeptForLinksAreOutOfReach) {
  const std::string layer_directory = directory_.Join("root/snapshots/7/fs");
  ASSERT_TRUE(MakeDirectories(layer_directory).ok());
  const std::vector<Mount> mounts = {
      {.type = "bind", .source = layer_directory, .options = {"rw", "rbind"}}};
  StringSource source(LayerBuilder()
                          .HardLink("linked", "file")
                          .Symlink("way", ".wh..wh.links")
                          .File("way/0", "mine")
                          .Finish());
  EXPECT_EQ(ApplyLayer(source, mounts, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(LayerApplyTest, OpaqueRootHidesAllBelow) {
  ASSERT_TRUE(MakeDirectories(directory_.Join("lower/kept/old")).ok());
  ASSERT_TRUE(WriteFile(directory_.Join("lower/file"), "x").ok());
  ASSERT_TRUE(
      ApplyToOverlay(LayerBuilder().File(".wh..wh..opq", "").File("kept/new").Finish()).ok());
  std::vector<std::string> paths;
  for (const std::string& line : Merged()) paths.push_back(line.substr(0, line.find(' ')));
  EXPECT_EQ(paths, (std::vector<std::string>{"kept", "kept/new"}));
}

TEST_F(LayerApplyTest, ReadOnlyMountsAreRefused) {
  StringSource source("");
  EXPECT_EQ(
      ApplyLayer(source, {{.type = "bind", .source = Target(), .options = {"ro", "rbind"}}}, {})
          .status()
          .code(),
      StatusCode::kFailedPrecondition);
  EXPECT_EQ(
      ApplyLayer(source, {{.type = "overlay", .source = "overlay", .options = {"lowerdir=/a:/b"}}},
                 {})
          .status()
          .code(),
      StatusCode::kFailedPrecondition);
  EXPECT_EQ(ApplyLayer(source, {}, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(LayerApplyTest, OtherMountsAreMountedWhereNobodySees) {
  ASSERT_TRUE(WriteFile(directory_.Join("lower/old"), "x").ok());
  StringSource source(LayerBuilder().File("new").File(".wh.old", "").Finish());
  ApplyOptions options;
  options.whiteouts = Whiteouts::kDelete;
  const absl::StatusOr<ApplyResult> result = ApplyLayer(source, {Overlay()}, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Merged().size(), 1u);
  EXPECT_FALSE(absl::StrContains(ReadFile("/proc/self/mountinfo", 16 << 20).value(), "gantry-mnt"));
}

absl::StatusOr<CommandResult> Tar(std::vector<std::string> arguments) {
  Command command;
  command.argv = std::move(arguments);
  command.argv.insert(command.argv.begin(), "tar");
  return RunCommand(command);
}

TEST_F(LayerApplyTest, SystemDirectoriesComeOutAsFromGnuTar) {
  for (const char* format : {"--format=gnu", "--format=posix"}) {
    const std::string archive = directory_.Join("system.tar");
    const std::string expected = directory_.Join("expected");
    const std::string found = directory_.Join("found");
    ASSERT_TRUE(MakeDirectories(expected).ok() && MakeDirectories(found).ok());
    // A tar that warns of a file changed meanwhile has still written a whole archive.
    ASSERT_TRUE(
        Tar({"-C", "/", format, "--xattrs", "-cf", archive, "etc", "usr/sbin", "usr/share/perl5"})
            .ok());
    const absl::StatusOr<CommandResult> unpacked =
        Tar({"-C", expected, "--xattrs", "--numeric-owner", "-xpf", archive});
    ASSERT_TRUE(unpacked.ok() && unpacked->status.ok());
    FdSource source(UniqueFd(open(archive.c_str(), O_RDONLY | O_CLOEXEC)));
    const absl::StatusOr<ApplyResult> result = ApplyLayerToDirectory(source, found, {});
    ASSERT_TRUE(result.ok()) << result.status();
    const std::vector<std::string> wanted = DescribeTree(expected);
    EXPECT_GT(wanted.size(), 300u);
    // The directories above were not archived, their times are those of unpacking.
    const auto comparable = [](std::vector<std::string> lines) {
      std::erase_if(lines, [](const std::string& line) {
        return absl::StartsWith(line, "usr ") || absl::StartsWith(line, "usr/share ");
      });
      return lines;
    };
    EXPECT_EQ(comparable(DescribeTree(found)), comparable(wanted));
    ASSERT_TRUE(RemoveTree(expected).ok() && RemoveTree(found).ok());
  }
}

}  // namespace
}  // namespace gantry::snapshot
