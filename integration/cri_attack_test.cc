// Hostile pods through CRI: what an image, a working directory, an annotation, a label or a probe
// could do to the host. Numbers are those of the list of attacks that the project tests itself by.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/cri_bed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

class CriAttackTest : public CriTest {
 protected:
  void SetUp() override {
    CriTest::SetUp();
    if (bed_ == nullptr) return;
    const grpc::Status status = Run(PodConfig("attack"), &pod_);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  // Made by `change`; not started.
  grpc::Status CreateBy(const std::function<void(wire::ContainerConfig&)>& change,
                        std::string* id) {
    wire::CreateContainerRequest request;
    request.set_pod_sandbox_id(pod_);
    wire::ContainerConfig& config = *request.mutable_config();
    config.mutable_metadata()->set_name(absl::StrCat("c", ++count_));
    config.mutable_image()->set_image(kCriImage);
    for (const char* word : {"sleep", "100000"}) config.add_command(word);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
        wire::CONTAINER);
    change(config);
    wire::CreateContainerResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::CreateContainer, request, &response);
    *id = response.container_id();
    return status;
  }
  std::string Running(const std::function<void(wire::ContainerConfig&)>& change) {
    std::string id;
    grpc::Status status = CreateBy(change, &id);
    EXPECT_TRUE(status.ok()) << status.error_message();
    status = Start(id);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return id;
  }
  std::string Output(const std::string& id, const std::string& script) {
    wire::ExecSyncResponse answer;
    const grpc::Status status = Exec(id, {"sh", "-c", script}, 20, &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer.stdout();
  }
  nlohmann::json Spec(const std::string& id) {
    wire::ContainerStatusRequest request;
    request.set_container_id(id);
    request.set_verbose(true);
    wire::ContainerStatusResponse response;
    EXPECT_TRUE(Call(&wire::RuntimeService::Stub::ContainerStatus, request, &response).ok());
    return nlohmann::json::parse(response.info().at("info"))["runtimeSpec"];
  }
  size_t OpenFilesOfTheDaemon() const {
    return ListDirectory(absl::StrCat("/proc/", bed_->daemon_pid(), "/fd")).value().size();
  }

  std::string pod_;
  int count_ = 0;
};

// T7
TEST_F(CriAttackTest, AWorkingDirectoryInProcDoesNotLeadToTheHost) {
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/mark", "the host's\n").ok());
  for (int fd = 3; fd <= 20; ++fd) {
    std::string id;
    const grpc::Status created = CreateBy(
        [fd](wire::ContainerConfig& config) {
          config.set_working_dir(absl::StrCat("/proc/self/fd/", fd));
        },
        &id);
    if (!created.ok() || !Start(id).ok()) continue;
    EXPECT_THAT(Output(id, absl::StrCat("cat /proc/1/cwd/../../../../../../../..", bed_->scratch(),
                                        "/mark 2>&1")),
                Not(HasSubstr("the host's")))
        << fd;
  }
}

// T7
TEST_F(CriAttackTest, ProcessesHaveTheirThreeStreamsAndNothingElseOpen) {
  const std::string id = Running([](wire::ContainerConfig&) {});
  EXPECT_EQ(Output(id, "ls /proc/1/fd"), "0\n1\n2\n");
  // The last one is the directory that is being listed.
  EXPECT_EQ(Output(id, "ls /proc/self/fd"), "0\n1\n2\n3\n");
}

