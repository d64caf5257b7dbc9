#include "snapshotter/layer_diff.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/file.h"
#include "base/tar/reader.h"
#include "base/temp_dir.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/layer_test_tree.h"
#include "snapshotter/mount.h"

namespace gantry::snapshot {
namespace {

// Changes made through an overlay mount ("upper" on "lower"), or to a plain copy: both must diff
// alike.
class LayerDiffTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    absl::StatusOr<ScopedMount> memory = ScopedMount::Create(
        {{.type = "tmpfs", .source = "tmpfs", .options = {"size=256m"}}}, directory_.path());
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    for (const char* name :
         {"lower", "upper", "work", "newer", "again", "again-upper", "again-work", "mnt"}) {
      ASSERT_TRUE(MakeDirectories(directory_.Join(name)).ok());
    }
    const std::string lower = directory_.Join("lower");
    ASSERT_TRUE(MakeDirectories(lower + "/etc/dir/sub").ok());
    for (const char* file : {"/etc/changed", "/etc/deleted", "/etc/same", "/etc/dir/a",
                             "/etc/dir/sub/b", "/kind", "/chmod", "/touched"}) {
      ASSERT_TRUE(WriteFile(lower + file, "old").ok());
    }
    ASSERT_TRUE(MakeDirectories(lower + "/gone/deep").ok());
    ASSERT_TRUE(WriteFile(lower + "/gone/deep/f", "x").ok());
    ASSERT_TRUE(WriteFile(lower + "/linked-old", "shared").ok());
    ASSERT_EQ(symlink("target", (lower + "/symlink").c_str()), 0);
  }

  bool overlay() const { return GetParam(); }

  std::vector<Mount> Older() const {
    return {{.type = "bind", .source = directory_.Join("lower"), .options = {"ro", "rbind"}}};
  }
  std::vector<Mount> Newer() const {
    if (!overlay())
      return {{.type = "bind", .source = directory_.Join("newer"), .options = {"rw", "rbind"}}};
    return {
        {.type = "overlay",
         .source = "overlay",
         .options = {"workdir=" + directory_.Join("work"), "upperdir=" + directory_.Join("upper"),
                     "lowerdir=" + directory_.Join("lower")}}};
  }

  // Runs `change` on the newer tree.
  void Change(const std::function<void(const std::string& root)>& change) {
    if (!overlay()) {
      const std::string layer = Pack({}, Older()).value();
      StringSource source(layer);
      ASSERT_TRUE(ApplyLayerToDirectory(source, directory_.Join("newer"), {}).ok());
      // The copy has whole seconds; so must the original have.
      ASSERT_TRUE(RemoveTree(directory_.Join("lower")).ok());
      ASSERT_TRUE(MakeDirectories(directory_.Join("lower")).ok());
      StringSource again(layer);
      ASSERT_TRUE(ApplyLayerToDirectory(again, directory_.Join("lower"), {}).ok());
    }
    const absl::StatusOr<ScopedMount> mounted =
        ScopedMount::Create(Newer(), directory_.Join("mnt"));
    ASSERT_TRUE(mounted.ok()) << mounted.status();
    change(directory_.Join("mnt"));
  }

  absl::StatusOr<std::string> Pack(const std::vector<Mount>& older, const std::vector<Mount>& newer,
                                   const DiffOptions& options = {}) {
    StringSink sink;
    const absl::StatusOr<DiffResult> result = WriteDiff(older, newer, sink, options);
    if (!result.ok()) return result.status();
    EXPECT_EQ(result->size_bytes, static_cast<int64_t>(sink.str().size()));
    return sink.str();
  }

  std::vector<std::string> Paths(const std::string& layer) {
    StringSource source(layer);
    TarReader reader(source);
    std::vector<std::string> paths;
    TarEntry entry;
    while (true) {
      const absl::StatusOr<bool> more = reader.Next(entry);
      EXPECT_TRUE(more.ok()) << more.status();
      if (!more.ok() || !*more) return paths;
      paths.push_back(entry.path);
    }
  }

