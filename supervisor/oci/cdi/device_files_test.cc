#include "supervisor/oci/cdi/device_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::oci::cdi {
namespace {

using testing::Test;

class DeviceFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MakeDirectories(etc_).ok());
    ASSERT_TRUE(MakeDirectories(run_).ok());
  }
  static std::string File(const std::string& kind, const std::string& device,
                          const std::string& value) {
    return absl::StrCat(R"({"cdiVersion":"0.5.0","kind":")", kind,
                        R"(","containerEdits":{"env":["ALL=)", kind, R"("]},"devices":[)",
                        R"({"name":")", device, R"(","containerEdits":{"env":["ONE=)", value,
                        R"("]}}]})");
  }
  static void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(WriteFile(path, text).ok());
  }
  absl::Status StatusOf(const std::vector<std::string>& names) {
    return files_.Resolve(names).status();
  }

  TempDir dir_;
  const std::string etc_ = dir_.path() + "/etc";
  const std::string run_ = dir_.path() + "/run";
  const DeviceFiles files_{{etc_, run_, dir_.path() + "/none"}};
};

TEST_F(DeviceFilesTest, JsonAndYamlAreReadAndOthersAreNot) {
  Write(etc_ + "/a.json", File("v.com/a", "x", "1"));
  Write(etc_ + "/b.yaml",
        "cdiVersion: 0.5.0\nkind: v.com/b\ndevices:\n- name: \"0\"\n  containerEdits:\n"
        "    env: [\"B=0\"]\n");
  Write(etc_ + "/c.txt", File("v.com/c", "x", "1"));
  const DeviceFiles::Listing listing = files_.List();
  EXPECT_EQ(listing.devices, (std::vector<std::string>{"v.com/a=x", "v.com/b=0"}));
  EXPECT_TRUE(listing.problems.empty());
}

TEST_F(DeviceFilesTest, TheLaterDirectoryCounts) {
  Write(etc_ + "/a.json", File("v.com/a", "x", "etc"));
  Write(run_ + "/z.json", File("v.com/a", "x", "run"));
  const absl::StatusOr<ContainerEdits> edits = files_.Resolve({"v.com/a=x"});
  ASSERT_TRUE(edits.ok()) << edits.status();
  EXPECT_EQ(edits->env, (std::vector<std::string>{"ALL=v.com/a", "ONE=run"}));
}

TEST_F(DeviceFilesTest, TwoFilesOfOneDirectoryAreAConflict) {
  Write(etc_ + "/a.json", File("v.com/a", "x", "1"));
  Write(etc_ + "/b.json", File("v.com/a", "x", "2"));
  const absl::Status status = StatusOf({"v.com/a=x"});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "a.json")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "b.json")) << status;
  EXPECT_TRUE(files_.List().devices.empty());
}

TEST_F(DeviceFilesTest, EditsOfAFileAndOfADeviceComeOnce) {
  Write(etc_ + "/a.json",
        R"({"cdiVersion":"0.5.0","kind":"v.com/a","containerEdits":{"env":["ALL=1"]},"devices":[
            {"name":"x","containerEdits":{"env":["X=1"]}},
            {"name":"y","containerEdits":{"env":["Y=1"]}}]})");
  const absl::StatusOr<ContainerEdits> edits =
      files_.Resolve({"v.com/a=y", "v.com/a=x", "v.com/a=y"});
  ASSERT_TRUE(edits.ok()) << edits.status();
  EXPECT_EQ(edits->env, (std::vector<std::string>{"ALL=1", "Y=1", "X=1"}));
}

TEST_F(DeviceFilesTest, AnUnknownDeviceNamesTheDirectoriesAndWhatWasNotRead) {
  Write(run_ + "/bad.json", "{");
  const absl::Status status = StatusOf({"v.com/a=x"});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), etc_)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "bad.json")) << status;
  EXPECT_EQ(StatusOf({"nonsense"}).code(), absl::StatusCode::kInvalidArgument);
}

// A directory that others may write to must not stop the daemon, nor make it wait.
TEST_F(DeviceFilesTest, HostileFilesAreLeftOut) {
  Write(etc_ + "/good.json", File("v.com/a", "x", "1"));
  Write(etc_ + "/large.json", std::string(2 << 20, ' '));
  Write(etc_ + "/deep.yaml", std::string(5000, '['));
  ASSERT_EQ(mkfifo((etc_ + "/fifo.json").c_str(), 0600), 0);
  ASSERT_EQ(symlink("/dev/zero", (etc_ + "/zero.json").c_str()), 0);
  ASSERT_EQ(symlink("loop.json", (etc_ + "/loop.json").c_str()), 0);
  ASSERT_EQ(mkdir((etc_ + "/dir.json").c_str(), 0700), 0);
  const DeviceFiles::Listing listing = files_.List();
  EXPECT_EQ(listing.devices, std::vector<std::string>{"v.com/a=x"});
  EXPECT_EQ(listing.problems.size(), 6u);
}

TEST_F(DeviceFilesTest, NoDirectoryAtAllIsNoError) {
  const DeviceFiles none({dir_.path() + "/nowhere"});
  EXPECT_TRUE(none.List().devices.empty());
  EXPECT_TRUE(none.List().problems.empty());
  EXPECT_TRUE(none.Resolve({}).ok());
}

}  // namespace
}  // namespace gantry::oci::cdi
