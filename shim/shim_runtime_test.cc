// The real gantry-shim with the real crun and runc, and with runtimes that misbehave. Needs root:
// namespaces, mounts, cgroups.

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "shim/exit_record.h"
#include "shim/shim_testbed.h"

namespace gantry::shim {
namespace {

using Words = std::vector<std::string>;

class RealRuntimeTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string why = WhyRealRuntimesCannotRun(GetParam());
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

INSTANTIATE_TEST_SUITE_P(Runtimes, RealRuntimeTest, ::testing::Values("crun", "runc"),
                         [](const auto& info) { return info.param; });

TEST_P(RealRuntimeTest, RunsFromCreateToDelete) {
  TestContainer container(GetParam(), {"sh", "-c", "echo hello; echo oops >&2; exit 7"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 7);
  EXPECT_EQ(container.State().status(), v1::STATUS_STOPPED);
  EXPECT_TRUE(Eventually([&] { return container.LogText() == "hello\noops\n"; }))
      << container.LogText();

  const auto record = ReadExitRecord(container.bundle());
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->exit_status, 7u);
  EXPECT_EQ(record->id, container.id());

  EXPECT_FALSE(IsDeleted(container.bundle()));
  EXPECT_EQ(container.Delete(), absl::OkStatus());
  EXPECT_TRUE(IsDeleted(container.bundle()));
  EXPECT_TRUE(container.WaitForShimExit());
}

TEST_P(RealRuntimeTest, EventsAreNumberedAndReplayed) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.create.set_start(false);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.State().status(), v1::STATUS_CREATED);
  ASSERT_EQ(container.Start(), absl::OkStatus());
  EXPECT_EQ(container.State().status(), v1::STATUS_RUNNING);
  ASSERT_EQ(container.Exec("e1", {"sh", "-c", "exit 3"}), absl::OkStatus());
  EXPECT_EQ(container.Wait("e1"), 3);
  ASSERT_EQ(container.Kill(SIGKILL), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 137);
  const Words all = {"created", "started ", "added e1", "started e1", "exited e1 3", "exited  137"};
  EXPECT_EQ(container.Events("exited  137"), all);
  EXPECT_EQ(container.Events("exited  137"), all);
  EXPECT_EQ(container.Events("exited  137", 4), (Words{"exited e1 3", "exited  137"}));
  EXPECT_EQ(container.Delete("e1"), absl::OkStatus());
}

TEST_P(RealRuntimeTest, ExecRunsWithStreamsOfItsOwn) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("e1", {"sh", "-c", "read line; echo got $line; echo bad >&2; exit 4"},
                           [](v1::ExecRequest& request) {
                             request.set_start(false);
                             request.mutable_stdio()->set_attach_stdin(true);
                           }),
            absl::OkStatus());
  AttachedStreams attached(container.stub(), "e1", /*with_stdin=*/true);
  ASSERT_EQ(container.Start("e1"), absl::OkStatus());
  attached.Send("words\n");
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.out(), "got words\n");
  EXPECT_EQ(attached.err(), "bad\n");
  ASSERT_TRUE(attached.exited().has_value());
  EXPECT_EQ(attached.exited()->exit_status(), 4u);
  EXPECT_EQ(container.Exec("e1", {"true"}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(container.Delete("e1"), absl::OkStatus());
  EXPECT_EQ(container.Delete("e1").code(), absl::StatusCode::kNotFound);
}

TEST_P(RealRuntimeTest, AttachBeforeCreateMissesNothing) {
  TestContainer container(GetParam(), {"cat"});
  container.create.mutable_stdio()->set_attach_stdin(true);
  container.create.mutable_stdio()->set_stdin_once(true);
  container.Launch();
  AttachedStreams first(container.stub(), "", /*with_stdin=*/true);
  AttachedStreams second(container.stub(), "");
  first.Send("one\n");
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_TRUE(first.ReadUntil("one\n"));
  first.Send("two\n");
  first.CloseStdin();
  EXPECT_TRUE(first.ReadToEnd().ok());
  EXPECT_TRUE(second.ReadToEnd().ok());
  EXPECT_EQ(first.out(), "one\ntwo\n");
  EXPECT_EQ(second.out(), "one\ntwo\n");
  EXPECT_EQ(first.exited()->exit_status(), 0u);
}

TEST_P(RealRuntimeTest, ATerminalHasSizeAndTakesInput) {
  TestContainer container(GetParam(), {"sh"});
  container.spec["process"]["terminal"] = true;
  v1::Stdio& stdio = *container.create.mutable_stdio();
  stdio.set_terminal(true);
  stdio.set_attach_stdin(true);
  stdio.set_width(91);
  stdio.set_height(33);
  container.Launch();
  AttachedStreams attached(container.stub(), "", /*with_stdin=*/true);
  ASSERT_EQ(container.Create(), absl::OkStatus());
  attached.Send("stty size\n");
  ASSERT_TRUE(attached.ReadUntil("33 91")) << attached.out();
  attached.Resize(120, 40);
  attached.Send("stty size; tty\n");
  ASSERT_TRUE(attached.ReadUntil("40 120")) << attached.out();
  attached.Send("exit 5\n");
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.exited()->exit_status(), 5u);
}

