#include "supervisor/core/pod_view.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/pod_service.h"

namespace gantry::core {
namespace {

namespace wire = nri::wire;
using testing::ElementsAre;
using testing::IsEmpty;

Pod PodOf(const std::function<void(v1::PodConfig&)>& change = nullptr) {
  v1::PodConfig config;
  config.set_name("web");
  config.set_uid("uid-1");
  config.set_group("blue");
  config.set_runtime("crun");
  config.set_cgroup_parent("/kubepods/pod1");
  (*config.mutable_labels())["app"] = "web";
  (*config.mutable_annotations())["note"] = "n";
  if (change) change(config);
  Pod pod;
  pod.id = "p1";
  pod.config = std::make_shared<const v1::PodConfig>(std::move(config));
  pod.addresses = {"10.1.0.2", "fd01::2"};
  return pod;
}

// "TYPE PATH" of each.
std::vector<std::string> NamespacesOf(const wire::PodSandbox& pod) {
  std::vector<std::string> texts;
  for (const wire::LinuxNamespace& one : pod.linux().namespaces())
    texts.push_back(absl::StrCat(one.type(), " ", one.path()));
  return texts;
}

LoadedContainer Recorded(record::v1::ContainerState::Status status) {
  LoadedContainer loaded;
  loaded.scope.ns = "k8s.io";
  loaded.record.set_id("c1");
  loaded.record.set_sandbox("p1");
  loaded.record.set_image("docker.io/library/app:1");
  loaded.record.mutable_created_at()->set_seconds(100);
  loaded.record.mutable_spec()->set_value(
      R"({"ociVersion":"1.0.2","process":{"args":["serve","-p"],"env":["A=b"]}})");
  loaded.state.set_status(status);
  loaded.state.mutable_started_at()->set_seconds(200);
  loaded.state.mutable_finished_at()->set_seconds(300);
  loaded.state.set_exit_code(7);
  (*loaded.config.mutable_annotations())[pod_annotation::kContainerName] = "app";
  return loaded;
}

TEST(PodViewTest, APodIsShownWithWhereItsNamespacesAre) {
  const wire::PodSandbox view = ViewOfPod(PodOf(), "/run/pods/p1", 0);
  EXPECT_EQ(view.id(), "p1");
  EXPECT_EQ(view.name(), "web");
  EXPECT_EQ(view.uid(), "uid-1");
  EXPECT_EQ(view.namespace_(), "blue");
  EXPECT_EQ(view.runtime_handler(), "crun");
  EXPECT_EQ(view.labels().at("app"), "web");
  EXPECT_EQ(view.annotations().at("note"), "n");
  EXPECT_EQ(view.linux().cgroup_parent(), "/kubepods/pod1");
  EXPECT_THAT(view.ips(), ElementsAre("10.1.0.2", "fd01::2"));
  EXPECT_THAT(NamespacesOf(view), ElementsAre("network /run/pods/p1/net", "uts /run/pods/p1/uts",
                                              "ipc /run/pods/p1/ipc"));
  EXPECT_FALSE(view.linux().has_pod_overhead());
}

TEST(PodViewTest, OfTheHostsNamespacesNoneIsShown) {
  EXPECT_THAT(NamespacesOf(ViewOfPod(PodOf([](v1::PodConfig& config) {
                                       config.set_host_network(true);
                                       config.set_host_ipc(true);
                                     }),
                                     "/d", 0)),
              IsEmpty());
  const wire::PodSandbox shared = ViewOfPod(PodOf([](v1::PodConfig& config) {
                                              config.set_host_network(true);
                                              config.set_shared_pid(true);
                                            }),
                                            "/d", 77);
  EXPECT_THAT(NamespacesOf(shared), ElementsAre("ipc /d/ipc", "pid /d/pid"));
  EXPECT_EQ(shared.pid(), 77u);
}

TEST(PodViewTest, LimitsOfAPodThatAreSet) {
  const wire::PodSandbox view = ViewOfPod(PodOf([](v1::PodConfig& config) {
                                            config.mutable_resources()->set_memory_bytes(1 << 20);
                                            config.mutable_resources()->set_cpu_shares(512);
                                            config.mutable_overhead()->set_cpu_quota_micros(1000);
                                            config.mutable_overhead()->set_cpu_period_micros(5000);
                                          }),
                                          "/d", 0);
  EXPECT_EQ(view.linux().pod_resources().memory().limit().value(), 1 << 20);
  EXPECT_EQ(view.linux().pod_resources().cpu().shares().value(), 512u);
  EXPECT_FALSE(view.linux().pod_resources().cpu().has_quota());
  EXPECT_EQ(view.linux().pod_overhead().cpu().quota().value(), 1000);
  EXPECT_EQ(view.linux().pod_overhead().cpu().period().value(), 5000u);
  EXPECT_FALSE(view.linux().pod_overhead().has_memory());
}

TEST(PodViewTest, AContainerThatRunsIsShownByItsTask) {
  Process task;
  task.status = ProcessStatus::kRunning;
  task.pid = 42;
  task.started_at = absl::FromUnixSeconds(250);
  const wire::Container view = ViewOfContainer(Recorded(record::v1::ContainerState::RUNNING), task);
  EXPECT_EQ(view.id(), "c1");
  EXPECT_EQ(view.pod_sandbox_id(), "p1");
  EXPECT_EQ(view.name(), "app");
  EXPECT_EQ(view.state(), wire::CONTAINER_RUNNING);
  EXPECT_EQ(view.pid(), 42u);
  EXPECT_EQ(view.created_at(), 100000000000);
  EXPECT_EQ(view.started_at(), 250000000000);
  EXPECT_EQ(view.finished_at(), 0);
  EXPECT_EQ(view.image().name(), "docker.io/library/app:1");
  EXPECT_THAT(view.args(), ElementsAre("serve", "-p"));
  EXPECT_THAT(view.env(), ElementsAre("A=b"));
}

TEST(PodViewTest, StatesAreThoseOfTheTaskAndWithoutOneOfTheRecord) {
  const std::map<ProcessStatus, wire::ContainerState> states = {
      {ProcessStatus::kCreated, wire::CONTAINER_CREATED},
      {ProcessStatus::kRunning, wire::CONTAINER_RUNNING},
      {ProcessStatus::kPaused, wire::CONTAINER_PAUSED},
      {ProcessStatus::kPausing, wire::CONTAINER_PAUSED},
      {ProcessStatus::kStopped, wire::CONTAINER_STOPPED},
      {ProcessStatus::kUnknown, wire::CONTAINER_UNKNOWN}};
  for (const auto& [status, state] : states) {
    Process task;
    task.status = status;
    EXPECT_EQ(ViewOfContainer(Recorded(record::v1::ContainerState::CREATED), task).state(), state);
  }
  EXPECT_EQ(ViewOfContainer(Recorded(record::v1::ContainerState::CREATED), std::nullopt).state(),
            wire::CONTAINER_CREATED);
  const wire::Container ended =
      ViewOfContainer(Recorded(record::v1::ContainerState::STOPPED), std::nullopt);
  EXPECT_EQ(ended.state(), wire::CONTAINER_STOPPED);
  EXPECT_EQ(ended.exit_code(), 7);
  EXPECT_EQ(ended.finished_at(), 300000000000);
}

TEST(PodViewTest, ADamagedSpecHidesNothingElse) {
  LoadedContainer loaded = Recorded(record::v1::ContainerState::CREATED);
  loaded.record.mutable_spec()->set_value("{");
  const wire::Container view = ViewOfContainer(loaded, std::nullopt);
  EXPECT_EQ(view.id(), "c1");
  EXPECT_THAT(view.args(), IsEmpty());
}

TEST(PodViewTest, AContainerThatIsBeingMadeIsShownAsItIsAskedFor) {
  PodContainer wanted;
  wanted.name = "app";
  wanted.config.set_image("app:1");
  (*wanted.config.mutable_labels())["tier"] = "front";
  wanted.cdi_devices = {"vendor.example/gpu=0"};
  const wire::Container view = ViewOfNewContainer(wanted, "c2", "p1");
  EXPECT_EQ(view.id(), "c2");
  EXPECT_EQ(view.pod_sandbox_id(), "p1");
  EXPECT_EQ(view.name(), "app");
  EXPECT_EQ(view.state(), wire::CONTAINER_CREATED);
  EXPECT_EQ(view.labels().at("tier"), "front");
  EXPECT_EQ(view.image().name(), "app:1");
  ASSERT_EQ(view.cdi_devices_size(), 1);
  EXPECT_EQ(view.cdi_devices(0).name(), "vendor.example/gpu=0");
}

TEST(PodViewTest, LimitsComeBackFromPluginsAsTheyWent) {
  oci::Resources limits;
  limits.memory_limit_bytes = 64 << 20;
  limits.cpu_shares = 512;
  limits.cpu_quota_micros = 20000;
  limits.cpu_period_micros = 100000;
  limits.cpuset_cpus = "0-1";
  limits.pids_limit = 100;
  limits.hugepage_limits = {{"2MB", 4 << 20}};
  const absl::StatusOr<oci::Resources> back = FromPluginResources(ToPluginResources(limits));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, limits);
  EXPECT_EQ(*FromPluginResources(ToPluginResources({})), oci::Resources());
}

}  // namespace
}  // namespace gantry::core
