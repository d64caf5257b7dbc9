// Debian's ctr, a client we did not write, on gantryd's socket: every group of its commands.
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kImage[] = "docker.io/library/busybox:ctr";

class CtrTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    if (access("/usr/bin/ctr", X_OK) != 0) GTEST_SKIP() << "needs ctr (package containerd)";
    bed_ = std::make_unique<Testbed>();
    archive_ = absl::StrCat(bed_->scratch(), "/busybox-ctr.tar");
    ASSERT_TRUE(WriteBusyboxArchive(archive_, kImage).ok());
    ASSERT_TRUE(Ok(bed_->Ctr({"images", "import", archive_})));
  }

  // Expects exit status 0; standard output without the last newline.
  std::string Out(std::vector<std::string> args) {
    const Outcome outcome = bed_->Ctr(std::move(args));
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  // Expects failure; everything it said.
  std::string Refused(std::vector<std::string> args) {
    const Outcome outcome = bed_->Ctr(std::move(args));
    EXPECT_NE(outcome.code, 0) << outcome.command;
    return outcome.out + outcome.err;
  }
  void StartSleeper(const std::string& id) {
    ASSERT_TRUE(Ok(bed_->Ctr({"run", "-d", kImage, id, "sleep", "1000"})));
  }
  void RemoveSleeper(const std::string& id) {
    EXPECT_TRUE(Ok(bed_->Ctr({"tasks", "kill", "-s", "9", id})));
    EXPECT_TRUE(Eventually([&] { return bed_->Ctr({"tasks", "delete", id}).ok(); }));
    EXPECT_TRUE(Ok(bed_->Ctr({"containers", "delete", id})));
  }
  std::string AnyDigest() {
    const std::string digests = Out({"content", "ls", "-q"});
    return digests.substr(0, digests.find('\n'));
  }

  std::unique_ptr<Testbed> bed_;
  std::string archive_;
};

TEST_F(CtrTest, TheServerIntroducesItself) {
  EXPECT_THAT(Out({"version"}), HasSubstr("2.4.0+gantry"));
  const std::string plugins = Out({"plugins", "ls"});
  EXPECT_THAT(plugins, HasSubstr("overlayfs"));
  EXPECT_THAT(plugins, HasSubstr("io.containerd.runtime.v2"));
  EXPECT_THAT(plugins, Not(HasSubstr("error")));
}

TEST_F(CtrTest, NamespacesAreMadeLabelledAndOnlyEmptyOnesRemoved) {
  const std::string ns = bed_->ns() + "-x";
  ASSERT_TRUE(Ok(bed_->Ctr({"namespaces", "create", ns, "team=a"})));
  EXPECT_THAT(Out({"namespaces", "ls"}), HasSubstr("team=a"));
  ASSERT_TRUE(Ok(bed_->Ctr({"namespaces", "label", ns, "team=b"})));
  EXPECT_THAT(Out({"namespaces", "ls"}), HasSubstr("team=b"));
  ASSERT_TRUE(Ok(bed_->Ctr({"namespaces", "rm", ns})));
  EXPECT_THAT(Out({"namespaces", "ls", "-q"}), Not(HasSubstr(ns)));
  EXPECT_THAT(Refused({"namespaces", "rm", bed_->ns()}), HasSubstr("image"));
}

TEST_F(CtrTest, ImagesAreListedTaggedLabelledCheckedExportedAndRemoved) {
  EXPECT_EQ(Out({"images", "ls", "-q"}), kImage);
  EXPECT_EQ(Out({"images", "ls", "-q", "name~=busybox"}), kImage);
  EXPECT_EQ(Out({"images", "ls", "-q", "name==nothing"}), "");
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "tag", kImage, "docker.io/library/other:1"})));
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "label", kImage, "a.b/c=d"})));
  EXPECT_THAT(Out({"images", "ls"}), HasSubstr("a.b/c=d"));
  EXPECT_THAT(Out({"images", "check"}), HasSubstr("complete"));
  const std::string exported = absl::StrCat(bed_->scratch(), "/exported.tar");
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "export", exported, kImage})));
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "rm", "--sync", kImage, "docker.io/library/other:1"})));
  EXPECT_EQ(Out({"images", "ls", "-q"}), "");
  EXPECT_EQ(Out({"content", "ls", "-q"}), "");
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "import", exported})));
  EXPECT_EQ(Out({"run", "--rm", kImage, "c", "echo", "back"}), "back");
}

