// A compose project from its file to its containers, and back: what a person sees who types `ctl
// compose`, also when the daemon or ctl is killed in the middle.
//
// The test, and with it the daemon, is in a network namespace of its own.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kProject[] = R"(
services:
  web:
    image: busybox:test
    command: sleep 1000
    init: true
    environment: {WORD: "${WORD:-first}"}
    volumes: ["data:/data", "/own"]
    secrets: [token]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: busybox:test
    command: ["sleep", "1000"]
    init: true
    healthcheck: {test: "test -e /data/ready || touch /data/ready", interval: 1s,
                  start_period: 20s, start_interval: 200ms}
    volumes: ["data:/data"]
volumes: {data: }
secrets: {token: {environment: TOKEN}}
)";

class ComposeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    Command up;
    up.argv = {"ip", "link", "set", "lo", "up"};
    const auto done = RunCommand(up);
    ASSERT_TRUE(done.ok() && done->status.ok());
    setenv("TOKEN", "s3cret", 1);
    unsetenv("WORD");
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox("busybox:test"));
    file_ = bed_->scratch() + "/compose.yaml";
    Write(kProject);
  }

  void Write(const std::string& text) { ASSERT_TRUE(WriteFileAtomic(file_, text, 0600).ok()); }
  std::vector<std::string> Words(std::vector<std::string> args) const {
    std::vector<std::string> words = {"compose", "-f", file_, "-p", "demo"};
    words.insert(words.end(), args.begin(), args.end());
    return words;
  }
  Outcome Compose(std::vector<std::string> args) const { return bed_->Ctl(Words(std::move(args))); }
  std::string ComposeOut(std::vector<std::string> args) const {
    return bed_->CtlOut(Words(std::move(args)));
  }
  std::string Id(const std::string& container) const { return bed_->Inspect(container, "{{.Id}}"); }
  // Containers, networks and volumes of the project.
  std::string Left() const {
    const std::string label = "label=com.docker.compose.project=demo";
    return absl::StrCat(bed_->CtlOut({"ps", "-aq", "-f", label}),
                        bed_->CtlOut({"network", "ls", "-q", "-f", label}),
                        bed_->CtlOut({"volume", "ls", "-q", "-f", label}));
  }

  std::unique_ptr<Testbed> bed_;
  std::string file_;
};

TEST_F(ComposeTest, UpTwiceChangesNothingAndDownLeavesNothing) {
  EXPECT_THAT(ComposeOut({"plan"}), HasSubstr("create    container demo-web-1"));
  ComposeOut({"up", "-d"});
  EXPECT_EQ(ComposeOut({"ps", "--format", "{{.Service}} {{.State}}"}), "db running\nweb running");
  EXPECT_EQ(ComposeOut({"exec", "-T", "web", "cat", "/run/secrets/token"}), "s3cret");
  EXPECT_THAT(ComposeOut({"exec", "-T", "web", "nslookup", "db"}), HasSubstr("Name:\tdb"));
  EXPECT_EQ(Compose({"exec", "-T", "web", "sh", "-c", "exit 7"}).code, 7);
  const std::string web = Id("demo-web-1");
  const std::string db = Id("demo-db-1");

  EXPECT_THAT(ComposeOut({"plan"}), HasSubstr("nothing to change"));
  ComposeOut({"up", "-d"});
  EXPECT_EQ(Id("demo-web-1"), web);
  EXPECT_EQ(Id("demo-db-1"), db);

  ComposeOut({"down", "-v", "-t", "1"});
  EXPECT_EQ(Left(), "");
}

