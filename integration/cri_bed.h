// Pods on a real daemon, by CRI as kubelet calls it, for tests of that door.
#ifndef GANTRY_INTEGRATION_CRI_BED_H_
#define GANTRY_INTEGRATION_CRI_BED_H_

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "integration/images.h"
#include "integration/testbed.h"
#include "proto/cri/v1/image_service.grpc.pb.h"
#include "proto/cri/v1/runtime_service.grpc.pb.h"

namespace gantry::integration {

namespace wire = ::runtime::v1;

inline constexpr char kCriImage[] = "busybox:test";

class CriTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Testbed::Options options;
    options.config = Config();
    bed_ = std::make_unique<Testbed>(options);
    Connect();
    const std::string archive = bed_->scratch() + "/image.tar";
    ASSERT_TRUE(WriteBusyboxArchive(archive, kCriImage).ok());
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
  // No network is configured there: pods of most tests are on the host's.
  virtual std::string Config() { return "[cni]\nconf_dir = \"/nonexistent\"\n"; }
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
    config.mutable_image()->set_image(kCriImage);
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
    grpc::Status status =
        Call(&wire::RuntimeService::Stub::ListPodSandbox, wire::ListPodSandboxRequest(), &response);
    // The first call after a restart may find out that the connection is the old daemon's.
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      status = Call(&wire::RuntimeService::Stub::ListPodSandbox, wire::ListPodSandboxRequest(),
                    &response);
    }
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

}  // namespace gantry::integration

#endif  // GANTRY_INTEGRATION_CRI_BED_H_
