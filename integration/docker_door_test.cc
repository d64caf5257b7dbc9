// docker's own command line, and plain HTTP, on the Docker door of a real gantryd.
//
// What needs docker's command line is skipped by name where none is installed; plain HTTP is always
// spoken.
#include <signal.h>
#include <sys/socket.h>
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
#include "supervisor/api/docker/docker_client.h"

namespace gantry::integration {
namespace {

using api::docker::AskDocker;
using api::docker::DockerClient;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kImage[] = "busybox:door";

// Debian's, or a newer one beside it.
std::string DockerProgram() {
  for (const char* path : {"/usr/local/bin/docker", "/usr/bin/docker"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return "";
}

// What follows the header of a response.
std::string BodyOf(const std::string& response) {
  const size_t at = response.find("\r\n\r\n");
  return at == std::string::npos ? "" : response.substr(at + 4);
}

class DockerDoorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/client", 0755).ok());
    const std::string archive = bed_->scratch() + "/image.tar";
    ASSERT_TRUE(WriteBusyboxArchive(archive, kImage).ok());
    ASSERT_TRUE(Ok(Ctl({"load", "-i", archive})));
  }

  void TearDown() override {
    if (bed_ == nullptr) return;
    const std::vector<std::string> ids =
        absl::StrSplit(Ctl({"ps", "-aq"}).out, '\n', absl::SkipEmpty());
    for (const std::string& id : ids) EXPECT_TRUE(Ok(Ctl({"rm", "-f", id})));
    bed_.reset();
  }

  std::string Socket() const { return bed_->state() + "/docker.sock"; }

  // In the namespace of docker's clients.
  Outcome Ctl(std::vector<std::string> args) const {
    std::vector<std::string> argv = bed_->CtlCommand({});
    for (std::string& word : argv) {
      if (word == bed_->ns()) word = "default";
    }
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv));
  }

  std::string Ask(absl::string_view method, absl::string_view target,
                  absl::string_view body = "") const {
    return AskDocker(Socket(), method, target, body);
  }
  // The id of a new container.
  std::string Create(const std::string& body, const std::string& name) const {
    const std::string response =
        Ask("POST", absl::StrCat("/v1.41/containers/create?name=", name), body);
    EXPECT_THAT(response, StartsWith("HTTP/1.1 201"));
    const size_t at = response.find("\"Id\":\"");
    return at == std::string::npos ? "" : response.substr(at + 6, 64);
  }

  Outcome Docker(std::vector<std::string> args, const std::string& input = "") const {
    std::vector<std::string> argv = {DockerProgram(), "--host", absl::StrCat("unix://", Socket())};
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), input, absl::Seconds(120),
                      {{"DOCKER_CONFIG", bed_->scratch() + "/client"}});
  }
  std::string Out(std::vector<std::string> args) const {
    const Outcome outcome = Docker(std::move(args));
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  // Gives the client a terminal.
  Outcome OnTerminal(const std::string& words) const {
    return RunProgram(
        {"script", "-qec", absl::StrCat(DockerProgram(), " --host unix://", Socket(), " ", words),
         "/dev/null"},
        "", absl::Seconds(120), {{"DOCKER_CONFIG", bed_->scratch() + "/client"}});
  }

  std::unique_ptr<Testbed> bed_;
};

// ---- plain HTTP ----