// T10, R28
TEST_F(CriAttackTest, AnnotationsAndLabelsDoNotReachTheRuntimeOrTheDaemon) {
  const std::string mark = bed_->scratch() + "/ran";
  const std::string program = bed_->scratch() + "/program";
  ASSERT_TRUE(WriteFile(program, absl::StrCat("#!/bin/sh\ntouch ", mark, "\n"), 0755).ok());
  const std::string id = Running([&](wire::ContainerConfig& config) {
    for (const char* name :
         {"org.systemd.property.ExecStopPost", "run.oci.hooks.stderr", "run.oci.handler",
          "run.oci.systemd.subgroup", "io.kubernetes.cri.sandbox-idx"})
      (*config.mutable_annotations())[name] = program;
    auto& labels = *config.mutable_labels();
    labels["containerd.io/restart.status"] = "running";
    labels["containerd.io/restart.policy"] = "always";
    labels["containerd.io/restart.loguri"] = "binary://" + program;
    labels["containerd.io/restart.logpath"] = mark;
    *config.mutable_command()->Mutable(1) = "0.1";
  });
  for (const auto& [name, value] : Spec(id)["annotations"].items()) {
    EXPECT_TRUE(absl::StartsWith(name, "io.kubernetes.cri.") ||
                absl::StartsWith(name, "io.containerd.cri."))
        << name;
    EXPECT_NE(name, "io.kubernetes.cri.sandbox-idx");
  }
  // Kubelet sees its own again.
  EXPECT_EQ(Status(id).annotations().count("run.oci.handler"), 1u);
  EXPECT_TRUE(Eventually([&] { return Status(id).state() == wire::CONTAINER_EXITED; }));
  // Long enough for one who looks for what to start again.
  EXPECT_FALSE(
      Eventually([&] { return Status(id).state() != wire::CONTAINER_EXITED; }, absl::Seconds(3)));
  EXPECT_NE(access(mark.c_str(), F_OK), 0);
}

// T10
TEST_F(CriAttackTest, SystemControlsAreNamesAndValuesAndNothingElse) {
  int n = 0;
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
           {"kernel.core_pattern", "|/bin/sh"},
           {"net.ipv4.ip_forward", "1\nkernel.core_pattern=x"},
           {"net/../kernel/core_pattern", "x"},
           {"net.ipv4.ip_forward=1 kernel.core_pattern", "x"},
           {"../kernel.core_pattern", "x"},
           {"kernel.shm_rmid_forced+", "1"}}) {
    wire::PodSandboxConfig config = PodConfig(absl::StrCat("controls-", ++n));
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
        wire::POD);
    (*config.mutable_linux()->mutable_sysctls())[name] = value;
    std::string pod;
    EXPECT_FALSE(Run(config, &pod).ok()) << name;
  }
  EXPECT_EQ(Pods().size(), 1u);
}

// T16
TEST_F(CriAttackTest, OutputOfAProbeIsBounded) {
  const std::string id = Running([](wire::ContainerConfig&) {});
  wire::ExecSyncResponse answer;
  // More than a message may hold is cut to what may be kept of a stream; the daemon does not grow
  // with what the container writes.
  const grpc::Status status =
      Exec(id, {"sh", "-c", "head -c 60000000 /dev/zero; exit 3"}, 60, &answer);
  if (status.ok()) {
    EXPECT_LE(answer.stdout().size(), size_t{16} << 20);
    EXPECT_EQ(answer.exit_code(), 3);
  } else {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  }
  const std::string use =
      ReadFile(absl::StrCat("/proc/", bed_->daemon_pid(), "/status"), 64 << 10).value();
  const size_t at = use.find("VmRSS:");
  int64_t kilobytes = 0;
  ASSERT_TRUE(absl::SimpleAtoi(
      std::string(absl::StripAsciiWhitespace(use.substr(at + 6, use.find("kB", at) - at - 6))),
      &kilobytes));
  EXPECT_LT(kilobytes, 250 << 10);
}

// T16
TEST_F(CriAttackTest, ProbesThatLeaveChildrenWithTheirOutputDoNotPileUp) {
  const std::string id = Running([](wire::ContainerConfig&) {});
  wire::ExecSyncResponse answer;
  (void)Exec(id, {"true"}, 10, &answer);
  const size_t before = OpenFilesOfTheDaemon();
  for (int i = 0; i < 20; ++i) (void)Exec(id, {"sh", "-c", "sleep 86400 &"}, 1, &answer);
  EXPECT_TRUE(Eventually([&] { return OpenFilesOfTheDaemon() <= before + 5; }))
      << OpenFilesOfTheDaemon() << " after " << before;
}

std::string HttpGet(int port, const std::string& path, bool upgrade) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return "no connection";
  const std::string request =
      absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n",
                   upgrade ? "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                             "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
                           : "",
                   "\r\n");
  (void)send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL);
  char answer[512] = {};
  const timeval patience = {5, 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const ssize_t got = recv(socket.get(), answer, sizeof answer - 1, 0);
  return got > 0 ? std::string(answer).substr(0, std::string(answer).find('\r')) : "nothing";
}

