#include "supervisor/runtime/apparmor.h"

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::runtime {
namespace {

using testing::HasSubstr;

// A host's /sys, and a parser that notes what it is given.
class AppArmorTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = getenv("PATH");
    Put("bin/apparmor_parser", absl::StrCat("#!/bin/sh\necho \"$@\" > ", dir_.Join("asked"),
                                            "\ncat > ", dir_.Join("profile"), "\n"));
    ASSERT_EQ(setenv("PATH", absl::StrCat(dir_.Join("bin"), ":", path_).c_str(), 1), 0);
  }
  void TearDown() override { setenv("PATH", path_.c_str(), 1); }
  void Put(const std::string& file, const std::string& text) {
    const std::string full = dir_.Join(file);
    ASSERT_TRUE(MakeDirectories(full.substr(0, full.rfind('/'))).ok());
    ASSERT_TRUE(WriteFile(full, text, 0755).ok());
  }
  void TurnOn(const std::string& profiles) {
    Put("sys/module/apparmor/parameters/enabled", "Y\n");
    Put("sys/kernel/security/apparmor/profiles", profiles);
  }
  std::string Profile() { return ReadFile(dir_.Join("profile"), 1 << 20).value_or("none"); }

  TempDir dir_;
  std::string path_;
};

TEST_F(AppArmorTest, TheDefaultProfileIsLoadedOnce) {
  TurnOn("man_groff (enforce)\n");
  ASSERT_TRUE(LoadDefaultAppArmorProfile(dir_.path()).ok());
  EXPECT_THAT(Profile(), HasSubstr("profile docker-default "));
  EXPECT_THAT(ReadFile(dir_.Join("asked"), 4096).value(), HasSubstr("--replace"));
  Put("profile", "untouched");
  TurnOn("man_groff (enforce)\ndocker-default (enforce)\n");
  ASSERT_TRUE(LoadDefaultAppArmorProfile(dir_.path()).ok());
  EXPECT_EQ(Profile(), "untouched");
}

TEST_F(AppArmorTest, WhereItIsOffNothingIsLoaded) {
  ASSERT_TRUE(LoadDefaultAppArmorProfile(dir_.path()).ok());
  EXPECT_EQ(Profile(), "none");
  EXPECT_THAT(std::string(CheckAppArmorProfile("web", dir_.path()).message()),
              HasSubstr("no AppArmor"));
}

TEST_F(AppArmorTest, AParserThatFailsOrIsMissingIsAnError) {
  TurnOn("");
  Put("bin/apparmor_parser", "#!/bin/sh\necho syntax error >&2\nexit 1\n");
  EXPECT_THAT(std::string(LoadDefaultAppArmorProfile(dir_.path()).message()),
              HasSubstr("syntax error"));
  ASSERT_TRUE(RemoveTree(dir_.Join("bin")).ok());
  ASSERT_EQ(setenv("PATH", dir_.Join("bin").c_str(), 1), 0);
  EXPECT_TRUE(absl::IsNotFound(LoadDefaultAppArmorProfile(dir_.path())));
}

TEST_F(AppArmorTest, ANamedProfileHasToBeLoaded) {
  TurnOn("web (enforce)\nweb server (complain)\n");
  EXPECT_TRUE(CheckAppArmorProfile("web", dir_.path()).ok());
  EXPECT_TRUE(CheckAppArmorProfile("web server", dir_.path()).ok());
  EXPECT_THAT(std::string(CheckAppArmorProfile("we", dir_.path()).message()),
              HasSubstr("is not loaded"));
  EXPECT_FALSE(CheckAppArmorProfile("", dir_.path()).ok());
}

}  // namespace
}  // namespace gantry::runtime