TEST_F(DockerDoorTest, AContainerLivesByPlainHttp) {
  EXPECT_THAT(Ask("POST", "/containers/create", R"({"Image":"nowhere:1"})"),
              HasSubstr("{\"message\":\"No such image: nowhere:1"));
  const std::string id = Create(
      R"({"Image":"busybox:door","Cmd":["sh","-c","echo out; echo err >&2; exit 7"]})", "one");
  EXPECT_THAT(Ask("POST", "/containers/create?name=one", R"({"Image":"busybox:door"})"),
              HasSubstr(absl::StrCat("Conflict. The container name \\\"/one\\\" is already in use "
                                     "by container \\\"",
                                     id)));
  EXPECT_THAT(Ask("GET", "/containers/json"), HasSubstr("\r\n\r\n[]\n"));
  EXPECT_THAT(Ask("GET", "/containers/json?all=1"),
              HasSubstr("\"Names\":[\"/one\"],\"Image\":\"busybox:door\""));
  EXPECT_THAT(Ask("POST", "/containers/one/start"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(BodyOf(Ask("POST", "/containers/one/wait")), HasSubstr("{\"StatusCode\":7}"));
  EXPECT_THAT(Ask("GET", "/containers/one/json"),
              HasSubstr("\"State\":{\"Status\":\"exited\",\"Running\":false"));
  // Frames: one stream, three zeros, a length, the line.
  const std::string logs = Ask("GET", "/containers/one/logs?stdout=1&stderr=1");
  EXPECT_THAT(logs, HasSubstr(std::string("\x01\0\0\0\0\0\0\x04out\n", 12)));
  EXPECT_THAT(logs, HasSubstr(std::string("\x02\0\0\0\0\0\0\x04"
                                          "err\n",
                                          12)));
  EXPECT_THAT(Ask("POST", "/containers/one/kill"), StartsWith("HTTP/1.1 409"));
  EXPECT_THAT(Ask("POST", "/containers/one/stop"), StartsWith("HTTP/1.1 304"));
  EXPECT_THAT(Ask("DELETE", "/containers/one"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(Ask("GET", "/containers/one/json"),
              HasSubstr("{\"message\":\"No such container: one\"}"));
}

TEST_F(DockerDoorTest, AttachedBeforeTheStartNoOutputIsMissed) {
  Create(R"({"Image":"busybox:door","OpenStdin":true,"StdinOnce":true,"Cmd":["cat"]})", "cat");
  DockerClient client(Socket());
  client.Send(
      "POST /containers/cat/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n"
      "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ");
  const std::string head = client.ReadUntil("\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 101 UPGRADED\r\n"));
  EXPECT_THAT(Ask("POST", "/containers/cat/start"), StartsWith("HTTP/1.1 204"));
  client.Send("late\n");
  client.CloseWriting();
  const std::string output = client.ReadToEnd();
  EXPECT_THAT(output, HasSubstr("early "));
  EXPECT_THAT(output, HasSubstr("late\n"));
  EXPECT_EQ(output[0], '\x01');
}

TEST_F(DockerDoorTest, AWaitThatItsClientLeavesEnds) {
  Create(R"({"Image":"busybox:door","Cmd":["sleep","1000"]})", "sleeper");
  EXPECT_THAT(Ask("POST", "/containers/sleeper/start"), StartsWith("HTTP/1.1 204"));
  {
    DockerClient client(Socket());
    client.Send("POST /containers/sleeper/wait HTTP/1.1\r\nHost: d\r\n\r\n");
    // The header comes at once, so that a client can start what it waits for.
    EXPECT_THAT(client.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  }
  // The daemon stops in time though a wait was left behind.
  EXPECT_THAT(Ask("POST", "/containers/sleeper/kill"), StartsWith("HTTP/1.1 204"));
}

TEST_F(DockerDoorTest, ExecsAreObjects) {
  Create(R"({"Image":"busybox:door","Cmd":["sleep","1000"]})", "host");
  EXPECT_THAT(Ask("POST", "/containers/host/exec", R"({"Cmd":["true"]})"),
              HasSubstr("is not running"));
  EXPECT_THAT(Ask("POST", "/containers/host/start"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(Ask("POST", "/containers/host/exec", "{}"), HasSubstr("No exec command specified"));
  const std::string created =
      Ask("POST", "/containers/host/exec",
          R"({"Cmd":["sh","-c","echo inside; exit 9"],"AttachStdout":true,"AttachStderr":true})");
  const size_t at = created.find("\"Id\":\"");
  ASSERT_NE(at, std::string::npos) << created;
  const std::string id = created.substr(at + 6, created.find('"', at + 6) - at - 6);
  EXPECT_THAT(Ask("GET", absl::StrCat("/exec/", id, "/json")),
              HasSubstr("\"Running\":false,\"ExitCode\":null"));
  const std::string output = Ask("POST", absl::StrCat("/exec/", id, "/start"), "{}");
  EXPECT_THAT(output, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(output, HasSubstr("inside\n"));
  EXPECT_THAT(Ask("GET", absl::StrCat("/exec/", id, "/json")), HasSubstr("\"ExitCode\":9"));
  EXPECT_THAT(Ask("POST", absl::StrCat("/exec/", id, "/start"), "{}"), StartsWith("HTTP/1.1 409"));
  EXPECT_THAT(Ask("GET", "/exec/none/json"), HasSubstr("No such exec instance: none"));
}

TEST_F(DockerDoorTest, HostileRequestsAreRefusedAndChangeNothing) {
  const std::string before = Ask("GET", "/containers/json?all=1");
  const std::string deep(10000, '[');
  for (const std::string& body :
       {deep, std::string(R"({"Image":"busybox:door","Image":"busybox:door"})"),
        std::string(R"({"Image":"busybox:door","HostConfig":{"Memory":1e400}})"),
        std::string(R"({"Image":"busybox:door","HostConfig":{"Memory":99999999999999999999}})"),
        std::string(R"({"Image":["busybox:door"]})"), std::string(R"(["busybox:door"])")}) {
    EXPECT_THAT(Ask("POST", "/containers/create", body), StartsWith("HTTP/1.1 400"))
        << body.substr(0, 80);
  }
  for (const char* target :
       {"/containers/..%2f..%2fetc/json", "/v1.41/../containers/json", "/containers/%00/json"})
    EXPECT_THAT(Ask("GET", target), StartsWith("HTTP/1.1 400")) << target;
  for (const std::string& raw :
       {std::string("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        std::string("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n"
                    "Content-Length: 6\r\n\r\n{}"),
        std::string(
            "POST /containers/create HTTP/1.1\r\nHost: d\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")}) {
    DockerClient client(Socket());
    client.Send(raw);
    EXPECT_THAT(client.ReadToEnd(), StartsWith("HTTP/1.1 400")) << raw;
  }
  DockerClient long_line(Socket());
  long_line.Send("GET /");
  for (int i = 0; i < 64; ++i) long_line.Send(std::string(4096, 'a'));
  EXPECT_THAT(long_line.ReadToEnd(), StartsWith("HTTP/1.1 431"));
  EXPECT_EQ(BodyOf(Ask("GET", "/containers/json?all=1")), BodyOf(before));
}

TEST_F(DockerDoorTest, ADaemonThatDiesLeavesContainersAndItsSuccessorServesThem) {
  Create(R"({"Image":"busybox:door","Cmd":["sh","-c","while :; do echo tick; sleep 0.1; done"]})",
         "ticker");
  EXPECT_THAT(Ask("POST", "/containers/ticker/start"), StartsWith("HTTP/1.1 204"));
  DockerClient follower(Socket());
  follower.Send("GET /containers/ticker/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
  EXPECT_THAT(follower.ReadUntil("tick"), HasSubstr("tick"));
  DockerClient attached(Socket());
  attached.Send("POST /containers/ticker/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n");
  EXPECT_THAT(attached.ReadUntil("tick"), HasSubstr("tick"));
  bed_->KillDaemon();
  // Both clients see the end of their streams.
  follower.ReadToEnd();
  attached.ReadToEnd();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_THAT(Ask("GET", "/containers/ticker/json"), HasSubstr("\"Status\":\"running\""));
  EXPECT_THAT(Ask("POST", "/containers/ticker/kill"), StartsWith("HTTP/1.1 204"));
}

// ---- docker's command line ----

class DockerCommandTest : public DockerDoorTest {
 protected:
  void SetUp() override {
    if (DockerProgram().empty()) GTEST_SKIP() << "docker is not installed";
    DockerDoorTest::SetUp();
  }
};

TEST_F(DockerCommandTest, RunsContainersAndGivesTheirOutputAndStatus) {
  const Outcome ran = Docker({"run", "--rm", kImage, "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(ran.code, 7) << ran.err;
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_EQ(ran.err, "err\n");
  EXPECT_EQ(Docker({"run", "--rm", "-i", kImage, "cat"}, "typed\n").out, "typed\n");
  EXPECT_EQ(Docker({"run", "--rm", kImage, "/no/such/program"}).code, 127);
  EXPECT_EQ(Docker({"run", "--rm", kImage, "/etc/passwd"}).code, 126);
  EXPECT_EQ(Out({"ps", "-aq"}), "");
}

TEST_F(DockerCommandTest, GivesATerminal) {
  const Outcome outcome = OnTerminal(absl::StrCat("run --rm -it ", kImage, " sh -c 'tty; exit 5'"));
  EXPECT_EQ(outcome.code, 5) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("/dev/pts/0"));
}

TEST_F(DockerCommandTest, ARunningContainerIsExecdLoggedMeasuredPausedAndStopped) {
  const std::string id =
      Out({"run", "-d", "--name", "web", "--memory", "64m", kImage, "sh", "-c",
           "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.1; done"});
  EXPECT_THAT(Out({"ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}"}),
              absl::StrCat(id, " web ", kImage));
  EXPECT_TRUE(Eventually([&] { return Docker({"logs", "web"}).out == "up\n"; }));
  EXPECT_EQ(Out({"exec", "web", "echo", "inside"}), "inside");
  EXPECT_EQ(Docker({"exec", "web", "sh", "-c", "exit 9"}).code, 9);
  EXPECT_EQ(Docker({"exec", "-i", "web", "cat"}, "in and out").out, "in and out");
  EXPECT_EQ(Docker({"exec", "web", "/no/such/program"}).code, 127);
  EXPECT_THAT(OnTerminal("exec -it web tty").out, HasSubstr("/dev/pts/"));
  EXPECT_THAT(Out({"top", "web"}), HasSubstr("sleep"));
  const std::string stats =
      Out({"stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "web"});
  EXPECT_THAT(stats, HasSubstr("64MiB"));
  EXPECT_THAT(stats, Not(HasSubstr("0B /")));
  EXPECT_TRUE(Ok(Docker({"update", "--memory", "128m", "--memory-swap", "256m", "web"})));
  EXPECT_TRUE(Ok(Docker({"pause", "web"})));
  EXPECT_EQ(Out({"inspect", "--format", "{{.State.Status}}", "web"}), "paused");
  EXPECT_TRUE(Ok(Docker({"unpause", "web"})));
  EXPECT_TRUE(Ok(Docker({"rename", "web", "site"})));
  EXPECT_TRUE(Ok(Docker({"stop", "site"})));
  EXPECT_EQ(Out({"inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "site"}),
            "exited 3");
  EXPECT_EQ(Out({"logs", "site"}), "up\nasked");
  EXPECT_TRUE(Ok(Docker({"start", "site"})));
  EXPECT_TRUE(Ok(Docker({"kill", "site"})));
  EXPECT_EQ(Out({"wait", "site"}), "137");
  EXPECT_TRUE(Ok(Docker({"rm", "site"})));
  EXPECT_THAT(Docker({"rm", "site"}).err, HasSubstr("No such container: site"));
}

TEST_F(DockerCommandTest, CopiesComparesAndExports) {
  Out({"run", "-d", "--name", "files", kImage, "sleep", "1000"});
  const std::string file = bed_->scratch() + "/file";
  ASSERT_TRUE(WriteFile(file, "copied").ok());
  EXPECT_TRUE(Ok(Docker({"cp", file, "files:/tmp/copy"})));
  EXPECT_EQ(Out({"exec", "files", "cat", "/tmp/copy"}), "copied");
  EXPECT_TRUE(Ok(Docker({"cp", "files:/tmp/copy", file + ".back"})));
  EXPECT_EQ(ReadFile(file + ".back", 64).value(), "copied");
  EXPECT_THAT(Docker({"cp", "files:/no/such", file}).err, HasSubstr("/no/such"));
  EXPECT_THAT(Out({"diff", "files"}), HasSubstr("A /tmp/copy"));
  EXPECT_TRUE(Ok(Docker({"export", "-o", file + ".tar", "files"})));
  EXPECT_THAT(RunProgram({"tar", "tf", file + ".tar"}).out, HasSubstr("tmp/copy"));
}

TEST_F(DockerCommandTest, WhatIsMadeHereIsThereForCtl) {
  const std::string id = Out({"run", "-d", "--name", "shared", kImage, "sleep", "1000"});
  EXPECT_EQ(absl::StripSuffix(Ctl({"ps", "-q", "--no-trunc"}).out, "\n"), id);
  EXPECT_TRUE(Ok(Ctl({"run", "-d", "--name", "other", kImage, "sleep", "1000"})));
  EXPECT_EQ(Out({"ps", "--format", "{{.Names}}"}), "other\nshared");
}

}  // namespace
}  // namespace gantry::integration
