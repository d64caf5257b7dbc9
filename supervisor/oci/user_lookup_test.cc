#include "supervisor/oci/user_lookup.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::oci {
namespace {

UserDatabase Sample() {
  UserDatabase database;
  database.passwd =
      "root:x:0:0:root:/root:/bin/sh\n"
      "web:x:33:34:web:/var/www:/bin/false\n"
      "odd:x:40:41::relative:\n"
      "broken\n"
      "neg:x:-1:0::/:\n"
      "big:x:4294967296:0::/:\n"
      "+0:x:0:0::/:\n"
      "1000:x:0:0::/:\n"
      "0x10:x:0:0::/:\n"
      " 5:x:0:0::/:\n"
      "4294967296:x:0:0::/:\n";
  database.group =
      "root:x:0:\n"
      "www:x:34:\n"
      "log:x:50:other,web\n"
      "prefix:x:51:webmaster\n"
      "disk:x:6:web\n"
      "2000:x:0:\n";
  return database;
}

TEST(UserLookupTest, EmptyMeansRoot) {
  auto user = ResolveUser(Sample(), "");
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(*user,
            (User{.uid = 0, .gid = 0, .additional_gids = {0}, .name = "root", .home = "/root"}));
}

TEST(UserLookupTest, NameBringsGroupHomeAndSupplementaryGroups) {
  for (const char* spec : {"web", "33"}) {
    auto user = ResolveUser(Sample(), spec);
    ASSERT_TRUE(user.ok()) << user.status();
    EXPECT_EQ(*user, (User{.uid = 33,
                           .gid = 34,
                           .additional_gids = {6, 34, 50},
                           .name = "web",
                           .home = "/var/www"}));
  }
}

TEST(UserLookupTest, ExplicitGroupReplacesSupplementaryGroups) {
  auto by_name = ResolveUser(Sample(), "web:log");
  ASSERT_TRUE(by_name.ok()) << by_name.status();
  EXPECT_EQ(by_name->gid, 50u);
  EXPECT_EQ(by_name->additional_gids, std::vector<uint32_t>{50});
  auto by_number = ResolveUser(Sample(), "web:77");
  ASSERT_TRUE(by_number.ok());
  EXPECT_EQ(by_number->gid, 77u);
}

TEST(UserLookupTest, UnknownNumberIsTakenAsItIs) {
  auto user = ResolveUser(Sample(), "1000");
  ASSERT_TRUE(user.ok());
  EXPECT_EQ(*user, (User{.uid = 1000, .gid = 0, .additional_gids = {0}, .name = "", .home = "/"}));
  EXPECT_EQ(ResolveUser(Sample(), "2147483647")->uid, 2147483647u);
  EXPECT_EQ(ResolveUser(Sample(), "7:2000")->gid, 2000u);
}

TEST(UserLookupTest, AnEmptyHalfIsOneThatWasNotGiven) {
  EXPECT_EQ(ResolveUser(Sample(), "web:")->additional_gids,
            ResolveUser(Sample(), "web")->additional_gids);
  EXPECT_EQ(ResolveUser(Sample(), ":77")->uid, 0u);
  EXPECT_EQ(ResolveUser(Sample(), ":77")->gid, 77u);
  EXPECT_EQ(ResolveUser(Sample(), ":")->uid, 0u);
}

TEST(UserLookupTest, NeverBecomesRootByAccident) {
  for (const char* spec : {"-1",
                           "2147483648",
                           "4294967295",
                           "4294967296",
                           "00",
                           "007",
                           "01000",
                           "+0",
                           " 5",
                           "5 ",
                           "0x10",
                           "0X0",
                           "18446744073709551616",
                           "1e3",
                           "0.0",
                           "root\n",
                           "\troot",
                           "ro:ot:0",
                           "a/b",
                           ""
                           "99999999999999999999999999999999999999999"}) {
    auto user = ResolveUser(Sample(), spec);
    EXPECT_FALSE(user.ok()) << "\"" << spec << "\" became uid " << user->uid;
  }
  for (const char* spec : {"web:-1", "web:4294967296", "web:00", "web:+0"}) {
    EXPECT_FALSE(ResolveUser(Sample(), spec).ok()) << spec;
  }
}

TEST(UserLookupTest, MalformedLinesAreNotUsers) {
  for (const char* spec : {"broken", "neg", "big"}) {
    EXPECT_EQ(ResolveUser(Sample(), spec).status().code(), absl::StatusCode::kNotFound) << spec;
  }
  EXPECT_EQ(ResolveUser(Sample(), "odd")->home, "/");
}

TEST(UserLookupTest, UnknownNamesAreNamed) {
  auto user = ResolveUser(Sample(), "nobody");
  EXPECT_EQ(user.status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(user.status().message(), "\"nobody\"")) << user.status();
  EXPECT_EQ(ResolveUser(Sample(), "web:nogroup").status().code(), absl::StatusCode::kNotFound);
}

TEST(UserLookupTest, ExtraGroupsAreAdded) {
  auto user = ResolveUser(Sample(), "web:www", {"log", "99"});
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->additional_gids, (std::vector<uint32_t>{34, 50, 99}));
  EXPECT_EQ(ResolveUser(Sample(), "web", {"nope"}).status().code(), absl::StatusCode::kNotFound);
}

