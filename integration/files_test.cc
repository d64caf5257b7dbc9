// Files of containers as people copy them and as processes find them: names, links, directories.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class FilesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  void Detached(const std::string& name) {
    bed_->CtlOut({"run", "-d", "--name", name, kImage, "sleep", "1000"});
  }
  std::string Here(const std::string& name) const { return bed_->scratch() + "/" + name; }
  std::string Content(const std::string& path) const { return ReadFile(path, 100).value_or(""); }

  std::unique_ptr<Testbed> bed_;
};

TEST_F(FilesTest, NamesThatAreNotUtf8AreCopiedBothWays) {
  const std::string name = "caf\xe9";
  Detached("web");
  ASSERT_TRUE(WriteFile(Here(name), "carried in").ok());
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", Here(name), "web:/root/" + name})));
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "sh", "-c",
                            "cd /root; mkdir dir; ln -s caf$(printf '\\351') link; "
                            "cp caf$(printf '\\351') dir"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/root/" + name, Here("back")})));
  EXPECT_EQ(Content(Here("back")), "carried in");
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "-L", "web:/root/link", Here("followed")})));
  EXPECT_EQ(Content(Here("followed")), "carried in");
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/root/dir", bed_->scratch()})));
  EXPECT_EQ(Content(Here("dir/" + name)), "carried in");
  const Outcome missing = bed_->Ctl({"cp", "web:/root/x" + name, Here("none")});
  EXPECT_EQ(missing.code, 1);
  EXPECT_TRUE(
      absl::StrContains(missing.err, "no such file or directory in container web: /root/xcaf"))
      << missing.err;
}

TEST_F(FilesTest, ChainsOfLinksAreFollowedToTheirEndOnBothSides) {
  Detached("web");
  ASSERT_TRUE(WriteFile(Here("new"), "new").ok());
  EXPECT_TRUE(Ok(bed_->Ctl(
      {"exec", "web", "sh", "-c", "cd /root; printf old > real; ln -s real one; ln -s one two"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", Here("new"), "web:/root/two"})));
  EXPECT_EQ(
      bed_->CtlOut({"exec", "web", "sh", "-c", "cd /root; readlink two; readlink one; cat real"}),
      "one\nreal\nnew");
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "-L", "web:/root/two", Here("followed")})));
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(Here("followed"))));
  EXPECT_EQ(Content(Here("followed")), "new");

  ASSERT_TRUE(WriteFile(Here("real"), "old").ok());
  std::filesystem::create_symlink("real", Here("one"));
  std::filesystem::create_symlink("one", Here("two"));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/root/real", Here("two")})));
  EXPECT_TRUE(std::filesystem::is_symlink(Here("two")));
  EXPECT_TRUE(std::filesystem::is_symlink(Here("one")));
  EXPECT_EQ(Content(Here("real")), "new");
}

TEST_F(FilesTest, AWorkingDirectoryThatIsALinkToNothingIsMadeInTheContainer) {
  bed_->CtlOut({"run", "--name", "made", kImage, "sh", "-c",
                absl::StrCat("ln -s /srv/app /work; ln -s ../../..", Here("out"), " /up")});
  bed_->CtlOut({"commit", "made", "linked:1"});
  for (const char* runtime : {"crun", "runc"}) {
    EXPECT_EQ(bed_->CtlOut({"run", "--rm", "--runtime", runtime, "-w", "/work", "linked:1", "pwd"}),
              "/srv/app")
        << runtime;
    EXPECT_TRUE(
        Ok(bed_->Ctl({"run", "--rm", "--runtime", runtime, "-w", "/up", "linked:1", "pwd"})))
        << runtime;
    EXPECT_FALSE(std::filesystem::exists(Here("out"))) << runtime;
  }
}

TEST_F(FilesTest, ASlashBeforeAContainersNameIsTakenEverywhere) {
  bed_->CtlOut({"run", "-d", "--name", "/web", kImage, "sleep", "1000"});
  EXPECT_EQ(bed_->Inspect("/web", "{{.Name}}"), "/web");
  EXPECT_EQ(bed_->CtlOut({"exec", "/web", "echo", "in"}), "in");
  EXPECT_EQ(bed_->CtlOut({"stats", "--no-stream", "--format", "{{.Name}}", "/web"}), "web");
  EXPECT_TRUE(Ok(bed_->Ctl({"rename", "/web", "/www"})));
  EXPECT_EQ(bed_->CtlOut({"ps", "--format", "{{.Names}}"}), "www");
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "/www"})));
}

}  // namespace
}  // namespace gantry::integration
