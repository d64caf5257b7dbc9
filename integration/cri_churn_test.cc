// Pods that come and go beside everything that goes wrong: network plugins and a runtime that fail
// or dawdle at each of their steps, and the daemon's death. Every call is repeated until it
// succeeds, as kubelet does; then nothing is left.
//
// $GANTRY_CHURN_PODS says how many pods (12).
#include <atomic>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "integration/cri_bed.h"

namespace gantry::integration {
namespace {

using testing::IsEmpty;

// Notes addresses as a plugin of the ipam kind does. "VERB" in the file `fault` makes that verb
// fail, "slow-VERB" makes it take its time, "hang-VERB" makes it wait for ever.
constexpr char kPlugin[] = R"(#!/bin/sh
here=$(dirname "$0")/..
fault=$(cat "$here/fault" 2>/dev/null)
answer() { echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.9.0.2/24","interface":0}]}'; }
refuse() { echo '{"cniVersion":"1.0.0","code":100,"msg":"told to fail at '$CNI_COMMAND'"}'; exit 1; }
[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; exit 0; }
[ "$CNI_COMMAND" = ADD ] && : > "$here/addresses/$CNI_CONTAINERID"
[ "$fault" = "slow-$CNI_COMMAND" ] && sleep 1
[ "$fault" = "hang-$CNI_COMMAND" ] && exec sleep 98772
[ "$fault" = "$CNI_COMMAND" ] && refuse
[ "$CNI_COMMAND" = DEL ] && rm -f "$here/addresses/$CNI_CONTAINERID"
[ "$CNI_COMMAND" = ADD ] && answer
exit 0
)";

// Fails at the verb that the file names.
constexpr char kRuntime[] = R"(#!/bin/sh
here=$(dirname "$0")/..
fault=$(cat "$here/fault" 2>/dev/null)
for word in "$@"; do
  [ "runtime-$word" = "$fault" ] && { echo "told to fail at $word" >&2; exit 1; }
done
exec runc "$@"
)";

constexpr const char* kFaults[] = {
    "ADD",           "slow-ADD",    "DEL",          "slow-DEL",       "runtime-create",
    "runtime-start", "runtime-run", "runtime-kill", "runtime-delete", ""};

class CriChurnTest : public CriTest {
 protected:
  std::string Config() override {
    for (const char* directory : {"bin", "net.d", "addresses"})
      EXPECT_TRUE(MakeDirectories(place_.Join(directory)).ok());
    EXPECT_TRUE(WriteFile(place_.Join("bin/faulty"), kPlugin, 0755).ok());
    EXPECT_TRUE(WriteFile(place_.Join("bin/faulty-runtime"), kRuntime, 0755).ok());
    EXPECT_TRUE(WriteFile(place_.Join("net.d/10-test.conflist"),
                          R"({"cniVersion":"1.0.0","name":"test","plugins":[{"type":"faulty"}]})")
                    .ok());
    return absl::StrCat("default_runtime = \"faulty\"\n[runtimes.faulty]\npath = \"",
                        place_.Join("bin/faulty-runtime"), "\"\n[cni]\nconf_dir = \"",
                        place_.Join("net.d"), "\"\nbin_dirs = [\"", place_.Join("bin"), "\"]\n");
  }
  void SetFault(const std::string& fault) {
    EXPECT_TRUE(WriteFileAtomic(place_.Join("fault"), fault).ok());
  }

