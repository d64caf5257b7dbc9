// Pods with the host's namespaces, which need no rights.
#include "supervisor/core/pod_service.h"

#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_namespaces.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/nri/fake_plugin.h"
#include "supervisor/nri/plugins.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class PodServiceTest : public ContainerFixture {
 protected:
  PodServiceTest() { MakePods(); }
  ~PodServiceTest() override {
    plugins_.reset();
    pods_.reset();
    sandboxes_.reset();
  }

  void MakePods() {
    sandboxes_ = std::make_unique<SandboxService>(stores_.sandboxes, events_, Clock::Real());
    PodService::Parts parts;
    parts.stores = &stores_;
    parts.sandboxes = sandboxes_.get();
    parts.records = records_.get();
    parts.lifecycle = lifecycle_.get();
    parts.tasks = tasks_.get();
    parts.images = nullptr;  // no container is created here
    parts.unpack = nullptr;
    parts.runtimes = runtimes_.get();
    parts.host = &host_;
    parts.events = &events_;
    parts.workers = workers_.get();
    parts.state_directory = dir_.Join("state");
    parts.plugins = plugins_.get();
    pods_ = std::make_unique<PodService>(parts);
  }
  // A new daemon.
  void Restart() {
    pods_.reset();
    sandboxes_.reset();
    BeginAgain();
    MakePods();
    ASSERT_TRUE(pods_->Recover().ok());
    workers_->WaitIdle();
  }

  static v1::PodConfig Pod(const std::string& name) {
    v1::PodConfig config;
    config.set_name(name);
    config.set_uid("uid-" + name);
    config.set_group("default");
    config.set_host_network(true);
    config.set_host_ipc(true);
    config.set_runtime("fake");
    return config;
  }
  // A container of the pod, as PodContainers::Create() leaves it.
  std::string MakeIn(const std::string& pod, const std::string& name) {
    metadata::NewContainer fresh;
    fresh.name = name;
    fresh.state.emplace();
    record::v1::Container& record = fresh.record;
    record.set_id(name + "0123456789abcdef");
    record.set_sandbox(pod);
    record.set_image("image");
    record.mutable_runtime()->set_name("io.containerd.runc.v2");
    record.mutable_spec()->set_type_url("spec");
    record.mutable_spec()->set_value(
        R"({"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},)"
        R"("linux":{"cgroupsPath":"/gantry-test-nowhere/c","resources":{}}})");
    record.set_snapshotter("native");
    record.set_snapshot_key(record.id());
    WriteIntent(Config(), record);
    metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
    EXPECT_TRUE(snapshots.Prepare(record.id(), "", {}).ok());
    EXPECT_TRUE(MakeDirectories(records_->Directory(kNs, record.id()), 0710).ok());
    EXPECT_TRUE(stores_.containers.Create({kNs, ""}, fresh).ok());
    return record.id();
  }

  // From here on pods are shown to a plugin of NRI that answers by `handlers`.
  std::unique_ptr<nri::FakePlugin> MakePlugin(
      std::map<std::string, nri::FakePlugin::Handler> handlers) {
    pods_.reset();
    sandboxes_.reset();
    plugins_ = std::make_unique<nri::Plugins>(nri::Plugins::Options());
    MakePods();
    pods_->StartPlugins();
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    plugins_->Adopt(UniqueFd(ends[0]));
    nri::FakePlugin::Options options;
    options.handlers = std::move(handlers);
    auto plugin = std::make_unique<nri::FakePlugin>(UniqueFd(ends[1]), std::move(options));
    EXPECT_TRUE(plugin->WaitFor("Synchronize"));
    return plugin;
  }
  static std::vector<std::string> Methods(const nri::FakePlugin& plugin) {
    std::vector<std::string> methods;
    for (const auto& [method, request] : plugin.calls()) methods.push_back(method);
    return methods;
  }

  std::unique_ptr<SandboxService> sandboxes_;
  std::unique_ptr<nri::Plugins> plugins_;
  std::unique_ptr<PodService> pods_;
};

