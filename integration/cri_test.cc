// Pods and their containers as the kubelet makes them, on a real daemon with real runtimes. What
// Kubernetes' own suite says is looked at by integration/cri; here is what it does not look at:
// the daemon's death, repeated calls, and what is left behind.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "proto/cri/v1/image_service.grpc.pb.h"
#include "proto/cri/v1/runtime_service.grpc.pb.h"

namespace gantry::integration {
namespace {

namespace wire = ::runtime::v1;
using testing::HasSubstr;

constexpr char kImage[] = "busybox:test";

class CriTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Testbed::Options options;
    // No network is configured there: pods of these tests are on the host's.
    options.config = "[cni]\nconf_dir = \"/nonexistent\"\n";
    bed_ = std::make_unique<Testbed>(options);
    Connect();
    const std::string archive = bed_->scratch() + "/image.tar";
    ASSERT_TRUE(WriteBusyboxArchive(archive, kImage).ok());
    std::vector<std::string> load = bed_->CtlCommand({"load", "-i", archive});
    for (std::string& word : load) {
      if (word == bed_->ns()) word = "k8s.io";
    }
    ASSERT_TRUE(Ok(RunProgram(load)));
  }
  void TearDown() override {
    if (bed_ == nullptr) return;
    for (const wire::PodSandbox& pod : Pods()) Remove(pod.id());
  }
  void Connect() {
    channel_ = grpc::CreateChannel("unix:" + bed_->address(), grpc::InsecureChannelCredentials());
    runtime_ = wire::RuntimeService::NewStub(channel_);
    images_ = wire::ImageService::NewStub(channel_);
  }

  template <class Request, class Response>
  grpc::Status Call(grpc::Status (wire::RuntimeService::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    context.set_wait_for_ready(true);
    return (runtime_.get()->*method)(&context, request, response);
  }

  wire::PodSandboxConfig PodConfig(const std::string& name) const {
    wire::PodSandboxConfig config;
    config.set_log_directory(bed_->scratch());
    config.mutable_metadata()->set_name(name);
    config.mutable_metadata()->set_uid("uid-" + name);
    config.mutable_metadata()->set_namespace_("tests");
    wire::NamespaceOption& namespaces =
        *config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
    namespaces.set_network(wire::NODE);
    namespaces.set_pid(wire::CONTAINER);
    return config;
  }
  grpc::Status Run(const wire::PodSandboxConfig& config, std::string* id) {
    wire::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    wire::RunPodSandboxResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::RunPodSandbox, request, &response);
    *id = response.pod_sandbox_id();
    return status;
  }
  grpc::Status Create(const std::string& pod, const std::string& name, const std::string& script,
                      wire::NamespaceMode pid, std::string* id) {
    wire::CreateContainerRequest request;
    request.set_pod_sandbox_id(pod);
    wire::ContainerConfig& config = *request.mutable_config();
    config.mutable_metadata()->set_name(name);
    config.mutable_image()->set_image(kImage);
    for (const std::string& word : {std::string("sh"), std::string("-c"), script})
      config.add_command(word);
    config.set_log_path(name + ".log");
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pid);
    wire::CreateContainerResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::CreateContainer, request, &response);
    *id = response.container_id();
    return status;
  }
  grpc::Status Start(const std::string& id) {
    wire::StartContainerRequest request;
    request.set_container_id(id);
    wire::StartContainerResponse response;
    return Call(&wire::RuntimeService::Stub::StartContainer, request, &response);
  }
  void Remove(const std::string& pod) {
    wire::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(pod);
    wire::RemovePodSandboxResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::RemovePodSandbox, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  std::vector<wire::PodSandbox> Pods() {
    wire::ListPodSandboxResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::ListPodSandbox, wire::ListPodSandboxRequest(), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return {response.items().begin(), response.items().end()};
  }
  wire::ContainerStatus Status(const std::string& id) {
    wire::ContainerStatusRequest request;
    request.set_container_id(id);
    wire::ContainerStatusResponse response;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::ContainerStatus, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  }
  grpc::Status Exec(const std::string& id, const std::vector<std::string>& command, int64_t timeout,
                    wire::ExecSyncResponse* response) {
    wire::ExecSyncRequest request;
    request.set_container_id(id);
    for (const std::string& word : command) request.add_cmd(word);
    request.set_timeout(timeout);
    return Call(&wire::RuntimeService::Stub::ExecSync, request, response);
  }

  std::unique_ptr<Testbed> bed_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<wire::RuntimeService::Stub> runtime_;
  std::unique_ptr<wire::ImageService::Stub> images_;
};