  // Until it succeeds; false when it never does.
  static bool Insist(const std::string& what, const std::function<grpc::Status()>& call) {
    grpc::Status last;
    for (int i = 0; i < 200; ++i) {
      last = call();
      if (last.ok()) return true;
      absl::SleepFor(absl::Milliseconds(200));
    }
    ADD_FAILURE() << what << ": " << last.error_message();
    return false;
  }
  bool RemoveContainerOf(const std::string& id) {
    return Insist("RemoveContainer", [&] {
      wire::RemoveContainerRequest request;
      request.set_container_id(id);
      wire::RemoveContainerResponse response;
      return Call(&wire::RuntimeService::Stub::RemoveContainer, request, &response);
    });
  }
  // One that runs. A start that fails ends a container: another one takes its place.
  bool RunContainer(const std::string& pod, const std::string& name) {
    for (int attempt = 0; attempt < 50; ++attempt) {
      std::string id;
      const std::string this_one = absl::StrCat(name, "-", attempt);
      if (!Insist("CreateContainer",
                  [&] { return Create(pod, this_one, "exec sleep 100000", wire::CONTAINER, &id); }))
        return false;
      if (Start(id).ok()) return true;
      if (!RemoveContainerOf(id)) return false;
    }
    ADD_FAILURE() << name << " never starts";
    return false;
  }
  void LifeOfAPod(const std::string& name) {
    wire::PodSandboxConfig config = PodConfig(name);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
        wire::POD);
    std::string pod;
    if (!Insist("RunPodSandbox", [&] { return Run(config, &pod); })) return;
    RunContainer(pod, "one");
    RunContainer(pod, "two");
    Insist("StopPodSandbox", [&] {
      wire::StopPodSandboxRequest request;
      request.set_pod_sandbox_id(pod);
      wire::StopPodSandboxResponse response;
      return Call(&wire::RuntimeService::Stub::StopPodSandbox, request, &response);
    });
    Insist("RemovePodSandbox", [&] {
      wire::RemovePodSandboxRequest request;
      request.set_pod_sandbox_id(pod);
      wire::RemovePodSandboxResponse response;
      return Call(&wire::RuntimeService::Stub::RemovePodSandbox, request, &response);
    });
  }

  TempDir place_;
};

TEST_F(CriChurnTest, NothingIsLeftOfPodsThatComeAndGoBesideFaultsAndKills) {
  int pods = 12;
  if (const char* wanted = getenv("GANTRY_CHURN_PODS"); wanted != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(wanted, &pods));
  }
  std::atomic<int> next = 0;
  std::atomic<int> working = 4;
  std::vector<std::thread> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&] {
      for (int pod = next++; pod < pods; pod = next++) LifeOfAPod(absl::StrCat("churn-", pod));
      --working;
    });
  }
  size_t fault = 0;
  while (working > 0) {
    SetFault(kFaults[fault % std::size(kFaults)]);
    absl::SleepFor(absl::Seconds(1));
    // Lists wait for nothing of it.
    wire::ListPodSandboxResponse listed;
    grpc::ClientContext soon;
    soon.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    const grpc::Status answer =
        runtime_->ListPodSandbox(&soon, wire::ListPodSandboxRequest(), &listed);
    EXPECT_TRUE(answer.ok()) << kFaults[fault % std::size(kFaults)] << ": "
                             << answer.error_message();
    if (++fault % 4 == 0) {
      bed_->KillDaemon();
      ASSERT_TRUE(bed_->StartDaemon());
      // As in Pods().
      Insist("ListPodSandbox", [&] {
        return Call(&wire::RuntimeService::Stub::ListPodSandbox, wire::ListPodSandboxRequest(),
                    &listed);
      });
    }
  }
  SetFault("");
  for (std::thread& worker : workers) worker.join();

  EXPECT_TRUE(Pods().empty());
  wire::ListContainersResponse containers;
  EXPECT_TRUE(
      Call(&wire::RuntimeService::Stub::ListContainers, wire::ListContainersRequest(), &containers)
          .ok());
  EXPECT_EQ(containers.containers_size(), 0);
  // A DEL that failed is repeated by itself.
  EXPECT_TRUE(Eventually(
      [&] {
        return ListDirectory(place_.Join("addresses")).value_or(std::vector<std::string>()).empty();
      },
      absl::Seconds(90)));
  EXPECT_THAT(ListDirectory(place_.Join("addresses")).value(), IsEmpty());
  EXPECT_THAT(ListDirectory(bed_->state() + "/pods/k8s.io").value_or(std::vector<std::string>()),
              IsEmpty());
  // The record goes after the plugin has given the address back.
  const auto records = [&] {
    return ListDirectory(bed_->root() + "/cni").value_or(std::vector<std::string>());
  };
  EXPECT_TRUE(Eventually([&] { return records().empty(); }));
  EXPECT_THAT(records(), IsEmpty());
  const std::string mounts = ReadFile("/proc/self/mountinfo", 64 << 20).value();
  EXPECT_EQ(mounts.find(bed_->state() + "/pods/k8s.io"), std::string::npos);
}