TEST_F(PodServiceTest, APodIsReadyUntilItIsStoppedAndListedUntilItIsRemoved) {
  const absl::StatusOr<std::string> id = pods_->Run(context_, Pod("web"), "door");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_TRUE(pods_->Get(context_, *id)->ready);
  EXPECT_EQ(*pods_->Get(context_, id->substr(0, 10))->extension, "door");
  ASSERT_TRUE(pods_->Stop(context_, *id).ok());
  EXPECT_FALSE(pods_->Get(context_, *id)->ready);
  EXPECT_THAT(pods_->List(context_), SizeIs(1));
  ASSERT_TRUE(pods_->Remove(context_, *id).ok());
  EXPECT_THAT(pods_->List(context_), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(pods_->Get(context_, *id).status()));
}

TEST_F(PodServiceTest, APluginIsToldOfEachStepOnce) {
  const auto plugin = MakePlugin({});
  const std::string id = pods_->Run(context_, Pod("web"), "door").value();
  EXPECT_EQ(pods_->Run(context_, Pod("web"), "door").value(), id);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(pods_->Stop(context_, id).ok());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(pods_->Remove(context_, id).ok());
  EXPECT_THAT(Methods(*plugin), ElementsAre("Configure", "Synchronize", "RunPodSandbox",
                                            "StopPodSandbox", "RemovePodSandbox"));
}

TEST_F(PodServiceTest, APodThatAPluginRefusesIsNotThere) {
  bool refuse = true;
  const auto plugin =
      MakePlugin({{"RunPodSandbox", [&](const std::string&) -> absl::StatusOr<std::string> {
                     // Not shown before it was asked about.
                     EXPECT_THAT(pods_->List(context_), IsEmpty());
                     if (std::exchange(refuse, false)) return absl::AbortedError("later");
                     return std::string();
                   }}});
  const absl::Status refused = pods_->Run(context_, Pod("web"), "door").status();
  EXPECT_TRUE(absl::IsAborted(refused)) << refused;
  EXPECT_THAT(pods_->List(context_), IsEmpty());
  EXPECT_THAT(Methods(*plugin), Contains("RemovePodSandbox"));
  EXPECT_TRUE(pods_->Run(context_, Pod("web"), "door").ok());
}

TEST_F(PodServiceTest, RepeatedCallsFindTheWorkDone) {
  const std::string id = pods_->Run(context_, Pod("web"), "door").value();
  EXPECT_EQ(pods_->Run(context_, Pod("web"), "door").value(), id);
  EXPECT_TRUE(absl::IsAlreadyExists(pods_->Run(context_, Pod("web"), "other").status()));
  EXPECT_TRUE(pods_->Stop(context_, id).ok());
  EXPECT_TRUE(pods_->Stop(context_, id).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(pods_->Run(context_, Pod("web"), "door").status()));
  EXPECT_TRUE(pods_->Remove(context_, id).ok());
  EXPECT_TRUE(pods_->Remove(context_, id).ok());
  EXPECT_TRUE(pods_->Stop(context_, "0123").ok());
}

TEST_F(PodServiceTest, CallsForTheSamePodAtTheSameTimeMakeOne) {
  std::vector<std::thread> callers;
  std::vector<std::string> ids(8);
  for (std::string& id : ids) {
    callers.emplace_back(
        [this, &id] { id = pods_->Run(context_, Pod("web"), "door").value_or("failed"); });
  }
  for (std::thread& caller : callers) caller.join();
  for (const std::string& id : ids) EXPECT_EQ(id, ids.front());
  EXPECT_THAT(pods_->List(context_), SizeIs(1));
}

TEST_F(PodServiceTest, AStopEndsItsContainersAndARemovalTakesThem) {
  const std::string pod = pods_->Run(context_, Pod("web"), "").value();
  const std::string running = MakeIn(pod, "running");
  const std::string created = MakeIn(pod, "created");
  ASSERT_TRUE(pods_->containers().Start(context_, running).ok());
  // A repeated start finds it running.
  EXPECT_TRUE(pods_->containers().Start(context_, running).ok());
  ASSERT_TRUE(pods_->Stop(context_, pod).ok());
  workers_->WaitIdle();
  EXPECT_NE(tasks_->view().Get(kNs, running, "").value_or(Process()).status,
            ProcessStatus::kRunning);
  EXPECT_TRUE(absl::IsFailedPrecondition(pods_->containers().Start(context_, created)));
  ASSERT_TRUE(pods_->Remove(context_, pod).ok());
  EXPECT_TRUE(absl::IsNotFound(pods_->containers().Load(context_, created).status()));
  EXPECT_THAT(pods_->containers().List(context_).value(), IsEmpty());
}