TEST_P(RealRuntimeTest, AnExecMayHaveATerminal) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("t", {"sh", "-c", "tty; stty size; exit 6"},
                           [](v1::ExecRequest& request) {
                             request.set_start(false);
                             request.mutable_stdio()->set_terminal(true);
                             request.mutable_stdio()->set_width(50);
                             request.mutable_stdio()->set_height(20);
                           }),
            absl::OkStatus());
  AttachedStreams attached(container.stub(), "t");
  ASSERT_EQ(container.Start("t"), absl::OkStatus());
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_TRUE(absl::StrContains(attached.out(), "/dev/pts/")) << attached.out();
  EXPECT_EQ(attached.exited()->exit_status(), 6u);
}

TEST_P(RealRuntimeTest, ProcessesGetNoDescriptorsButTheirStreams) {
  TestContainer container(GetParam(), {"sh", "-c", "ls /proc/self/fd | wc -l; sleep 100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  // The fourth is the directory that ls itself reads.
  EXPECT_TRUE(Eventually([&] { return container.LogText() == "4\n"; })) << container.LogText();
  ASSERT_EQ(container.Exec("e", {"sh", "-c", "ls /proc/self/fd | wc -l"},
                           [](v1::ExecRequest& request) { request.set_start(false); }),
            absl::OkStatus());
  AttachedStreams attached(container.stub(), "e");
  ASSERT_EQ(container.Start("e"), absl::OkStatus());
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.out(), "4\n");
}

TEST_P(RealRuntimeTest, PausedProcessesStandStillAndCanBeKilled) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  grpc::ClientContext pause_context;
  v1::PauseResponse paused;
  ASSERT_TRUE(container.stub().Pause(&pause_context, v1::PauseRequest(), &paused).ok());
  EXPECT_EQ(container.State().status(), v1::STATUS_PAUSED);
  EXPECT_EQ(container.Exec("e", {"true"}).code(), absl::StatusCode::kFailedPrecondition);
  grpc::ClientContext resume_context;
  v1::ResumeResponse resumed;
  ASSERT_TRUE(container.stub().Resume(&resume_context, v1::ResumeRequest(), &resumed).ok());
  EXPECT_EQ(container.State().status(), v1::STATUS_RUNNING);
  grpc::ClientContext again_context;
  ASSERT_TRUE(container.stub().Pause(&again_context, v1::PauseRequest(), &paused).ok());
  ASSERT_EQ(container.Kill(SIGKILL), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 137);
  EXPECT_EQ(container.Kill(SIGKILL).code(), absl::StatusCode::kNotFound);
}

TEST_P(RealRuntimeTest, NoRuntimeIsStartedToKillOrToRemove) {
  for (const bool kill_first : {false, true}) {
    TestContainer container(GetParam(), {"sleep", "100"});
    const std::string program = absl::StrCat(container.bundle(), "/", GetParam());
    const std::string calls = container.bundle() + "/calls";
    ASSERT_TRUE(WriteFile(program,
                          absl::StrCat("#!/bin/sh\necho \"$@\" >> ", calls, "\nexec ",
                                       container.create.runtime().path(), " \"$@\"\n"),
                          0755)
                    .ok());
    container.create.mutable_runtime()->set_path(program);
    container.Launch();
    ASSERT_EQ(container.Create(), absl::OkStatus());
    const pid_t pid = container.State().pid();
    if (kill_first) {
      ASSERT_EQ(container.Kill(SIGKILL), absl::OkStatus());
      EXPECT_EQ(container.Wait(), 137);
    }
    EXPECT_EQ(container.Delete("", /*force=*/true), absl::OkStatus());
    EXPECT_NE(kill(pid, 0), 0);
    const absl::StatusOr<std::string> called = ReadFile(calls, 1 << 16);
    ASSERT_TRUE(called.ok()) << called.status();
    EXPECT_EQ(std::count(called->begin(), called->end(), '\n'), 1) << *called;
  }
}

TEST_P(RealRuntimeTest, StatisticsLimitsAndProcesses) {
  TestContainer container(GetParam(), {"sh", "-c", "sleep 100 & wait"});
  container.spec["linux"]["resources"] = {{"memory", {{"limit", 64 << 20}}},
                                          {"pids", {{"limit", 50}}}};
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("e", {"sleep", "100"}), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    v1::PidsResponse pids;
    return container.stub().Pids(&context, v1::PidsRequest(), &pids).ok() &&
           pids.processes_size() == 3 &&
           std::count_if(pids.processes().begin(), pids.processes().end(),
                         [](const auto& process) { return process.exec_id() == "e"; }) == 1;
  }));
  grpc::ClientContext update_context;
  v1::UpdateRequest update;
  update.set_resources_json(absl::StrCat(R"({"memory":{"limit":)", 96 << 20, "}}"));
  v1::UpdateResponse updated;
  const grpc::Status status = container.stub().Update(&update_context, update, &updated);
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::ClientContext stats_context;
  v1::StatsResponse stats;
  ASSERT_TRUE(container.stub().Stats(&stats_context, v1::StatsRequest(), &stats).ok());
  EXPECT_EQ(stats.memory_limit_bytes(), 96u << 20);
  EXPECT_EQ(stats.pids_limit(), 50u);
  EXPECT_EQ(stats.pids_current(), 3u);
  EXPECT_GT(stats.memory_usage_bytes(), 0u);
  EXPECT_GT(stats.cpu_usage_nanos(), 0u);
  EXPECT_GT(stats.memory_stat_size(), 5);
}

