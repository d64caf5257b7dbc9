// Plugins of NRI on a real daemon: what they see of pods and containers, what their changes do to
// processes that really run, and that a bad one harms nobody. Kubernetes' own suite has specs for
// the order of the calls (integration/cri).
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "integration/cri_bed.h"
#include "supervisor/nri/fake_plugin.h"

namespace gantry::integration {
namespace {

using nri::FakePlugin;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
namespace plugin = nri::wire;

class NriTest : public CriTest {
 protected:
  std::unique_ptr<FakePlugin> Join(FakePlugin::Options options) {
    absl::StatusOr<UniqueFd> socket = FakePlugin::Connect(bed_->state() + "/nri.sock");
    EXPECT_TRUE(socket.ok()) << socket.status();
    auto joined = std::make_unique<FakePlugin>(*std::move(socket), std::move(options));
    EXPECT_TRUE(joined->registered().ok()) << joined->registered();
    EXPECT_TRUE(joined->WaitFor("Synchronize"));
    return joined;
  }
  static FakePlugin::Handler Creates(
      std::function<void(const plugin::CreateContainerRequest&, plugin::CreateContainerResponse&)>
          answer) {
    return FakePlugin::On<plugin::CreateContainerRequest, plugin::CreateContainerResponse>(
        [answer](const plugin::CreateContainerRequest& request) {
          plugin::CreateContainerResponse response;
          answer(request, response);
          return response;
        });
  }
  std::string PodNamed(const std::string& name) {
    std::string pod;
    const grpc::Status status = Run(PodConfig(name), &pod);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return pod;
  }
  std::string Output(const std::string& container, const std::string& script) {
    wire::ExecSyncResponse answer;
    const grpc::Status status = Exec(container, {"sh", "-c", script}, 10, &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer.stdout();
  }
  std::vector<wire::Container> Containers() {
    wire::ListContainersResponse response;
    EXPECT_TRUE(
        Call(&wire::RuntimeService::Stub::ListContainers, wire::ListContainersRequest(), &response)
            .ok());
    return {response.containers().begin(), response.containers().end()};
  }
  static std::vector<std::string> Methods(const FakePlugin& joined) {
    std::vector<std::string> methods;
    for (const auto& [method, request] : joined.calls()) methods.push_back(method);
    return methods;
  }
};

TEST_F(NriTest, APluginSeesTheLifeOfAPodAndOfItsContainer) {
  const auto joined = Join({});
  const std::string pod = PodNamed("seen");
  std::string id;
  ASSERT_TRUE(Create(pod, "main", "sleep 1000", wire::CONTAINER, &id).ok());
  ASSERT_TRUE(Start(id).ok());
  wire::StopContainerRequest stop;
  stop.set_container_id(id);
  wire::StopContainerResponse stopped;
  ASSERT_TRUE(Call(&wire::RuntimeService::Stub::StopContainer, stop, &stopped).ok());
  Remove(pod);
  EXPECT_THAT(Methods(*joined),
              ElementsAre("Configure", "Synchronize", "RunPodSandbox", "CreateContainer",
                          "ValidateContainerAdjustment", "PostCreateContainer", "StartContainer",
                          "PostStartContainer", "StopContainer", "StopPodSandbox",
                          "RemoveContainer", "RemovePodSandbox"));
  for (const auto& [method, bytes] : joined->calls()) {
    if (method != "PostStartContainer") continue;
    plugin::PostStartContainerRequest request;
    request.ParseFromString(bytes);
    EXPECT_EQ(request.pod().id(), pod);
    EXPECT_EQ(request.pod().name(), "seen");
    EXPECT_EQ(request.pod().namespace_(), "tests");
    EXPECT_EQ(request.container().id(), id);
    EXPECT_EQ(request.container().name(), "main");
    EXPECT_EQ(request.container().state(), plugin::CONTAINER_RUNNING);
    EXPECT_GT(request.container().pid(), 0u);
    EXPECT_THAT(request.container().args(), ElementsAre("sh", "-c", "sleep 1000"));
    EXPECT_THAT(request.container().linux().cgroups_path(), HasSubstr(id));
  }
}

TEST_F(NriTest, WhatAPluginAdjustsIsSoInTheContainer) {
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/shown", "by a plugin\n").ok());
  FakePlugin::Options options;
  options.handlers["CreateContainer"] = Creates(
      [this](const plugin::CreateContainerRequest&, plugin::CreateContainerResponse& response) {
        plugin::ContainerAdjustment& adjust = *response.mutable_adjust();
        plugin::KeyValue& env = *adjust.add_env();
        env.set_key("FROM_PLUGIN");
        env.set_value("yes");
        plugin::Mount& mount = *adjust.add_mounts();
        mount.set_destination("/shown");
        mount.set_source(bed_->scratch() + "/shown");
        mount.set_type("bind");
        mount.add_options("rbind");
        mount.add_options("ro");
        plugin::POSIXRlimit& limit = *adjust.add_rlimits();
        limit.set_type("RLIMIT_NOFILE");
        limit.set_soft(77);
        limit.set_hard(78);
        (*adjust.mutable_annotations())["example.com/mark"] = "1";
        plugin::LinuxDevice& device = *adjust.mutable_linux()->add_devices();
        device.set_path("/dev/another-null");
        device.set_type("c");
        device.set_major(1);
        device.set_minor(3);
        device.mutable_file_mode()->set_value(0666);
        adjust.mutable_linux()->mutable_oom_score_adj()->set_value(321);
        adjust.mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(
            64 << 20);
        for (const char* word : {"sh", "-c", "sleep 2000"}) adjust.add_args(word);
      });
  const auto joined = Join(std::move(options));
  std::string id;
  const grpc::Status created = Create(PodNamed("adjusted"), "main", "exit 1", wire::CONTAINER, &id);
  ASSERT_TRUE(created.ok()) << created.error_message();
  const grpc::Status started = Start(id);
  ASSERT_TRUE(started.ok()) << started.error_message();
  EXPECT_EQ(Output(id, "echo $FROM_PLUGIN; cat /shown; cat /proc/1/oom_score_adj"),
            "yes\nby a plugin\n321\n");
  EXPECT_EQ(Output(id, "echo x > /shown 2>&1 || echo refused"), "refused\n");
  EXPECT_EQ(Output(id, "echo x > /dev/another-null && echo written"), "written\n");
  EXPECT_THAT(Output(id, "grep 'open files' /proc/1/limits"), HasSubstr(" 77 "));
  // The shell becomes its last command.
  EXPECT_EQ(Output(id, "tr '\\0' ' ' < /proc/1/cmdline"), "sleep 2000 ");
  // The kernel's limit, not only the configuration's.
  EXPECT_THAT(Output(id,
                     "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || "
                     "cat /sys/fs/cgroup/memory.max"),
              HasSubstr("67108864"));
}

TEST_F(NriTest, ARefusalFailsTheCallAndLeavesNothing) {
  std::mutex mu;
  std::string refuse = "RunPodSandbox";
  FakePlugin::Options options;
  for (const char* method : {"RunPodSandbox", "CreateContainer", "StartContainer"}) {
    options.handlers[method] = [&, method](const std::string&) -> absl::StatusOr<std::string> {
      const std::lock_guard<std::mutex> lock(mu);
      if (refuse == method) return absl::PermissionDeniedError("not today");
      return std::string();
    };
  }
  const auto joined = Join(std::move(options));
  std::string pod;
  grpc::Status status = Run(PodConfig("refused"), &pod);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("NRI plugin 10-fake: RunPodSandbox: not today"));
  EXPECT_TRUE(Pods().empty());
  // Those that were asked are told of its end.
  EXPECT_THAT(Methods(*joined), Contains("RemovePodSandbox"));

