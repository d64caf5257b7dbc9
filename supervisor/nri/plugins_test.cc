#include "supervisor/nri/plugins.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/nri/fake_plugin.h"

namespace gantry::nri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Round = Plugins::Round;

class PluginsTest : public testing::Test {
 protected:
  PluginsTest() { Make(absl::Seconds(5), absl::Seconds(2)); }
  ~PluginsTest() override { plugins_.reset(); }

  void Make(absl::Duration registration, absl::Duration request) {
    Plugins::Options options;
    options.plugin_directory = dir_.Join("plugins");
    options.config_directory = dir_.Join("conf.d");
    options.registration_timeout = registration;
    options.request_timeout = request;
    options.runtime_version = "1.2";
    plugins_ = std::make_unique<Plugins>(options);
  }
  void Start() {
    Plugins::Host host;
    host.list = [this](std::vector<wire::PodSandbox>& pods,
                       std::vector<wire::Container>& containers) {
      absl::MutexLock lock(&mu_);
      pods = pods_;
      containers = containers_;
    };
    host.update = [this](const wire::ContainerUpdate& update) -> absl::Status {
      absl::MutexLock lock(&mu_);
      updated_.push_back(update.container_id());
      return update.container_id() == "unknown" ? absl::NotFoundError("none") : absl::OkStatus();
    };
    host.evict = [this](const wire::ContainerEviction& eviction) {
      absl::MutexLock lock(&mu_);
      evicted_.push_back(eviction.container_id());
      return absl::OkStatus();
    };
    plugins_->Start(host);
  }

  std::unique_ptr<FakePlugin> Join(FakePlugin::Options options) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    plugins_->Adopt(UniqueFd(ends[0]));
    return std::make_unique<FakePlugin>(UniqueFd(ends[1]), std::move(options));
  }
  std::unique_ptr<FakePlugin> Ready(FakePlugin::Options options) {
    const size_t before = plugins_->names().size();
    std::unique_ptr<FakePlugin> plugin = Join(std::move(options));
    for (int i = 0; i < 1000 && plugins_->names().size() == before; ++i)
      absl::SleepFor(absl::Milliseconds(5));
    EXPECT_TRUE(plugin->WaitFor("Synchronize"));
    return plugin;
  }

  static FakePlugin::Options Named(const std::string& index, const std::string& name) {
    FakePlugin::Options options;
    options.index = index;
    options.name = name;
    return options;
  }
  static FakePlugin::Handler Adjusts(std::function<void(wire::ContainerAdjustment&)> change) {
    return FakePlugin::On<wire::CreateContainerRequest, wire::CreateContainerResponse>(
        [change](const wire::CreateContainerRequest&) {
          wire::CreateContainerResponse response;
          change(*response.mutable_adjust());
          return response;
        });
  }
  absl::StatusOr<Plugins::Created> Create(nlohmann::json& spec) {
    Round round(*plugins_, Round::Of::kMaking);
    return round.CreateContainer(Pod(), Box(), spec);
  }
  absl::Status RunPod() {
    Round round(*plugins_, Round::Of::kMaking);
    return round.RunPodSandbox(Pod());
  }
  static wire::PodSandbox Pod() {
    wire::PodSandbox pod;
    pod.set_id("pod-1");
    return pod;
  }
  static wire::Container Box() {
    wire::Container container;
    container.set_id("box-1");
    container.set_pod_sandbox_id("pod-1");
    return container;
  }

  TempDir dir_;
  absl::Mutex mu_;
  std::vector<wire::PodSandbox> pods_;
  std::vector<wire::Container> containers_;
  std::vector<std::string> updated_;
  std::vector<std::string> evicted_;
  std::unique_ptr<Plugins> plugins_;
};