TEST_P(RealRuntimeTest, AnOutOfMemoryKillIsReported) {
  TestContainer container(GetParam(), {"sh", "-c", "exec tail /dev/zero"});
  container.spec["linux"]["devices"] = nlohmann::json::array();
  container.spec["linux"]["resources"] = {{"memory", {{"limit", 24 << 20}, {"swap", 24 << 20}}}};
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  const v1::WaitResponse result = container.WaitResult();
  EXPECT_EQ(result.exit_status(), 137u);
  EXPECT_TRUE(result.oom_killed());
  const Words events = container.Events("exited  137");
  EXPECT_NE(std::find(events.begin(), events.end(), "oom"), events.end());
  EXPECT_TRUE(ReadExitRecord(container.bundle())->oom_killed);
}

TEST_P(RealRuntimeTest, MissingProgramsAreNamedAsClientsExpect) {
  TestContainer missing(GetParam(), {"nosuchprogram"});
  missing.Launch();
  const absl::Status not_found = missing.Create();
  EXPECT_EQ(not_found.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(not_found.message(),
                                "\"nosuchprogram\": executable file not found in $PATH"))
      << not_found;
  EXPECT_EQ(missing.State().status(), v1::STATUS_EMPTY);

  TestContainer running(GetParam(), {"sleep", "100"});
  ASSERT_TRUE(WriteFile(running.rootfs() + "/etc/not-executable", "", 0644).ok());
  running.Launch();
  ASSERT_EQ(running.Create(), absl::OkStatus());
  const absl::Status no_exec = running.Exec("e", {"/no/such"});
  EXPECT_TRUE(absl::StrContains(no_exec.message(), "no such file or directory")) << no_exec;
  const absl::Status no_right = running.Exec("f", {"/etc/not-executable"});
  EXPECT_TRUE(absl::StrContains(no_right.message(), "permission denied")) << no_right;
  // Nothing of them is left, the ids are free.
  EXPECT_EQ(running.Exec("f", {"true"}), absl::OkStatus());
  EXPECT_EQ(running.Wait("f"), 0);
}

TEST_P(RealRuntimeTest, WithoutAPidNamespaceLeftOversAreKilledBeforeTheExitIsTold) {
  TestContainer container(GetParam(), {"sh", "-c", "sleep 12345 & echo started; exit 0"});
  auto& namespaces = container.spec["linux"]["namespaces"];
  namespaces = nlohmann::json::array(
      {{{"type", "mount"}}, {{"type", "network"}}, {{"type", "ipc"}}, {{"type", "uts"}}});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  // In the moment of the answer nothing of it runs any more.
  bool found = false;
  for (pid_t pid : {container.State().pid()}) found = found || kill(pid, 0) == 0;
  EXPECT_FALSE(found);
  EXPECT_EQ(container.Delete(), absl::OkStatus());
}

TEST_P(RealRuntimeTest, ExecExitsComeBeforeTheInitExit) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("e1", {"sleep", "100"}), absl::OkStatus());
  ASSERT_EQ(container.Exec("e2", {"sleep", "100"}), absl::OkStatus());
  ASSERT_EQ(container.Kill(SIGKILL), absl::OkStatus());
  const Words events = container.Events("exited  137");
  EXPECT_NE(std::find(events.begin(), events.end(), "exited e1 137"), events.end());
  EXPECT_NE(std::find(events.begin(), events.end(), "exited e2 137"), events.end());
}