TEST_F(ComposeTest, ChangeRemakesThatServiceAndKeepsItsData) {
  ComposeOut({"up", "-d"});
  const std::string web = Id("demo-web-1");
  const std::string db = Id("demo-db-1");
  ComposeOut({"exec", "-T", "web", "sh", "-c", "echo kept > /own/file; echo shared > /data/file"});
  setenv("WORD", "second", 1);
  EXPECT_THAT(ComposeOut({"up", "--dry-run"}),
              HasSubstr("recreate  container demo-web-1  (configuration changed)"));
  ComposeOut({"up", "-d", "-t", "1"});
  EXPECT_NE(Id("demo-web-1"), web);
  EXPECT_EQ(Id("demo-db-1"), db);
  EXPECT_EQ(ComposeOut({"exec", "-T", "web", "sh", "-c", "echo $WORD; cat /own/file /data/file"}),
            "second\nkept\nshared");
  // The volume that has outlived its first container goes with the project.
  ComposeOut({"down", "-v", "-t", "1"});
  EXPECT_EQ(bed_->CtlOut({"volume", "ls", "-q"}), "");
}

TEST_F(ComposeTest, HooksRunAfterStartsAndBeforeStops) {
  Write(R"(
services:
  web:
    image: busybox:test
    command: sleep 1000
    init: true
    volumes: ["data:/data"]
    post_start: [{command: sh -c "echo $$WORD > /data/started", environment: [WORD=up]}]
    pre_stop: [{command: ["touch", "/data/stopping"]}]
volumes: {data: }
)");
  ComposeOut({"up", "-d"});
  EXPECT_EQ(ComposeOut({"exec", "-T", "web", "cat", "/data/started"}), "up");
  ComposeOut({"stop", "-t", "1"});
  EXPECT_EQ(ComposeOut({"run", "--rm", "-T", "web", "ls", "/data"}), "started\nstopping");
}

TEST_F(ComposeTest, ServiceIsBuiltWhenItsImageIsNotHere) {
  ASSERT_TRUE(WriteFileAtomic(bed_->scratch() + "/Dockerfile",
                              "FROM busybox:test\nARG WORD\nRUN echo $WORD > /word\n"
                              "CMD [\"cat\", \"/word\"]\n",
                              0600)
                  .ok());
  Write("services: {web: {build: {context: ., args: {WORD: built}}}}");
  ComposeOut({"up", "-d"});
  ASSERT_TRUE(bed_->StatusBecomes("demo-web-1", "exited"));
  EXPECT_THAT(ComposeOut({"logs", "--no-log-prefix"}), HasSubstr("built"));
  EXPECT_THAT(ComposeOut({"plan"}), Not(HasSubstr("build ")));
  // A build that makes the same image makes no container anew.
  const std::string id = Id("demo-web-1");
  ComposeOut({"up", "-d", "--build"});
  EXPECT_EQ(Id("demo-web-1"), id);
  ComposeOut({"down", "--rmi", "local"});
  EXPECT_NE(bed_->Ctl({"image", "inspect", "demo-web"}).code, 0);
}

TEST_F(ComposeTest, ScaleGoesUpAndBack) {
  ComposeOut({"up", "-d", "--scale", "web=3"});
  EXPECT_EQ(ComposeOut({"ps", "--format", "{{.Name}}", "web"}),
            "demo-web-1\ndemo-web-2\ndemo-web-3");
  ComposeOut({"up", "-d", "-t", "1"});
  EXPECT_EQ(ComposeOut({"ps", "--format", "{{.Name}}", "web"}), "demo-web-1");
}

TEST_F(ComposeTest, ConditionsThatAreNotMetAreSaid) {
  Write(R"(
services:
  web: {image: busybox:test, command: sleep 100, depends_on: {job: {condition: service_completed_successfully}}}
  job: {image: busybox:test, command: sh -c "exit 3"}
)");
  const Outcome up = Compose({"up", "-d"});
  EXPECT_EQ(up.code, 1);
  EXPECT_THAT(up.err, HasSubstr("service \"job\" didn't complete successfully: exit 3"));
  EXPECT_EQ(bed_->Inspect("demo-web-1", "{{.State.Status}}"), "created");
}