  std::vector<std::string> Changes() {
    std::vector<std::string> changes;
    const absl::Status status = ListChanges(Older(), Newer(), [&](const snapshot::Change& change) {
      changes.push_back(absl::StrCat(change.kind == ChangeKind::kAdded     ? "A "
                                     : change.kind == ChangeKind::kDeleted ? "D "
                                                                           : "C ",
                                     change.path));
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return changes;
  }

  // The newer tree as it is, and as its layer on the older one makes it: as overlay layer and as
  // plain files.
  void ExpectRoundTrip() {
    const absl::StatusOr<std::string> layer = Pack(Older(), Newer());
    ASSERT_TRUE(layer.ok()) << layer.status();
    std::vector<std::string> wanted;
    {
      const absl::StatusOr<ScopedMount> mounted =
          ScopedMount::Create(Newer(), directory_.Join("mnt"));
      ASSERT_TRUE(mounted.ok());
      wanted = DescribeTree(directory_.Join("mnt"), /*times=*/false);
    }
    const std::vector<Mount> again = {{.type = "overlay",
                                       .source = "overlay",
                                       .options = {"workdir=" + directory_.Join("again-work"),
                                                   "upperdir=" + directory_.Join("again-upper"),
                                                   "lowerdir=" + directory_.Join("lower")}}};
    StringSource source(*layer);
    const absl::StatusOr<ApplyResult> applied = ApplyLayer(source, again, {});
    ASSERT_TRUE(applied.ok()) << applied.status();
    {
      const absl::StatusOr<ScopedMount> mounted =
          ScopedMount::Create(again, directory_.Join("mnt"));
      ASSERT_TRUE(mounted.ok());
      EXPECT_EQ(DescribeTree(directory_.Join("mnt"), false), wanted) << "through an overlay layer";
    }
    StringSource base(Pack({}, Older()).value());
    ASSERT_TRUE(ApplyLayerToDirectory(base, directory_.Join("again"), {}).ok());
    StringSource on_top(*layer);
    const absl::StatusOr<ApplyResult> plain =
        ApplyLayerToDirectory(on_top, directory_.Join("again"), {});
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_EQ(DescribeTree(directory_.Join("again"), false), wanted) << "through plain files";
    EXPECT_EQ(Pack(Older(), Newer()).value(), *layer) << "the same trees give the same bytes";
  }

  TempDir directory_;
  ScopedMount memory_;
};

TEST_P(LayerDiffTest, NothingChangedIsAnEmptyLayer) {
  Change([](const std::string&) {});
  EXPECT_TRUE(Changes().empty());
  EXPECT_EQ(Pack(Older(), Newer()).value(), std::string(1024, '\0'));
}

TEST_P(LayerDiffTest, ChangesAreListedInOrder) {
  Change([](const std::string& root) {
    ASSERT_TRUE(WriteFile(root + "/etc/changed", "newer").ok());
    ASSERT_TRUE(WriteFile(root + "/etc/added", "x").ok());
    ASSERT_EQ(unlink((root + "/etc/deleted").c_str()), 0);
    ASSERT_TRUE(RemoveTree(root + "/gone").ok());
    ASSERT_EQ(chmod((root + "/chmod").c_str(), 0600), 0);
    ASSERT_TRUE(MakeDirectories(root + "/new/sub").ok());
  });
  EXPECT_EQ(Changes(),
            (std::vector<std::string>{"C /chmod", "C /etc", "A /etc/added", "C /etc/changed",
                                      "D /etc/deleted", "D /gone", "A /new", "A /new/sub"}));
  EXPECT_EQ(Paths(Pack(Older(), Newer()).value()),
            (std::vector<std::string>{"chmod", "etc/", "etc/added", "etc/changed",
                                      "etc/.wh.deleted", ".wh.gone", "new/", "new/sub/"}));
  ExpectRoundTrip();
}

TEST_P(LayerDiffTest, ReplacedDirectoryHidesWhatWasThere) {
  Change([](const std::string& root) {
    ASSERT_TRUE(RemoveTree(root + "/etc/dir").ok());
    ASSERT_TRUE(MakeDirectories(root + "/etc/dir/fresh").ok());
    ASSERT_TRUE(WriteFile(root + "/etc/dir/c", "c").ok());
  });
  EXPECT_EQ(Changes(),
            (std::vector<std::string>{"C /etc", "C /etc/dir", "D /etc/dir/a", "A /etc/dir/c",
                                      "A /etc/dir/fresh", "D /etc/dir/sub"}));
  ExpectRoundTrip();
}

TEST_P(LayerDiffTest, ChangedTypesComeThrough) {
  Change([](const std::string& root) {
    ASSERT_EQ(unlink((root + "/kind").c_str()), 0);
    ASSERT_EQ(mkdir((root + "/kind").c_str(), 0700), 0);
    ASSERT_TRUE(WriteFile(root + "/kind/in", "x").ok());
    ASSERT_TRUE(RemoveTree(root + "/gone").ok());
    ASSERT_EQ(symlink("etc", (root + "/gone").c_str()), 0);
    ASSERT_EQ(unlink((root + "/symlink").c_str()), 0);
    ASSERT_EQ(symlink("other", (root + "/symlink").c_str()), 0);
  });
  ExpectRoundTrip();
}

TEST_P(LayerDiffTest, AttributesComeThrough) {
  Change([](const std::string& root) {
    const std::string file = root + "/suid";
    ASSERT_TRUE(WriteFile(file, "x").ok());
    ASSERT_EQ(chown(file.c_str(), 100, 3000000), 0);
    ASSERT_EQ(chmod(file.c_str(), 06755), 0);
    const char capability[20] = {1, 0, 0, 2, 0, 0x20};
    ASSERT_EQ(setxattr(file.c_str(), "security.capability", capability, sizeof(capability), 0), 0);
    ASSERT_EQ(setxattr((root + "/etc").c_str(), "trusted.note", "a\0b", 3, 0), 0);
    ASSERT_EQ(mknod((root + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
    ASSERT_EQ(mknod((root + "/disk").c_str(), S_IFBLK | 0660, makedev(259, 70000)), 0);
    ASSERT_EQ(mkfifo((root + "/fifo").c_str(), 0622), 0);
    ASSERT_EQ(mkdir((root + "/sticky").c_str(), 0777), 0);
    ASSERT_EQ(chmod((root + "/sticky").c_str(), 03777), 0);
    ASSERT_EQ(mkdir((root + "/" + std::string(255, 'n')).c_str(), 0755), 0);
    ASSERT_TRUE(
        WriteFile(root + "/" + std::string(255, 'n') + "/" + std::string(255, 'm'), "deep").ok());
    ASSERT_TRUE(WriteFile(root + "/sp\xc3\xa4\n\t\xff", "odd name").ok());
    ASSERT_TRUE(WriteFile(root + "/sparse", "start").ok());
    ASSERT_EQ(truncate((root + "/sparse").c_str(), 20 << 20), 0);
  });
  ExpectRoundTrip();
  struct stat stat;
  ASSERT_EQ(lstat(directory_.Join("again/sparse").c_str(), &stat), 0);
  EXPECT_LT(stat.st_blocks * 512, 1 << 20) << "still sparse";
}

TEST_P(LayerDiffTest, ModificationTimesComeThroughInSeconds) {
  Change([](const std::string& root) {
    const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0},
                               {.tv_sec = 1234567890, .tv_nsec = 987654321}};
    ASSERT_EQ(utimensat(AT_FDCWD, (root + "/touched").c_str(), times, 0), 0);
    ASSERT_TRUE(WriteFile(root + "/etc/new", "x").ok());
    ASSERT_EQ(utimensat(AT_FDCWD, (root + "/etc").c_str(), times, 0), 0);
  });
  ExpectRoundTrip();
  for (const char* path : {"touched", "etc"}) {
    struct stat stat;
    ASSERT_EQ(lstat(directory_.Join(absl::StrCat("again/", path)).c_str(), &stat), 0);
    EXPECT_EQ(stat.st_mtim.tv_sec, 1234567890) << path;
    EXPECT_EQ(stat.st_mtim.tv_nsec, 0) << path;
  }
}

TEST_P(LayerDiffTest, HardLinksStayLinks) {
  Change([](const std::string& root) {
    ASSERT_TRUE(WriteFile(root + "/new1", "n").ok());
    ASSERT_EQ(link((root + "/new1").c_str(), (root + "/etc/new2").c_str()), 0);
    // A second name for a file that did not change, before and after it in order.
    ASSERT_EQ(link((root + "/linked-old").c_str(), (root + "/a-link").c_str()), 0);
    ASSERT_EQ(link((root + "/linked-old").c_str(), (root + "/z-link").c_str()), 0);
  });
  ExpectRoundTrip();
}

TEST_P(LayerDiffTest, SameSizeAndSecondButOtherBytesIsAChange) {
  Change([](const std::string& root) {
    struct stat stat;
    ASSERT_EQ(lstat((root + "/etc/same").c_str(), &stat), 0);
    ASSERT_TRUE(WriteFile(root + "/etc/same", "xyz").ok());
    const timespec times[2] = {stat.st_atim, stat.st_mtim};
    ASSERT_EQ(utimensat(AT_FDCWD, (root + "/etc/same").c_str(), times, 0), 0);
  });
  EXPECT_TRUE(absl::StrContains(Pack(Older(), Newer()).value(), "xyz"));
}

TEST_P(LayerDiffTest, SocketsAreLeftOut) {
  Change([](const std::string& root) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = root + "/s";
    if (path.size() >= sizeof(address.sun_path))
      GTEST_SKIP() << "the test directory's name is too long for a socket";
    memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    close(fd);
  });
  for (const std::string& path : Paths(Pack(Older(), Newer()).value())) EXPECT_NE(path, "s");
}

TEST_P(LayerDiffTest, SourceDateEpochBoundsTimes) {
  Change([](const std::string& root) { ASSERT_TRUE(WriteFile(root + "/new", "x").ok()); });
  DiffOptions options;
  options.source_date_epoch = absl::FromUnixSeconds(1000);
  StringSource source(Pack(Older(), Newer(), options).value());
  TarReader reader(source);
  TarEntry entry;
  ASSERT_TRUE(reader.Next(entry).value());
  EXPECT_EQ(entry.path, "new");
  EXPECT_EQ(entry.mtime.seconds, 1000);
}

TEST_P(LayerDiffTest, WithoutOlderTreeEverythingIsNew) {
  Change([](const std::string& root) { ASSERT_TRUE(WriteFile(root + "/new", "x").ok()); });
  const std::vector<Mount> newer = Newer();
  const std::vector<std::string> paths = Paths(Pack({}, newer).value());
  EXPECT_EQ(std::count(paths.begin(), paths.end(), "etc/same"), 1);
  EXPECT_EQ(std::count(paths.begin(), paths.end(), "new"), 1);
}

TEST_P(LayerDiffTest, CancelEndsIt) {
  Change([](const std::string&) {});
  CancelToken cancel;
  cancel.Cancel("enough");
  DiffOptions options;
  options.cancel = &cancel;
  EXPECT_EQ(Pack(Older(), Newer(), options).status().code(), absl::StatusCode::kCancelled);
}

TEST_P(LayerDiffTest, VisitorEndsTheListing) {
  Change([](const std::string& root) {
    ASSERT_TRUE(WriteFile(root + "/n1", "x").ok());
    ASSERT_TRUE(WriteFile(root + "/n2", "x").ok());
  });
  int visited = 0;
  EXPECT_EQ(ListChanges(Older(), Newer(),
                        [&](const snapshot::Change&) {
                          ++visited;
                          return absl::AbortedError("enough");
                        })
                .code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(visited, 1);
}

class FullSink final : public ByteSink {
 public:
  absl::Status Write(absl::string_view) override { return absl::ResourceExhaustedError("full"); }
};

TEST_P(LayerDiffTest, ErrorOfTheSinkIsReturned) {
  Change([](const std::string& root) {
    ASSERT_TRUE(WriteFile(root + "/n", std::string(1 << 20, 'x')).ok());
  });
  FullSink sink;
  EXPECT_EQ(WriteDiff(Older(), Newer(), sink, {}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

INSTANTIATE_TEST_SUITE_P(Trees, LayerDiffTest, testing::Values(true, false),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "Overlay" : "Plain";
                         });

}  // namespace
}  // namespace gantry::snapshot