TEST_P(RealRuntimeTest, StatesAreEnforced) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.create.set_start(false);
  container.Launch();
  EXPECT_EQ(container.State().status(), v1::STATUS_EMPTY);
  EXPECT_EQ(container.Start().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(container.Start("none").code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Create().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(container.Exec("e", {"true"}).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_EQ(container.Start(), absl::OkStatus());
  EXPECT_EQ(container.Start().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(container.Delete().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(container.Delete("", /*force=*/true), absl::OkStatus());
  EXPECT_TRUE(container.WaitForShimExit());
}

TEST_P(RealRuntimeTest, ACreatedContainerCanBeDeletedUnstarted) {
  TestContainer container(GetParam(), {"sleep", "100"});
  container.create.set_start(false);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Delete(), absl::OkStatus());
  EXPECT_TRUE(container.WaitForShimExit());
}

TEST_P(RealRuntimeTest, PoststartHooksHaveRunWhenTheStartIsOver) {
  TestContainer container(GetParam(), {"sleep", "100"});
  const std::string mark = container.bundle() + "-poststart";
  container.spec["hooks"] = {
      {"poststart", {{{"path", "/bin/sh"}, {"args", {"sh", "-c", "echo ran > " + mark}}}}}};
  container.create.set_start(false);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  // runc runs them already.
  EXPECT_EQ(ReadFile(mark, 100).ok(), GetParam() == "runc");
  ASSERT_EQ(container.Start(), absl::OkStatus());
  EXPECT_TRUE(ReadFile(mark, 100).ok());
  EXPECT_EQ(container.Delete("", /*force=*/true), absl::OkStatus());
  unlink(mark.c_str());
}

TEST_P(RealRuntimeTest, PoststopHooksRun) {
  TestContainer container(GetParam(), {"true"});
  const std::string mark = container.bundle() + "-poststop";
  container.spec["hooks"] = {
      {"poststop", {{{"path", "/bin/sh"}, {"args", {"sh", "-c", "echo ran > " + mark}}}}}};
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_EQ(container.Delete(), absl::OkStatus());
  EXPECT_TRUE(ReadFile(mark, 100).ok());
  unlink(mark.c_str());
}

// --- Streams
// -------------------------------------------------------------------------------------------------------

class ShimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string why = WhyRealRuntimesCannotRun("crun");
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

std::string ReadAllFrom(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t count; (count = read(fd, buffer, sizeof(buffer))) > 0;) text.append(buffer, count);
  return text;
}

TEST_F(ShimTest, FifosCarryTheStreams) {
  TestContainer container("crun", {"sh", "-c", "cat; echo done >&2"});
  container.create.mutable_stdio()->clear_log();
  const std::string prefix = container.bundle();
  for (const char* name : {"-in", "-out", "-err"})
    ASSERT_EQ(mkfifo((prefix + name).c_str(), 0600), 0);
  container.create.mutable_stdio()->set_stdin(prefix + "-in");
  container.create.mutable_stdio()->set_stdout("fifo://" + prefix + "-out");
  container.create.mutable_stdio()->set_stderr(prefix + "-err");
  UniqueFd out(open((prefix + "-out").c_str(), O_RDONLY | O_NONBLOCK));
  UniqueFd err(open((prefix + "-err").c_str(), O_RDONLY | O_NONBLOCK));
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  {
    UniqueFd in(open((prefix + "-in").c_str(), O_WRONLY));
    ASSERT_EQ(write(in.get(), "first ", 6), 6);
  }
  // A client that leaves does not end the input ...
  UniqueFd in(open((prefix + "-in").c_str(), O_WRONLY));
  ASSERT_EQ(write(in.get(), "second", 6), 6);
  // ... CloseStdin does, after what was written.
  grpc::ClientContext context;
  v1::CloseStdinResponse closed;
  ASSERT_TRUE(container.stub().CloseStdin(&context, v1::CloseStdinRequest(), &closed).ok());
  in.reset();
  EXPECT_EQ(container.Wait(), 0);
  for (const UniqueFd* fd : {&out, &err}) fcntl(fd->get(), F_SETFL, 0);
  EXPECT_EQ(ReadAllFrom(out.get()), "first second");
  EXPECT_EQ(ReadAllFrom(err.get()), "done\n");
  for (const char* name : {"-in", "-out", "-err"}) unlink((prefix + name).c_str());
}

// `cat` that reads from a FIFO, created and not started.
class FifoInputTest : public ShimTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ShimTest::SetUp());
    if (IsSkipped()) return;
    container_ = std::make_unique<TestContainer>("crun", std::vector<std::string>{"cat"});
    container_->create.mutable_stdio()->clear_log();
    fifo_ = container_->bundle() + "-in";
    ASSERT_EQ(mkfifo(fifo_.c_str(), 0600), 0);
    container_->create.mutable_stdio()->set_stdin(fifo_);
    container_->create.set_start(false);
    container_->Launch();
    ASSERT_EQ(container_->Create(), absl::OkStatus());
  }
  void TearDown() override { unlink(fifo_.c_str()); }
  bool TakesInput() const {
    return UniqueFd(open(fifo_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)).valid();
  }
  void CloseStdin() const {
    grpc::ClientContext context;
    v1::CloseStdinResponse closed;
    ASSERT_TRUE(container_->stub().CloseStdin(&context, v1::CloseStdinRequest(), &closed).ok());
  }

  std::unique_ptr<TestContainer> container_;
  std::string fifo_;
};

// nerdctl asks for the end of the input as soon as it could write all of it, and asks only once:
// the task has to be there by then.
TEST_F(FifoInputTest, InputWaitsForTheStart) {
  EXPECT_FALSE(TakesInput());
  ASSERT_EQ(container_->Start(), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return TakesInput(); }));
  CloseStdin();
  EXPECT_EQ(container_->Wait(), 0);
}

TEST_F(FifoInputTest, InputMayBeOverBeforeTheStart) {
  CloseStdin();
  ASSERT_EQ(container_->Start(), absl::OkStatus());
  EXPECT_EQ(container_->Wait(), 0);
}