TEST_F(CriChurnTest, APluginThatFailsAtItsDelDoesNotKeepAPod) {
  wire::PodSandboxConfig config = PodConfig("stuck");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      wire::POD);
  std::string pod;
  grpc::Status status = Run(config, &pod);
  ASSERT_TRUE(status.ok()) << status.error_message();
  SetFault("DEL");
  Remove(pod);
  EXPECT_TRUE(Pods().empty());
  EXPECT_EQ(ListDirectory(place_.Join("addresses")).value().size(), 1u);
  bed_->KillDaemon();
  SetFault("");
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_TRUE(Eventually([&] { return ListDirectory(place_.Join("addresses")).value().empty(); }));
}

TEST_F(CriChurnTest, APluginThatHangsHoldsItsOwnPodUpOnlyAndLeavesNoAddress) {
  const auto config = [this](const std::string& name) {
    wire::PodSandboxConfig made = PodConfig(name);
    made.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
        wire::POD);
    return made;
  };
  const auto addresses = [this] { return ListDirectory(place_.Join("addresses")).value().size(); };
  SetFault("hang-ADD");
  std::thread first([&] {
    wire::RunPodSandboxRequest request;
    *request.mutable_config() = config("hangs");
    wire::RunPodSandboxResponse response;
    grpc::ClientContext patient;
    EXPECT_FALSE(runtime_->RunPodSandbox(&patient, request, &response).ok());
  });
  EXPECT_TRUE(Eventually([&] { return addresses() == 1; }));
  SetFault("");
  std::string other;
  const grpc::Status status = Run(config("other"), &other);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Pods().size(), 1u);
  bed_->KillDaemon();
  first.join();
  ASSERT_TRUE(bed_->StartDaemon());
  // That of the pod that was never there is given back, and the pod goes.
  EXPECT_TRUE(Eventually([&] { return addresses() == 1 && Pods().size() == 1; }));
  SetFault("hang-DEL");
  // It fails, since the daemon goes.
  std::thread removal([&] {
    wire::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(other);
    wire::RemovePodSandboxResponse response;
    grpc::ClientContext patient;
    (void)runtime_->RemovePodSandbox(&patient, request, &response);
  });
  absl::SleepFor(absl::Milliseconds(500));
  bed_->KillDaemon();
  SetFault("");
  ASSERT_TRUE(bed_->StartDaemon());
  removal.join();
  Remove(other);
  EXPECT_TRUE(Pods().empty());
  EXPECT_TRUE(Eventually([&] { return addresses() == 0; }));
}

TEST_F(CriChurnTest, ACallThatIsRepeatedWhileTheFirstOneWaitsGetsTheSamePod) {
  SetFault("slow-ADD");
  wire::PodSandboxConfig config = PodConfig("slow");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      wire::POD);
  {
    wire::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    wire::RunPodSandboxResponse response;
    grpc::ClientContext impatient;
    impatient.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
    EXPECT_EQ(runtime_->RunPodSandbox(&impatient, request, &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  std::string pod, again;
  grpc::Status status = Run(config, &pod);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_TRUE(Run(config, &again).ok());
  EXPECT_EQ(pod, again);
  EXPECT_EQ(Pods().size(), 1u);
  EXPECT_EQ(ListDirectory(place_.Join("addresses")).value().size(), 1u);
}

}  // namespace
}  // namespace gantry::integration
