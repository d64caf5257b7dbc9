// One core behind all doors: what is made through one is seen and handled through every other, noun
// by noun. The doors today are gantry.v1, by ctl, and containerd's API, by ctr and by calls of our
// own.
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "integration/api_client.h"
#include "integration/testbed.h"
#include "proto/containerd/services/namespaces/v1/namespace.grpc.pb.h"
#include "proto/gantry/v1/containers.grpc.pb.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kShort[] = "busybox:test";
constexpr char kImage[] = "docker.io/library/busybox:test";
constexpr char kOther[] = "docker.io/library/other:1";

class OneCoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    if (access("/usr/bin/ctr", X_OK) != 0) GTEST_SKIP() << "needs ctr (package containerd)";
    bed_ = std::make_unique<Testbed>();
    api_ = std::make_unique<ApiClient>(bed_->address(), bed_->ns());
    ASSERT_TRUE(bed_->LoadBusybox(kShort));
  }
  void TearDown() override {
    api_.reset();
    bed_.reset();
  }

  // Expects exit status 0; standard output without the last newline.
  std::string Ctr(std::vector<std::string> args) {
    const Outcome outcome = bed_->Ctr(std::move(args));
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  std::string Ctl(std::vector<std::string> args) { return bed_->CtlOut(std::move(args)); }

  absl::StatusOr<images_api::Image> ApiImage(const std::string& name) {
    images_api::GetImageRequest request;
    request.set_name(name);
    images_api::GetImageResponse response;
    const grpc::Status status = api_->images().Get(api_->Context().get(), request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response.image();
  }
  absl::StatusOr<containers_api::Container> ApiContainer(const std::string& id) {
    containers_api::GetContainerRequest request;
    request.set_id(id);
    containers_api::GetContainerResponse response;
    const grpc::Status status = api_->containers().Get(api_->Context().get(), request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response.container();
  }
  bool ApiSnapshot(const containers_api::Container& container) {
    snapshots_api::StatSnapshotRequest request;
    request.set_snapshotter(container.snapshotter());
    request.set_key(container.snapshot_key());
    snapshots_api::StatSnapshotResponse response;
    return api_->snapshots().Stat(api_->Context().get(), request, &response).ok();
  }

  std::unique_ptr<Testbed> bed_;
  std::unique_ptr<ApiClient> api_;
};

TEST_F(OneCoreTest, Images) {
  const absl::StatusOr<images_api::Image> loaded = ApiImage(kImage);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Ctr({"images", "ls", "-q"}), kImage);

  // Named through one, gone through the other, both ways.
  Ctr({"images", "tag", kImage, kOther});
  EXPECT_THAT(Ctl({"images", "--format", "{{.Repository}}:{{.Tag}}"}), HasSubstr("other:1"));
  Ctl({"rmi", "other:1"});
  EXPECT_TRUE(absl::IsNotFound(ApiImage(kOther).status()));
  Ctl({"tag", kShort, "other:1"});
  const absl::StatusOr<images_api::Image> tagged = ApiImage(kOther);
  ASSERT_TRUE(tagged.ok()) << tagged.status();
  EXPECT_EQ(tagged->target().digest(), loaded->target().digest());
  Ctr({"images", "rm", kOther});
  EXPECT_THAT(Ctl({"images", "--format", "{{.Repository}}:{{.Tag}}"}), Not(HasSubstr("other:1")));
}

TEST_F(OneCoreTest, ContainersAndSnapshots) {
  const std::string id = Ctl({"create", "--name", "ours", "--label", "a=b", kShort, "true"});
  const absl::StatusOr<containers_api::Container> ours = ApiContainer(id);
  ASSERT_TRUE(ours.ok()) << ours.status();
  EXPECT_EQ(ours->image(), kImage);
  EXPECT_EQ(ours->labels().at("a"), "b");
  EXPECT_TRUE(ApiSnapshot(*ours));
  EXPECT_THAT(Ctr({"containers", "ls", "-q"}), HasSubstr(id));
  Ctl({"rm", "ours"});
  EXPECT_TRUE(absl::IsNotFound(ApiContainer(id).status()));
  EXPECT_FALSE(ApiSnapshot(*ours));

  Ctr({"containers", "create", kImage, "theirs", "true"});
  EXPECT_THAT(Ctl({"ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Image}}"}),
              HasSubstr("theirs"));
  const absl::StatusOr<containers_api::Container> theirs = ApiContainer("theirs");
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  Ctl({"rm", "theirs"});
  EXPECT_TRUE(absl::IsNotFound(ApiContainer("theirs").status()));
}

TEST_F(OneCoreTest, TasksAndExecs) {
  // Started by ctl; looked at, entered and ended through containerd's API.
  const std::string id = Ctl({"run", "-d", "--name", "ours", kShort, "sleep", "1000"});
  EXPECT_THAT(Ctr({"tasks", "ls"}), HasSubstr("RUNNING"));
  EXPECT_EQ(Ctr({"tasks", "exec", "--exec-id", "e", id, "echo", "entered"}), "entered");
  EXPECT_THAT(Ctr({"tasks", "ls"}), HasSubstr(bed_->Inspect("ours", "{{.State.Pid}}")));
  Ctr({"tasks", "kill", "-s", "SIGKILL", id});
  EXPECT_TRUE(bed_->StatusBecomes("ours", "exited"));
  EXPECT_EQ(bed_->Inspect("ours", "{{.State.ExitCode}}"), "137");
  Ctl({"rm", "ours"});

  // And the other way round.
  Ctr({"run", "-d", kImage, "theirs", "sleep", "1000"});
  EXPECT_EQ(bed_->Inspect("theirs", "{{.State.Status}}"), "running");
  EXPECT_EQ(Ctl({"exec", "theirs", "echo", "entered"}), "entered");
  Ctl({"pause", "theirs"});
  EXPECT_THAT(Ctr({"tasks", "ls"}), HasSubstr("PAUSED"));
  Ctl({"unpause", "theirs"});
  Ctl({"kill", "theirs"});
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(bed_->Ctr({"tasks", "ls"}).out, "STOPPED");
  }));
  Ctr({"tasks", "delete", "theirs"});
  Ctr({"containers", "delete", "theirs"});
  EXPECT_EQ(Ctl({"ps", "-aq"}), "");
}