TEST_F(PluginsTest, APluginIsConfiguredAndShownWhatThereIs) {
  ASSERT_TRUE(MakeDirectories(dir_.Join("conf.d")).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("conf.d/10-fake.conf"), "level: 3\n").ok());
  pods_ = {Pod()};
  containers_ = {Box()};
  Start();
  const auto plugin = Ready(Named("10", "fake"));
  EXPECT_TRUE(plugin->registered().ok());
  EXPECT_THAT(plugins_->names(), ElementsAre("10-fake"));
  const auto calls = plugin->calls();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0].first, "Configure");
  wire::ConfigureRequest configure;
  configure.ParseFromString(calls[0].second);
  EXPECT_EQ(configure.config(), "level: 3\n");
  EXPECT_EQ(configure.runtime_name(), "gantry");
  EXPECT_EQ(configure.runtime_version(), "1.2");
  EXPECT_EQ(configure.registration_timeout(), 5000);
  EXPECT_EQ(configure.request_timeout(), 2000);
  wire::SynchronizeRequest synchronize;
  synchronize.ParseFromString(calls[1].second);
  ASSERT_EQ(synchronize.pods_size(), 1);
  EXPECT_EQ(synchronize.pods(0).id(), "pod-1");
  ASSERT_EQ(synchronize.containers_size(), 1);
  EXPECT_FALSE(synchronize.more());
}

TEST_F(PluginsTest, OneThatConnectsBeforeTheStartIsTakenAfterIt) {
  const auto plugin = Join(Named("10", "early"));
  EXPECT_FALSE(plugin->WaitFor("Configure", 1, absl::Milliseconds(50)));
  Start();
  EXPECT_TRUE(plugin->WaitFor("Synchronize"));
}

TEST_F(PluginsTest, PluginsAreAskedInTheOrderOfTheirIndices) {
  Start();
  const auto second = Ready([] {
    FakePlugin::Options options = Named("20", "second");
    options.handlers["CreateContainer"] =
        FakePlugin::On<wire::CreateContainerRequest, wire::CreateContainerResponse>(
            [](const wire::CreateContainerRequest& request) {
              wire::CreateContainerResponse response;
              (*response.mutable_adjust()->mutable_annotations())["seen"] =
                  request.container().env_size() > 0 ? request.container().env(0) : "";
              return response;
            });
    return options;
  }());
  FakePlugin::Options options = Named("10", "first");
  options.handlers["CreateContainer"] = Adjusts([](wire::ContainerAdjustment& adjust) {
    wire::KeyValue& env = *adjust.add_env();
    env.set_key("A");
    env.set_value("1");
  });
  const auto first = Ready(std::move(options));
  EXPECT_THAT(plugins_->names(), ElementsAre("10-first", "20-second"));
  nlohmann::json spec = nlohmann::json::object();
  ASSERT_TRUE(Create(spec).ok());
  EXPECT_EQ(spec["process"]["env"], nlohmann::json::array({"A=1"}));
  EXPECT_EQ(spec["annotations"]["seen"], "A=1");
}

TEST_F(PluginsTest, WhatTwoPluginsSetIsRefusedByTheirNames) {
  Start();
  std::vector<std::unique_ptr<FakePlugin>> both;
  for (const char* index : {"10", "20"}) {
    FakePlugin::Options options = Named(index, "x");
    options.handlers["CreateContainer"] = Adjusts([](wire::ContainerAdjustment& adjust) {
      adjust.mutable_linux()->mutable_resources()->mutable_cpu()->set_cpus("0");
    });
    both.push_back(Ready(std::move(options)));
  }
  nlohmann::json spec = nlohmann::json::object();
  const absl::Status refused = Create(spec).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("NRI plugins 10-x and 20-x both set CPU set of container box-1"));
}

TEST_F(PluginsTest, OnlyWhatItSubscribedToIsAskedOfAPlugin) {
  Start();
  FakePlugin::Options options;
  options.events = 1 << (wire::CREATE_CONTAINER - 1);
  const auto plugin = Ready(std::move(options));
  nlohmann::json spec = nlohmann::json::object();
  ASSERT_TRUE(Create(spec).ok());
  ASSERT_TRUE(RunPod().ok());
  EXPECT_EQ(plugin->count("CreateContainer"), 1);
  EXPECT_EQ(plugin->count("RunPodSandbox"), 0);
}

TEST_F(PluginsTest, AnErrorOfAPluginIsTheCallsError) {
  Start();
  FakePlugin::Options options;
  options.handlers["RunPodSandbox"] = [](const std::string&) -> absl::StatusOr<std::string> {
    return absl::ResourceExhaustedError("no more of it");
  };
  const auto plugin = Ready(std::move(options));
  const absl::Status refused = RunPod();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(refused.message(), "NRI plugin 10-fake: RunPodSandbox: no more of it");
  EXPECT_THAT(plugins_->names(), ElementsAre("10-fake"));
}