TEST_F(ComposeTest, AttachedUpEndsWithTheStatusAskedFor) {
  Write(R"(
services:
  tests: {image: busybox:test, command: sh -c "echo running; exit 5"}
  db: {image: busybox:test, command: sleep 1000, init: true}
)");
  const Outcome up = Compose({"up", "--exit-code-from", "tests"});
  EXPECT_EQ(up.code, 5) << up.err;
  EXPECT_THAT(up.out, HasSubstr("tests-1  | running\n"));
  EXPECT_THAT(up.out, HasSubstr("tests-1 exited with code 5\n"));
  EXPECT_EQ(bed_->Inspect("demo-db-1", "{{.State.Running}}"), "false");
}

// A service that waits for one that never becomes healthy.
constexpr char kWaiting[] = R"(
services:
  web: {image: busybox:test, command: sh -c "echo serving; sleep 1000", init: true,
        depends_on: {db: {condition: service_healthy}}}
  db: {image: busybox:test, command: sh -c "echo opening; sleep 1000", init: true,
       healthcheck: {test: "false", interval: 200ms, retries: @}}
)";

TEST_F(ComposeTest, AttachedUpPrintsWhatFailedDependenciesSaid) {
  Write(absl::StrReplaceAll(kWaiting, {{"@", "2"}}));
  const Outcome up = Compose({"up", "--attach-dependencies", "web"});
  EXPECT_EQ(up.code, 1);
  EXPECT_THAT(up.out, HasSubstr("Attaching to db-1, web-1\n"));
  EXPECT_THAT(up.out, HasSubstr("db-1   | opening\n"));
  EXPECT_THAT(up.err, HasSubstr("container demo-db-1 is unhealthy"));
}

TEST_F(ComposeTest, InterruptWhileAnAttachedUpWaitsStopsWhatRuns) {
  Write(absl::StrReplaceAll(kWaiting, {{"@", "1000"}}));
  absl::StatusOr<Process> up = bed_->SpawnCtl(Words({"up", "-t", "1"}));
  ASSERT_TRUE(up.ok()) << up.status();
  ASSERT_TRUE(bed_->StatusBecomes("demo-db-1", "running"));
  ASSERT_TRUE(up->Kill(SIGINT).ok());
  const absl::StatusOr<ExitStatus> ended = up->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->code, 130);
  EXPECT_EQ(bed_->Inspect("demo-db-1", "{{.State.Status}}"), "exited");
  EXPECT_EQ(bed_->Inspect("demo-web-1", "{{.State.Status}}"), "created");
}

TEST_F(ComposeTest, AttachedUpPrintsTheServicesThatAreNamed) {
  Write(R"(
services:
  web: {image: busybox:test, command: sh -c "echo served; exit 3", depends_on: [db]}
  db: {image: busybox:test, command: sh -c "echo opened; sleep 1000", init: true}
)");
  const Outcome up = Compose({"up", "web"});
  EXPECT_EQ(up.code, 0) << up.err;
  EXPECT_THAT(up.out, HasSubstr("web-1  | served\n"));
  EXPECT_THAT(up.out, Not(HasSubstr("opened")));
  // What was printed before is not printed again.
  const Outcome again = Compose({"up", "--exit-code-from", "web", "-t", "1"});
  EXPECT_EQ(again.code, 3) << again.err;
  EXPECT_EQ(again.out.find("served"), again.out.rfind("served")) << again.out;
  EXPECT_THAT(again.err, HasSubstr("Container demo-db-1 Stopped"));
}