TEST_F(CtrTest, ImagesAreMountedAndUnmounted) {
  const std::string target = absl::StrCat(bed_->scratch(), "/mnt");
  ASSERT_TRUE(MakeDirectories(target, 0755).ok());
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "mount", kImage, target})));
  EXPECT_EQ(access((target + "/bin/busybox").c_str(), X_OK), 0);
  ASSERT_TRUE(Ok(bed_->Ctr({"images", "unmount", "--rm", target})));
  EXPECT_NE(access((target + "/bin/busybox").c_str(), X_OK), 0);
}

TEST_F(CtrTest, ContentIsReadLabelledIngestedAndDeleted) {
  const std::string digest = AnyDigest();
  const std::string bytes = bed_->Ctr({"content", "get", digest}).out;
  EXPECT_EQ(Sha256(bytes), digest);
  ASSERT_TRUE(Ok(bed_->Ctr({"content", "label", digest, "x=y"})));
  EXPECT_THAT(Out({"content", "ls"}), HasSubstr("x=y"));
  EXPECT_THAT(Refused({"content", "get", Sha256("nothing")}), HasSubstr("not found"));

  // ctr reads what it ingests from its standard input.
  const std::string text(3 << 20, 'x');
  const Outcome ingested = RunProgram(
      {"ctr", "--address", bed_->address(), "--namespace", bed_->ns(), "content", "ingest",
       "--expected-digest", Sha256(text), "--expected-size", absl::StrCat(text.size()), "my-ref"},
      text);
  ASSERT_TRUE(Ok(ingested));
  EXPECT_EQ(bed_->Ctr({"content", "get", Sha256(text)}).out, text);
  ASSERT_TRUE(Ok(bed_->Ctr({"content", "rm", Sha256(text)})));
  EXPECT_THAT(Out({"content", "ls", "-q"}), Not(HasSubstr(Sha256(text))));
  EXPECT_TRUE(Ok(bed_->Ctr({"content", "active"})));
}

TEST_F(CtrTest, SnapshotsArePreparedCommittedDiffedAndRemoved) {
  const std::string listed = Out({"snapshots", "ls"});
  ASSERT_THAT(listed, HasSubstr("Committed"));
  const size_t at = listed.find("sha256:");
  ASSERT_NE(at, std::string::npos);
  const std::string base = listed.substr(at, 71);
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "prepare", "mine", base})));
  EXPECT_THAT(Out({"snapshots", "mounts", "/target", "mine"}), HasSubstr("overlay"));
  EXPECT_THAT(Out({"snapshots", "info", "mine"}), HasSubstr("Active"));
  EXPECT_THAT(Out({"snapshots", "tree"}), HasSubstr("mine"));
  EXPECT_THAT(Out({"snapshots", "usage", "mine"}), HasSubstr("mine"));
  EXPECT_THAT(Refused({"snapshots", "prepare", "mine", base}), HasSubstr("already exists"));
  EXPECT_THAT(Refused({"snapshots", "rm", base}), HasSubstr("stacked"));
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "label", "mine", "k=v"})));
  EXPECT_THAT(Out({"snapshots", "info", "mine"}), HasSubstr("\"k\": \"v\""));
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "commit", "done", "mine"})));
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "view", "look", "done"})));
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "diff", base, "done"})));
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "rm", "look"})));
  ASSERT_TRUE(Ok(bed_->Ctr({"snapshots", "rm", "done"})));
}

TEST_F(CtrTest, LeasesAreMadeListedAndDeleted) {
  ASSERT_TRUE(Ok(bed_->Ctr({"leases", "create", "--id", "mine", "k=v"})));
  EXPECT_THAT(Out({"leases", "ls"}), HasSubstr("k=v"));
  EXPECT_THAT(Refused({"leases", "create", "--id", "mine"}), HasSubstr("already exists"));
  ASSERT_TRUE(Ok(bed_->Ctr({"leases", "rm", "--sync", "mine"})));
  EXPECT_THAT(Refused({"leases", "rm", "mine"}), HasSubstr("not found"));
}

