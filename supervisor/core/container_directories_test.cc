#include "supervisor/core/container_directories.h"

#include <unistd.h>

#include <memory>
#include <optional>
#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

class ContainerDirectoriesTest : public ContainerFixture {
 protected:
  std::string Directory(const std::string& id) {
    const std::string path = records_->Directory(kNs, id);
    EXPECT_TRUE(MakeDirectories(path, 0710).ok());
    EXPECT_TRUE(WriteFile(path + "/hosts", "x", 0644).ok());
    return path;
  }
  static bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
};

TEST_F(ContainerDirectoriesTest, WhatNoRecordNamesIsTakenAway) {
  const std::string kept = records_->Directory(kNs, Make("web"));
  const std::string left = Directory("left");
  const std::string passing = dir_.Join("state/containers/other/passing");
  ASSERT_TRUE(MakeDirectories(passing, 0710).ok());
  ASSERT_TRUE(records_->directories().Sweep().ok());
  EXPECT_TRUE(Exists(kept));
  EXPECT_FALSE(Exists(left));
  EXPECT_FALSE(Exists(passing));
}

TEST_F(ContainerDirectoriesTest, WhatIsBeingMadeIsLeftAlone) {
  std::optional<ContainerDirectories::Making> making(
      records_->directories().Announce(kNs, "fresh"));
  const std::string fresh = Directory("fresh");
  ASSERT_TRUE(records_->directories().Sweep().ok());
  EXPECT_TRUE(Exists(fresh));
  // Given up without a record.
  making.reset();
  ASSERT_TRUE(records_->directories().Sweep().ok());
  EXPECT_FALSE(Exists(fresh));
}

TEST_F(ContainerDirectoriesTest, WithoutAnyDirectoryThereIsNothingToDo) {
  EXPECT_TRUE(ContainerDirectories(containers_, {dir_.Join("nowhere")}).Sweep().ok());
}

TEST_F(ContainerDirectoriesTest, OneFailureKeepsNoOther) {
  ASSERT_TRUE(MakeDirectories(dir_.Join("root/containers"), 0710).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("root/containers/a-file"), "", 0600).ok());
  const std::string left = Directory("left");
  EXPECT_FALSE(records_->directories().Sweep().ok());
  EXPECT_FALSE(Exists(left));
}

}  // namespace
}  // namespace gantry::core