TEST_F(PluginsTest, APluginThatHangsIsPassedOverAndDropped) {
  Make(absl::Seconds(5), absl::Milliseconds(100));
  Start();
  absl::Notification release;
  FakePlugin::Options options;
  options.handlers["RunPodSandbox"] = [&release](const std::string&) {
    release.WaitForNotification();
    return std::string();
  };
  const auto plugin = Ready(std::move(options));
  EXPECT_TRUE(RunPod().ok());
  EXPECT_TRUE(plugin->WaitClosed());
  EXPECT_TRUE(RunPod().ok());
  EXPECT_EQ(plugin->count("RunPodSandbox"), 1);
  release.Notify();
}

TEST_F(PluginsTest, APluginThatDiesInACallHarmsNobody) {
  Start();
  std::atomic<FakePlugin*> self = nullptr;
  FakePlugin::Options options;
  options.handlers["CreateContainer"] = [&self](const std::string&) -> std::string {
    self.load()->Close();
    return "";
  };
  const auto plugin = Ready(std::move(options));
  self = plugin.get();
  const auto other = Ready(Named("20", "other"));
  nlohmann::json spec = nlohmann::json::object();
  EXPECT_TRUE(Create(spec).ok());
  EXPECT_EQ(other->count("CreateContainer"), 1);
  for (int i = 0; i < 1000 && plugins_->names().size() > 1; ++i)
    absl::SleepFor(absl::Milliseconds(5));
  EXPECT_THAT(plugins_->names(), ElementsAre("20-other"));
}

TEST_F(PluginsTest, OneThatDoesNotRegisterIsDropped) {
  Make(absl::Milliseconds(100), absl::Milliseconds(100));
  Start();
  FakePlugin::Options options;
  options.registers = false;
  const auto plugin = Join(std::move(options));
  EXPECT_TRUE(plugin->WaitClosed());
  EXPECT_THAT(plugins_->names(), IsEmpty());
}

TEST_F(PluginsTest, NamesThatAreNoneAreRefused) {
  Start();
  for (const auto& [index, name] : std::vector<std::pair<std::string, std::string>>{
           {"1", "a"}, {"100", "a"}, {"1x", "a"}, {"10", ""}, {"10", "../a"}, {"10", "a b"}}) {
    const auto plugin = Join(Named(index, name));
    EXPECT_TRUE(absl::IsInvalidArgument(plugin->registered())) << index << " " << name;
  }
}

TEST_F(PluginsTest, NoContainerIsMissedByAPluginThatJoinsMeanwhile) {
  Start();
  auto before = std::make_unique<Round>(*plugins_, Round::Of::kMaking);
  absl::Notification synchronizing, release;
  FakePlugin::Options options;
  options.handlers["Synchronize"] = [&](const std::string&) -> std::string {
    synchronizing.Notify();
    release.WaitForNotification();
    return "";
  };
  const auto plugin = Join(std::move(options));
  // What is under way is waited for, so that it is shown.
  EXPECT_FALSE(synchronizing.WaitForNotificationWithTimeout(absl::Milliseconds(100)));
  {
    absl::MutexLock lock(&mu_);
    containers_ = {Box()};
  }
  before.reset();
  synchronizing.WaitForNotification();
  wire::SynchronizeRequest shown;
  shown.ParseFromString(plugin->calls().back().second);
  EXPECT_EQ(shown.containers_size(), 1);

  // What begins now waits until the plugin has seen the rest, and what ends is told later.
  {
    Round ending(*plugins_, Round::Of::kEnding);
    ending.RemoveContainer(Pod(), Box());
  }
  std::atomic<bool> created = false;
  std::thread creating([&] {
    nlohmann::json spec = nlohmann::json::object();
    EXPECT_TRUE(Create(spec).ok());
    created = true;
  });
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_FALSE(created);
  release.Notify();
  creating.join();
  EXPECT_TRUE(plugin->WaitFor("CreateContainer"));
  std::vector<std::string> methods;
  for (const auto& [method, request] : plugin->calls()) methods.push_back(method);
  EXPECT_THAT(methods, ElementsAre("Configure", "Synchronize", "RemoveContainer", "CreateContainer",
                                   "ValidateContainerAdjustment"));
}