TEST_F(ComposeTest, FollowedLogsHaveContainersThatStartLater) {
  Write(
      "services: {web: {image: busybox:test, command: sh -c \"echo here; sleep 1000\", init: "
      "true}}");
  ComposeOut({"up", "-d"});
  const std::string file = bed_->scratch() + "/logs";
  UniqueFd out(open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  absl::StatusOr<Process> logs = bed_->SpawnCtl(Words({"logs", "-f"}), out.get());
  ASSERT_TRUE(logs.ok()) << logs.status();
  const auto printed = [&](const std::string& text) {
    return Eventually([&] {
      const absl::StatusOr<std::string> now = ReadFile(file, 1 << 20);
      return now.ok() && absl::StrContains(*now, text);
    });
  };
  EXPECT_TRUE(printed("web-1  | here\n"));
  ComposeOut({"up", "-d", "--scale", "web=2"});
  EXPECT_TRUE(printed("web-2  | here\n"));
  bed_->Ctl({"kill", "demo-web-2"});
  EXPECT_TRUE(printed("web-2 exited with code 137\n"));
  // It ends when all have ended.
  ComposeOut({"kill"});
  const absl::StatusOr<ExitStatus> ended = logs->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->code, 0);
}

TEST_F(ComposeTest, TheEndOfARunThatIsFollowedByAnotherIsSaidOnce) {
  Write(
      "services: {web: {image: busybox:test, command: sh -c \"echo here; exit 3\", restart: "
      "always}}");
  ComposeOut({"up", "-d"});
  const std::string file = bed_->scratch() + "/logs";
  UniqueFd out(open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  absl::StatusOr<Process> logs = bed_->SpawnCtl(Words({"logs", "-f"}), out.get());
  ASSERT_TRUE(logs.ok()) << logs.status();
  const std::string end = "web-1 exited with code 3 (restarting)\n";
  std::string text;
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<std::string> now = ReadFile(file, 1 << 20);
    if (now.ok()) text = *now;
    const size_t first = text.find(end);
    return first != std::string::npos && text.find(end, first + 1) != std::string::npos;
  }));
  EXPECT_THAT(text, Not(HasSubstr(end + end)));
  ASSERT_TRUE(logs->Kill(SIGINT).ok());
  const absl::StatusOr<ExitStatus> ended = logs->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.ok()) << ended.status();
  ComposeOut({"down", "-t", "1"});
}

TEST_F(ComposeTest, WaitSaysEndsAndTakesTheProjectDown) {
  Write(R"(
services:
  web: {image: busybox:test, command: sleep 1000, init: true}
  job: {image: busybox:test, command: sh -c "sleep 1; exit 4"}
)");
  ComposeOut({"up", "-d"});
  const std::string job = Id("demo-job-1");
  const Outcome wait = Compose({"wait", "--down-project", "web", "job"});
  EXPECT_EQ(wait.code, 4) << wait.err;
  EXPECT_EQ(wait.out, absl::StrCat("container \"", job, "\" exited with status code 4\n"));
  EXPECT_EQ(Left(), "");
}

TEST_F(ComposeTest, TopAndImagesAreOneTableEach) {
  Write("services: {web: {image: busybox:test, command: sleep 1000, init: true, scale: 2}}");
  ComposeOut({"up", "-d"});
  const std::string top = ComposeOut({"top"});
  EXPECT_THAT(top, ::testing::StartsWith("SERVICE  #"));
  EXPECT_THAT(top, HasSubstr("\nweb      2 "));
  EXPECT_THAT(ComposeOut({"images"}), HasSubstr("CREATED"));
  // One image, two containers.
  EXPECT_EQ(ComposeOut({"images", "-q"}).size(), 64u);
  EXPECT_THAT(
      ComposeOut({"images", "--format", "json"}),
      ::testing::AllOf(::testing::StartsWith("[{"), HasSubstr("\"ContainerName\":\"demo-web-1\""),
                       HasSubstr("\"LastTagTime\":")));
}

TEST_F(ComposeTest, RunIsOneOff) {
  ComposeOut({"up", "-d"});
  const std::string web = Id("demo-web-1");
  const Outcome run = Compose({"run", "--rm", "-T", "web", "sh", "-c", "hostname; exit 4"});
  EXPECT_EQ(run.code, 4) << run.err;
  EXPECT_EQ(Id("demo-web-1"), web);
  EXPECT_EQ(ComposeOut({"ps", "-aq"}).size(), 64u * 2 + 1);
}