TEST_F(CriTest, APodAndItsContainerOutliveTheDaemon) {
  wire::PodSandboxConfig config = PodConfig("web");
  config.set_log_directory(bed_->scratch() + "/logs");
  std::string pod;
  grpc::Status status = Run(config, &pod);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::string id;
  status =
      Create(pod, "main", "echo out; echo err >&2; trap 'exit 3' TERM; while :; do sleep 0.1; done",
             wire::CONTAINER, &id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Status(id).state(), wire::CONTAINER_CREATED);
  status = Start(id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  wire::ExecSyncResponse answer;
  status = Exec(id, {"sh", "-c", "echo hello; exit 7"}, 10, &answer);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(answer.stdout(), "hello\n");
  EXPECT_EQ(answer.exit_code(), 7);

  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  Connect();
  ASSERT_EQ(Pods().size(), 1u);
  EXPECT_EQ(Pods().front().state(), wire::SANDBOX_READY);
  EXPECT_EQ(Status(id).state(), wire::CONTAINER_RUNNING);
  // The answers to the first calls were lost, as far as the kubelet knows.
  std::string again;
  EXPECT_TRUE(Run(config, &again).ok());
  EXPECT_EQ(again, pod);

  wire::StopContainerRequest stop;
  stop.set_container_id(id);
  stop.set_timeout(20);
  wire::StopContainerResponse stopped;
  EXPECT_TRUE(Call(&wire::RuntimeService::Stub::StopContainer, stop, &stopped).ok());
  const wire::ContainerStatus ended = Status(id);
  EXPECT_EQ(ended.state(), wire::CONTAINER_EXITED);
  EXPECT_EQ(ended.exit_code(), 3);
  EXPECT_EQ(ended.reason(), "Error");
  EXPECT_GT(ended.finished_at(), ended.started_at());
  const std::string log = ReadFile(ended.log_path(), 1 << 20).value_or("");
  EXPECT_THAT(log, HasSubstr(" stdout F out\n"));
  EXPECT_THAT(log, HasSubstr(" stderr F err\n"));
  Remove(pod);
  EXPECT_TRUE(Pods().empty());
  EXPECT_EQ(ReadFile(ended.log_path(), 1 << 20).value_or(""), log);
}

TEST_F(CriTest, ContainersOfAPodSeeEachOthersProcessesWhereItSharesThem) {
  wire::PodSandboxConfig config = PodConfig("shared");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      wire::POD);
  std::string pod;
  const grpc::Status status = Run(config, &pod);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::string one;
  std::string two;
  ASSERT_TRUE(Create(pod, "one", "exec sleep 98762", wire::POD, &one).ok());
  ASSERT_TRUE(Create(pod, "two", "exec sleep 98763", wire::POD, &two).ok());
  ASSERT_TRUE(Start(one).ok());
  ASSERT_TRUE(Start(two).ok());
  wire::ExecSyncResponse answer;
  ASSERT_TRUE(Exec(two, {"ps"}, 10, &answer).ok());
  EXPECT_THAT(answer.stdout(), HasSubstr("98762"));
  EXPECT_THAT(answer.stdout(), HasSubstr("--pod"));
}

TEST_F(CriTest, ACommandIsKilledAtItsTimeoutAlsoWhenAChildHoldsItsOutput) {
  std::string pod;
  ASSERT_TRUE(Run(PodConfig("probe"), &pod).ok());
  std::string id;
  ASSERT_TRUE(Create(pod, "main", "exec sleep 98764", wire::CONTAINER, &id).ok());
  ASSERT_TRUE(Start(id).ok());
  wire::ExecSyncResponse answer;
  const grpc::Status late = Exec(id, {"sh", "-c", "sleep 98765 & sleep 98766"}, 1, &answer);
  EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << late.error_message();
}

TEST_F(CriTest, AContainerThatCannotBeStartedHasEnded) {
  std::string pod;
  ASSERT_TRUE(Run(PodConfig("broken"), &pod).ok());
  wire::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  request.mutable_config()->mutable_metadata()->set_name("main");
  request.mutable_config()->mutable_image()->set_image(kImage);
  request.mutable_config()->add_command("/no/such/program");
  wire::CreateContainerResponse created;
  ASSERT_TRUE(Call(&wire::RuntimeService::Stub::CreateContainer, request, &created).ok());
  EXPECT_FALSE(Start(created.container_id()).ok());
  const wire::ContainerStatus status = Status(created.container_id());
  EXPECT_EQ(status.state(), wire::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 128);
  EXPECT_EQ(status.reason(), "StartError");
  EXPECT_NE(status.message(), "");
}

TEST_F(CriTest, APodWithoutANetworkLeavesNothing) {
  wire::PodSandboxConfig config = PodConfig("lonely");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      wire::POD);
  std::string pod;
  const grpc::Status status = Run(config, &pod);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(Pods().empty());
}

}  // namespace
}  // namespace gantry::integration
