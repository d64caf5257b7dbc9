// The Docker door under many clients, clients that do not read, the daemon's death, hostile HTTP, TLS,
// and the calls of a web interface.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
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

std::string Get(absl::string_view target) {
  return absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: d\r\n\r\n");
}

class DockerCrowdTest : public DockerDoorTest {
 protected:
  // A container that runs a script until it is removed.
  void Start(const std::string& name, const std::string& script) const {
    Create(absl::StrCat(R"({"Image":"busybox:door","Cmd":["sh","-c",")", absl::CEscape(script),
                        R"("]})"),
           name);
    EXPECT_THAT(Ask("POST", absl::StrCat("/containers/", name, "/start")),
                StartsWith("HTTP/1.1 204"));
  }
};

TEST_F(DockerCrowdTest, FollowersAndListenersDoNotHoldUpOthers) {
  Start("talker", "while :; do echo said; sleep 0.1; done");
  Start("flood", "while :; do echo 0123456789012345678901234567890123456789; done");
  // Takes nothing, while its container writes all the time.
  DockerClient deaf(Socket());
  deaf.Send(Get("/containers/flood/logs?stdout=1&follow=1"));
  DockerClient deaf_too(Socket());
  deaf_too.Send(
      "POST /containers/flood/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: "
      "Upgrade\r\n"
      "Upgrade: tcp\r\n\r\n");
  std::vector<std::unique_ptr<DockerClient>> followers, listeners, idle;
  for (int i = 0; i < 20; ++i) {
    followers.push_back(std::make_unique<DockerClient>(Socket()));
    followers.back()->Send(Get("/containers/talker/logs?stdout=1&follow=1"));
  }
  for (int i = 0; i < 10; ++i) {
    listeners.push_back(std::make_unique<DockerClient>(Socket()));
    listeners.back()->Send(Get("/events"));
    EXPECT_THAT(listeners.back()->ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  }
  for (int i = 0; i < 30; ++i) idle.push_back(std::make_unique<DockerClient>(Socket()));
  for (const auto& follower : followers)
    EXPECT_THAT(follower->ReadUntil("said"), HasSubstr("said"));

  Create(R"({"Image":"busybox:door","Cmd":["true"]})", "one");
  EXPECT_THAT(Ask("POST", "/containers/one/start"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(BodyOf(Ask("POST", "/containers/one/wait")), HasSubstr("{\"StatusCode\":0}"));
  for (const auto& listener : listeners)
    EXPECT_THAT(listener->ReadUntil("\"die\""), HasSubstr("\"die\""));
  for (const auto& one : idle) {
    one->Send(Get("/_ping"));
    EXPECT_THAT(one->ReadUntil("OK\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  }
  for (const auto& follower : followers)
    EXPECT_THAT(follower->ReadUntil("said"), HasSubstr("said"));
  EXPECT_THAT(Ask("GET", "/containers/json"), HasSubstr("talker"));
  // Removal does not wait for those that do not read.
  EXPECT_THAT(Ask("DELETE", "/containers/flood?force=1"), StartsWith("HTTP/1.1 204"));
}

TEST_F(DockerCrowdTest, TheDaemonsDeathEndsEachClientsCallAndTheNextDaemonServes) {
  distribution::FakeRegistry registry;
  ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/layer").ok());
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/layer/large", std::string(4 << 20, 'x')).ok());
  const std::string layer = bed_->scratch() + "/layer.tar";
  ASSERT_TRUE(Ok(RunProgram({"tar", "-cf", layer, "-C", bed_->scratch() + "/layer", "large"})));
  registry.AddImage("app", "v1", {ReadFile(layer, 8 << 20).value()});
  registry.SetRate(64 << 10);
  const std::string archive = ReadFile(bed_->scratch() + "/image.tar", 64 << 20).value();
  Start("ticker", "while :; do echo tick; sleep 0.1; done");

  struct Client {
    const char* what;
    std::unique_ptr<DockerClient> connection;
  };
  std::vector<Client> clients;
  const auto begin = [&](const char* what, const std::string& request, absl::string_view until) {
    clients.push_back({what, std::make_unique<DockerClient>(Socket())});
    clients.back().connection->Send(request);
    if (!until.empty()) {
      EXPECT_THAT(clients.back().connection->ReadUntil(until), HasSubstr(std::string(until)))
          << what;
    }
  };
  begin("attach",
        "POST /containers/ticker/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        "tick");
  begin("logs", Get("/containers/ticker/logs?stdout=1&follow=1"), "tick");
  begin("stats", Get("/containers/ticker/stats"), "cpu_stats");
  begin("events", Get("/events"), "\r\n\r\n");
  begin("wait", "POST /containers/ticker/wait HTTP/1.1\r\nHost: d\r\n\r\n", "\r\n\r\n");
  begin("pull",
        absl::StrCat("POST /images/create?fromImage=", registry.host(),
                     "/app&tag=v1 HTTP/1.1\r\nHost: d\r\n\r\n"),
        "Downloading");
  begin("load",
        absl::StrCat("POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n"
                     "Content-Length: ",
                     archive.size(), "\r\n\r\n", archive.substr(0, archive.size() / 2)),
        "");
  bed_->KillDaemon();
  const absl::Time killed = absl::Now();
  for (const Client& client : clients) {
    client.connection->ReadToEnd();
    EXPECT_LT(absl::Now() - killed, absl::Seconds(2)) << client.what;
  }
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_THAT(Ask("GET", "/containers/ticker/json"), HasSubstr("\"Status\":\"running\""));
  registry.SetRate(0);
  EXPECT_THAT(Ask("GET", "/images/json"), Not(HasSubstr("/app:v1")));
  const std::string pulled =
      Ask("POST", absl::StrCat("/images/create?fromImage=", registry.host(), "/app&tag=v1"));
  EXPECT_THAT(pulled, HasSubstr("Digest: sha256:"));
  EXPECT_THAT(Ask("DELETE", absl::StrCat("/images/", registry.host(), "/app:v1")),
              StartsWith("HTTP/1.1 200"));
}

TEST_F(DockerCrowdTest, HostileHttpIsRefusedAndTheDoorServesOn) {
  const auto answer = [this](const std::string& bytes) {
    DockerClient client(Socket());
    client.Send(bytes);
    client.CloseWriting();
    return client.ReadToEnd();
  };
  // Line ends that are not, fields without a name, two lengths, other transfer codings.
  const std::string post = "POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\n";
  const std::string json = "Content-Type: application/json\r\n";
  for (const std::string& bytes : {
           std::string("GET /_ping HTTP/1.1\nHost: d\n\n"),
           std::string("GET /_ping HTTP/1.1\r\nHost: d\n\r\n"),
           std::string("GET /_ping HTTP/1.1\r\n: x\r\n\r\n"),
           std::string("GET /_ping HTTP/1.1\r\nHost : d\r\n\r\n"),
           std::string("GET /_ping HTTP/9.9\r\nHost: d\r\n\r\n"),
           std::string("GET  /_ping HTTP/1.1\r\nHost: d\r\n\r\n"),
           std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
           post + json + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
           post + json + "Content-Length: -1\r\n\r\n{}",
           post + json + "Content-Length: 99999999999999999999\r\n\r\n{}",
           post + json + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           post + json + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
           post + json + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
           post + json + "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
           post + json + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
       }) {
    EXPECT_THAT(answer(bytes), Not(HasSubstr("HTTP/1.1 2"))) << absl::CHexEscape(bytes);
  }
  // 100,000 fields.
  std::string many = "GET /_ping HTTP/1.1\r\nHost: d\r\n";
  for (int i = 0; i < 100000; ++i) many += "a: b\r\n";
  EXPECT_THAT(answer(many + "\r\n"), StartsWith("HTTP/1.1 431"));

  // Upgrades that nothing was said about change nothing, others are refused before anything is done.
  Start("runs", "sleep 1000");
  for (const char* upgrade : {"websocket", "h2c", "TLS/1.0"}) {
    const std::string fields =
        absl::StrCat(" HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, close\r\nUpgrade: ", upgrade,
                     "\r\nContent-Length: 0\r\n\r\n");
    EXPECT_THAT(answer(absl::StrCat("POST /containers/runs/attach?stream=1&stdout=1", fields)),
                StartsWith("HTTP/1.1 400"))
        << upgrade;
    EXPECT_THAT(answer(absl::StrCat("GET /_ping", fields)), StartsWith("HTTP/1.1 200")) << upgrade;
  }
  EXPECT_THAT(
      answer("GET /containers/runs/attach/ws?stream=1 HTTP/1.1\r\nHost: d\r\n"
             "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n"),
      StartsWith("HTTP/1.1 501"));
  for (const char* target :
       {"/containers/..%2fruns/json", "/containers/%2e%2e/json", "/containers/runs%00/json",
        "/v1.41/containers/../containers/json", "/containers/runs%2fjson", "/v1.41//../_ping",
        "/exec/%2f/json", "/volumes/..%2f..", "/networks/%00"})
    EXPECT_THAT(Ask("GET", target),
                testing::AnyOf(StartsWith("HTTP/1.1 400"), StartsWith("HTTP/1.1 404")))
        << target;
  // Bodies.
  for (const char* type : {"text/plain", "application/x-tar", "application/jsonx", "x"}) {
    EXPECT_THAT(api::docker::AskDocker(Socket(), "POST", "/containers/create?name=typed",
                                       R"({"Image":"busybox:door"})", type),
                StartsWith("HTTP/1.1 400"))
        << type;
  }
  for (const std::string& body :
       {std::string(10000, '['), std::string("{\"a\":").append(5, '{'), std::string("{} {}"),
        std::string(R"({"Image":"busybox:door","HostConfig":{"CpuShares":1e999}})"),
        std::string(R"({"Image":"busybox:door","HostConfig":{"PidsLimit":9223372036854775808}})"),
        std::string(R"({"Image":"busybox:door","Image":"busybox:door"})"),
        std::string("{\"Image\":\"busybox:door\",\"Hostname\":\"a\\u0000b\"}"),
        std::string(R"({"Image":"busybox:door","Cmd":{"a":1}})")}) {
    EXPECT_THAT(Ask("POST", "/containers/create?name=typed", body), StartsWith("HTTP/1.1 400"))
        << absl::CHexEscape(body.substr(0, 80));
  }
  EXPECT_THAT(Ask("GET", "/containers/typed/json"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask("GET", "/_ping"), StartsWith("HTTP/1.1 200"));
}

size_t EntriesOf(const std::string& directory) {
  size_t count = 0;
  DIR* const open = opendir(directory.c_str());
  if (open == nullptr) return 0;
  while (readdir(open) != nullptr) ++count;
  closedir(open);
  return count;
}

TEST_F(DockerCrowdTest, StreamsThatAreLeftCostNothingAfterwards) {
  Start("runs", "while :; do echo x; sleep 0.01; done");
  const std::string proc = absl::StrCat("/proc/", bed_->daemon_pid());
  const auto round = [this](int times) {
    for (int i = 0; i < times; ++i) {
      for (const char* request :
           {"POST /containers/runs/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
            "GET /containers/runs/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n",
            "GET /containers/runs/stats HTTP/1.1\r\nHost: d\r\n\r\n",
            "POST /containers/runs/wait HTTP/1.1\r\nHost: d\r\n\r\n",
            "GET /events HTTP/1.1\r\nHost: d\r\n\r\n"}) {
        DockerClient client(Socket());
        client.Send(request);
        client.ReadUntil("\r\n\r\n");
      }
      // Asked for, and never started.
      CreateExec("runs", R"({"Cmd":["true"],"AttachStdout":true})");
    }
  };
  round(5);
  EXPECT_TRUE(Eventually([&] { return EntriesOf(proc + "/task") < 200; }));
  const size_t fds = EntriesOf(proc + "/fd"), threads = EntriesOf(proc + "/task");
  round(40);
  EXPECT_TRUE(Eventually([&] {
    return EntriesOf(proc + "/fd") <= fds + 10 && EntriesOf(proc + "/task") <= threads + 10;
  })) << EntriesOf(proc + "/fd")
      << " descriptors, " << fds << " before; " << EntriesOf(proc + "/task") << " threads, "
      << threads << " before";
}

TEST_F(DockerCrowdTest, AnExecHasNoDescriptorsOfTheHost) {
  Start("runs", "sleep 1000");
  const auto run = [this](const std::string& body) {
    const std::string id = CreateExec("runs", body);
    return Ask("POST", absl::StrCat("/exec/", id, "/start"), "{}");
  };
  // 3 is the directory that ls reads.
  EXPECT_THAT(run(R"({"Cmd":["ls","/proc/self/fd"],"AttachStdout":true})"),
              HasSubstr("0\n1\n2\n3\n"));
  EXPECT_THAT(run(R"({"Cmd":["sh","-c","ls /proc/self/fd | wc -l"],"AttachStdout":true})"),
              HasSubstr("4\n"));
  for (int fd = 3; fd < 16; ++fd) {
    const std::string response =
        run(absl::StrCat(R"({"Cmd":["sh","-c","cat etc/machine-id; cat ../../etc/hostname"],)"
                         R"("AttachStdout":true,"WorkingDir":"/proc/self/fd/)",
                         fd, R"("})"));
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    EXPECT_THAT(response, Not(HasSubstr(absl::StrCat(name, "\n")))) << fd;
  }
}

TEST_F(DockerCrowdTest, CopiesDoNotFollowALinkThatIsSwappedInOutOfTheContainer) {
  const std::string canary = bed_->scratch() + "/canary";
  ASSERT_TRUE(MakeDirectories(canary, 0755).ok());
  ASSERT_TRUE(WriteFile(canary + "/note", "of the host").ok());
  Start("swapper",
        absl::StrCat("while :; do rm -rf /d; mkdir /d; echo inside > /d/note; rm -rf /d; ln -s ",
                     canary, " /d; done"));
  const std::string tree = bed_->scratch() + "/tree";
  ASSERT_TRUE(MakeDirectories(tree, 0755).ok());
  ASSERT_TRUE(WriteFile(tree + "/note", "of the attacker").ok());
  ASSERT_TRUE(Ok(RunProgram({"tar", "cf", tree + ".tar", "-C", tree, "note"})));
  const std::string tar = ReadFile(tree + ".tar", 1 << 20).value();
  for (int i = 0; i < 100; ++i) {
    api::docker::AskDocker(Socket(), "PUT", "/containers/swapper/archive?path=/d", tar,
                           "application/x-tar");
    EXPECT_THAT(Ask("GET", "/containers/swapper/archive?path=/d/note"),
                Not(HasSubstr("of the host")));
  }
  EXPECT_EQ(ReadFile(canary + "/note", 100).value(), "of the host");
}

// What a web interface asks for when a person looks at its pages: queries as such programs write them,
// and what they read of the answers.
TEST_F(DockerCrowdTest, AWebInterfaceFindsWhatItReads) {
  EXPECT_THAT(Ask("POST", "/networks/create", R"({"Name":"app","CheckDuplicate":true})"),
              StartsWith("HTTP/1.1 201"));
  EXPECT_THAT(Ask("POST", "/volumes/create", R"({"Name":"data"})"), StartsWith("HTTP/1.1 201"));
  Create(
      R"({"Image":"busybox:door","Cmd":["sleep","1000"],"Labels":{"com.docker.compose.project":"p"},)"
      R"("HostConfig":{"NetworkMode":"app","Binds":["data:/data"],)"
      R"("RestartPolicy":{"Name":"unless-stopped"}}})",
      "web");
  EXPECT_THAT(Ask("POST", "/containers/web/start"), StartsWith("HTTP/1.1 204"));
  struct Call {
    const char* target;
    std::vector<const char*> read;  // keys and values
  };
  const std::vector<Call> calls = {
      {"/_ping", {}},
      {"/info", {"\"Swarm\":{", "\"Plugins\":{", "\"NCPU\":", "\"MemTotal\":", "\"Name\":"}},
      {"/version", {"\"ApiVersion\":", "\"Components\":["}},
      {"/containers/json?all=1&size=0",
       {"\"Names\":[\"/web\"]", "\"State\":\"running\"", "\"IPAddress\":\"1"}},
      {"/containers/json?all=1&filters=%7B%22label%22:%5B%22com.docker.compose.project%22%5D%7D",
       {"\"com.docker.compose.project\":\"p\""}},
      {"/containers/json?all=1&filters={\"network\":[\"app\"]}", {"/web"}},
      {"/containers/json?all=true&filters=%7B%22volume%22%3A%5B%22data%22%5D%7D", {"/web"}},
      {"/containers/web/json", {"\"HostConfig\":{", "\"NetworkSettings\":{", "\"Mounts\":[{"}},
      {"/containers/web/stats?stream=false",
       {"\"cpu_stats\":{", "\"memory_stats\":{", "\"networks\":{\"eth0\""}},
      {"/containers/web/top", {"\"Processes\":[[", "\"Titles\":["}},
      {"/containers/web/logs?since=0&stderr=1&stdout=1&tail=100&timestamps=0", {}},
      {"/images/json?all=0", {"\"RepoTags\":[\"busybox:door\"]", "\"Size\":"}},
      {"/images/busybox:door/json", {"\"RootFS\":{", "\"Config\":{"}},
      {"/images/busybox:door/history", {"\"CreatedBy\":"}},
      {"/networks", {"\"Name\":\"bridge\"", "\"Name\":\"app\"", "\"IPAM\":{"}},
      {"/networks/app", {"\"Containers\":{\"", "\"IPv4Address\":\""}},
      {"/networks?filters=%7B%22dangling%22:%5B%22true%22%5D%7D", {"["}},
      {"/volumes", {"\"Volumes\":[{", "\"Warnings\":"}},
      {"/volumes?filters=%7B%22dangling%22:%5B%22false%22%5D%7D", {"\"Name\":\"data\""}},
      {"/volumes?filters=%7B%22dangling%22:%5B%22true%22%5D%7D", {"\"Volumes\":[]"}},
      {"/volumes/data", {"\"Mountpoint\":\"/"}},
      {"/system/df", {"\"LayersSize\":", "\"Images\":[{", "\"Volumes\":[{"}},
      {"/events?since=1&until=2", {}},
      {"/plugins", {"[]"}},
      {"/distribution/127.0.0.1:1/none:1/json", {}},
      {"/swarm", {"This node is not a swarm manager"}},
      {"/nodes", {"This node is not a swarm manager"}},
      {"/services", {"This node is not a swarm manager"}},
      {"/tasks?filters=%7B%7D", {"This node is not a swarm manager"}},
      {"/secrets", {"This node is not a swarm manager"}},
  };
  for (const char* version : {"", "/v1.24", "/v1.41", "/v1.51"}) {
    for (const Call& call : calls) {
      const std::string target = absl::StrCat(version, call.target);
      const std::string response = Ask("GET", target);
      int expected = 200;
      if (!call.read.empty() && absl::StrContains(call.read.front(), "swarm manager"))
        expected = 503;
      if (absl::StrContains(target, "/distribution/")) expected = 503;
      EXPECT_THAT(response, StartsWith(absl::StrCat("HTTP/1.1 ", expected, " "))) << target;
      for (const char* text : call.read) EXPECT_THAT(response, HasSubstr(text)) << target;
    }
  }
  EXPECT_THAT(Ask("DELETE", "/containers/web?force=true&v=1"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(Ask("DELETE", "/networks/app"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(Ask("DELETE", "/volumes/data"), StartsWith("HTTP/1.1 204"));
}

// docker's command line reaches a daemon over ssh by `docker system dial-stdio` on its host. Here ssh is
// a script that runs the command that it is given.
TEST_F(DockerCrowdTest, ReachedByAContextAndThroughSsh) {
  if (DockerProgram().empty()) GTEST_SKIP() << "docker is not installed";
  const std::string bin = bed_->scratch() + "/bin";
  ASSERT_TRUE(MakeDirectories(bin, 0755).ok());
  ASSERT_TRUE(
      WriteFile(bin + "/ssh", absl::StrCat("#!/bin/sh\nwhile [ \"$1\" != docker ]; do shift; "
                                           "done\nshift\nDOCKER_HOST=unix://",
                                           Socket(), " exec ", DockerProgram(), " $*\n"))
          .ok());
  ASSERT_EQ(chmod((bin + "/ssh").c_str(), 0755), 0);
  const auto docker = [&](std::vector<std::string> args, const std::string& input = "") {
    args.insert(args.begin(), DockerProgram());
    return RunProgram(std::move(args), input, absl::Seconds(120),
                      {{"DOCKER_CONFIG", bed_->scratch() + "/client"},
                       {"PATH", absl::StrCat(bin, ":", getenv("PATH"))}});
  };
  EXPECT_TRUE(Ok(
      docker({"context", "create", "here", "--docker", absl::StrCat("host=unix://", Socket())})));
  EXPECT_TRUE(Ok(docker({"context", "create", "far", "--docker", "host=ssh://host.example"})));
  for (const char* context : {"here", "far"}) {
    const std::string large(1 << 20, 'z');
    EXPECT_EQ(docker({"--context", context, "run", "--rm", "-i", kDoorImage, "cat"}, large).out,
              large)
        << context;
    EXPECT_EQ(docker({"--context", context, "run", "--rm", kDoorImage, "sh", "-c", "exit 7"}).code,
              7)
        << context;
  }
}

// ---- TLS ----

class DockerTlsTest : public DockerDoorTest {
 protected:
  static constexpr char kAddress[] = "127.0.0.1:29376";

  void SetUp() override {
    if (DockerProgram().empty()) GTEST_SKIP() << "docker is not installed";
    char directory[] = "/tmp/gantry-tls.XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    files_ = directory;
    Run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=ca", "-keyout", File("ca.key"), "-out",
         File("ca.pem")});
    for (const char* name : {"server", "client"}) {
      const std::string stem = File(name);
      Run({"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-subj", absl::StrCat("/CN=", name), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
           stem + ".key", "-out", stem + ".csr"});
      Run({"openssl", "x509", "-req", "-in", stem + ".csr", "-CA", File("ca.pem"), "-CAkey",
           File("ca.key"), "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out",
           stem + ".pem"});
    }
    options_.daemon_flags = {"--docker-address", absl::StrCat("tcp://", kAddress),
                             "--tlsverify",      "--tlscacert",
                             File("ca.pem"),     "--tlscert",
                             File("server.pem"), "--tlskey",
                             File("server.key")};
    DockerDoorTest::SetUp();
  }
  void TearDown() override {
    DockerDoorTest::TearDown();
    if (!files_.empty()) {
      EXPECT_TRUE(RemoveTree(files_).ok());
    }
  }

  std::string File(const std::string& name) const { return files_ + "/" + name; }
  static void Run(std::vector<std::string> argv) { ASSERT_TRUE(Ok(RunProgram(std::move(argv)))); }
  Outcome Tls(std::vector<std::string> args, bool certificate,
              const std::string& input = "") const {
    std::vector<std::string> argv = {
        DockerProgram(), "-H",          absl::StrCat("tcp://", kAddress),
        "--tlsverify",   "--tlscacert", File("ca.pem")};
    if (certificate) {
      for (std::string word : {std::string("--tlscert"), File("client.pem"),
                               std::string("--tlskey"), File("client.key")})
        argv.push_back(std::move(word));
    }
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), input, absl::Seconds(120),
                      {{"DOCKER_CONFIG", bed_->scratch() + "/client"}});
  }

  std::string files_;
};

TEST_F(DockerTlsTest, TheCommandLineWorksWithACertificateAndNotWithout) {
  const Outcome ran = Tls({"run", "--rm", kDoorImage, "sh", "-c", "echo out; echo err >&2; exit 7"},
                          /*certificate=*/true);
  EXPECT_EQ(ran.code, 7) << ran.err;
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_EQ(ran.err, "err\n");
  // Input that ends, both ways at once.
  const std::string large(3 << 20, 'z');
  EXPECT_EQ(Tls({"run", "--rm", "-i", kDoorImage, "cat"}, true, large).out, large);
  EXPECT_TRUE(Ok(Tls({"run", "-d", "--name", "one", kDoorImage, "sleep", "1000"}, true)));
  EXPECT_EQ(Tls({"exec", "-i", "one", "cat"}, true, "typed").out, "typed");
  EXPECT_EQ(Tls({"exec", "one", "sh", "-c", "exit 9"}, true).code, 9);
  EXPECT_TRUE(Ok(Tls({"rm", "-f", "one"}, true)));
  const Outcome without = Tls({"version"}, /*certificate=*/false);
  EXPECT_NE(without.code, 0);
  const Outcome plain =
      RunProgram({DockerProgram(), "-H", absl::StrCat("tcp://", kAddress), "ps"}, "",
                 absl::Seconds(60), {{"DOCKER_CONFIG", bed_->scratch() + "/client"}});
  EXPECT_NE(plain.code, 0);

  // A page in a browser that has the certificate: its requests say where they come from.
  const auto page = [this](const std::string& field) {
    return RunProgram({"openssl", "s_client", "-quiet", "-connect", kAddress, "-CAfile",
                       File("ca.pem"), "-cert", File("client.pem"), "-key", File("client.key")},
                      absl::StrCat("GET /_ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", field,
                                   "\r\n"))
        .out;
  };
  EXPECT_THAT(page(""), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(page("Origin: http://page.example\r\n"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(page("Sec-Fetch-Site: cross-site\r\n"), StartsWith("HTTP/1.1 403"));
}

}  // namespace
}  // namespace gantry::integration