TEST_F(CtrTest, RunGivesOutputAndExitStatus) {
  const Outcome outcome =
      bed_->Ctr({"run", "--rm", kImage, "c", "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(outcome.code, 7) << outcome.err;
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_THAT(outcome.err, HasSubstr("err"));
  EXPECT_EQ(Out({"containers", "ls", "-q"}), "");
  EXPECT_EQ(Out({"tasks", "ls", "-q"}), "");
}

TEST_F(CtrTest, RunTakesItsFlags) {
  EXPECT_EQ(Out({"run", "--rm", "--env", "A=b", "--cwd", "/tmp", kImage, "c1", "sh", "-c",
                 "echo $A $(pwd)"}),
            "b /tmp");
  EXPECT_EQ(Out({"run", "--rm", "--mount",
                 absl::StrCat("type=bind,src=", bed_->scratch(), ",dst=/mnt,options=rbind:ro"),
                 kImage, "c3", "ls", "/mnt/busybox-ctr.tar"}),
            "/mnt/busybox-ctr.tar");
  EXPECT_EQ(Out({"run", "--rm", "--read-only", kImage, "c4", "sh", "-c",
                 "touch /x 2>/dev/null || echo refused"}),
            "refused");
  EXPECT_EQ(Out({"run", "--rm", "--memory-limit", "33554432", "--net-host", "--privileged",
                 "--label", "a=b", kImage, "c5", "echo", "fine"}),
            "fine");
  EXPECT_THAT(Refused({"run", "--rm", kImage, "c6", "/no/such/program"}),
              HasSubstr("no such file or directory"));
}

TEST_F(CtrTest, ATerminalIsATerminal) {
  const Outcome outcome =
      RunProgram({"script", "-qec",
                  absl::StrCat("ctr --address ", bed_->address(), " --namespace ", bed_->ns(),
                               " run --rm -t ", kImage, " tty sh -c 'tty; stty size'"),
                  "/dev/null"},
                 "");
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("/dev/pts/0"));
}

TEST_F(CtrTest, ARunningTaskIsLookedAtExecdPausedAndKilled) {
  StartSleeper("web");
  EXPECT_THAT(Out({"tasks", "ls"}), HasSubstr("RUNNING"));
  EXPECT_THAT(Out({"containers", "ls"}), HasSubstr(kImage));
  EXPECT_THAT(Out({"containers", "info", "web"}), HasSubstr("io.containerd.runc.v2"));
  EXPECT_THAT(Out({"tasks", "ps", "web"}), HasSubstr("PID"));
  EXPECT_EQ(Out({"tasks", "exec", "--exec-id", "e1", "web", "echo", "inside"}), "inside");
  EXPECT_EQ(bed_->Ctr({"tasks", "exec", "--exec-id", "e2", "web", "sh", "-c", "exit 3"}).code, 3);
  EXPECT_THAT(Out({"tasks", "metrics", "web"}), HasSubstr("web"));
  ASSERT_TRUE(Ok(bed_->Ctr({"tasks", "pause", "web"})));
  EXPECT_THAT(Out({"tasks", "ls"}), HasSubstr("PAUSED"));
  ASSERT_TRUE(Ok(bed_->Ctr({"tasks", "resume", "web"})));
  EXPECT_THAT(Out({"tasks", "ls"}), HasSubstr("RUNNING"));
  EXPECT_THAT(Refused({"containers", "delete", "web"}), HasSubstr("web"));
  RemoveSleeper("web");
  EXPECT_THAT(Refused({"snapshots", "info", "web"}), HasSubstr("not found"));
}

TEST_F(CtrTest, ATaskIsCreatedStartedAndAttachedTo) {
  ASSERT_TRUE(Ok(bed_->Ctr({"containers", "create", kImage, "c", "echo", "started"})));
  ASSERT_TRUE(Ok(bed_->Ctr({"containers", "label", "c", "x=y"})));
  EXPECT_THAT(Out({"containers", "ls", "labels.x==y"}), HasSubstr("c"));
  EXPECT_EQ(Out({"tasks", "start", "c"}), "started");
  EXPECT_TRUE(Ok(bed_->Ctr({"containers", "delete", "c"})));
}

// Waits until the task runs with another pid than `before`; returns that pid, "" when it does not
// come.
std::string RunsAgain(Testbed& bed, const std::string& id, const std::string& before) {
  std::string pid;
  (void)Eventually([&] {
    for (const absl::string_view line : absl::StrSplit(bed.Ctr({"tasks", "ls"}).out, '\n')) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() == 3 && words[0] == id && words[2] == "RUNNING") pid = words[1];
    }
    return !pid.empty() && pid != before;
  });
  return pid == before ? "" : pid;
}

