// kill -9 of the daemon at each named step of the flows (base/crash_point.h). After a restart
// whatever is listed must be true, whatever was half done must be finished or undone, and
// everything must be removable and usable again. What is left behind after that, the testbed's own
// check finds.

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

struct CrashCase {
  const char* point;
  // What the daemon is doing when it dies.
  enum class During { kLoad, kLoadElsewhere, kRun, kExec, kStop, kRemove } during;
};

constexpr char kElsewhere[] = "elsewhere";

size_t Layers(const Testbed& bed) {
  const auto names = ListDirectory(bed.root() + "/snapshots/overlayfs/snapshots");
  EXPECT_TRUE(names.ok()) << names.status();
  return names.ok() ? names->size() : 0;
}

// The image is in the testbed's namespace. Loaded into another it adds no layer, and its layers
// stay until both namespaces have removed it.
void CheckSharing(Testbed& bed) {
  ASSERT_TRUE(Ok(bed.Ctl({"gc"})));
  const size_t layers = Layers(bed);
  EXPECT_GT(layers, 0u);
  const std::string archive = bed.scratch() + "/busybox.tar";  // as LoadBusybox() wrote it
  ASSERT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "load", "-i", archive})));
  // A layer of such an archive has no digest before it is read: it is unpacked meanwhile and
  // dropped.
  ASSERT_TRUE(Ok(bed.Ctl({"gc"})));
  EXPECT_EQ(Layers(bed), layers);
  ASSERT_TRUE(Ok(bed.Ctl({"rmi", kImage})));
  ASSERT_TRUE(Ok(bed.Ctl({"gc"})));
  EXPECT_EQ(Layers(bed), layers);
  EXPECT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "run", "--rm", kImage, "true"})));
  // And back again.
  ASSERT_TRUE(Ok(bed.Ctl({"load", "-i", archive})));
  ASSERT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "rmi", kImage})));
  ASSERT_TRUE(Ok(bed.Ctl({"gc"})));
  EXPECT_EQ(Layers(bed), layers);
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", kImage, "true"})));
  ASSERT_TRUE(Ok(bed.Ctl({"rmi", kImage})));
  ASSERT_TRUE(Ok(bed.Ctl({"gc"})));
  EXPECT_EQ(Layers(bed), 0u);
  ASSERT_TRUE(bed.LoadBusybox(kImage));
}

class CrashTest : public testing::TestWithParam<CrashCase> {};

TEST(SharedLayersTest, ASecondNamespaceAddsNoLayer) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  Testbed bed;
  ASSERT_TRUE(bed.LoadBusybox(kImage));
  CheckSharing(bed);
}

TEST(SharedLayersTest, ASecondNamespaceUnpacksNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  Testbed bed;
  const std::string root = bed.scratch() + "/root", archive = bed.scratch() + "/oci.tar";
  ASSERT_TRUE(MakeBusyboxRoot(root).ok());
  ImageOptions options;
  options.names = {kImage};
  ASSERT_TRUE(WriteOciArchive(archive, {root}, options).ok());
  ASSERT_TRUE(Ok(bed.Ctl({"load", "-i", archive})));
  const auto directories = [&] {
    return ListDirectory(bed.root() + "/snapshots/overlayfs/snapshots").value();
  };
  const std::vector<std::string> before = directories();
  ASSERT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "load", "-i", archive})));
  EXPECT_EQ(directories(), before);
  ASSERT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "create", "--name", "shared", kImage})));
  EXPECT_EQ(directories().size(), before.size() + 1);
  EXPECT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "start", "shared"})));
  EXPECT_TRUE(Ok(bed.Ctl({"-n", kElsewhere, "rm", "-f", "shared"})));
}

