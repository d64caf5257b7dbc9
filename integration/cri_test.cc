// Pods and their containers as the kubelet makes them, on a real daemon with real runtimes. What
// Kubernetes' own suite says is looked at by integration/cri; here is what it does not look at:
// the daemon's death, repeated calls, and what is left behind.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/cri_bed.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;

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

TEST_F(CriTest, AReopenedLogIsThereWhenTheAnswerComes) {
  std::string pod;
  ASSERT_TRUE(Run(PodConfig("talks"), &pod).ok());
  std::string id;
  // Busy with output, so that a shim that answers first has much to do before the new file.
  ASSERT_TRUE(
      Create(pod, "main", "trap 'exit 0' TERM; while :; do echo line; done", wire::CONTAINER, &id)
          .ok());
  ASSERT_TRUE(Start(id).ok());
  const std::string log = Status(id).log_path();
  wire::ReopenContainerLogRequest request;
  request.set_container_id(id);
  wire::ReopenContainerLogResponse response;
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(rename(log.c_str(), (log + ".old").c_str()), 0) << "round " << round;
    const grpc::Status status =
        Call(&wire::RuntimeService::Stub::ReopenContainerLog, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(access(log.c_str(), F_OK), 0) << "round " << round;
  }

  // What cannot be opened is told.
  ASSERT_EQ(rename(log.c_str(), (log + ".old").c_str()), 0);
  ASSERT_EQ(mkdir(log.c_str(), 0755), 0);
  const grpc::Status refused =
      Call(&wire::RuntimeService::Stub::ReopenContainerLog, request, &response);
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(refused.error_message(), HasSubstr(log));
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

TEST_F(CriTest, ACommandWhoseCallerHasGoneIsKilled) {
  std::string pod;
  ASSERT_TRUE(Run(PodConfig("left"), &pod).ok());
  std::string id;
  ASSERT_TRUE(Create(pod, "main", "exec sleep 98768", wire::CONTAINER, &id).ok());
  ASSERT_TRUE(Start(id).ok());
  wire::ExecSyncRequest request;
  request.set_container_id(id);
  for (const char* word : {"sleep", "98769"}) request.add_cmd(word);
  wire::ExecSyncResponse answer;
  grpc::ClientContext impatient;
  impatient.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
  EXPECT_EQ(runtime_->ExecSync(&impatient, request, &answer).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] {
    return Exec(id, {"ps"}, 10, &answer).ok() && !absl::StrContains(answer.stdout(), "98769");
  })) << answer.stdout();
}