  const auto refuse_next = [&](const char* method) {
    const std::lock_guard<std::mutex> lock(mu);
    refuse = method;
  };
  refuse_next("CreateContainer");
  status = Run(PodConfig("refused"), &pod);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::string id;
  status = Create(pod, "main", "sleep 1000", wire::CONTAINER, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << status.error_message();
  EXPECT_TRUE(Containers().empty());
  EXPECT_THAT(Methods(*joined), Contains("RemoveContainer"));

  refuse_next("StartContainer");
  status = Create(pod, "main", "sleep 1000", wire::CONTAINER, &id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(Start(id).ok());
  EXPECT_EQ(Status(id).state(), wire::CONTAINER_EXITED);
  EXPECT_EQ(Status(id).reason(), "StartError");
  EXPECT_THAT(Status(id).message(), HasSubstr("not today"));

  refuse_next("");
  wire::RemoveContainerRequest remove;
  remove.set_container_id(id);
  wire::RemoveContainerResponse removed;
  EXPECT_TRUE(Call(&wire::RuntimeService::Stub::RemoveContainer, remove, &removed).ok());
  status = Create(pod, "main", "sleep 1000", wire::CONTAINER, &id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(Start(id).ok());
}

TEST_F(NriTest, APluginThatHangsOrDiesHarmsNobody) {
  absl::Notification release;
  FakePlugin::Options options;
  options.handlers["CreateContainer"] = [&release](const std::string&) {
    release.WaitForNotification();
    return std::string();
  };
  auto hanging = Join(std::move(options));
  const auto good = Join([] {
    FakePlugin::Options other;
    other.index = "20";
    other.name = "good";
    return other;
  }());
  const std::string pod = PodNamed("patient");
  std::string id;
  const grpc::Status status = Create(pod, "main", "sleep 1000", wire::CONTAINER, &id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(hanging->WaitClosed());
  EXPECT_TRUE(Start(id).ok());
  EXPECT_THAT(Methods(*good), Contains("StartContainer"));
  EXPECT_THAT(bed_->daemon_log(), HasSubstr("NRI plugin 10-fake is dropped"));
  release.Notify();
  // One that dies between two calls.
  good->Close();
  std::string two;
  ASSERT_TRUE(Create(pod, "two", "sleep 1000", wire::CONTAINER, &two).ok());
  EXPECT_TRUE(Start(two).ok());
}

TEST_F(NriTest, APluginThatJoinsLateChangesLimitsAndEndsContainers) {
  const std::string pod = PodNamed("late");
  std::string one, two;
  ASSERT_TRUE(Create(pod, "one", "sleep 1000", wire::CONTAINER, &one).ok());
  ASSERT_TRUE(Start(one).ok());
  ASSERT_TRUE(Create(pod, "two", "sleep 1000", wire::CONTAINER, &two).ok());
  ASSERT_TRUE(Start(two).ok());
  const auto joined = Join({});
  plugin::SynchronizeRequest seen;
  seen.ParseFromString(joined->calls().back().second);
  ASSERT_EQ(seen.pods_size(), 1);
  EXPECT_EQ(seen.pods(0).id(), pod);
  EXPECT_EQ(seen.containers_size(), 2);

  plugin::UpdateContainersRequest request;
  plugin::ContainerUpdate& update = *request.add_update();
  update.set_container_id(one);
  update.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(333);
  request.add_evict()->set_container_id(two);
  absl::StatusOr<std::string> answer = absl::UnavailableError("");
  // It may still be on its way from synchronized to ready.
  Eventually([&] {
    answer = joined->CallRuntime("UpdateContainers", request.SerializeAsString());
    return answer.ok();
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  plugin::UpdateContainersResponse response;
  response.ParseFromString(*answer);
  EXPECT_EQ(response.failed_size(), 0);
  EXPECT_TRUE(Eventually([&] { return Status(two).state() == wire::CONTAINER_EXITED; }));
  // 333 shares, or what they are in weights.
  EXPECT_THAT(Output(one,
                     "cat /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || "
                     "cat /sys/fs/cgroup/cpu.weight"),
              testing::AnyOf("333\n", "13\n"));
  EXPECT_TRUE(joined->WaitFor("StopContainer"));
  // A call of the kubelet's goes through the plugin, which may change it.
  wire::UpdateContainerResourcesRequest limits;
  limits.set_container_id(one);
  limits.mutable_linux()->set_cpu_shares(512);
  wire::UpdateContainerResourcesResponse changed;
  const grpc::Status status =
      Call(&wire::RuntimeService::Stub::UpdateContainerResources, limits, &changed);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(Methods(*joined), Contains("UpdateContainer"));
  EXPECT_THAT(Methods(*joined), Contains("PostUpdateContainer"));
}

// Its daemon starts a script as a plugin, which cannot speak the protocol.
class NriDirectoryTest : public NriTest {
 protected:
  std::string Config() override {
    const std::string script =
        absl::StrCat("#!/bin/sh\ntest -S /proc/self/fd/$NRI_PLUGIN_SOCKET && socket=socket\n",
                     "echo $NRI_PLUGIN_IDX $NRI_PLUGIN_NAME $socket > ", out_, "\n");
    EXPECT_TRUE(WriteFile(directory_.Join("07-script"), script, 0755).ok());
    return absl::StrCat(NriTest::Config(), "[nri]\nplugin_directory = \"", directory_.path(),
                        "\"\n");
  }

  TempDir directory_;
  const std::string out_ = directory_.Join("out");
};

TEST_F(NriDirectoryTest, ItIsStartedWithItsNameAndHarmsNobody) {
  PodNamed("beside");
  EXPECT_TRUE(Eventually([&] { return ReadFile(out_, 100).value_or("") == "07 script socket\n"; }));
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(bed_->daemon_log(), "NRI plugin 07-script is dropped");
  })) << bed_->daemon_log();
}

}  // namespace
}  // namespace gantry::integration
