#include "supervisor/build/remote_files.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "content-store/digest.h"
#include "supervisor/distribution/http_client.h"

namespace gantry::build {
namespace {

TEST(GitSourceTest, RepositoriesAreToldFromFiles) {
  EXPECT_TRUE(IsGitUrl("git@example.org:me/app"));
  EXPECT_TRUE(IsGitUrl("https://example.org/app.git#main:docs"));
  EXPECT_TRUE(IsGitUrl("git://example.org/app"));
  EXPECT_FALSE(IsGitUrl("https://example.org/app.tar"));
  EXPECT_FALSE(IsGitUrl("https://example.org/a#b.git"));
  EXPECT_FALSE(IsGitUrl("file:///etc"));
}

TEST(GitSourceTest, FragmentAndQueryNameRefAndDirectory) {
  auto source = ParseGitSource("https://example.org/app.git#v1.0:a/b");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->repository, "https://example.org/app.git");
  EXPECT_EQ(source->ref, "v1.0");
  EXPECT_EQ(source->directory, "a/b");
  source = ParseGitSource(
      "git://example.org/app?branch=x&subdir=d&keep-git-dir=1&submodules=0&checksum=abc1");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->ref, "refs/heads/x");
  EXPECT_EQ(source->directory, "d");
  EXPECT_TRUE(source->keep_git_dir);
  EXPECT_FALSE(source->submodules);
  EXPECT_EQ(source->checksum, "abc1");
  EXPECT_EQ(ParseGitSource("git@example.org:me/app#:docs")->directory, "docs");
}