TEST_F(CriTest, AContainerThatCannotBeStartedHasEnded) {
  std::string pod;
  ASSERT_TRUE(Run(PodConfig("broken"), &pod).ok());
  wire::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  request.mutable_config()->mutable_metadata()->set_name("main");
  request.mutable_config()->mutable_image()->set_image(kCriImage);
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

TEST_F(CriTest, WhatStatusSaysOfFeaturesIsSo) {
  wire::StatusResponse said;
  ASSERT_TRUE(Call(&wire::RuntimeService::Stub::Status, wire::StatusRequest(), &said).ok());
  EXPECT_TRUE(said.features().supplemental_groups_policy());
  if (!said.features().user_namespaces_host_network())
    GTEST_SKIP() << "the default runtime has no user namespaces here";

  wire::PodSandboxConfig config = PodConfig("apart");
  wire::NamespaceOption& namespaces =
      *config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  namespaces.mutable_userns_options()->set_mode(wire::POD);
  for (wire::IDMapping* range : {namespaces.mutable_userns_options()->add_uids(),
                                 namespaces.mutable_userns_options()->add_gids()}) {
    range->set_host_id(300000);
    range->set_length(65536);
  }
  std::string pod;
  grpc::Status status = Run(config, &pod);
  ASSERT_TRUE(status.ok()) << status.error_message();
  wire::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  request.mutable_config()->mutable_metadata()->set_name("main");
  request.mutable_config()->mutable_image()->set_image(kCriImage);
  for (const char* word : {"sleep", "98770"}) request.mutable_config()->add_command(word);
  *request.mutable_config()
       ->mutable_linux()
       ->mutable_security_context()
       ->mutable_namespace_options() = namespaces;
  wire::CreateContainerResponse created;
  status = Call(&wire::RuntimeService::Stub::CreateContainer, request, &created);
  ASSERT_TRUE(status.ok()) << status.error_message();
  status = Start(created.container_id());
  ASSERT_TRUE(status.ok()) << status.error_message();

  wire::ExecSyncResponse answer;
  ASSERT_TRUE(Exec(created.container_id(), {"readlink", "/proc/self/ns/net"}, 10, &answer).ok());
  char own[64] = {};
  ASSERT_GT(readlink("/proc/self/ns/net", own, sizeof own - 1), 0);
  EXPECT_EQ(answer.stdout(), absl::StrCat(own, "\n"));
  ASSERT_TRUE(Exec(created.container_id(), {"cat", "/proc/self/uid_map"}, 10, &answer).ok());
  EXPECT_THAT(answer.stdout(), HasSubstr("300000"));
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

// Doors have namespaces of their own, and layers have none.
TEST_F(CriTest, AnImageIsFetchedAndUnpackedOnceForAllDoors) {
  distribution::FakeRegistry registry;
  const auto name_of = [&registry](const std::string& image) {
    return absl::StrCat(registry.host(), "/", image, ":v1");
  };
  const auto by_ctl = [&](const std::string& image) {
    EXPECT_TRUE(Ok(bed_->Ctl({"pull", "-q", name_of(image)}))) << image;
  };
  const auto by_pods = [&](const std::string& image) {
    wire::PullImageRequest request;
    request.mutable_image()->set_image(name_of(image));
    wire::PullImageResponse response;
    grpc::ClientContext context;
    const grpc::Status status = images_->PullImage(&context, request, &response);
    EXPECT_TRUE(status.ok()) << image << ": " << status.error_message();
    wire::ImageStatusRequest look;
    look.mutable_image()->set_image(name_of(image));
    wire::ImageStatusResponse shown;
    grpc::ClientContext again;
    EXPECT_TRUE(images_->ImageStatus(&again, look, &shown).ok());
    EXPECT_EQ(shown.image().id(), response.image_ref()) << image;
  };
  const auto layers = [&] {
    return ListDirectory(bed_->root() + "/snapshots/overlayfs/snapshots").value();
  };
  for (const std::string& image : {std::string("ctl-first"), std::string("pods-first")}) {
    const std::string directory = absl::StrCat(bed_->scratch(), "/", image);
    ASSERT_TRUE(MakeDirectories(directory).ok());
    ASSERT_TRUE(WriteFile(directory + "/content", image + std::string(1 << 20, 'x')).ok());
    ASSERT_TRUE(Ok(RunProgram({"tar", "-C", directory, "-cf", directory + ".tar", "."})));
    registry.AddImage(image, "v1", {ReadFile(directory + ".tar", 4 << 20).value()});

    const size_t before = layers().size();
    image == "ctl-first" ? by_ctl(image) : by_pods(image);
    const std::vector<std::string> unpacked = layers();
    EXPECT_EQ(unpacked.size(), before + 1) << image;
    const int64_t sent = registry.blob_bytes_sent();
    EXPECT_GT(sent, 1 << 20) << image;
    image == "ctl-first" ? by_pods(image) : by_ctl(image);
    EXPECT_EQ(layers(), unpacked) << image;
    EXPECT_EQ(registry.blob_bytes_sent(), sent) << image;
  }
}

TEST_F(CriTest, EveryEventSaysWhichPodItIsOf) {
  grpc::ClientContext context;
  const std::unique_ptr<grpc::ClientReader<wire::ContainerEventResponse>> stream =
      runtime_->GetContainerEvents(&context, wire::GetEventsRequest());
  absl::Mutex mu;
  std::vector<wire::ContainerEventResponse> seen;  // guarded by mu
  std::thread reader([&] {
    wire::ContainerEventResponse event;
    while (stream->Read(&event)) {
      absl::MutexLock lock(&mu);
      seen.push_back(event);
    }
  });
  const absl::Cleanup end = [&] {
    context.TryCancel();
    reader.join();
  };
  const auto has = [&](const std::string& id, wire::ContainerEventType type) {
    absl::MutexLock lock(&mu);
    return std::any_of(seen.begin(), seen.end(), [&](const wire::ContainerEventResponse& event) {
      return event.container_id() == id && event.container_event_type() == type;
    });
  };
  // The first event says that the stream is there.
  int pods = 0;
  ASSERT_TRUE(Eventually([&] {
    std::string early;
    EXPECT_TRUE(Run(PodConfig(absl::StrCat("early-", ++pods)), &early).ok());
    Remove(early);
    absl::SleepFor(absl::Milliseconds(100));
    absl::MutexLock lock(&mu);
    return !seen.empty();
  }));

  std::string pod, id;
  ASSERT_TRUE(Run(PodConfig("told"), &pod).ok());
  ASSERT_TRUE(Create(pod, "main", "exec sleep 98767", wire::CONTAINER, &id).ok());
  ASSERT_TRUE(Start(id).ok());
  // It is in the namespace of pods, and of none of them.
  std::vector<std::string> other =
      bed_->CtlCommand({"run", "--rm", "--network", "none", kCriImage, "true"});
  std::replace(other.begin(), other.end(), bed_->ns(), std::string("k8s.io"));
  EXPECT_TRUE(Ok(RunProgram(other)));
  Remove(pod);
  ASSERT_TRUE(Eventually([&] { return has(pod, wire::CONTAINER_DELETED_EVENT); }));
  for (const std::string& one : {pod, id}) {
    for (const wire::ContainerEventType type :
         {wire::CONTAINER_CREATED_EVENT, wire::CONTAINER_STARTED_EVENT,
          wire::CONTAINER_STOPPED_EVENT, wire::CONTAINER_DELETED_EVENT}) {
      EXPECT_TRUE(has(one, type)) << one << " " << wire::ContainerEventType_Name(type);
    }
  }
  absl::MutexLock lock(&mu);
  for (const wire::ContainerEventResponse& event : seen)
    EXPECT_NE(event.pod_sandbox_status().metadata().uid(), "") << event.ShortDebugString();
}

}  // namespace
}  // namespace gantry::integration