TEST_F(ShimTest, AFifoWhoseReaderHasGoneDoesNotStopTheContainer) {
  TestContainer container("crun", {"sh", "-c", "yes | head -c 1000000; touch /finished"});
  container.create.mutable_stdio()->clear_log();
  const std::string fifo = container.bundle() + "-out";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  container.create.mutable_stdio()->set_stdout(fifo);
  container.Launch();
  UniqueFd reader(open(fifo.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_EQ(container.Create(), absl::OkStatus());
  reader.reset();
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_EQ(access((container.rootfs() + "/finished").c_str(), F_OK), 0);
  unlink(fifo.c_str());
}

TEST_F(ShimTest, ASlowFifoReaderLosesNothing) {
  TestContainer container("crun", {"sh", "-c", "seq 1 100000"});
  container.create.mutable_stdio()->clear_log();
  const std::string fifo = container.bundle() + "-out";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  container.create.mutable_stdio()->set_stdout(fifo);
  UniqueFd reader(open(fifo.c_str(), O_RDONLY | O_NONBLOCK));
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  // The pipe is full long before the end of the output; only then the reader begins.
  EXPECT_FALSE(Eventually([&] { return container.State().status() == v1::STATUS_STOPPED; },
                          absl::Milliseconds(500)));
  fcntl(reader.get(), F_SETFL, 0);
  const std::string text = ReadAllFrom(reader.get());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 100000);
  EXPECT_TRUE(absl::EndsWith(text, "\n100000\n"));
  EXPECT_EQ(container.Wait(), 0);
  unlink(fifo.c_str());
}

TEST_F(ShimTest, FilesAreAppendedTo) {
  TestContainer container("crun", {"sh", "-c", "echo out; echo err >&2"});
  container.create.mutable_stdio()->clear_log();
  const std::string file = container.bundle() + "-dir/output";
  container.create.mutable_stdio()->set_stdout("file://" + file);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_EQ(*ReadFile(file, 100), "out\nerr\n");
  EXPECT_TRUE(RemoveTree(container.bundle() + "-dir").ok());
}

TEST_F(ShimTest, ALoggerProgramReadsTheStreams) {
  TestContainer container("crun", {"sh", "-c", "echo out; echo err >&2"});
  container.create.mutable_stdio()->clear_log();
  const std::string script = container.bundle() + "-logger";
  const std::string result = container.bundle() + "-logged";
  ASSERT_TRUE(
      WriteFile(script,
                "#!/bin/sh\nexec 5>&-\n"
                "{ echo $CONTAINER_NAMESPACE $CONTAINER_ID $1 $2; cat <&3; cat <&4; } > $2.new\n"
                "mv $2.new $2\n",
                0755)
          .ok());
  container.create.mutable_stdio()->set_stdout("binary://" + script + "?to=" + result);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_EQ(container.Delete(), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return access(result.c_str(), F_OK) == 0; }));
  EXPECT_EQ(*ReadFile(result, 1000),
            absl::StrCat("test ", container.id(), " to ", result, "\nout\nerr\n"));
  unlink(script.c_str());
  unlink(result.c_str());
}

TEST_F(ShimTest, ALoggerThatDiesDoesNotTakeTheContainerAlong) {
  TestContainer container("crun", {"sh", "-c", "seq 1 100000; touch /finished"});
  container.create.mutable_stdio()->clear_log();
  const std::string script = container.bundle() + "-logger";
  ASSERT_TRUE(WriteFile(script, "#!/bin/sh\nexit 1\n", 0755).ok());
  container.create.mutable_stdio()->set_stdout("binary://" + script);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_EQ(access((container.rootfs() + "/finished").c_str(), F_OK), 0);
  unlink(script.c_str());
}

TEST_F(ShimTest, AClientThatStopsReadingHoldsUpNothingAndGetsAllWithALog) {
  TestContainer container(
      "crun", {"sh", "-c",
               "yes 0123456789012345678901234567890123456789 | head -c 20000000; touch /finished"});
  container.Launch();
  AttachedStreams slow(container.stub(), "");
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_EQ(access((container.rootfs() + "/finished").c_str(), F_OK), 0);
  // Also after everything else of the container is gone.
  EXPECT_EQ(container.Delete(), absl::OkStatus());
  EXPECT_TRUE(container.ShimIsAlive());
  EXPECT_TRUE(slow.ReadToEnd().ok());
  EXPECT_EQ(slow.out().size(), 20000000u);
  EXPECT_TRUE(slow.exited().has_value());
  EXPECT_TRUE(container.WaitForShimExit());
}

TEST_F(ShimTest, AShimWhoseContainerIsGoneLeavesWithItsLastClient) {
  TestContainer container("crun", {"sh", "-c", "yes | head -c 4000000"});
  container.Launch();
  {
    AttachedStreams slow(container.stub(), "");
    ASSERT_EQ(container.Create(), absl::OkStatus());
    EXPECT_EQ(container.Wait(), 0);
    EXPECT_EQ(container.Delete(), absl::OkStatus());
    EXPECT_TRUE(container.ShimIsAlive());
  }
  EXPECT_TRUE(container.WaitForShimExit());
}

TEST_F(ShimTest, WithoutALogTheContainerWaitsForItsClient) {
  // More than the connection takes in.
  TestContainer container("crun", {"sh", "-c", "yes | head -c 60000000; touch /finished"});
  container.create.mutable_stdio()->clear_log();
  container.create.mutable_stdio()->set_attachable(true);
  container.Launch();
  AttachedStreams slow(container.stub(), "");
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_FALSE(Eventually([&] { return container.State().status() == v1::STATUS_STOPPED; },
                          absl::Milliseconds(1500)));
  EXPECT_NE(access((container.rootfs() + "/finished").c_str(), F_OK), 0);
  const grpc::Status status = slow.ReadToEnd();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(slow.out().size(), 60000000u);
  EXPECT_EQ(container.Wait(), 0);
}