TEST_F(ComposeTest, RunWaitsForWhatItsServiceWaitsFor) {
  const std::string file = R"(
services:
  web: {image: busybox:test, volumes: ["data:/data"],
        depends_on: {job: {condition: service_completed_successfully}}}
  job: {image: busybox:test, command: sh -c "sleep 1; touch /data/done; exit @", init: true,
        volumes: ["data:/data"]}
volumes: {data: }
)";
  Write(absl::StrReplaceAll(file, {{"@", "0"}}));
  EXPECT_EQ(ComposeOut({"run", "--rm", "-T", "web", "ls", "/data"}), "done");
  ComposeOut({"down", "-v", "-t", "1"});
  Write(absl::StrReplaceAll(file, {{"@", "3"}}));
  const Outcome failed = Compose({"run", "--rm", "-T", "web", "echo", "begun"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_EQ(failed.out, "");
  EXPECT_THAT(failed.err, HasSubstr("service \"job\" didn't complete successfully: exit 3"));
  EXPECT_EQ(ComposeOut({"run", "--no-deps", "--rm", "-T", "web", "echo", "begun"}), "begun");
}

TEST_F(ComposeTest, OrphansStayUntilTheyAreAskedFor) {
  ComposeOut({"up", "-d"});
  Write("services: {web: {image: busybox:test, command: sleep 1000, init: true}}");
  const Outcome up = Compose({"up", "-d", "-t", "1"});
  EXPECT_EQ(up.code, 0) << up.err;
  EXPECT_THAT(up.err, HasSubstr("Found orphan containers (demo-db-1)"));
  EXPECT_NE(Id("demo-db-1"), "");
  ComposeOut({"up", "-d", "--remove-orphans"});
  EXPECT_EQ(bed_->CtlOut({"ps", "-a", "--format", "{{.Names}}"}), "demo-web-1");
}

TEST_F(ComposeTest, MistakesInTheFileChangeNothing) {
  Write("services:\n  web:\n    image: busybox:test\n    networks: [hypig_net2]\n");
  const Outcome up = Compose({"up", "-d"});
  EXPECT_EQ(up.code, 1);
  EXPECT_THAT(up.err, HasSubstr("compose.yaml:4:"));
  EXPECT_THAT(up.err, HasSubstr("service \"web\" refers to undefined network hypig_net2"));
  EXPECT_EQ(Left(), "");
}

// Whatever part of an `up` was done, the next one ends it, and nothing is there twice.
constexpr char kRolling[] = R"(
services:
  web:
    image: busybox:test
    command: sleep 1000
    init: true
    environment: {WORD: "%s"}
    healthcheck: {test: "test $$WORD != bad", interval: 200ms, retries: 2}
)";