TEST_P(CrashTest, NothingListedIsUntrueAndNothingIsLeft) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  const CrashCase& crash = GetParam();
  Testbed bed;
  const bool image_first = crash.during != CrashCase::During::kLoad;
  if (image_first) {
    ASSERT_TRUE(bed.LoadBusybox(kImage));
  }
  const bool container_first = image_first && crash.during != CrashCase::During::kRun &&
                               crash.during != CrashCase::During::kLoadElsewhere;
  if (container_first) bed.CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  bed.StopDaemon();

  ASSERT_TRUE(bed.StartDaemon({{"GANTRY_CRASH_POINT", crash.point}}));
  Outcome outcome;
  switch (crash.during) {
    case CrashCase::During::kLoad: {
      const std::string archive = bed.scratch() + "/image.tar";
      ASSERT_TRUE(WriteBusyboxArchive(archive, kImage).ok());
      outcome = bed.Ctl({"load", "-i", archive});
      break;
    }
    case CrashCase::During::kLoadElsewhere:
      outcome = bed.Ctl({"-n", kElsewhere, "load", "-i", bed.scratch() + "/busybox.tar"});
      break;
    case CrashCase::During::kRun:
      outcome = bed.Ctl({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
      break;
    case CrashCase::During::kExec:
      outcome = bed.Ctl({"exec", "web", "true"});
      break;
    case CrashCase::During::kStop:
      outcome = bed.Ctl({"stop", "--time", "0", "web"});
      break;
    case CrashCase::During::kRemove:
      outcome = bed.Ctl({"rm", "-f", "web"});
      break;
  }
  ASSERT_EQ(bed.WaitDaemonGone(), 137)
      << "the crash point " << crash.point << " was not passed; ctl said: " << outcome.code << " "
      << outcome.out << outcome.err;
  ASSERT_TRUE(bed.StartDaemon());

  // An image that is listed runs; one that is not can be loaded.
  if (bed.CtlOut({"images", "-q"}).empty()) {
    EXPECT_FALSE(image_first) << "an image was lost";
    ASSERT_TRUE(bed.LoadBusybox(kImage));
  }
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", kImage, "true"})));
  if (crash.during == CrashCase::During::kLoadElsewhere) CheckSharing(bed);

  const std::string status = bed.Inspect("web", "{{.State.Status}}");
  if (status == "running") {
    EXPECT_EQ(bed.CtlOut({"exec", "web", "echo", "yes"}), "yes");
  } else if (!status.empty()) {
    EXPECT_TRUE(status == "created" || status == "exited") << status;
    EXPECT_TRUE(Ok(bed.Ctl({"start", "web"})));
    EXPECT_TRUE(bed.StatusBecomes("web", "running"));
  }
  if (!status.empty()) {
    EXPECT_TRUE(Ok(bed.Ctl({"rm", "-f", "web"})));
  }
  EXPECT_TRUE(bed.Bundles().empty());
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", "--name", "web", kImage, "true"})))
      << "the name is still taken";
}

INSTANTIATE_TEST_SUITE_P(
    Points, CrashTest,
    testing::Values(CrashCase{"blob.renamed", CrashCase::During::kLoad},
                    CrashCase{"blob.renamed:2", CrashCase::During::kLoad},
                    CrashCase{"layer.committed", CrashCase::During::kLoad},
                    CrashCase{"layer.shared", CrashCase::During::kLoadElsewhere},
                    CrashCase{"image.whole", CrashCase::During::kLoad},
                    CrashCase{"image.recorded", CrashCase::During::kLoad},
                    CrashCase{"snapshot.prepared", CrashCase::During::kRun},
                    CrashCase{"container.recorded", CrashCase::During::kRun},
                    CrashCase{"task.created", CrashCase::During::kRun},
                    CrashCase{"exec.added", CrashCase::During::kExec},
                    CrashCase{"removal.recorded", CrashCase::During::kRemove},
                    CrashCase{"task.deleted", CrashCase::During::kRemove},
                    CrashCase{"snapshot.removed", CrashCase::During::kRemove},
                    CrashCase{"container.forgotten", CrashCase::During::kRemove},
                    CrashCase{"bundle.made", CrashCase::During::kRun},
                    CrashCase{"bundle.recorded", CrashCase::During::kRun},
                    CrashCase{"shim.forked", CrashCase::During::kRun},
                    CrashCase{"shim.listening", CrashCase::During::kRun},
                    CrashCase{"shim.recorded", CrashCase::During::kRun},
                    CrashCase{"bundle.unrecorded", CrashCase::During::kRemove},
                    CrashCase{"bundle.removed", CrashCase::During::kRemove}),
    [](const testing::TestParamInfo<CrashCase>& info) {
      std::string name = info.param.point;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return c == '.' || c == ':'; }, '_');
      return name;
    });

}  // namespace
}  // namespace gantry::integration