TEST_F(ShimTest, WhatAnEndedProcessLeftInItsPipeReachesASlowClient) {
  TestContainer container("crun", {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  // A little more than what is kept in memory: the end is in the pipe when the process ends.
  ASSERT_EQ(container.Exec("e", {"sh", "-c", "yes | head -c 400000"},
                           [](v1::ExecRequest& request) { request.set_start(false); }),
            absl::OkStatus());
  AttachedStreams slow(container.stub(), "e");
  ASSERT_EQ(container.Start("e"), absl::OkStatus());
  Eventually([&] { return container.State("e").status() == v1::STATUS_STOPPED; }, absl::Seconds(2));
  EXPECT_TRUE(slow.ReadToEnd().ok());
  EXPECT_EQ(slow.out().size(), 400000u);
  EXPECT_EQ(container.Delete("e"), absl::OkStatus());
}

TEST_F(ShimTest, AClientThatReadsGetsEverything) {
  TestContainer container("crun", {"sh", "-c", "yes | head -c 20000000"});
  container.create.mutable_stdio()->clear_log();
  container.create.mutable_stdio()->set_attachable(true);
  container.Launch();
  AttachedStreams reader(container.stub(), "");
  ASSERT_EQ(container.Create(), absl::OkStatus());
  const grpc::Status status = reader.ReadToEnd();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reader.out().size(), 20000000u);
}

TEST_F(ShimTest, AProcessThatAwaitsItsClientIsNotStartedBefore) {
  TestContainer container("crun", {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("late", {"sh", "-c", "touch /begun; echo here"},
                           [](v1::ExecRequest& request) {
                             request.set_start(false);
                             request.mutable_stdio()->set_await_client(true);
                           }),
            absl::OkStatus());
  absl::Status started;
  std::thread starter([&] { started = container.Start("late"); });
  // Meanwhile others come and go.
  ASSERT_EQ(container.Exec("other", {"true"}), absl::OkStatus());
  EXPECT_EQ(container.Wait("other"), 0);
  EXPECT_NE(access((container.rootfs() + "/begun").c_str(), F_OK), 0);
  AttachedStreams attached(container.stub(), "late");
  starter.join();
  EXPECT_EQ(started, absl::OkStatus());
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.out(), "here\n");
}

TEST_F(ShimTest, AContainerWhoseClientDoesNotComeIsNotStarted) {
  TestContainer container("crun", {"sh", "-c", "touch /begun"});
  container.create.set_start(true);
  container.create.mutable_stdio()->set_await_client(true);
  container.Launch();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(8));
  v1::CreateResponse response;
  const grpc::Status created = container.stub().Create(&context, container.create, &response);
  EXPECT_EQ(created.error_code(), grpc::StatusCode::UNAVAILABLE) << created.error_message();
  EXPECT_NE(access((container.rootfs() + "/begun").c_str(), F_OK), 0);
}

TEST_F(ShimTest, ABackgroundProcessDoesNotHoldUpTheEndOfAnExec) {
  TestContainer container("crun", {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("e", {"sh", "-c", "sleep 50 & echo here"},
                           [](v1::ExecRequest& request) { request.set_start(false); }),
            absl::OkStatus());
  AttachedStreams attached(container.stub(), "e");
  ASSERT_EQ(container.Start("e"), absl::OkStatus());
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.out(), "here\n");
  EXPECT_EQ(container.Delete("e"), absl::OkStatus());
}

TEST_F(ShimTest, ExecsThatWereNeverStartedHoldUpNoRemoval) {
  TestContainer container("crun", {"sleep", "100"});
  container.create.set_start(true);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(container.Exec(absl::StrCat("e", i), {"true"},
                             [](v1::ExecRequest& request) { request.set_start(false); }),
              absl::OkStatus());
  }
  // Each would wait ten seconds for output.
  const absl::Time begin = absl::Now();
  EXPECT_EQ(container.Delete("e0"), absl::OkStatus());
  EXPECT_EQ(container.Delete("", /*force=*/true), absl::OkStatus());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(9));
}

TEST_F(ShimTest, AnExecWhoseStartFailedIsCreatedAgainAndMayBeStarted) {
  TestContainer container("crun", {"sleep", "100"});
  container.create.set_start(true);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  ASSERT_EQ(container.Exec("e", {"/appears-later"},
                           [](v1::ExecRequest& request) { request.set_start(false); }),
            absl::OkStatus());
  EXPECT_FALSE(container.Start("e").ok());
  EXPECT_EQ(container.State("e").status(), v1::STATUS_CREATED);
  ASSERT_TRUE(
      WriteFile(container.rootfs() + "/appears-later", "#!/bin/sh\necho here\nexit 4\n", 0755)
          .ok());
  AttachedStreams attached(container.stub(), "e");
  EXPECT_EQ(container.Start("e"), absl::OkStatus());
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.out(), "here\n");
  EXPECT_EQ(container.Wait("e"), 4);
  EXPECT_EQ(container.State("e").status(), v1::STATUS_STOPPED);
  EXPECT_EQ(container.Delete("e"), absl::OkStatus());
  EXPECT_EQ(container.Delete("", /*force=*/true), absl::OkStatus());
}

TEST_F(ShimTest, AnInitWithoutStandardStreamsGivesItsCommandDevNull) {
  const std::string command =
      absl::StrCat("exec shim/gantry-init sh -c '[ -c /proc/self/fd/0 -a -c /proc/self/fd/1 -a -c ",
                   "/proc/self/fd/2 ] && exit 7' <&- >&- 2>&-");
  EXPECT_EQ(WEXITSTATUS(system(command.c_str())), 7);
}

