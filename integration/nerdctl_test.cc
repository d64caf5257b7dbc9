// nerdctl, built from its Go module by `./dev test`, which says where it is by $GANTRY_NERDCTL:
// docker's commands for containerd. It keeps its own records in labels, has its logs written by a
// program that the shim starts, and puts a hook of its own into each specification.
//
// Run apart from the other tests, for it needs a Go toolchain and the module; without the program
// it fails, and does not skip: it is `./dev test` that leaves it out, by name, where nerdctl cannot
// be built.
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kImage[] = "busybox:nerdctl";

class NerdctlTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u) << "containers need root";
    const char* program = getenv("GANTRY_NERDCTL");
    ASSERT_NE(program, nullptr) << "GANTRY_NERDCTL names no nerdctl; run ./dev test clients";
    program_ = program;
    bed_ = std::make_unique<Testbed>();
    archive_ = absl::StrCat(bed_->scratch(), "/busybox.tar");
    ASSERT_TRUE(WriteBusyboxArchive(archive_, absl::StrCat("docker.io/library/", kImage)).ok());
    ASSERT_TRUE(Ok(Nerdctl({"load", "-i", archive_})));
  }
  void TearDown() override {
    if (bed_ == nullptr) return;
    const std::vector<std::string> ids =
        absl::StrSplit(Nerdctl({"ps", "-aq"}).out, '\n', absl::SkipEmpty());
    for (const std::string& id : ids) EXPECT_TRUE(Ok(Nerdctl({"rm", "-f", id})));
  }

  Outcome Nerdctl(std::vector<std::string> args, const std::string& input = "") const {
    const std::string& own = bed_->scratch();
    std::vector<std::string> argv = {
        program_,     "--address",         bed_->address(),  "--namespace",
        bed_->ns(),   "--data-root",       own + "/nerdctl", "--cni-path",
        own + "/cni", "--cni-netconfpath", own + "/net"};
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), input, absl::Seconds(60), {{"HOME", own}});
  }
  // Expects exit status 0; standard output without the last newline.
  std::string Out(std::vector<std::string> args, const std::string& input = "") const {
    const Outcome outcome = Nerdctl(std::move(args), input);
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  // `run --net none FLAGS... IMAGE WORDS...`
  static std::vector<std::string> Run(std::vector<std::string> flags,
                                      std::vector<std::string> words) {
    std::vector<std::string> args = {"run", "--net", "none"};
    args.insert(args.end(), flags.begin(), flags.end());
    args.push_back(kImage);
    args.insert(args.end(), words.begin(), words.end());
    return args;
  }

  std::string program_;
  std::unique_ptr<Testbed> bed_;
  std::string archive_;
};