TEST_F(PluginsTest, MuchIsShownInParts) {
  for (int i = 0; i < 40; ++i) {
    containers_.push_back(Box());
    containers_.back().set_id(absl::StrCat("box-", i));
    (*containers_.back().mutable_annotations())["long"] = std::string(200 << 10, 'x');
  }
  Start();
  std::atomic<int> containers = 0, parts = 0;
  FakePlugin::Options options;
  options.handlers["Synchronize"] =
      FakePlugin::On<wire::SynchronizeRequest, wire::SynchronizeResponse>(
          [&](const wire::SynchronizeRequest& request) {
            containers += request.containers_size();
            ++parts;
            wire::SynchronizeResponse response;
            response.set_more(request.more());
            if (!request.more()) response.add_update()->set_container_id("box-7");
            return response;
          });
  const auto plugin = Ready(std::move(options));
  for (int i = 0; i < 1000; ++i) {
    absl::MutexLock lock(&mu_);
    if (!updated_.empty()) break;
    mu_.AwaitWithTimeout(
        absl::Condition(
            +[](std::vector<std::string>* all) { return !all->empty(); }, &updated_),
        absl::Milliseconds(10));
  }
  EXPECT_EQ(containers, 40);
  EXPECT_GT(parts, 2);
  absl::MutexLock lock(&mu_);
  EXPECT_THAT(updated_, ElementsAre("box-7"));
}

TEST_F(PluginsTest, AnOldPluginIsToldByChangesOfState) {
  Start();
  FakePlugin::Options options;
  for (const char* method : {"RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"}) {
    options.handlers[method] = [](const std::string&) -> absl::StatusOr<std::string> {
      return absl::UnimplementedError("unknown method");
    };
  }
  const auto plugin = Ready(std::move(options));
  EXPECT_TRUE(RunPod().ok());
  Round round(*plugins_, Round::Of::kEnding);
  round.StopPodSandbox(Pod());
  EXPECT_EQ(plugin->count("RunPodSandbox"), 1);
  EXPECT_EQ(plugin->count("StopPodSandbox"), 0);
  ASSERT_EQ(plugin->count("StateChange"), 2);
  wire::StateChangeEvent event;
  event.ParseFromString(plugin->calls().back().second);
  EXPECT_EQ(event.event(), wire::STOP_POD_SANDBOX);
  EXPECT_EQ(event.pod().id(), "pod-1");
}

TEST_F(PluginsTest, AValidatorRejectsWhatOthersHaveAdjusted) {
  Start();
  FakePlugin::Options options = Named("10", "hooks");
  options.handlers["CreateContainer"] = Adjusts([](wire::ContainerAdjustment& adjust) {
    adjust.mutable_hooks()->add_poststop()->set_path("/bin/true");
  });
  const auto adjusting = Ready(std::move(options));
  FakePlugin::Options strict = Named("90", "strict");
  strict.events = 1 << (wire::VALIDATE_CONTAINER_ADJUSTMENT - 1);
  strict.handlers["ValidateContainerAdjustment"] =
      FakePlugin::On<wire::ValidateContainerAdjustmentRequest,
                     wire::ValidateContainerAdjustmentResponse>(
          [](const wire::ValidateContainerAdjustmentRequest& request) {
            wire::ValidateContainerAdjustmentResponse response;
            const auto& owners = request.owners().owners();
            const auto box = owners.find("box-1");
            const bool hooks = box != owners.end() &&
                               box->second.simple().count(wire::OciHooks) > 0 &&
                               request.adjust().hooks().poststop_size() == 1;
            response.set_reject(hooks);
            response.set_reason("no hooks");
            return response;
          });
  const auto validating = Ready(std::move(strict));
  nlohmann::json spec = nlohmann::json::object();
  const absl::Status refused = Create(spec).status();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("90-strict rejects"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("no hooks"));
}