TEST_F(PodServiceTest, StoppingAndRemovingWhatIsNotThereIsNoError) {
  EXPECT_TRUE(pods_->containers().Stop(context_, "nothing", absl::Seconds(1)).ok());
  EXPECT_TRUE(pods_->containers().Remove(context_, "nothing").ok());
}

TEST_F(PodServiceTest, ARestartKeepsPods) {
  const std::string ready = pods_->Run(context_, Pod("web"), "door").value();
  const std::string stopped = pods_->Run(context_, Pod("db"), "").value();
  ASSERT_TRUE(pods_->Stop(context_, stopped).ok());
  Restart();
  EXPECT_TRUE(pods_->Get(context_, ready)->ready);
  EXPECT_EQ(*pods_->Get(context_, ready)->extension, "door");
  EXPECT_EQ(pods_->Get(context_, ready)->config->name(), "web");
  EXPECT_FALSE(pods_->Get(context_, stopped)->ready);
}

// As on a machine that is a container itself: its processes and mounts end, and the kernel's boot
// is the same.
TEST_F(PodServiceTest, APodThatHasLostItsNamespacesIsStopped) {
  if (geteuid() != 0) GTEST_SKIP() << "namespaces need root";
  v1::PodConfig config = Pod("web");
  config.set_host_ipc(false);
  Restart();  // a daemon looks at what there is before it makes pods
  const std::string lost = pods_->Run(context_, config, "").value();
  const std::string kept = pods_->Run(context_, Pod("db"), "").value();
  Restart();
  EXPECT_TRUE(pods_->Get(context_, lost)->ready);
  ASSERT_TRUE(RemovePodNamespaces(dir_.Join(absl::StrCat("state/pods/", kNs, "/", lost))).ok());
  Restart();
  EXPECT_FALSE(pods_->Get(context_, lost)->ready);
  EXPECT_TRUE(sandboxes_->Get(kNs, lost)->stopped_at.has_value());
  EXPECT_TRUE(pods_->Get(context_, kept)->ready);
  EXPECT_TRUE(pods_->Remove(context_, lost).ok());
}

TEST_F(PodServiceTest, APodThatWasBeingMadeIsRemovedByTheNextDaemon) {
  v1::PodConfig config = Pod("web");
  record::v1::Sandbox record;
  record.set_sandbox_id("half");
  record.set_sandboxer("gantry.pods");
  record.mutable_runtime()->set_name("io.containerd.runc.v2");
  record.mutable_spec()->set_type_url("gantry.v1.PodConfig");
  record.mutable_spec()->set_value(config.SerializeAsString());
  ASSERT_TRUE(stores_.sandboxes.Create({kNs, ""}, record).ok());
  Restart();
  EXPECT_THAT(pods_->List(context_), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(stores_.sandboxes.Get({kNs, ""}, "half").status()));
}

TEST_F(PodServiceTest, AContainersLimitsAreOnRecord) {
  const std::string pod = pods_->Run(context_, Pod("web"), "").value();
  const std::string id = MakeIn(pod, "limited");
  oci::Resources change;
  change.memory_limit_bytes = 64 << 20;
  ASSERT_TRUE(pods_->containers().Update(context_, id, change, "cri", "new").ok());
  const LoadedContainer loaded = pods_->containers().Load(context_, id).value();
  EXPECT_EQ(loaded.record.extensions().at("cri").value(), "new");
  EXPECT_THAT(loaded.record.spec().value(), testing::HasSubstr("67108864"));
}

TEST_F(PodServiceTest, WhatAPodNeedsToBeNamedByIsRequired) {
  v1::PodConfig config = Pod("web");
  config.clear_uid();
  EXPECT_TRUE(absl::IsInvalidArgument(pods_->Run(context_, config, "").status()));
  config = Pod("web");
  config.set_runtime("nothing");
  EXPECT_TRUE(absl::IsNotFound(pods_->Run(context_, config, "").status()));
  EXPECT_THAT(pods_->List(context_), IsEmpty());
}

}  // namespace
}  // namespace gantry::core
