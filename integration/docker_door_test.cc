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
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "integration/docker_bed.h"
#include "integration/testbed.h"
#include "supervisor/api/docker/docker_client.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::integration {
namespace {

using api::docker::DockerClient;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kImage = kDoorImage;

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

  // Its own keys end the stream of an exec with a terminal, not the exec.
  EXPECT_THAT(Ask("POST", "/containers/host/exec", R"({"Cmd":["cat"],"DetachKeys":"escape"})"),
              StartsWith("HTTP/1.1 400"));
  const std::string typed = CreateExec(
      "host",
      R"({"Cmd":["cat"],"Tty":true,"AttachStdin":true,"AttachStdout":true,"DetachKeys":"ctrl-x,q"})");
  EXPECT_THAT(Ask("GET", absl::StrCat("/exec/", typed, "/json")),
              HasSubstr("\"DetachKeys\":\"ctrl-x,q\""));
  DockerClient client(Socket());
  client.Send(absl::StrCat("POST /exec/", typed,
                           "/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                           "Content-Type: application/json\r\nContent-Length: 12\r\n\r\n"
                           "{\"Tty\":true}"));
  client.ReadUntil("\r\n\r\n");
  client.Send("typed\n");
  EXPECT_THAT(client.ReadUntil("typed"), HasSubstr("typed"));
  client.Send("\x18q");
  client.ReadToEnd();
  EXPECT_THAT(Ask("GET", absl::StrCat("/exec/", typed, "/json")), HasSubstr("\"Running\":true"));
  const int64_t now = absl::ToUnixNanos(absl::Now());
  EXPECT_THAT(Ask("GET", absl::StrFormat("/events?since=1&until=%d.%09d"
                                         "&filters={%%22event%%22:[%%22exec_detach%%22]}",
                                         now / 1000000000, now % 1000000000)),
              HasSubstr(typed));

  const std::string late = CreateExec("host", R"({"Cmd":["true"],"AttachStdout":true})");
  EXPECT_THAT(Ask("POST", "/containers/host/kill"), StartsWith("HTTP/1.1 204"));
  const std::string refused = Ask("POST", absl::StrCat("/exec/", late, "/start"), "{}");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 409"));
  EXPECT_THAT(refused, HasSubstr("is not running"));
}

TEST_F(DockerDoorTest, ListsHaveAddressesAndStatisticsEachInterface) {
  for (const char* network : {"one", "two"}) {
    EXPECT_THAT(Ask("POST", "/networks/create", absl::StrCat("{\"Name\":\"", network, "\"}")),
                StartsWith("HTTP/1.1 201"));
  }
  Create(R"({"Image":"busybox:door","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"one"},)"
         R"("NetworkingConfig":{"EndpointsConfig":{"one":{"Aliases":["first"]}}}})",
         "web");
  EXPECT_THAT(Ask("POST", "/networks/two/connect", R"({"Container":"web"})"),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask("POST", "/containers/web/start"), StartsWith("HTTP/1.1 204"));
  const std::string inspected = Ask("GET", "/containers/web/json");
  const std::string listed = Ask("GET", "/containers/json");
  std::string address = inspected.substr(inspected.rfind("\"IPAddress\":\""));
  address = address.substr(0, address.find(','));
  EXPECT_GT(address.size(), std::string("\"IPAddress\":\"\"").size()) << inspected;
  EXPECT_THAT(listed, HasSubstr(address));
  EXPECT_THAT(listed, Not(HasSubstr("\"EndpointID\":\"\"")));
  const std::string stats = Ask("GET", "/containers/web/stats?stream=0&one-shot=1");
  EXPECT_THAT(stats, HasSubstr("\"eth0\":{\"rx_bytes\":"));
  EXPECT_THAT(stats, HasSubstr("\"eth1\":{\"rx_bytes\":"));

  EXPECT_THAT(Ask("POST", "/containers/web/pause"), StartsWith("HTTP/1.1 204"));
  const std::string paused = Ask("POST", "/containers/web/start");
  EXPECT_THAT(paused, StartsWith("HTTP/1.1 409"));
  EXPECT_THAT(paused, HasSubstr("cannot start a paused container, try unpause instead"));
  EXPECT_THAT(Ask("POST", "/containers/web/unpause"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(Ask("POST", "/containers/web/start"), StartsWith("HTTP/1.1 304"));
  EXPECT_THAT(Ask("DELETE", "/containers/web?force=1"), StartsWith("HTTP/1.1 204"));
  for (const char* network : {"one", "two"}) {
    EXPECT_THAT(Ask("DELETE", absl::StrCat("/networks/", network)), StartsWith("HTTP/1.1 204"));
  }
}

TEST_F(DockerDoorTest, ARegistryIsSearchedAndAnUrlImported) {
  distribution::FakeRegistry registry;
  const std::string tar = bed_->scratch() + "/root.tar";
  ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/root/etc", 0755).ok());
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/root/etc/note", "imported").ok());
  ASSERT_TRUE(Ok(RunProgram({"tar", "cf", tar, "-C", bed_->scratch() + "/root", "."})));
  const std::string bytes = ReadFile(tar, 1 << 20).value();
  registry.SetHook([&bytes](const distribution::FakeRegistry::Request& request,
                            distribution::FakeRegistry::Connection& connection) {
    if (request.path == "/root.tar") return connection.Answer(200, {}, bytes);
    if (request.path != "/v1/search") return false;
    EXPECT_EQ(request.parameter("q"), "word");
    EXPECT_EQ(request.parameter("n"), "2");
    return connection.Answer(
        200, {{"Content-Type", "application/json"}},
        R"({"num_results":3,"results":[{"name":"a/word","description":"d","star_count":7,)"
        R"("is_official":true},{"name":"b/word","star_count":1}]})");
  });
  const std::string found =
      Ask("GET", absl::StrCat("/images/search?limit=2&term=", registry.host(), "/word"));
  EXPECT_EQ(BodyOf(found),
            R"([{"star_count":7,"is_official":true,"name":"a/word","is_automated":false,)"
            R"("description":"d"},{"star_count":1,"is_official":false,"name":"b/word",)"
            R"("is_automated":false,"description":""}])"
            "\n");
  EXPECT_THAT(BodyOf(Ask("GET", absl::StrCat("/images/search?limit=2&term=", registry.host(),
                                             "/word&filters={%22stars%22:[%225%22]}"))),
              Not(HasSubstr("b/word")));
  EXPECT_THAT(Ask("GET", "/images/search?term=x&limit=101"), StartsWith("HTTP/1.1 400"));
  const std::string nobody = Ask("GET", "/images/search?term=127.0.0.1:1/word");
  EXPECT_THAT(nobody, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(nobody, HasSubstr("127.0.0.1:1"));

  const std::string imported =
      Ask("POST", absl::StrCat("/images/create?fromSrc=", registry.origin(), "/root.tar&repo=imp"));
  EXPECT_THAT(imported, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(imported, HasSubstr("Downloading from http://127.0.0.1:"));
  EXPECT_THAT(imported, HasSubstr("{\"status\":\"sha256:"));
  EXPECT_THAT(Ask("GET", "/images/imp/json"), StartsWith("HTTP/1.1 200"));
  const std::string absent =
      Ask("POST", absl::StrCat("/images/create?fromSrc=", registry.origin(), "/none&repo=imp2"));
  EXPECT_THAT(absent, StartsWith("HTTP/1.1 404"));
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