TEST(UserLookupTest, MillionGroupsAreBounded) {
  UserDatabase database;
  database.passwd = "u:x:1:1::/:\n";
  for (int i = 2; i < 200002; ++i) absl::StrAppend(&database.group, "g:x:", i, ":u\n");
  auto user = ResolveUser(database, "u");
  EXPECT_EQ(user.status().code(), absl::StatusCode::kInvalidArgument);
}

class LoadTest : public ::testing::Test {
 protected:
  LoadTest() { EXPECT_EQ(mkdir(Path("etc").c_str(), 0755), 0); }
  std::string Path(absl::string_view name) { return absl::StrCat(dir_.path(), "/", name); }
  UserDatabase Load() {
    auto database = LoadUserDatabase(std::string(dir_.path()));
    EXPECT_TRUE(database.ok()) << database.status();
    return std::move(database).value_or(UserDatabase{});
  }
  TempDir dir_;
};

TEST_F(LoadTest, ReadsFiles) {
  ASSERT_TRUE(WriteFile(Path("etc/passwd"), "a:x:1:2::/a:\n", 0644).ok());
  EXPECT_EQ(ResolveUser(Load(), "a")->gid, 2u);
}

// As in a build's step, which has the tree as its root directory.
TEST_F(LoadTest, ReadsFilesWithoutProc) {
  if (geteuid() != 0) GTEST_SKIP() << "chroot() needs root";
  ASSERT_TRUE(WriteFile(Path("etc/passwd"), "a:x:1:2::/a:\n", 0644).ok());
  // What an image has at this path says nothing about descriptors.
  ASSERT_TRUE(MakeDirectories(Path("proc/self/fd"), 0755).ok());
  const UniqueFd root(open(std::string(dir_.path()).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  UserDatabase database;
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_FS), 0);
    ASSERT_EQ(fchdir(root.get()), 0);
    ASSERT_EQ(chroot("."), 0);
    database = LoadUserDatabase(root.get());
  }).join();
  EXPECT_TRUE(database.passwd_status.ok()) << database.passwd_status;
  EXPECT_EQ(ResolveUser(database, "a")->gid, 2u);
}

TEST_F(LoadTest, AbsentFilesLeaveNumbersUsable) {
  const UserDatabase database = Load();
  EXPECT_TRUE(database.passwd_status.ok());
  EXPECT_EQ(ResolveUser(database, "5")->uid, 5u);
  EXPECT_EQ(ResolveUser(database, "a").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadTest, LinksStayInsideTheRoot) {
  ASSERT_TRUE(WriteFile(Path("real"), "a:x:7:7::/a:\n", 0644).ok());
  ASSERT_EQ(symlink("../../../../../../real", Path("etc/passwd").c_str()), 0);
  ASSERT_EQ(symlink("/etc/hostname", Path("etc/group").c_str()), 0);
  const UserDatabase database = Load();
  EXPECT_EQ(ResolveUser(database, "a")->uid, 7u);
  EXPECT_EQ(database.group, "");
}

TEST_F(LoadTest, FifoIsRefusedWithoutWaiting) {
  ASSERT_EQ(mkfifo(Path("etc/passwd").c_str(), 0666), 0);
  const UserDatabase database = Load();
  EXPECT_EQ(ResolveUser(database, "a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ResolveUser(database, "5")->uid, 5u);
}

TEST_F(LoadTest, DeviceAndLoopAreRefused) {
  ASSERT_EQ(symlink("passwd", Path("etc/passwd").c_str()), 0);
  ASSERT_EQ(symlink("/dev/zero", Path("etc/group").c_str()), 0);
  const UserDatabase database = Load();
  EXPECT_FALSE(ResolveUser(database, "a").ok());
  EXPECT_FALSE(ResolveUser(database, "1:g").ok());
}

TEST_F(LoadTest, HugeSparseFileIsRefused) {
  ASSERT_TRUE(WriteFile(Path("etc/passwd"), "", 0644).ok());
  ASSERT_EQ(truncate(Path("etc/passwd").c_str(), off_t{10} << 30), 0);
  const UserDatabase database = Load();
  auto user = ResolveUser(database, "a");
  EXPECT_EQ(user.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(user.status().message(), "/etc/passwd")) << user.status();
  EXPECT_TRUE(database.passwd.empty());
}

}  // namespace
}  // namespace gantry::oci