TEST_F(CtrTest, LabelsKeepAContainerRunningAndStopIt) {
  const std::string log = absl::StrCat(bed_->scratch(), "/log");
  ASSERT_TRUE(Ok(bed_->Ctr({"run", "-d", "--log-uri", "file://" + log, "--label",
                            "containerd.io/restart.status=running", "--label",
                            "containerd.io/restart.loguri=file://" + log, kImage, "kept", "sh",
                            "-c", "echo up; exec sleep 1000"})));
  const std::string first = RunsAgain(*bed_, "kept", "");
  ASSERT_TRUE(Ok(bed_->Ctr({"tasks", "kill", "-s", "9", "kept"})));
  const std::string second = RunsAgain(*bed_, "kept", first);
  EXPECT_NE(second, "");
  EXPECT_THAT(Out({"containers", "info", "kept"}),
              HasSubstr("\"containerd.io/restart.count\": \"1\""));
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<std::string> text = ReadFile(log, 4096);
    return text.ok() && *text == "up\nup\n";
  }));
  // It is looked after by the next daemon as well.
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  ASSERT_TRUE(Ok(bed_->Ctr({"tasks", "kill", "-s", "9", "kept"})));
  EXPECT_NE(RunsAgain(*bed_, "kept", second), "");
  ASSERT_TRUE(
      Ok(bed_->Ctr({"containers", "label", "kept", "containerd.io/restart.status=stopped"})));
  EXPECT_TRUE(Eventually([&] { return bed_->Ctr({"tasks", "ls", "-q"}).out.empty(); }));
  EXPECT_TRUE(Ok(bed_->Ctr({"containers", "delete", "kept"})));
}

// An end is answered after a second, then two, whatever else there is to look at: the count of its
// restarts is a label that changes.
TEST_F(CtrTest, WhatEndsAtOnceIsStartedAgainLessAndLessOften) {
  const std::string directory = bed_->scratch() + "/times";
  ASSERT_TRUE(MakeDirectories(directory, 0755).ok());
  const std::vector<std::string> ids = {"a", "b", "c", "d", "e", "f"};
  for (const std::string& id : ids) {
    ASSERT_TRUE(Ok(bed_->Ctr(
        {"run", "-d", "--label", "containerd.io/restart.status=running", "--mount",
         absl::StrCat("type=bind,src=", directory, ",dst=/times,options=rbind:rw"), kImage, id,
         "sh", "-c", absl::StrCat("read up idle < /proc/uptime; echo $up >> /times/", id)})));
  }
  for (const std::string& id : ids) {
    std::vector<std::string> starts;
    EXPECT_TRUE(Eventually([&] {
      starts = absl::StrSplit(ReadFile(absl::StrCat(directory, "/", id), 4096).value_or(""), '\n',
                              absl::SkipEmpty());
      return starts.size() >= 4;
    }));
    for (size_t i = 1; i < starts.size(); ++i) {
      EXPECT_GE(atof(starts[i].c_str()) - atof(starts[i - 1].c_str()), i == 1 ? 0.9 : 1.9)
          << id << i;
    }
    ASSERT_TRUE(Ok(bed_->Ctr({"containers", "label", id, "containerd.io/restart.status=stopped"})));
    // What has ended by itself is not removed by that label.
    EXPECT_TRUE(Eventually([&] {
      (void)bed_->Ctr({"tasks", "rm", "--force", id});
      return bed_->Ctr({"containers", "delete", id}).ok();
    }));
  }
}