// --- Accidents
// -----------------------------------------------------------------------------------------------------

TEST_F(ShimTest, TheShimOutlivesSupervisorAndZygote) {
  TestContainer container("crun", {"sh", "-c", "read line; exit 9"});
  container.create.mutable_stdio()->set_attach_stdin(true);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  TestState::Get().KillZygote();
  EXPECT_TRUE(container.ShimIsAlive());
  auto again = container.Connect();
  AttachedStreams attached(*again, "", /*with_stdin=*/true);
  attached.Send("\n");
  EXPECT_TRUE(attached.ReadToEnd().ok());
  EXPECT_EQ(attached.exited()->exit_status(), 9u);
  EXPECT_EQ(container.Events("exited  9"), (Words{"created", "started ", "exited  9"}));
}

TEST_F(ShimTest, MemoryShortageChoosesAShimBeforeItsParentAndNeitherForItsContainer) {
  TestContainer container("crun", {"cat", "/proc/self/oom_score_adj"});
  container.Launch();
  const auto score = [](pid_t pid) {
    int value = -1;
    EXPECT_TRUE(
        absl::SimpleAtoi(*ReadFile(absl::StrCat("/proc/", pid, "/oom_score_adj"), 32), &value));
    return value;
  };
  const int parent = score(TestState::Get().zygote_pid());
  EXPECT_EQ(score(container.shim_pid()), std::min(parent + 1, 1000));
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 0);
  EXPECT_TRUE(Eventually([&] { return container.LogText() == "0\n"; })) << container.LogText();
}

TEST_F(ShimTest, AShimCanBeStartedDirectly) {
  TestContainer container("crun", {"sh", "-c", "exit 2"});
  container.Launch(/*zygote=*/false);
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 2);
}

TEST_F(ShimTest, TheMountIsInvisibleOutside) {
  TestContainer container("crun", {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_FALSE(absl::StrContains(*ReadFile("/proc/self/mountinfo", 1 << 20), container.bundle()));
  EXPECT_TRUE(absl::StrContains(
      *ReadFile(absl::StrCat("/proc/", container.shim_pid(), "/mountinfo"), 1 << 20),
      container.bundle() + "/rootfs"));
}

TEST_F(ShimTest, TheRuntimeIsRunFromItsSealedCopy) {
  TestContainer container("crun", {"sh", "-c", "exit 3"});
  const std::string program = container.bundle() + "-crun";
  ASSERT_TRUE(
      WriteFile(program, *ReadFile(container.create.runtime().path(), 64 << 20), 0755).ok());
  container.create.mutable_runtime()->set_path(program);
  container.Launch();
  // Whatever becomes of the file meanwhile.
  ASSERT_EQ(unlink(program.c_str()), 0);
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 3);
}

TEST_F(ShimTest, AMissingRuntimeIsNamed) {
  TestContainer container("crun", {"true"});
  container.create.mutable_runtime()->set_path("/no/such/runtime");
  container.Launch();
  const absl::Status status = container.Create();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), "/no/such/runtime")) << status;
}

// Makes a script that stands in for the runtime.
void UseScript(TestContainer& container, const std::string& body) {
  const std::string script = container.bundle() + "/runtime";
  ASSERT_TRUE(WriteFile(script, "#!/bin/sh\n" + body, 0755).ok());
  container.create.mutable_runtime()->set_path(script);
  container.create.mutable_runtime()->clear_mount_v1_controllers();
}

TEST_F(ShimTest, APauseAndAResumeCountThoughTheirRuntimeWasKilledAfterwards) {
  TestContainer container("crun", {"sleep", "100"});
  container.create.set_start(true);
  // As when the shim is stopped while the runtime works: its time is up when the shim goes on.
  const std::string crun = container.create.runtime().path();
  const std::string script = container.bundle() + "/runtime";
  ASSERT_TRUE(
      WriteFile(script,
                absl::StrCat("#!/bin/sh\n", crun, " \"$@\" || exit\n",
                             "case \" $* \" in *' pause '*|*' resume '*) sleep 1000;; esac\n"),
                0755)
          .ok());
  container.create.mutable_runtime()->set_path(script);
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  const auto deadline = [] { return std::chrono::system_clock::now() + std::chrono::seconds(3); };
  grpc::ClientContext pause_context;
  pause_context.set_deadline(deadline());
  v1::PauseResponse paused;
  (void)container.stub().Pause(&pause_context, v1::PauseRequest(), &paused);
  EXPECT_TRUE(Eventually([&] { return container.State().status() == v1::STATUS_PAUSED; }));
  grpc::ClientContext resume_context;
  resume_context.set_deadline(deadline());
  v1::ResumeResponse resumed;
  (void)container.stub().Resume(&resume_context, v1::ResumeRequest(), &resumed);
  EXPECT_TRUE(Eventually([&] { return container.State().status() == v1::STATUS_RUNNING; }));
  EXPECT_EQ(container.Delete("", /*force=*/true), absl::OkStatus());
}