TEST_F(PluginsTest, UpdatesGoFromPluginToPlugin) {
  Start();
  FakePlugin::Options options = Named("10", "first");
  options.handlers["UpdateContainer"] =
      FakePlugin::On<wire::UpdateContainerRequest, wire::UpdateContainerResponse>(
          [](const wire::UpdateContainerRequest& request) {
            wire::UpdateContainerResponse response;
            wire::ContainerUpdate& own = *response.add_update();
            own.set_container_id(request.container().id());
            own.mutable_linux()->mutable_resources()->mutable_cpu()->set_cpus("0-1");
            wire::ContainerUpdate& other = *response.add_update();
            other.set_container_id("box-2");
            other.mutable_linux()->mutable_resources()->mutable_cpu()->set_cpus("2");
            return response;
          });
  const auto first = Ready(std::move(options));
  const auto second = Ready(Named("20", "second"));
  wire::LinuxResources resources;
  resources.mutable_memory()->mutable_limit()->set_value(1 << 20);
  Round round(*plugins_, Round::Of::kMaking);
  const absl::StatusOr<Plugins::Updated> updated = round.UpdateContainer(Pod(), Box(), resources);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->resources.cpu().cpus(), "0-1");
  EXPECT_EQ(updated->resources.memory().limit().value(), 1 << 20);
  ASSERT_EQ(updated->updates.size(), 1u);
  EXPECT_EQ(updated->updates[0].container_id(), "box-2");
  wire::UpdateContainerRequest seen;
  seen.ParseFromString(second->calls().back().second);
  EXPECT_EQ(seen.linux_resources().cpu().cpus(), "0-1");
}

TEST_F(PluginsTest, APluginAsksForUpdatesAndEvictionsByItself) {
  Start();
  const auto plugin = Ready({});
  // It is ready once it was asked something.
  ASSERT_TRUE(RunPod().ok());
  wire::UpdateContainersRequest request;
  for (const char* id : {"box-1", "unknown"}) request.add_update()->set_container_id(id);
  wire::ContainerUpdate& quiet = *request.add_update();
  quiet.set_container_id("unknown");
  quiet.set_ignore_failure(true);
  request.add_evict()->set_container_id("box-3");
  const absl::StatusOr<std::string> answer =
      plugin->CallRuntime("UpdateContainers", request.SerializeAsString());
  ASSERT_TRUE(answer.ok()) << answer.status();
  wire::UpdateContainersResponse response;
  response.ParseFromString(*answer);
  ASSERT_EQ(response.failed_size(), 1);
  EXPECT_EQ(response.failed(0).container_id(), "unknown");
  absl::MutexLock lock(&mu_);
  EXPECT_THAT(updated_, ElementsAre("box-1", "unknown", "unknown"));
  EXPECT_THAT(evicted_, ElementsAre("box-3"));
}

TEST_F(PluginsTest, WhatIsNoAnswerEndsTheConnection) {
  Start();
  FakePlugin::Options options;
  options.handlers["CreateContainer"] = [](const std::string&) -> std::string {
    return "\x0a\xff\xff\xff";
  };
  const auto plugin = Ready(std::move(options));
  nlohmann::json spec = nlohmann::json::object();
  EXPECT_TRUE(Create(spec).ok());
  EXPECT_TRUE(plugin->WaitClosed());
}

TEST_F(PluginsTest, ProgramsOfTheDirectoryAreStartedAndWaitedFor) {
  Make(absl::Milliseconds(300), absl::Milliseconds(300));
  ASSERT_TRUE(MakeDirectories(dir_.Join("plugins")).ok());
  const std::string script =
      absl::StrCat("#!/bin/sh\necho $NRI_PLUGIN_IDX $NRI_PLUGIN_NAME $NRI_PLUGIN_SOCKET > ",
                   dir_.Join("out"), "\nexec sleep 100 3<&-\n");
  ASSERT_TRUE(WriteFile(dir_.Join("plugins/05-quiet"), script, 0755).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("plugins/README"), "none\n", 0644).ok());
  Start();
  // It closes its connection, so nobody waits for its registration to time out.
  EXPECT_TRUE(RunPod().ok());
  EXPECT_EQ(ReadFile(dir_.Join("out"), 100).value_or(""), "05 quiet 3\n");
  EXPECT_THAT(plugins_->names(), IsEmpty());
}

}  // namespace
}  // namespace gantry::nri