TEST_F(CtrTest, ALogUriThatOnlyALabelNamesReachesNoProgram) {
  const std::string trace = absl::StrCat(bed_->scratch(), "/trace");
  ASSERT_TRUE(Ok(bed_->Ctr(
      {"run", "-d", "--label", "containerd.io/restart.status=running", "--label",
       absl::StrCat("containerd.io/restart.loguri=binary:///bin/touch?", trace, "=", trace, "2"),
       kImage, "kept", "sleep", "1000"})));
  const std::string first = RunsAgain(*bed_, "kept", "");
  ASSERT_TRUE(Ok(bed_->Ctr({"tasks", "kill", "-s", "9", "kept"})));
  EXPECT_NE(RunsAgain(*bed_, "kept", first), "");
  EXPECT_NE(access(trace.c_str(), F_OK), 0);
  EXPECT_THAT(bed_->daemon_log(), HasSubstr("is ignored"));
  ASSERT_TRUE(
      Ok(bed_->Ctr({"containers", "label", "kept", "containerd.io/restart.status=stopped"})));
  EXPECT_TRUE(Eventually([&] { return bed_->Ctr({"tasks", "ls", "-q"}).out.empty(); }));
  EXPECT_TRUE(Ok(bed_->Ctr({"containers", "delete", "kept"})));
}

TEST_F(CtrTest, EventsTellWhatHappened) {
  const std::string log = absl::StrCat(bed_->scratch(), "/events");
  const std::string command = absl::StrCat("exec timeout 60 ctr --address ", bed_->address(),
                                           " --namespace ", bed_->ns(), " events > ", log);
  Command events;
  events.argv = {"sh", "-c", command};
  absl::StatusOr<Process> listener = Spawn(events);
  ASSERT_TRUE(listener.ok()) << listener.status();
  const auto seen = [&](const std::string& text) {
    absl::StatusOr<std::string> so_far = ReadFile(log, 1 << 20);
    return so_far.ok() && absl::StrContains(*so_far, text);
  };
  // The subscription is there once it sees something.
  ASSERT_TRUE(Eventually([&] {
    EXPECT_TRUE(Ok(bed_->Ctr({"images", "label", kImage, "n=1"})));
    return seen("/images/update");
  }));
  EXPECT_EQ(Out({"run", "--rm", kImage, "c", "true"}), "");
  for (const char* topic :
       {"/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit",
        "/tasks/delete", "/snapshot/remove", "/containers/delete"}) {
    EXPECT_TRUE(Eventually([&] { return seen(topic); }, absl::Seconds(10))) << topic;
  }
  EXPECT_TRUE(listener->Kill(9).ok());
}

TEST_F(CtrTest, CheckpointSaysWhatIsMissing) {
  StartSleeper("c");
  const Outcome outcome =
      bed_->Ctr({"tasks", "checkpoint", "--image-path", absl::StrCat(bed_->scratch(), "/cp"), "c"});
  if (!outcome.ok()) {
    EXPECT_THAT(outcome.out + outcome.err, testing::ContainsRegex("[Cc][Rr][Ii][Uu]"));
  }
  RemoveSleeper("c");
}

TEST_F(CtrTest, AUserNamespaceMapsTheContainersRoot) {
  for (const char* runtime : {"crun", "runc"}) {
    if (access(absl::StrCat("/usr/bin/", runtime).c_str(), X_OK) != 0 &&
        access(absl::StrCat("/usr/sbin/", runtime).c_str(), X_OK) != 0) {
      continue;
    }
    const Outcome outcome = bed_->Ctr(
        {"run", "--rm", "--runc-binary", runtime, "--uidmap", "0:100000:65536", "--gidmap",
         "0:100000:65536", kImage, absl::StrCat("mapped-", runtime), "sh", "-c",
         "cat /proc/self/uid_map /proc/self/gid_map; touch /made && stat -c %u:%g /made"});
    EXPECT_TRUE(Ok(outcome)) << runtime;
    std::string words;
    for (const absl::string_view word :
         absl::StrSplit(outcome.out, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
      absl::StrAppend(&words, word, " ");
    }
    EXPECT_EQ(words, "0 100000 65536 0 100000 65536 0:0 ") << runtime;
  }
}

TEST_F(CtrTest, ARuntimeThatIsNotInstalledIsNotReplaced) {
  for (const char* name : {"io.containerd.kata.v2", "io.containerd.runsc.v1"}) {
    EXPECT_THAT(Refused({"run", "--rm", "--runtime", name, kImage, "c", "echo", "ran"}),
                testing::AllOf(HasSubstr("binary not installed"), Not(HasSubstr("ran\n"))));
  }
  EXPECT_THAT(Refused({"run", "--rm", "--runc-binary", "no-such-runtime", kImage, "c", "true"}),
              HasSubstr("binary not installed"));
}

}  // namespace
}  // namespace gantry::integration
