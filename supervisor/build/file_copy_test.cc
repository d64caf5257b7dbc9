#include "supervisor/build/file_copy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "base/file.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_context.h"
#include "supervisor/build/file_mode.h"
#include "supervisor/build/tree_digest.h"

namespace gantry::build {
namespace {

namespace fs = std::filesystem;

class FileCopyTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(From(""));
    fs::create_directories(To(""));
    from_ = UniqueFd(open(From("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    to_ = UniqueFd(open(To("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  std::string From(const std::string& path) const { return directory_.path() + "/from/" + path; }
  std::string To(const std::string& path) const { return directory_.path() + "/to/" + path; }
  static void File(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    ASSERT_TRUE(WriteFile(path, text).ok());
  }
  static std::string Read(const std::string& path) { return ReadFile(path, 1 << 20).value_or("-"); }

  // Owners stay this user's, whoever that is.
  absl::Status Copy(const std::string& source, const std::string& destination,
                    const std::vector<std::string>& excludes = {}, const std::string& mode = "") {
    FileCopyOptions options;
    options.owner = std::make_pair(geteuid(), getegid());
    options.mode = FileMode::Parse(mode).value();
    options.excludes = engine::IgnoreRules::FromPatterns(excludes).value();
    FileCopy copy(from_.get(), to_.get(), std::move(options));
    absl::StatusOr<std::vector<MatchedSource>> matches = MatchSources(from_.get(), source, false);
    if (!matches.ok()) return matches.status();
    for (const MatchedSource& match : *matches) {
      if (absl::Status copied = copy.Copy(match, destination, false); !copied.ok()) return copied;
    }
    return absl::OkStatus();
  }
  std::string Digest(const std::string& source) {
    KeyWriter key;
    absl::StatusOr<std::vector<MatchedSource>> matches = MatchSources(from_.get(), source, false);
    EXPECT_TRUE(matches.ok());
    EXPECT_TRUE(AddFiles(from_.get(), *matches, {}, nullptr, key).ok());
    return key.digest().str();
  }

  TempDir directory_;
  UniqueFd from_;
  UniqueFd to_;
};

TEST_F(FileCopyTest, ADirectorysContentIsCopied) {
  File(From("d/f"), "f");
  File(From("d/sub/g"), "g");
  ASSERT_TRUE(Copy("d", "/x").ok());
  EXPECT_EQ(Read(To("x/f")), "f");
  EXPECT_EQ(Read(To("x/sub/g")), "g");
}

TEST_F(FileCopyTest, AFileGoesIntoADirectoryOrGetsItsName) {
  File(From("f"), "f");
  ASSERT_TRUE(Copy("f", "/a/b").ok());
  ASSERT_TRUE(Copy("f", "/c/").ok());
  ASSERT_TRUE(Copy("f", "/a").ok());
  EXPECT_EQ(Read(To("a/b")), "f");
  EXPECT_EQ(Read(To("c/f")), "f");
  EXPECT_EQ(Read(To("a/f")), "f");
}

TEST_F(FileCopyTest, WildcardsMayMatchNothing) {
  File(From("a.txt"), "a");
  File(From("b.txt"), "b");
  ASSERT_TRUE(Copy("*.txt", "/t/").ok());
  EXPECT_EQ(Read(To("t/b.txt")), "b");
  ASSERT_TRUE(Copy("*.none", "/n/").ok());
  EXPECT_FALSE(fs::exists(To("n")));
  EXPECT_TRUE(absl::IsNotFound(Copy("none", "/n")));
}

TEST_F(FileCopyTest, LinksLeadNowhereOutside) {
  File(directory_.path() + "/outside", "secret");
  fs::create_symlink(directory_.path() + "/outside", From("link"));
  fs::create_directory_symlink("../..", From("up"));
  EXPECT_TRUE(absl::IsNotFound(Copy("link", "/x")));
  EXPECT_TRUE(absl::IsNotFound(Copy("up/outside", "/x")));
  EXPECT_TRUE(absl::IsNotFound(Copy("../outside", "/x")));
  // Nor do those of the target.
  File(From("f"), "f");
  fs::create_directory_symlink(directory_.path(), To("out"));
  ASSERT_TRUE(Copy("f", "/out/f").ok());
  EXPECT_FALSE(fs::exists(directory_.path() + "/f"));
}

TEST_F(FileCopyTest, AnArgumentIsFollowedAndALinkInADirectoryIsNot) {
  File(From("f"), "f");
  fs::create_symlink("f", From("l"));
  fs::create_directories(From("d"));
  fs::create_symlink("../f", From("d/inner"));
  ASSERT_TRUE(Copy("l", "/x/").ok());
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(To("x/l"))));
  ASSERT_TRUE(Copy("d", "/y").ok());
  EXPECT_EQ(fs::read_symlink(To("y/inner")), "../f");
}

TEST_F(FileCopyTest, FilesAndDirectoriesDoNotReplaceEachOther) {
  File(From("d/x/f"), "f");
  File(From("x"), "file");
  File(To("t/x"), "file");
  EXPECT_EQ(Copy("d", "/t").message(), "cannot copy to non-directory: /t/x");
  fs::create_directories(To("u/x"));
  File(From("e/x"), "file");
  EXPECT_EQ(Copy("e", "/u").message(), "cannot replace to directory /u/x with file");
}

TEST_F(FileCopyTest, ExcludesAndModes) {
  File(From("d/keep"), "k");
  File(From("d/drop"), "d");
  ASSERT_TRUE(Copy("d", "/x", {"drop"}, "u=rwX,go=").ok());
  EXPECT_TRUE(fs::exists(To("x/keep")));
  EXPECT_FALSE(fs::exists(To("x/drop")));
  struct stat info;
  ASSERT_EQ(stat(To("x/keep").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(FileMode::Parse("0888").status().message(),
            "invalid chmod parameter: '0888'. it should be octal string and between 0 and 07777");
  EXPECT_EQ(FileMode::Parse("go+x,u-w")->Apply(0644, false), 0455u);
}

TEST_F(FileCopyTest, HardLinksStayOne) {
  File(From("d/a"), "a");
  fs::create_hard_link(From("d/a"), From("d/b"));
  ASSERT_TRUE(Copy("d", "/x").ok());
  EXPECT_EQ(fs::hard_link_count(To("x/a")), 2u);
}

TEST_F(FileCopyTest, DifferentFilesNeverHaveTheSameDigest) {
  File(From("d/a"), "1");
  const std::string first = Digest("d");
  EXPECT_EQ(Digest("d"), first);
  fs::last_write_time(From("d/a"), fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(Digest("d"), first) << "a time counts";
  File(From("d/a"), "2");
  const std::string content = Digest("d");
  EXPECT_NE(content, first);
  fs::permissions(From("d/a"), fs::perms::owner_all);
  const std::string mode = Digest("d");
  EXPECT_NE(mode, content);
  fs::rename(From("d/a"), From("d/b"));
  EXPECT_NE(Digest("d"), mode);
  // Fields do not run into each other.
  KeyWriter one, other;
  one.Add("a", "bc");
  one.Add("d", "");
  other.Add("a", "b");
  other.Add("cd", "");
  EXPECT_NE(one.digest().str(), other.digest().str());
}

std::string Tar(const std::vector<TarEntry>& entries) {
  StringSink sink;
  TarWriter tar(sink);
  for (const TarEntry& entry : entries) EXPECT_TRUE(tar.WriteEntry(entry).ok());
  EXPECT_TRUE(tar.Finish().ok());
  return sink.str();
}

class BuildContextTest : public testing::Test {
 protected:
  // Whether a context is made of `tar`.
  bool Receives(const std::string& tar) {
    StringSource source(tar);
    const v1::BuildRequest::Open request;
    RequestClient client(request, source);
    return BuildContext::Receive(client, 0, {directory_.Join("context"), nullptr, &trash_}, nullptr,
                                 nullptr)
        .ok();
  }
  TempDir directory_;
  Trash trash_{directory_.Join("trash")};
};

TEST_F(BuildContextTest, HostileArchivesAreRefusedAndLeaveNothing) {
  TarEntry climbing;
  climbing.path = "../outside";
  EXPECT_FALSE(Receives(Tar({climbing})));
  EXPECT_FALSE(fs::exists(directory_.Join("outside")));
  EXPECT_FALSE(fs::exists(directory_.Join("context")));

  TarEntry link;
  link.type = TarType::kSymlink;
  link.path = "out";
  link.link_target = directory_.path();
  TarEntry behind;
  behind.path = "out/file";
  EXPECT_FALSE(Receives(Tar({link, behind})));
  EXPECT_FALSE(fs::exists(directory_.Join("file")));

  EXPECT_FALSE(Receives("this is no archive, however long it may be"));
  trash_.Drain();
  EXPECT_TRUE(fs::is_empty(directory_.Join("trash")));
}

}  // namespace
}  // namespace gantry::build