TEST_F(ComposeTest, RollbackKeepsTheOldContainerServing) {
  Write(absl::StrReplaceAll(kRolling, {{"%s", "good"}}));
  ComposeOut({"up", "-d", "--wait"});
  const std::string before = Id("demo-web-1");

  Write(absl::StrReplaceAll(kRolling, {{"%s", "bad"}}));
  EXPECT_THAT(ComposeOut({"plan", "--rollback"}),
              HasSubstr("the new one starts first, back on failure"));
  const Outcome failed = Compose({"up", "-d", "--rollback"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_THAT(failed.err, HasSubstr("is unhealthy; the service is back at its last good state"));
  EXPECT_EQ(Id("demo-web-1"), before);
  EXPECT_EQ(bed_->Inspect("demo-web-1", "{{.State.Status}} {{.RestartCount}}"), "running 0");
  EXPECT_EQ(ComposeOut({"ps", "-aq"}), before);

  Write(absl::StrReplaceAll(kRolling, {{"%s", "better"}}));
  ComposeOut({"up", "-d", "--rollback"});
  EXPECT_NE(Id("demo-web-1"), before);
  EXPECT_EQ(ComposeOut({"ps", "-a", "--format", "{{.Name}} {{.State}}"}), "demo-web-1 running");
  EXPECT_EQ(ComposeOut({"exec", "-T", "web", "sh", "-c", "echo $WORD"}), "better");
  ComposeOut({"down", "-t", "1"});
}

TEST_F(ComposeTest, WatchSyncsChangedFiles) {
  const std::string src = bed_->scratch() + "/src";
  ASSERT_EQ(mkdir(src.c_str(), 0755), 0);
  ASSERT_EQ(mkdir((src + "/deep").c_str(), 0755), 0);
  ASSERT_TRUE(WriteFile(src + "/first", "1").ok());
  Write(
      "services:\n  web:\n    image: busybox:test\n    command: sleep 1000\n    init: true\n"
      "    develop:\n      watch:\n"
      "        - {path: ./src, action: sync, target: /app, ignore: ['*.tmp'], initial_sync: "
      "true}\n");
  absl::StatusOr<Process> process = bed_->SpawnCtl(Words({"watch"}));
  ASSERT_TRUE(process.ok()) << process.status();
  const auto in_container = [&](const std::string& path) {
    return Compose({"exec", "-T", "web", "cat", path}).out;
  };
  EXPECT_TRUE(Eventually([&] { return in_container("/app/first") == "1"; }));
  ASSERT_TRUE(WriteFile(src + "/ignored.tmp", "no").ok());
  ASSERT_TRUE(WriteFile(src + "/deep/second", "2").ok());
  EXPECT_TRUE(Eventually([&] { return in_container("/app/deep/second") == "2"; }));
  EXPECT_EQ(in_container("/app/ignored.tmp"), "");
  ASSERT_EQ(unlink((src + "/first").c_str()), 0);
  EXPECT_TRUE(Eventually([&] {
    return Compose({"exec", "-T", "web", "test", "-e", "/app/first"}).code == 1;
  }));
  ASSERT_TRUE(process->Kill(SIGINT).ok());
  const absl::StatusOr<ExitStatus> ended = process->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->code, 130);
  ComposeOut({"down", "-t", "1"});
}

TEST_F(ComposeTest, KilledAnywhereTheNextUpEndsWell) {
  for (int round = 0; round < 6; ++round) {
    absl::StatusOr<Process> up = bed_->SpawnCtl(Words({"up", "-d"}));
    ASSERT_TRUE(up.ok()) << up.status();
    absl::SleepFor(absl::Milliseconds(40 + 60 * round));
    if (round % 2 == 0) {
      kill(up->pid(), SIGKILL);
    } else {
      bed_->KillDaemon();
    }
    // Its end is what the kill, or the daemon's end, made of it.
    (void)up->Wait();
    if (round % 2 != 0) {
      ASSERT_TRUE(bed_->StartDaemon());
    }
    const Outcome next = Compose({"up", "-d"});
    ASSERT_EQ(next.code, 0) << "round " << round << ": " << next.err;
    EXPECT_EQ(ComposeOut({"ps", "-a", "--format", "{{.Name}} {{.State}}"}),
              "demo-db-1 running\ndemo-web-1 running");
    ComposeOut({"exec", "-T", "web", "touch", absl::StrCat("/data/round", round)});
    absl::StatusOr<Process> down = bed_->SpawnCtl(Words({"down", "-t", "1"}));
    ASSERT_TRUE(down.ok()) << down.status();
    absl::SleepFor(absl::Milliseconds(30 * round));
    kill(down->pid(), SIGKILL);
    (void)down->Wait();
    ComposeOut({"down", "-t", "1"});
    EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "") << "round " << round;
  }
  // No volume was lost on the way.
  ComposeOut({"up", "-d"});
  EXPECT_EQ(ComposeOut({"exec", "-T", "web", "sh", "-c", "ls /data | grep -c round"}), "6");
}

}  // namespace
}  // namespace gantry::integration