TEST_F(NerdctlTest, AContainerFromItsStartToItsEnd) {
  ASSERT_TRUE(Ok(Nerdctl(Run({"-d", "--name", "web", "-m", "64m", "-v", "kept:/data"},
                             {"sh", "-c", "echo up; exec sleep 1000"}))));
  EXPECT_THAT(Out({"ps"}), HasSubstr("web"));
  EXPECT_TRUE(Eventually([&] { return Nerdctl({"logs", "web"}).out == "up\n"; }));
  EXPECT_EQ(Out({"exec", "-e", "A=b", "-w", "/tmp", "web", "sh", "-c", "echo $A; pwd"}), "b\n/tmp");
  EXPECT_EQ(Out({"exec", "-i", "web", "cat"}, "text"), "text");
  EXPECT_THAT(Nerdctl({"exec", "web", "sh", "-c", "exit 7"}).err, HasSubstr("exit code 7"));
  EXPECT_THAT(Out({"stats", "--no-stream", "web"}), HasSubstr("64MiB"));
  EXPECT_THAT(Out({"top", "web"}), HasSubstr("sleep 1000"));

  ASSERT_TRUE(Ok(Nerdctl({"pause", "web"})));
  EXPECT_THAT(Out({"ps", "-a"}), HasSubstr("Paused"));
  ASSERT_TRUE(Ok(Nerdctl({"unpause", "web"})));
  ASSERT_TRUE(Ok(Nerdctl({"update", "--memory", "32m", "web"})));
  EXPECT_THAT(Out({"stats", "--no-stream", "web"}), HasSubstr("32MiB"));

  ASSERT_TRUE(WriteFile(bed_->scratch() + "/file", "copied", 0600).ok());
  ASSERT_TRUE(Ok(Nerdctl({"cp", bed_->scratch() + "/file", "web:/data/file"})));
  EXPECT_EQ(Out({"exec", "web", "cat", "/data/file"}), "copied");
  ASSERT_TRUE(Ok(Nerdctl({"exec", "web", "touch", "/made"})));
  EXPECT_THAT(Out({"diff", "web"}), HasSubstr("A /made"));
  ASSERT_TRUE(Ok(Nerdctl({"commit", "web", "committed:1"})));
  EXPECT_EQ(Out({"run", "--net", "none", "--rm", "committed:1", "ls", "/made"}), "/made");

  ASSERT_TRUE(Ok(Nerdctl({"stop", "-t", "1", "web"})));
  EXPECT_THAT(Out({"ps", "-a"}), HasSubstr("Exited (137)"));
  ASSERT_TRUE(Ok(Nerdctl({"start", "web"})));
  EXPECT_EQ(Out({"exec", "web", "cat", "/data/file"}), "copied") << "a volume outlives a run";
  EXPECT_EQ(Out({"inspect", "--format", "{{.State.Status}}", "web"}), "running");
  ASSERT_TRUE(Ok(Nerdctl({"kill", "web"})));
  EXPECT_EQ(Out({"wait", "web"}), "137");
  ASSERT_TRUE(Ok(Nerdctl({"rm", "web"})));
  ASSERT_TRUE(Ok(Nerdctl({"volume", "rm", "kept"})));
}

TEST_F(NerdctlTest, WhatAContainerMayDoAndHowItEnds) {
  EXPECT_EQ(Out(Run({"--rm", "-i"}, {"cat"}), "text"), "text");
  EXPECT_EQ(Nerdctl(Run({"--rm"}, {"sh", "-c", "exit 3"})).code, 3);
  const Outcome read_only = Nerdctl(
      Run({"--rm", "--read-only", "--tmpfs", "/t"}, {"sh", "-c", "touch /t/x && touch /x"}));
  EXPECT_NE(read_only.code, 0);
  EXPECT_THAT(read_only.err, HasSubstr("Read-only file system"));
  EXPECT_THAT(Out(Run({"--rm", "--user", "1000:1000", "--cap-drop", "ALL"}, {"id"})),
              HasSubstr("uid=1000 gid=1000"));
  EXPECT_EQ(Out(Run({"--rm", "--ulimit", "nofile=100:200"}, {"sh", "-c", "ulimit -n"})), "100");
  EXPECT_THAT(Nerdctl(Run({"--rm"}, {"no-such-program"})).err,
              HasSubstr("executable file not found in $PATH"));
}

TEST_F(NerdctlTest, ImagesComeAndGo) {
  EXPECT_THAT(Out({"images"}), HasSubstr("busybox"));
  EXPECT_THAT(Out({"image", "inspect", kImage}), HasSubstr("\"Architecture\""));
  ASSERT_TRUE(Ok(Nerdctl({"tag", kImage, "other:1"})));
  const std::string saved = bed_->scratch() + "/saved.tar";
  ASSERT_TRUE(Ok(Nerdctl({"save", "-o", saved, "other:1"})));
  ASSERT_TRUE(Ok(Nerdctl({"rmi", "other:1", kImage})));
  EXPECT_THAT(Out({"images"}), Not(HasSubstr("other")));
  EXPECT_THAT(Out({"load", "-i", saved}), HasSubstr("other:1"));
  EXPECT_EQ(Out({"run", "--net", "none", "--rm", "other:1", "echo", "back"}), "back");
}

}  // namespace
}  // namespace gantry::integration