TEST_F(ShimTest, ARuntimeThatHangsIsKilledAndReported) {
  TestContainer container("crun", {"true"});
  const std::string pid_file = container.bundle() + "/hanging";
  UseScript(container, "sleep 1000 & echo $! > " + pid_file + "\nwait\n");
  container.Launch();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  v1::CreateResponse response;
  const grpc::Status status = container.stub().Create(&context, container.create, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(absl::StrContains(status.error_message(), "no answer within"))
      << status.error_message();
  const pid_t hanging = std::stoi(*ReadFile(pid_file, 100));
  EXPECT_TRUE(Eventually([&] { return kill(hanging, 0) != 0; }));
}

// The log is where runtimes say why they fail; one that does not get so far has its standard error,
// which is the container's, too.
TEST_F(ShimTest, WhatARuntimeSaysOnItsStandardErrorIsPassedOn) {
  TestContainer container("crun", {"true"});
  container.Launch();
  UseScript(container,
            "echo 'loading' >&2\nprintf 'cannot load: libx.so: \\377 bad\\033 ELF\\n\\n' >&2\nexit "
            "127\n");
  absl::Status status = container.Create();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_TRUE(absl::EndsWith(status.message(),
                             "OCI runtime create failed: cannot load: libx.so: \uFFFD bad  ELF"))
      << status;

  UseScript(container, "yes 'no end to it' | head -c 2600000 >&2\nexit 3\n");
  status = container.Create();
  EXPECT_TRUE(absl::StrContains(status.message(), "create failed: no end to it")) << status;
  EXPECT_LT(status.message().size(), 500u);

  UseScript(container, "exit 3\n");
  status = container.Create();
  EXPECT_TRUE(absl::EndsWith(status.message(), "exit status 3 and no message")) << status;
}

TEST_F(ShimTest, WhatARuntimeSaysOnItsStandardErrorIsPassedOnBesideATerminal) {
  TestContainer container("crun", {"true"});
  container.spec["process"]["terminal"] = true;
  container.create.mutable_stdio()->set_terminal(true);
  container.Launch();
  UseScript(container, "echo 'cannot load: libx.so' >&2\nexit 127\n");
  absl::Status status = container.Create();
  EXPECT_TRUE(absl::EndsWith(status.message(), "create failed: cannot load: libx.so")) << status;
  // What does not fit is refused.
  UseScript(container, "yes 'no end to it' >&2 || exit 3\n");
  status = container.Create();
  EXPECT_TRUE(absl::StrContains(status.message(), "create failed: no")) << status;
  EXPECT_LT(status.message().size(), 500u);
}

TEST_F(ShimTest, ARuntimeThatLiesAboutThePidIsNotBelieved) {
  TestContainer container("crun", {"true"});
  // Our own pid: a stranger's to the shim.
  UseScript(container,
            absl::StrCat("while [ $# -gt 0 ]; do if [ \"$1\" = --pid-file ]; then echo -n ",
                         getpid(), " > $2; fi; shift; done\n"));
  container.Launch();
  const absl::Status status = container.Create();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(status.message(), "is not a process it made")) << status;
}

TEST_F(ShimTest, AnotherCreateMayFollowAFailedOne) {
  TestContainer container("crun", {"sh", "-c", "exit 1"});
  const std::string runtime = container.create.runtime().path();
  container.create.mutable_runtime()->set_path("/no/such/runtime");
  container.Launch();
  EXPECT_EQ(container.Create().code(), absl::StatusCode::kNotFound);
  container.create.mutable_runtime()->set_path(runtime);
  ASSERT_EQ(container.Create(), absl::OkStatus());
  EXPECT_EQ(container.Wait(), 1);
}

TEST_F(ShimTest, CheckpointSaysWhatIsMissing) {
  if (access("/usr/sbin/criu", X_OK) == 0) GTEST_SKIP() << "criu is installed";
  TestContainer container("crun", {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  grpc::ClientContext context;
  v1::CheckpointRequest request;
  request.set_image_path(container.bundle() + "/image");
  v1::CheckpointResponse response;
  const grpc::Status status = container.stub().Checkpoint(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(absl::StrContains(status.error_message(), "criu")) << status.error_message();
}

TEST_F(ShimTest, CancelledWaitsAndAttachesLeaveNothing) {
  TestContainer container("crun", {"sleep", "100"});
  container.Launch();
  ASSERT_EQ(container.Create(), absl::OkStatus());
  const auto count_descriptors = [&] {
    const std::string command = absl::StrCat("ls /proc/", container.shim_pid(), "/fd | wc -l");
    FILE* pipe = popen(command.c_str(), "r");
    int count = 0;
    if (fscanf(pipe, "%d", &count) != 1) count = -1;
    pclose(pipe);
    return count;
  };
  const int before = count_descriptors();
  for (int i = 0; i < 500; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1));
    v1::WaitResponse response;
    EXPECT_FALSE(container.stub().Wait(&context, v1::WaitRequest(), &response).ok());
    AttachedStreams attached(container.stub(), "");
  }
  EXPECT_EQ(container.State().status(), v1::STATUS_RUNNING);
  // The last cancellation may still be on its way; and gRPC keeps the few wake-up descriptors it
  // needed when calls overlapped.
  constexpr int kKept = 20;
  EXPECT_TRUE(Eventually([&] { return count_descriptors() <= before + kKept; }))
      << before << " before, now " << count_descriptors();
}

}  // namespace
}  // namespace gantry::shim