// An exec that one door made is found, ended and asked for its code through the other, also by the
// next daemon.
TEST_F(OneCoreTest, ExecsByTheirIds) {
  const std::string id = Ctl({"run", "-d", "--name", "ours", kShort, "sleep", "1000"});
  std::unique_ptr<v1::Containers::Stub> engine = v1::Containers::NewStub(api_->channel());
  const auto inspect = [&](const std::string& exec_id) {
    v1::InspectExecRequest request;
    request.set_exec_id(exec_id);
    v1::InspectExecResponse response;
    const grpc::Status status = engine->InspectExec(api_->Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << exec_id << ": " << status.error_message();
    return response.exec();
  };
  const auto exec_ids = [&] { return bed_->Inspect("ours", "{{json .ExecIDs}}"); };
  EXPECT_EQ(exec_ids(), "null");

  // By ctl.
  Ctl({"exec", "-d", "ours", "sleep", "1001"});
  const std::string ours(absl::StripSuffix(absl::StripPrefix(exec_ids(), "[\""), "\"]"));
  // Through containerd's API, where clients choose the ids.
  tasks_api::ExecProcessRequest add;
  add.set_container_id(id);
  add.set_exec_id("theirs");
  add.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Process");
  add.mutable_spec()->set_value(
      R"({"args":["sleep","1002"],"cwd":"/","user":{"uid":0,"gid":0},"env":["PATH=/bin"]})");
  google::protobuf::Empty empty;
  ASSERT_TRUE(api_->tasks().Exec(api_->Context().get(), add, &empty).ok());
  EXPECT_FALSE(inspect("theirs").running());
  tasks_api::StartRequest start;
  start.set_container_id(id);
  start.set_exec_id("theirs");
  tasks_api::StartResponse started;
  ASSERT_TRUE(api_->tasks().Start(api_->Context().get(), start, &started).ok());

  for (const bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    if (restarted) {
      bed_->KillDaemon();
      ASSERT_TRUE(bed_->StartDaemon());
      // The old connection may still be taken for a good one.
      api_ = std::make_unique<ApiClient>(bed_->address(), bed_->ns());
      engine = v1::Containers::NewStub(api_->channel());
    }
    for (const std::string& exec_id : {ours, std::string("theirs")}) {
      const v1::ExecDetails exec = inspect(exec_id);
      EXPECT_TRUE(exec.running()) << exec_id;
      EXPECT_EQ(exec.container_id(), id);
      EXPECT_THAT(exec.config().command(), testing::ElementsAre("sleep", testing::_));
      EXPECT_EQ(kill(exec.pid(), 0), 0) << exec_id;
      EXPECT_THAT(exec_ids(), HasSubstr(exec_id));
      tasks_api::GetRequest get;
      get.set_container_id(id);
      get.set_exec_id(exec_id);
      tasks_api::GetResponse got;
      EXPECT_TRUE(api_->tasks().Get(api_->Context().get(), get, &got).ok()) << exec_id;
      EXPECT_EQ(got.process().pid(), static_cast<uint32_t>(exec.pid()));
    }
  }

  // Each is ended through the door that did not make it.
  v1::KillExecRequest kill_theirs;
  kill_theirs.set_exec_id("theirs");
  v1::KillExecResponse killed;
  ASSERT_TRUE(engine->KillExec(api_->Context().get(), kill_theirs, &killed).ok());
  tasks_api::KillRequest kill_ours;
  kill_ours.set_container_id(id);
  kill_ours.set_exec_id(ours);
  kill_ours.set_signal(SIGKILL);
  ASSERT_TRUE(api_->tasks().Kill(api_->Context().get(), kill_ours, &empty).ok());
  for (const std::string& exec_id : {ours, std::string("theirs")}) {
    EXPECT_TRUE(Eventually([&] { return inspect(exec_id).has_exit_code(); }));
    EXPECT_EQ(inspect(exec_id).exit_code(), 137u) << exec_id;
  }
  EXPECT_EQ(exec_ids(), "null");
  Ctl({"rm", "-f", "ours"});
}

TEST_F(OneCoreTest, Leases) {
  const absl::StatusOr<images_api::Image> image = ApiImage(kImage);
  ASSERT_TRUE(image.ok()) << image.status();
  leases_api::CreateRequest create;
  create.set_id("held");
  leases_api::CreateResponse created;
  ASSERT_TRUE(api_->leases().Create(api_->Context().get(), create, &created).ok());
  leases_api::AddResourceRequest add;
  add.set_id("held");
  add.mutable_resource()->set_id(image->target().digest());
  add.mutable_resource()->set_type("content");
  google::protobuf::Empty empty;
  ASSERT_TRUE(api_->leases().AddResource(api_->Context().get(), add, &empty).ok());
  EXPECT_THAT(Ctl({"leases", "ls"}), HasSubstr("held"));

  // Neither ctl's removal nor its collection takes what the other door's lease holds.
  Ctl({"rmi", kShort});
  Ctl({"gc"});
  content_api::InfoRequest info;
  info.set_digest(image->target().digest());
  content_api::InfoResponse answer;
  EXPECT_TRUE(api_->content().Info(api_->Context().get(), info, &answer).ok());
  Ctl({"leases", "rm", "held"});
  Ctl({"gc"});
  EXPECT_EQ(api_->content().Info(api_->Context().get(), info, &answer).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(OneCoreTest, Events) {
  const absl::Time begin = absl::Now();
  events_api::SubscribeRequest request;
  request.add_filters(absl::StrCat("namespace==", bed_->ns(), ",topic~=^/tasks/"));
  auto context = api_->Context();
  auto stream = api_->events().Subscribe(context.get(), request);
  stream->WaitForInitialMetadata();

  Ctl({"run", "--rm", kShort, "true"});
  std::string topics;
  ::containerd::types::Envelope envelope;
  while (!absl::StrContains(topics, "/tasks/delete") && stream->Read(&envelope)) {
    // Labels are the container's own, and no words of ours for other doors.
    EXPECT_THAT(envelope.event().value(), Not(HasSubstr("gantry.action")));
    absl::StrAppend(&topics, envelope.topic(), " ");
  }
  EXPECT_THAT(topics, HasSubstr("/tasks/create /tasks/start /tasks/exit"));
  context->TryCancel();
  while (stream->Read(&envelope)) {
  }
  (void)stream->Finish();

  Ctr({"run", "--rm", kImage, "theirs", "true"});
  const std::string told =
      Ctl({"events", "--since", absl::FormatTime(absl::RFC3339_full, begin, absl::UTCTimeZone()),
           "--until", absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone()),
           "--filter", "container=theirs", "--format", "{{.Action}}"});
  EXPECT_EQ(told, "create\nstart\ndie\ndestroy");
}

TEST_F(OneCoreTest, Namespaces) {
  // Made by use through one door, labelled through the other, apart for both.
  namespace api = ::containerd::services::namespaces::v1;
  auto namespaces = api::Namespaces::NewStub(api_->channel());
  api::ListNamespacesResponse list;
  ASSERT_TRUE(namespaces->List(api_->Context().get(), {}, &list).ok());
  std::string names;
  for (const auto& one : list.namespaces()) absl::StrAppend(&names, one.name(), " ");
  EXPECT_THAT(names, HasSubstr(bed_->ns()));

  ApiClient elsewhere(bed_->address(), bed_->ns() + "-x");
  containers_api::ListContainersResponse containers;
  const std::string id = Ctl({"create", kShort, "true"});
  ASSERT_TRUE(
      elsewhere.containers()
          .List(elsewhere.Context().get(), containers_api::ListContainersRequest(), &containers)
          .ok());
  EXPECT_EQ(containers.containers_size(), 0);
  EXPECT_EQ(bed_->Ctl({"-n", bed_->ns() + "-x", "ps", "-aq"}).out, "");
  Ctl({"rm", id});
  // A name that is none is refused by both.
  EXPECT_NE(bed_->Ctl({"-n", "no/slashes", "ps"}).code, 0);
  ApiClient malformed(bed_->address(), "no/slashes");
  EXPECT_EQ(
      malformed.containers()
          .List(malformed.Context().get(), containers_api::ListContainersRequest(), &containers)
          .error_code(),
      grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace gantry::integration