TEST(GitSourceTest, WhatGitOrSshWouldTakeForAnOptionIsRefused) {
  for (const char* text :
       {"git@example.org:app#--upload-pack=/bin/sh", "ssh://-oProxyCommand=touch${IFS}x/app.git",
        "ssh://me@-oProxyCommand=x/app", "git@-oProxyCommand=x:app", "git@example.org:-x",
        "https://example.org/a.git#a b", "https://example.org/a.git#a\nb",
        "https://example.org/a.git#../../x", "https://example.org/a.git#x@{-1}", "https:///a.git",
        "git://example.org/app?exec=sh", "git://example.org/app?checksum=xyz",
        "ext::sh -c touch% x", "file:///tmp/app.git", "git@example.org", "/tmp/app.git"}) {
    EXPECT_EQ(ParseGitSource(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(GitSourceTest, MessagesHaveNoPassword) {
  EXPECT_EQ(WithoutPassword("https://me:secret@example.org/a.git"),
            "https://xxxxx@example.org/a.git");
  EXPECT_EQ(WithoutPassword("git@example.org:app"), "git@example.org:app");
}

// Answers from a table, by URL.
class FakeHttp final : public distribution::HttpClient {
 public:
  struct Answer {
    int status = 200;
    distribution::HttpHeaders headers;
    std::string body;
    distribution::Reach peer = distribution::Reach::kPublic;
  };
  distribution::HttpResult Do(const distribution::HttpRequest& request,
                              distribution::HttpReceiver& receiver) override {
    distribution::HttpResult result;
    asked.push_back(request.url.str());
    nearest = request.nearest;
    const auto found = answers.find(request.url.str());
    distribution::HttpHead head;
    head.status = found == answers.end() ? 404 : found->second.status;
    if (found != answers.end()) head.headers = found->second.headers;
    result.status = receiver.OnHead(head);
    if (found != answers.end()) {
      result.peer = found->second.peer;
      if (result.status.ok()) result.status = receiver.OnBody(found->second.body);
    }
    return result;
  }
  void DropIdle() override {}

  std::map<std::string, Answer> answers;
  std::vector<std::string> asked;
  distribution::Reach nearest = distribution::Reach::kUnknown;
};

class RemoteFilesTest : public testing::Test {
 protected:
  TempDir directory_;
  FakeHttp http_;
  RemoteFiles files_{&http_, directory_.Join("remote")};
};

TEST_F(RemoteFilesTest, AFileHasNameTimeModeAndDigest) {
  http_.answers["https://example.org/d/a%20b.txt?x=1"] = {
      200, {{"last-modified", "Wed, 21 Oct 2015 07:28:00 GMT"}}, "content"};
  const auto file = files_.Get("https://example.org/d/a%20b.txt?x=1", nullptr, nullptr);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->name, "a b.txt");
  EXPECT_EQ(file->digest, content::Digest::Sha256Of("content").str());
  struct stat info;
  ASSERT_EQ(stat(absl::StrCat(file->directory, "/a b.txt").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(info.st_mtime, 1445412480);
  // Once for a build.
  ASSERT_TRUE(files_.Get("https://example.org/d/a%20b.txt?x=1", nullptr, nullptr).ok());
  EXPECT_EQ(http_.asked.size(), 1u);
}

TEST_F(RemoteFilesTest, AFileWithoutTimeIsOf1970) {
  http_.answers["http://example.org/"] = {200, {}, "x"};
  const auto file = files_.Get("http://example.org/", nullptr, nullptr);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->name, "__unnamed__");
  struct stat info;
  ASSERT_EQ(stat(absl::StrCat(file->directory, "/__unnamed__").c_str(), &info), 0);
  EXPECT_EQ(info.st_mtime, 0);
}

TEST_F(RemoteFilesTest, ARedirectLeadsNoNearerThanItsServer) {
  http_.answers["https://example.org/a"] = {302, {{"location", "http://169.254.169.254/key"}}, ""};
  http_.answers["http://169.254.169.254/key"] = {200, {}, "secret"};
  ASSERT_TRUE(files_.Get("https://example.org/a", nullptr, nullptr).ok());
  EXPECT_EQ(http_.nearest, distribution::Reach::kPublic);
  // And nowhere but to HTTP.
  http_.answers["https://example.org/b"] = {302, {{"location", "file:///etc/passwd"}}, ""};
  EXPECT_FALSE(files_.Get("https://example.org/b", nullptr, nullptr).ok());
}

TEST_F(RemoteFilesTest, EndlessRedirectsAndErrorsFail) {
  http_.answers["https://example.org/a"] = {302, {{"location", "/a"}}, ""};
  EXPECT_EQ(files_.Get("https://example.org/a", nullptr, nullptr).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(http_.asked.size(), 11u);
  EXPECT_EQ(files_.Get("https://example.org/none", nullptr, nullptr).status().code(),
            absl::StatusCode::kNotFound);
  http_.answers["https://example.org/c"] = {500, {}, ""};
  EXPECT_EQ(files_.Get("https://example.org/c", nullptr, nullptr).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(RemoteFilesTest, NamesOfUrlsStayNames) {
  EXPECT_EQ(NameOfUrl("https://example.org/a/b.tar?c=/d"), "b.tar");
  EXPECT_EQ(NameOfUrl("https://example.org"), "__unnamed__");
  EXPECT_EQ(NameOfUrl("https://example.org/a/.."), "__unnamed__");
  EXPECT_EQ(NameOfUrl("https://example.org/..%2f..%2fetc%2fpasswd"), "__unnamed__");
}

// A repository served by git's own daemon on loopback.
class CloneTest : public RemoteFilesTest {
 protected:
  void SetUp() override {
    if (access("/usr/lib/git-core/git-daemon", X_OK) != 0) GTEST_SKIP() << "needs git's daemon";
    Git({"init", "-q", "-b", "main"});
    Write("a.txt", "one\n");
    Write("docs/b.txt", "b\n");
    ASSERT_EQ(symlink("/etc", directory_.Join("served/app/out").c_str()), 0);
    Git({"add", "-A"});
    Git({"commit", "-q", "-m", "first"});
    first_ = Git({"rev-parse", "HEAD"});
    Git({"tag", "v1"});
    Write("a.txt", "two\n");
    Git({"commit", "-q", "-a", "-m", "second"});
    Serve();
  }
  void Write(const std::string& path, const std::string& text) {
    const std::string whole = absl::StrCat(directory_.Join("served/app/"), path);
    ASSERT_TRUE(MakeDirectories(whole.substr(0, whole.rfind('/'))).ok());
    ASSERT_TRUE(WriteFile(whole, text).ok());
  }
  std::string Git(std::vector<std::string> args) {
    const std::string repository = directory_.Join("served/app");
    EXPECT_TRUE(MakeDirectories(repository).ok());
    Command command;
    command.argv = {
        "git", "-C", repository, "-c", "user.name=me", "-c", "user.email=me@example.org"};
    command.argv.insert(command.argv.end(), args.begin(), args.end());
    command.env = std::vector<std::string>{
        "PATH=/usr/bin:/bin", "HOME=/nowhere", "GIT_CONFIG_NOSYSTEM=1",
        "GIT_AUTHOR_DATE=1600000000 +0000", "GIT_COMMITTER_DATE=1600000000 +0000"};
    const auto done = RunCommand(command);
    EXPECT_TRUE(done.ok() && done->status.ok()) << (done.ok() ? done->err : "git");
    return done.ok() ? done->out.substr(0, done->out.find('\n')) : "";
  }
  void Serve() {
    UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(bind(probe.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    const int port = ntohs(address.sin_port);
    probe = UniqueFd();  // the port is the daemon's
    Command command;
    command.argv = {"/usr/lib/git-core/git-daemon",
                    "--listen=127.0.0.1",
                    absl::StrCat("--port=", port),
                    "--export-all",
                    "--reuseaddr",
                    absl::StrCat("--base-path=", directory_.Join("served"))};
    command.env =
        std::vector<std::string>{"PATH=/usr/bin:/bin", "HOME=/nowhere", "GIT_CONFIG_COUNT=1",
                                 "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"};
    auto started = Spawn(command);
    ASSERT_TRUE(started.ok()) << started.status();
    daemon_ = *std::move(started);
    for (int i = 0; i < 500; ++i) {
      const UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (connect(client.get(), reinterpret_cast<sockaddr*>(&address), size) == 0) break;
      absl::SleepFor(absl::Milliseconds(10));
    }
    url_ = absl::StrCat("git://127.0.0.1:", port, "/app");
  }
  absl::StatusOr<RemoteFiles::Tree> Clone(const std::string& suffix) {
    const auto source = ParseGitSource(absl::StrCat(url_, suffix));
    if (!source.ok()) return source.status();
    return files_.Clone(*source, nullptr);
  }
  std::string Read(const RemoteFiles::Tree& tree, const std::string& path) {
    return ReadFile(absl::StrCat(tree.directory, "/", path), 1 << 20).value_or("-");
  }

  Process daemon_;
  std::string url_;
  std::string first_;
};

TEST_F(CloneTest, BranchesTagsAndCommitsAreCheckedOut) {
  const auto head = Clone("");
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(Read(*head, "a.txt"), "two\n");
  EXPECT_NE(access((head->directory + "/.git").c_str(), F_OK), 0);
  struct stat info;
  ASSERT_EQ(stat((head->directory + "/docs").c_str(), &info), 0);
  EXPECT_EQ(info.st_mtime, 1600000000);
  const auto tag = Clone("#v1");
  ASSERT_TRUE(tag.ok()) << tag.status();
  EXPECT_EQ(Read(*tag, "a.txt"), "one\n");
  EXPECT_EQ(tag->commit, first_);
  const auto commit = Clone(absl::StrCat("#", first_));
  ASSERT_TRUE(commit.ok()) << commit.status();
  EXPECT_EQ(Read(*commit, "a.txt"), "one\n");
  const auto shortened = Clone(absl::StrCat("#", first_.substr(0, 10)));
  ASSERT_TRUE(shortened.ok()) << shortened.status();
  EXPECT_EQ(shortened->commit, first_);
  EXPECT_EQ(Clone("#nothing").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CloneTest, ADirectoryIsOneOfTheRepository) {
  const auto docs = Clone("#main:docs");
  ASSERT_TRUE(docs.ok()) << docs.status();
  EXPECT_EQ(Read(*docs, "b.txt"), "b\n");
  // A link to /etc leads to /etc of the repository, which has none.
  EXPECT_EQ(Clone("#main:out").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Clone("#main:../../..").ok(), true);  // the top of the repository, no farther
  EXPECT_EQ(Read(*Clone("#main:../../.."), "a.txt"), "two\n");
}

TEST_F(CloneTest, AChecksumIsTheCommits) {
  EXPECT_TRUE(Clone(absl::StrCat("?ref=v1&checksum=", first_.substr(0, 12))).ok());
  EXPECT_EQ(Clone("?ref=v1&checksum=1234567").status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(CloneTest, ASubmoduleDoesNotReadTheMachinesFiles) {
  Write(
      ".gitmodules",
      absl::StrCat("[submodule \"s\"]\n\tpath = s\n\turl = ", directory_.Join("served/app"), "\n"));
  Git({"add", "-A"});
  Git({"update-index", "--add", "--cacheinfo", absl::StrCat("160000,", first_, ",s")});
  Git({"commit", "-q", "-m", "third"});
  const auto tree = Clone("");
  EXPECT_FALSE(tree.ok());
  EXPECT_TRUE(Clone("?submodules=0").ok());
}

}  // namespace
}  // namespace gantry::build