// T16
TEST_F(CriAttackTest, StreamsThatAreGivenUpDoNotPileUp) {
  const std::string id = Running([](wire::ContainerConfig& config) { config.set_stdin(true); });
  const auto files = [&] {
    return OpenFilesOfTheDaemon() +
           ListDirectory(absl::StrCat("/proc/", bed_->ShimPid(id, "k8s.io"), "/fd")).value().size();
  };
  const auto threads = [&] {
    return ListDirectory(absl::StrCat("/proc/", bed_->daemon_pid(), "/task")).value().size();
  };
  const auto give_up = [&](const std::string& url) {
    const std::string rest = url.substr(strlen("http://127.0.0.1:"));
    int port = 0;
    ASSERT_TRUE(absl::SimpleAtoi(rest.substr(0, rest.find('/')), &port)) << url;
    EXPECT_THAT(HttpGet(port, rest.substr(rest.find('/')), true), HasSubstr(" 101"));
  };
  size_t files_before = 0;
  size_t threads_before = 0;
  for (int i = 0; i < 300; ++i) {
    // What the first ones have started stays.
    if (i == 20) {
      absl::SleepFor(absl::Seconds(1));
      files_before = files();
      threads_before = threads();
    }
    wire::AttachRequest attach;
    attach.set_container_id(id);
    attach.set_stdin(true);
    attach.set_stdout(true);
    wire::AttachResponse attached;
    ASSERT_TRUE(Call(&wire::RuntimeService::Stub::Attach, attach, &attached).ok());
    give_up(attached.url());
    if (i % 4 != 0) continue;
    wire::ExecRequest exec;
    exec.set_container_id(id);
    exec.add_cmd("cat");
    exec.set_stdin(true);
    exec.set_stdout(true);
    wire::ExecResponse started;
    ASSERT_TRUE(Call(&wire::RuntimeService::Stub::Exec, exec, &started).ok());
    give_up(started.url());
  }
  EXPECT_TRUE(Eventually([&] { return files() <= files_before + 10; }))
      << files() << " after " << files_before;
  EXPECT_TRUE(Eventually([&] { return threads() <= threads_before + 10; }))
      << threads() << " after " << threads_before;
  // Nobody's command is left.
  EXPECT_EQ(Output(id, "ps | grep -c '[ ]cat$'"), "0\n");
}

// R20
TEST_F(CriAttackTest, AStreamsUrlIsGoodOnceAndOnLoopbackOnly) {
  const std::string id = Running([](wire::ContainerConfig&) {});
  wire::ExecRequest request;
  request.set_container_id(id);
  request.add_cmd("true");
  request.set_stdout(true);
  std::set<std::string> urls;
  for (int i = 0; i < 3; ++i) {
    wire::ExecResponse response;
    ASSERT_TRUE(Call(&wire::RuntimeService::Stub::Exec, request, &response).ok());
    urls.insert(response.url());
  }
  ASSERT_EQ(urls.size(), 3u);
  const std::string url = *urls.begin();
  ASSERT_TRUE(absl::StartsWith(url, "http://127.0.0.1:")) << url;
  const std::string rest = url.substr(strlen("http://127.0.0.1:"));
  int port = 0;
  ASSERT_TRUE(absl::SimpleAtoi(rest.substr(0, rest.find('/')), &port));
  const std::string path = rest.substr(rest.find('/'));
  const std::string token = path.substr(path.rfind('/') + 1);
  EXPECT_GE(token.size(), 16u);
  for (const std::string& wrong :
       {std::string("/exec/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), std::string("/exec/"),
        absl::StrCat("/attach/", token), absl::StrCat("/exec/x/../", token),
        absl::StrCat("/exec/%2e/", token), absl::StrCat("/portforward/", token)}) {
    EXPECT_THAT(HttpGet(port, wrong, true), HasSubstr(" 404")) << wrong;
  }
  EXPECT_THAT(HttpGet(port, path, true), HasSubstr(" 101"));
  EXPECT_THAT(HttpGet(port, path, true), HasSubstr(" 404"));
}

}  // namespace
}  // namespace gantry::integration
