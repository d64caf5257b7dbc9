// The door as a client sees it: a real server in this process, real stores in a temporary
// directory, the calls and the codes of the containerd API.
#include "supervisor/api/containerd/containerd_door.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/executor.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "proto/containerd/events/content.pb.h"
#include "proto/containerd/events/image.pb.h"
#include "proto/containerd/grpc/health/v1/health.grpc.pb.h"
#include "proto/containerd/services/containers/v1/containers.grpc.pb.h"
#include "proto/containerd/services/content/v1/content.grpc.pb.h"
#include "proto/containerd/services/events/v1/events.grpc.pb.h"
#include "proto/containerd/services/images/v1/images.grpc.pb.h"
#include "proto/containerd/services/introspection/v1/introspection.grpc.pb.h"
#include "proto/containerd/services/leases/v1/leases.grpc.pb.h"
#include "proto/containerd/services/mounts/v1/mounts.grpc.pb.h"
#include "proto/containerd/services/namespaces/v1/namespace.grpc.pb.h"
#include "proto/containerd/services/sandbox/v1/sandbox.grpc.pb.h"
#include "proto/containerd/services/snapshots/v1/snapshots.grpc.pb.h"
#include "proto/containerd/services/streaming/v1/streaming.grpc.pb.h"
#include "proto/containerd/services/tasks/v1/tasks.grpc.pb.h"
#include "proto/containerd/services/transfer/v1/transfer.grpc.pb.h"
#include "proto/containerd/services/version/v1/version.grpc.pb.h"
#include "proto/containerd/types/transfer/imagestore.pb.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/mount_activations.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/gc/collector.h"
#include "supervisor/gc/scheduler.h"

namespace gantry::api {
namespace {

namespace services = ::containerd::services;
using google::protobuf::Any;
using google::protobuf::Empty;
using grpc::StatusCode;

// A call of one namespace, and perhaps of one lease, that does not hang a test.
class Context : public grpc::ClientContext {
 public:
  explicit Context(const std::string& ns = "default", const std::string& lease = "") {
    if (!ns.empty()) AddMetadata("containerd-namespace", ns);
    if (!lease.empty()) AddMetadata("containerd-lease", lease);
    set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
};

std::string Digest(const std::string& bytes) { return content::Digest::Sha256Of(bytes).str(); }

class DoorTest : public testing::Test {
 protected:
  DoorTest() {
    db_ = *metadata::Database::Open(dir_.path() + "/db");
    files_ = *content::LocalStore::Open(dir_.path() + "/content");
    blobs_ = std::make_unique<metadata::BlobPool>(*files_, *db_);
    native_ = *snapshot::NativeSnapshotter::Open(
        dir_.path() + "/snapshots/native",
        *snapshot::SnapshotIndex::Open(db_->rocks(), db_->snapshot_family(), "native"));
    snapshotters_.Add("native", *native_);
    images_ = std::make_unique<metadata::ImageStore>(*db_, clock_);
    containers_ = std::make_unique<metadata::ContainerStore>(*db_, clock_);
    leases_ = std::make_unique<metadata::LeaseStore>(*db_, clock_);
    namespaces_ = std::make_unique<metadata::NamespaceStore>(*db_, snapshotters_, clock_);
    sandboxes_ = std::make_unique<metadata::SandboxStore>(*db_, clock_);
    names_ = std::make_unique<metadata::NameIndex>(*db_);
    subjects_ = std::make_unique<core::EventSubjects>(*containers_, *names_);
    stores_.reset(new core::Stores{*db_, *blobs_, snapshotters_, clock_, *images_, *containers_,
                                   *leases_, *namespaces_, *sandboxes_, *names_, "native"});
    core::TaskService::Parts task_parts = {};
    task_parts.events = &events_;
    task_parts.workers = &workers_;
    tasks_ = std::make_unique<core::TaskService>(task_parts);
    core::ExecService::Parts exec_parts = {};
    exec_parts.tasks = tasks_.get();
    execs_ = std::make_unique<core::ExecService>(exec_parts);
    collector_ = std::make_unique<gc::Collector>(*db_, *blobs_, snapshotters_, clock_);
    // Collects only when a call asks for it, because nothing refers to most of what these tests
    // make.
    gc::SchedulerOptions schedule;
    schedule.startup_delay = absl::Hours(1);
    schedule.mutation_threshold = 1 << 30;
    schedule.idle_delay = absl::Hours(1);
    scheduler_ = std::make_unique<gc::Scheduler>(*collector_, schedule,
                                                 [this](const absl::StatusOr<gc::Collection>& run) {
                                                   if (run.ok()) door_->PublishCollected(*run);
                                                 });

    core::ImageServices::Parts image_parts = {};
    image_parts.stores = stores_.get();
    image_parts.events = &events_;
    image_parts.resolver = &no_registry_;
    image_parts.gc = scheduler_.get();
    image_services_ = std::make_unique<core::ImageServices>(image_parts);

    OpenDoor();
    scheduler_->Start();
  }

  ~DoorTest() override {
    CloseDoor();
    scheduler_->Stop();
    server_.reset();
    door_.reset();
  }

  void OpenDoor() {
    ContainerdDoor::Parts parts;
    parts.stores = stores_.get();
    parts.tasks = tasks_.get();
    parts.execs = execs_.get();
    sandbox_service_ = std::make_unique<core::SandboxService>(*sandboxes_, events_, clock_);
    parts.sandboxes = sandbox_service_.get();
    parts.events = &events_;
    parts.subjects = subjects_.get();
    parts.images = image_services_.get();
    core::MountActivations::Parts mounts;
    mounts.db = db_.get();
    mounts.root_directory = dir_.path();
    mounts.state_directory = dir_.path();
    mounts.boot_id = "boot";
    mounts_ = std::make_unique<core::MountActivations>(mounts);
    ASSERT_TRUE(mounts_->Open().ok());
    parts.mounts = mounts_.get();
    parts.gc = scheduler_.get();
    parts.workers = &workers_;
    parts.uuid = "11111111-2222-4333-8444-555555555555";
    parts.root_directory = dir_.path();
    parts.version = "2.4.0+gantry";
    door_ = std::make_unique<ContainerdDoor>(parts);
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(16 << 20);
    builder.SetMaxSendMessageSize(16 << 20);
    for (grpc::Service* service : door_->services()) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(16 << 20);
    channel_ = server_->InProcessChannel(arguments);
  }

  void CloseDoor() {
    door_->Stop();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
    server_->Wait();
  }
  // As a daemon that is started again would have it: another door on the same stores.
  void ReopenDoor() {
    CloseDoor();
    server_.reset();
    door_.reset();
    OpenDoor();
  }

  template <typename Service>
  std::unique_ptr<typename Service::Stub> Stub() const {
    return Service::NewStub(channel_);
  }

  // ---- shorthands ----

  grpc::Status WriteBlob(const std::string& bytes, const std::string& ref,
                         const std::string& ns = "default", const std::string& lease = "") {
    Context context(ns, lease);
    auto stream = Stub<services::content::v1::Content>()->Write(&context);
    services::content::v1::WriteContentRequest request;
    request.set_action(services::content::v1::COMMIT);
    request.set_ref(ref);
    request.set_total(static_cast<int64_t>(bytes.size()));
    request.set_expected(Digest(bytes));
    request.set_data(bytes);
    stream->Write(request);
    services::content::v1::WriteContentResponse response;
    stream->Read(&response);
    stream->WritesDone();
    return stream->Finish();
  }

  grpc::Status CreateContainer(const std::string& id,
                               services::containers::v1::Container* made = nullptr) {
    services::containers::v1::CreateContainerRequest request;
    request.mutable_container()->set_id(id);
    request.mutable_container()->mutable_runtime()->set_name("io.containerd.runc.v2");
    request.mutable_container()->mutable_spec()->set_type_url("example.com/Anything");
    request.mutable_container()->mutable_spec()->set_value(std::string("\x00\xff{}", 4));
    (*request.mutable_container()->mutable_labels())["a"] = "1";
    Context context;
    services::containers::v1::CreateContainerResponse response;
    grpc::Status status =
        Stub<services::containers::v1::Containers>()->Create(&context, request, &response);
    if (made != nullptr) *made = response.container();
    return status;
  }

  grpc::Status CreateImage(const std::string& name, const std::string& target,
                           const std::string& ns = "default") {
    services::images::v1::CreateImageRequest request;
    request.mutable_image()->set_name(name);
    request.mutable_image()->mutable_target()->set_media_type(
        "application/vnd.oci.image.manifest.v1+json");
    request.mutable_image()->mutable_target()->set_digest(target);
    request.mutable_image()->mutable_target()->set_size(5);
    Context context(ns);
    services::images::v1::CreateImageResponse response;
    return Stub<services::images::v1::Images>()->Create(&context, request, &response);
  }

  StatusCode InfoCode(const std::string& digest, const std::string& ns = "default") {
    services::content::v1::InfoRequest request;
    request.set_digest(digest);
    services::content::v1::InfoResponse response;
    Context context(ns);
    return Stub<services::content::v1::Content>()->Info(&context, request, &response).error_code();
  }

  StatusCode Prepare(const std::string& snapshotter, const std::string& key,
                     const std::string& parent) {
    services::snapshots::v1::PrepareSnapshotRequest request;
    request.set_snapshotter(snapshotter);
    request.set_key(key);
    request.set_parent(parent);
    services::snapshots::v1::PrepareSnapshotResponse response;
    Context context;
    return Stub<services::snapshots::v1::Snapshots>()
        ->Prepare(&context, request, &response)
        .error_code();
  }

  TempDir dir_;
  RealClock clock_;
  std::unique_ptr<metadata::Database> db_;
  std::unique_ptr<content::LocalStore> files_;
  std::unique_ptr<metadata::BlobPool> blobs_;
  std::unique_ptr<snapshot::NativeSnapshotter> native_;
  metadata::Snapshotters snapshotters_;
  std::unique_ptr<metadata::ImageStore> images_;
  std::unique_ptr<metadata::ContainerStore> containers_;
  std::unique_ptr<metadata::LeaseStore> leases_;
  std::unique_ptr<metadata::NamespaceStore> namespaces_;
  std::unique_ptr<metadata::SandboxStore> sandboxes_;
  std::unique_ptr<core::SandboxService> sandbox_service_;
  std::unique_ptr<metadata::NameIndex> names_;
  std::unique_ptr<core::Stores> stores_;
  core::EventBus events_;
  std::unique_ptr<core::EventSubjects> subjects_;
  Executor workers_{"test", 4};
  std::unique_ptr<core::TaskService> tasks_;
  std::unique_ptr<core::ExecService> execs_;
  std::unique_ptr<gc::Collector> collector_;
  std::unique_ptr<gc::Scheduler> scheduler_;
  std::unique_ptr<core::MountActivations> mounts_;
  distribution::Resolver no_registry_{nullptr};  // no test here asks a registry
  std::unique_ptr<core::ImageServices> image_services_;
  std::unique_ptr<ContainerdDoor> door_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DoorTest, ACallWithoutNamespaceIsRefused) {
  Context context("");
  services::images::v1::ListImagesResponse response;
  const grpc::Status status = Stub<services::images::v1::Images>()->List(&context, {}, &response);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(status.error_message().find("namespace is required"), std::string::npos);
}

TEST_F(DoorTest, AMalformedNamespaceIsRefused) {
  Context context("no/slashes");
  services::images::v1::ListImagesResponse response;
  EXPECT_EQ(Stub<services::images::v1::Images>()->List(&context, {}, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(DoorTest, HealthAndVersionNeedNoNamespace) {
  Context context("");
  grpc::health::v1::HealthCheckResponse health;
  ASSERT_TRUE(Stub<grpc::health::v1::Health>()->Check(&context, {}, &health).ok());
  EXPECT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  Context other("");
  services::version::v1::VersionResponse version;
  ASSERT_TRUE(Stub<services::version::v1::Version>()->Version(&other, {}, &version).ok());
  EXPECT_EQ(version.version(), "2.4.0+gantry");
}

TEST_F(DoorTest, AContainerComesBackByteForByte) {
  services::containers::v1::Container made;
  ASSERT_TRUE(CreateContainer("web", &made).ok());
  EXPECT_EQ(made.spec().value(), std::string("\x00\xff{}", 4));
  EXPECT_GT(made.created_at().seconds(), 0);
  EXPECT_EQ(CreateContainer("web").error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(CreateContainer("-web").error_code(), StatusCode::INVALID_ARGUMENT);

  auto stub = Stub<services::containers::v1::Containers>();
  Context list_context;
  services::containers::v1::ListContainersResponse list;
  ASSERT_TRUE(stub->List(&list_context, {}, &list).ok());
  ASSERT_EQ(list.containers_size(), 1);
  EXPECT_EQ(list.containers(0).SerializeAsString(), made.SerializeAsString());

  Context stream_context;
  auto reader = stub->ListStream(&stream_context, {});
  services::containers::v1::ListContainerMessage message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.container().spec().value(), made.spec().value());
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(DoorTest, AContainerWithBadNamesIsRefused) {
  using services::containers::v1::Container;
  const auto code = [this](const std::function<void(Container*)>& change, std::string* message) {
    services::containers::v1::CreateContainerRequest request;
    Container* container = request.mutable_container();
    container->set_id("web");
    container->mutable_runtime()->set_name("io.containerd.runc.v2");
    container->mutable_spec()->set_type_url(
        "types.containerd.io/opencontainers/runtime-spec/1/Spec");
    container->mutable_spec()->set_value(R"({"ociVersion":"1.0.2"})");
    change(container);
    Context context;
    services::containers::v1::CreateContainerResponse response;
    const grpc::Status status =
        Stub<services::containers::v1::Containers>()->Create(&context, request, &response);
    *message = status.error_message();
    return status.error_code();
  };
  const std::string long_name(5000, 'x');
  const std::vector<std::function<void(Container*)>> changes = {
      [](Container* c) { c->set_image(std::string("a\0b", 3)); },
      [&](Container* c) { c->set_image(long_name); },
      [&](Container* c) {
        c->set_snapshotter("native");
        c->set_snapshot_key(long_name);
      },
      [](Container* c) { c->set_sandbox("../up"); },
      [](Container* c) { c->mutable_runtime()->set_name(""); },
      [](Container* c) { c->set_id("../up"); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    std::string message;
    EXPECT_EQ(code(changes[i], &message), StatusCode::INVALID_ARGUMENT) << i;
    // Clients that see only the text know the class by its end.
    EXPECT_TRUE(message.ends_with(": invalid argument")) << i << ": " << message;
  }
  std::string message;
  EXPECT_EQ(code([](Container*) {}, &message), StatusCode::OK) << message;
}

TEST_F(DoorTest, AnUnknownSnapshotterIsAnInvalidArgumentByItsMessageToo) {
  services::snapshots::v1::PrepareSnapshotRequest request;
  request.set_snapshotter("nothing");
  request.set_key("k");
  services::snapshots::v1::PrepareSnapshotResponse response;
  Context context;
  const grpc::Status status =
      Stub<services::snapshots::v1::Snapshots>()->Prepare(&context, request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(status.error_message().ends_with(": invalid argument")) << status.error_message();
}

TEST_F(DoorTest, ContainersAreFilteredAndBadFiltersRefused) {
  ASSERT_TRUE(CreateContainer("one").ok());
  ASSERT_TRUE(CreateContainer("two").ok());
  auto stub = Stub<services::containers::v1::Containers>();
  services::containers::v1::ListContainersRequest request;
  request.add_filters("id~=^t,labels.a==1");
  services::containers::v1::ListContainersResponse list;
  Context context;
  ASSERT_TRUE(stub->List(&context, request, &list).ok());
  ASSERT_EQ(list.containers_size(), 1);
  EXPECT_EQ(list.containers(0).id(), "two");
  request.add_filters("id~~x");
  Context bad;
  EXPECT_EQ(stub->List(&bad, request, &list).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(DoorTest, AFieldMaskChangesOnlyWhatItNames) {
  ASSERT_TRUE(CreateContainer("web").ok());
  auto stub = Stub<services::containers::v1::Containers>();
  services::containers::v1::UpdateContainerRequest request;
  request.mutable_container()->set_id("web");
  (*request.mutable_container()->mutable_labels())["b.c/d"] = "2";
  request.mutable_update_mask()->add_paths("labels.b.c/d");
  services::containers::v1::UpdateContainerResponse response;
  Context context;
  ASSERT_TRUE(stub->Update(&context, request, &response).ok());
  EXPECT_EQ(response.container().labels().at("a"), "1");
  EXPECT_EQ(response.container().labels().at("b.c/d"), "2");
  request.mutable_update_mask()->add_paths("id");
  Context bad;
  EXPECT_EQ(stub->Update(&bad, request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_container()->set_id("nobody");
  Context missing;
  EXPECT_EQ(stub->Update(&missing, request, &response).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, ImagesAreDeletedOnlyWhenTheyPointWhereExpected) {
  const std::string target = Digest("x");
  ASSERT_TRUE(CreateImage("i", target).ok());
  EXPECT_EQ(CreateImage("i", target).error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(CreateImage("", target).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(CreateImage("j", "sha256:no").error_code(), StatusCode::INVALID_ARGUMENT);
  auto stub = Stub<services::images::v1::Images>();
  services::images::v1::DeleteImageRequest request;
  request.set_name("i");
  request.mutable_target()->set_digest(Digest("y"));
  Empty empty;
  Context wrong;
  EXPECT_EQ(stub->Delete(&wrong, request, &empty).error_code(), StatusCode::NOT_FOUND);
  request.mutable_target()->set_digest(target);
  Context right;
  EXPECT_TRUE(stub->Delete(&right, request, &empty).ok());
}

TEST_F(DoorTest, ASynchronousDeleteCollectsAndSaysWhatWent) {
  Context watch_context("");
  auto events = Stub<services::events::v1::Events>()->Subscribe(&watch_context, {});
  events->WaitForInitialMetadata();
  ASSERT_TRUE(WriteBlob("hello", "r").ok());
  ASSERT_TRUE(CreateImage("i", Digest("hello")).ok());
  services::images::v1::DeleteImageRequest request;
  request.set_name("i");
  request.set_sync(true);
  Empty empty;
  Context context;
  ASSERT_TRUE(Stub<services::images::v1::Images>()->Delete(&context, request, &empty).ok());
  EXPECT_EQ(InfoCode(Digest("hello")), StatusCode::NOT_FOUND);

  std::vector<std::string> topics;
  ::containerd::types::Envelope envelope;
  while (topics.size() < 4 && events->Read(&envelope)) topics.push_back(envelope.topic());
  EXPECT_EQ(topics, (std::vector<std::string>{"/content/create", "/images/create", "/images/delete",
                                              "/content/delete"}));
  ::containerd::events::ContentDelete gone;
  EXPECT_EQ(envelope.event().type_url(), "containerd.events.ContentDelete");
  ASSERT_TRUE(gone.ParseFromString(envelope.event().value()));
  EXPECT_EQ(gone.digest(), Digest("hello"));
  watch_context.TryCancel();
  while (events->Read(&envelope)) {
  }
  events->Finish();
}

TEST_F(DoorTest, AWriteResumesWhereItStopped) {
  auto stub = Stub<services::content::v1::Content>();
  services::content::v1::WriteContentRequest request;
  services::content::v1::WriteContentResponse response;
  {
    Context context;
    auto stream = stub->Write(&context);
    request.set_action(services::content::v1::WRITE);
    request.set_ref("r");
    request.set_data("hello ");
    ASSERT_TRUE(stream->Write(request));
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.offset(), 6);
    EXPECT_EQ(response.digest(), Digest("hello "));
    stream->WritesDone();
    ASSERT_TRUE(stream->Finish().ok());
  }
  Context context;
  auto stream = stub->Write(&context);
  request.Clear();
  request.set_action(services::content::v1::STAT);
  request.set_ref("r");
  ASSERT_TRUE(stream->Write(request));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.offset(), 6);
  EXPECT_GT(response.started_at().seconds(), 0);
  request.set_action(services::content::v1::COMMIT);
  request.set_offset(6);
  request.set_data("world");
  request.set_total(11);
  request.set_expected(Digest("hello world"));
  (*request.mutable_labels())["k"] = "v";
  ASSERT_TRUE(stream->Write(request));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.offset(), 11);
  EXPECT_EQ(response.digest(), Digest("hello world"));
  EXPECT_FALSE(stream->Read(&response));
  ASSERT_TRUE(stream->Finish().ok());

  services::content::v1::ReadContentRequest read;
  read.set_digest(Digest("hello world"));
  read.set_offset(6);
  read.set_size(100);
  Context read_context;
  auto reader = stub->Read(&read_context, read);
  services::content::v1::ReadContentResponse chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.data(), "world");
  EXPECT_EQ(chunk.offset(), 0);
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(DoorTest, AWriteAtTheWrongOffsetIsOutOfRangeAndKeepsTheBytes) {
  auto stub = Stub<services::content::v1::Content>();
  Context context;
  auto stream = stub->Write(&context);
  services::content::v1::WriteContentRequest request;
  services::content::v1::WriteContentResponse response;
  request.set_action(services::content::v1::WRITE);
  request.set_ref("r");
  request.set_data("abc");
  ASSERT_TRUE(stream->Write(request));
  ASSERT_TRUE(stream->Read(&response));
  request.set_offset(99);
  ASSERT_TRUE(stream->Write(request));
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::OUT_OF_RANGE);
  services::content::v1::StatusRequest status_request;
  status_request.set_ref("r");
  services::content::v1::StatusResponse status;
  Context status_context;
  ASSERT_TRUE(stub->Status(&status_context, status_request, &status).ok());
  EXPECT_EQ(status.status().offset(), 3);
}

TEST_F(DoorTest, ARefHasOneWriter) {
  auto stub = Stub<services::content::v1::Content>();
  services::content::v1::WriteContentRequest request;
  services::content::v1::WriteContentResponse response;
  request.set_ref("r");
  Context first;
  auto one = stub->Write(&first);
  ASSERT_TRUE(one->Write(request));
  ASSERT_TRUE(one->Read(&response));
  Context second;
  auto two = stub->Write(&second);
  two->Write(request);
  EXPECT_FALSE(two->Read(&response));
  EXPECT_EQ(two->Finish().error_code(), StatusCode::UNAVAILABLE);
  one->WritesDone();
  EXPECT_TRUE(one->Finish().ok());
}

TEST_F(DoorTest, ABlobWrittenAgainAlreadyExistsAndBadOnesAreRefused) {
  ASSERT_TRUE(WriteBlob("hello", "a").ok());
  EXPECT_EQ(WriteBlob("hello", "b").error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(WriteBlob("other", "").error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(InfoCode("md5:aaaa"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(InfoCode(Digest("hello"), "elsewhere"), StatusCode::NOT_FOUND);

  auto stub = Stub<services::content::v1::Content>();
  services::content::v1::WriteContentRequest request;
  request.set_action(services::content::v1::COMMIT);
  request.set_ref("c");
  request.set_data("not what was promised");
  request.set_expected(Digest("promised"));
  Context context;
  auto stream = stub->Write(&context);
  stream->Write(request);
  services::content::v1::WriteContentResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::FAILED_PRECONDITION);

  services::content::v1::ReadContentRequest read;
  read.set_digest(Digest("hello"));
  read.set_offset(6);
  Context read_context;
  auto reader = stub->Read(&read_context, read);
  services::content::v1::ReadContentResponse chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::OUT_OF_RANGE);
}

TEST_F(DoorTest, ALeaseKeepsWhatIsWrittenUnderItUntilItGoes) {
  auto stub = Stub<services::leases::v1::Leases>();
  services::leases::v1::CreateRequest create;
  create.set_id("l");
  services::leases::v1::CreateResponse created;
  Context create_context;
  ASSERT_TRUE(stub->Create(&create_context, create, &created).ok());
  EXPECT_EQ(WriteBlob("other", "x", "default", "no-such-lease").error_code(),
            StatusCode::NOT_FOUND);
  ASSERT_TRUE(WriteBlob("kept", "r", "default", "l").ok());

  services::leases::v1::ListResourcesRequest list;
  list.set_id("l");
  services::leases::v1::ListResourcesResponse resources;
  Context list_context;
  ASSERT_TRUE(stub->ListResources(&list_context, list, &resources).ok());
  ASSERT_EQ(resources.resources_size(), 1);
  EXPECT_EQ(resources.resources(0).type(), "content");
  EXPECT_EQ(resources.resources(0).id(), Digest("kept"));

  services::leases::v1::AddResourceRequest add;
  add.set_id("l");
  add.mutable_resource()->set_id("x");
  add.mutable_resource()->set_type("volumes");
  Empty empty;
  Context add_context;
  EXPECT_EQ(stub->AddResource(&add_context, add, &empty).error_code(), StatusCode::UNIMPLEMENTED);

  ASSERT_TRUE(scheduler_->CollectAndWait(false, absl::InfiniteFuture()).ok());
  EXPECT_EQ(InfoCode(Digest("kept")), StatusCode::OK);
  services::leases::v1::DeleteRequest remove;
  remove.set_id("l");
  remove.set_sync(true);
  Context remove_context;
  ASSERT_TRUE(stub->Delete(&remove_context, remove, &empty).ok());
  EXPECT_EQ(InfoCode(Digest("kept")), StatusCode::NOT_FOUND);
  Context again;
  EXPECT_EQ(stub->Delete(&again, remove, &empty).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, ANamespaceWithObjectsIsNotDeleted) {
  auto stub = Stub<services::namespaces::v1::Namespaces>();
  ASSERT_TRUE(CreateImage("i", Digest("x"), "team").ok());
  services::namespaces::v1::DeleteNamespaceRequest request;
  request.set_name("team");
  Empty empty;
  Context context("");
  const grpc::Status refused = stub->Delete(&context, request, &empty);
  EXPECT_EQ(refused.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(refused.error_message().find("image"), std::string::npos);
  request.set_name("nobody");
  Context missing("");
  EXPECT_EQ(stub->Delete(&missing, request, &empty).error_code(), StatusCode::NOT_FOUND);
  services::namespaces::v1::GetNamespaceRequest get;
  get.set_name("unheard-of");
  services::namespaces::v1::GetNamespaceResponse got;
  Context get_context("");
  EXPECT_TRUE(stub->Get(&get_context, get, &got).ok());
}

TEST_F(DoorTest, SnapshotsAnswerWithTheCodesClientsActOn) {
  EXPECT_EQ(Prepare("", "a", ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Prepare("btrfs", "a", ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Prepare("native", "a b", ""), StatusCode::OK);
  EXPECT_EQ(Prepare("native", "a b", ""), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Prepare("native", "c", "nobody"), StatusCode::NOT_FOUND);
  EXPECT_EQ(Prepare("native", "c", "a b"), StatusCode::INVALID_ARGUMENT);

  auto stub = Stub<services::snapshots::v1::Snapshots>();
  services::snapshots::v1::CommitSnapshotRequest commit;
  commit.set_snapshotter("native");
  commit.set_key("a b");
  commit.set_name("base");
  Empty empty;
  Context commit_context;
  ASSERT_TRUE(stub->Commit(&commit_context, commit, &empty).ok());
  EXPECT_EQ(Prepare("native", "c", "base"), StatusCode::OK);
  services::snapshots::v1::MountsRequest mounts;
  mounts.set_snapshotter("native");
  mounts.set_key("base");
  services::snapshots::v1::MountsResponse mounted;
  Context mounts_context;
  EXPECT_EQ(stub->Mounts(&mounts_context, mounts, &mounted).error_code(),
            StatusCode::FAILED_PRECONDITION);
  services::snapshots::v1::RemoveSnapshotRequest remove;
  remove.set_snapshotter("native");
  remove.set_key("base");
  Context remove_context;
  EXPECT_EQ(stub->Remove(&remove_context, remove, &empty).error_code(),
            StatusCode::FAILED_PRECONDITION);

  services::snapshots::v1::ListSnapshotsRequest list;
  list.set_snapshotter("native");
  list.add_filters("kind==committed");
  Context list_context;
  auto reader = stub->List(&list_context, list);
  services::snapshots::v1::ListSnapshotsResponse batch;
  ASSERT_TRUE(reader->Read(&batch));
  ASSERT_EQ(batch.info_size(), 1);
  EXPECT_EQ(batch.info(0).name(), "base");
  EXPECT_EQ(batch.info(0).kind(), services::snapshots::v1::COMMITTED);
  EXPECT_FALSE(reader->Read(&batch));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(DoorTest, LongSnapshotListsComeInBatchesOfAHundred) {
  for (int i = 0; i < 101; ++i)
    ASSERT_EQ(Prepare("native", "k" + std::to_string(i), ""), StatusCode::OK);
  services::snapshots::v1::ListSnapshotsRequest list;
  list.set_snapshotter("native");
  Context context;
  auto reader = Stub<services::snapshots::v1::Snapshots>()->List(&context, list);
  services::snapshots::v1::ListSnapshotsResponse batch;
  ASSERT_TRUE(reader->Read(&batch));
  EXPECT_EQ(batch.info_size(), 100);
  ASSERT_TRUE(reader->Read(&batch));
  EXPECT_EQ(batch.info_size(), 1);
  EXPECT_FALSE(reader->Read(&batch));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(DoorTest, SubscribersGetWhatTheirFilterLetsThrough) {
  auto stub = Stub<services::events::v1::Events>();
  services::events::v1::SubscribeRequest subscribe;
  subscribe.add_filters("namespace==moby,topic~=|^/tasks/|");
  Context watch_context("");
  auto events = stub->Subscribe(&watch_context, subscribe);
  events->WaitForInitialMetadata();

  services::events::v1::PublishRequest publish;
  publish.set_topic("/tasks/exit");
  publish.mutable_event()->set_type_url("example.com/X");
  publish.mutable_event()->set_value("bytes");
  Empty empty;
  Context other("default");
  ASSERT_TRUE(stub->Publish(&other, publish, &empty).ok());
  publish.set_topic("/images/create");
  Context not_tasks("moby");
  ASSERT_TRUE(stub->Publish(&not_tasks, publish, &empty).ok());
  publish.set_topic("/tasks/start");
  Context wanted("moby");
  ASSERT_TRUE(stub->Publish(&wanted, publish, &empty).ok());
  publish.set_topic("tasks");
  Context bad("moby");
  EXPECT_EQ(stub->Publish(&bad, publish, &empty).error_code(), StatusCode::INVALID_ARGUMENT);

  ::containerd::types::Envelope envelope;
  ASSERT_TRUE(events->Read(&envelope));
  EXPECT_EQ(envelope.topic(), "/tasks/start");
  EXPECT_EQ(envelope.namespace_(), "moby");
  EXPECT_EQ(envelope.event().value(), "bytes");
  door_->Stop();
  EXPECT_FALSE(events->Read(&envelope));
  EXPECT_EQ(events->Finish().error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(DoorTest, ASubscriptionWithABadFilterFails) {
  services::events::v1::SubscribeRequest subscribe;
  subscribe.add_filters("topic~=|");
  Context context("");
  auto events = Stub<services::events::v1::Events>()->Subscribe(&context, subscribe);
  ::containerd::types::Envelope envelope;
  EXPECT_FALSE(events->Read(&envelope));
  EXPECT_EQ(events->Finish().error_code(), StatusCode::UNKNOWN);
}

TEST_F(DoorTest, TasksThatAreNotThereAreNotFound) {
  auto stub = Stub<services::tasks::v1::Tasks>();
  services::tasks::v1::WaitRequest wait;
  wait.set_container_id("nobody");
  services::tasks::v1::WaitResponse waited;
  Context wait_context;
  EXPECT_EQ(stub->Wait(&wait_context, wait, &waited).error_code(), StatusCode::NOT_FOUND);
  services::tasks::v1::CreateTaskRequest create;
  create.set_container_id("nobody");
  services::tasks::v1::CreateTaskResponse created;
  Context create_context;
  EXPECT_EQ(stub->Create(&create_context, create, &created).error_code(), StatusCode::NOT_FOUND);
  services::tasks::v1::MetricsRequest metrics;
  metrics.add_filters("id==nobody");
  services::tasks::v1::MetricsResponse numbers;
  Context metrics_context;
  EXPECT_TRUE(stub->Metrics(&metrics_context, metrics, &numbers).ok());
  EXPECT_EQ(numbers.metrics_size(), 0);
}

TEST_F(DoorTest, PluginsAndServerIntroduceThemselves) {
  auto stub = Stub<services::introspection::v1::Introspection>();
  services::introspection::v1::ServerResponse server;
  Context server_context("");
  ASSERT_TRUE(stub->Server(&server_context, {}, &server).ok());
  EXPECT_EQ(server.uuid(), "11111111-2222-4333-8444-555555555555");
  EXPECT_GT(server.pidns(), 0u);
  services::introspection::v1::PluginsRequest request;
  request.add_filters("type==io.containerd.snapshotter.v1, id==native");
  services::introspection::v1::PluginsResponse plugins;
  Context plugins_context("");
  ASSERT_TRUE(stub->Plugins(&plugins_context, request, &plugins).ok());
  ASSERT_EQ(plugins.plugins_size(), 1);
  EXPECT_EQ(plugins.plugins(0).platforms(0).os(), "linux");
  services::introspection::v1::PluginInfoRequest info;
  info.set_type("io.containerd.nothing.v1");
  services::introspection::v1::PluginInfoResponse answer;
  Context info_context("");
  EXPECT_EQ(stub->PluginInfo(&info_context, info, &answer).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, AStreamIsAcknowledgedAndItsIdTaken) {
  auto stub = Stub<services::streaming::v1::Streaming>();
  services::streaming::v1::StreamInit init;
  init.set_id("s");
  Any first;
  first.set_type_url("containerd.services.streaming.v1.StreamInit");
  first.set_value(init.SerializeAsString());
  Context one_context;
  auto one = stub->Stream(&one_context);
  ASSERT_TRUE(one->Write(first));
  Any answer;
  ASSERT_TRUE(one->Read(&answer));
  EXPECT_EQ(answer.type_url(), "google.protobuf.Empty");
  Context two_context;
  auto two = stub->Stream(&two_context);
  two->Write(first);
  EXPECT_FALSE(two->Read(&answer));
  EXPECT_EQ(two->Finish().error_code(), StatusCode::ALREADY_EXISTS);
  one_context.TryCancel();
  EXPECT_FALSE(one->Read(&answer));
  EXPECT_EQ(one->Finish().error_code(), StatusCode::CANCELLED);
}

TEST_F(DoorTest, TransfersOfUnknownTypesAreOfNoClassAndTagsAreMade) {
  auto stub = Stub<services::transfer::v1::Transfer>();
  services::transfer::v1::TransferRequest request;
  request.mutable_source()->set_type_url("example.com/X");
  request.mutable_destination()->set_type_url("containerd.types.transfer.ImageStore");
  Empty empty;
  Context unknown;
  EXPECT_EQ(stub->Transfer(&unknown, request, &empty).error_code(), StatusCode::UNKNOWN);

  ASSERT_TRUE(CreateImage("from:1", Digest("x")).ok());
  ::containerd::types::transfer::ImageStore store;
  store.set_name("from:1");
  request.mutable_source()->set_type_url("containerd.types.transfer.ImageStore");
  request.mutable_source()->set_value(store.SerializeAsString());
  store.set_name("to:1");
  request.mutable_destination()->set_value(store.SerializeAsString());
  Context tag;
  ASSERT_TRUE(stub->Transfer(&tag, request, &empty).ok());
  services::images::v1::GetImageRequest get;
  get.set_name("to:1");
  services::images::v1::GetImageResponse got;
  Context get_context;
  ASSERT_TRUE(Stub<services::images::v1::Images>()->Get(&get_context, get, &got).ok());
  EXPECT_EQ(got.image().target().digest(), Digest("x"));

  store.set_name("nobody:1");
  request.mutable_source()->set_value(store.SerializeAsString());
  Context missing;
  EXPECT_EQ(stub->Transfer(&missing, request, &empty).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, PlainMountsAreTheClientsBusiness) {
  auto stub = Stub<services::mounts::v1::Mounts>();
  services::mounts::v1::ActivateRequest activate;
  activate.set_name("m");
  services::mounts::v1::ActivateResponse activated;
  Context activate_context;
  EXPECT_EQ(stub->Activate(&activate_context, activate, &activated).error_code(),
            StatusCode::UNIMPLEMENTED);
  services::mounts::v1::InfoRequest info;
  info.set_name("m");
  services::mounts::v1::InfoResponse answer;
  Context info_context;
  EXPECT_EQ(stub->Info(&info_context, info, &answer).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, MountsThatAreChangedFirstAreActivated) {
  auto stub = Stub<services::mounts::v1::Mounts>();
  services::mounts::v1::ActivateRequest activate;
  activate.set_name("m");
  (*activate.mutable_labels())["l"] = "v";
  containerd::types::Mount* mount = activate.add_mounts();
  mount->set_type("mkdir/bind");
  mount->set_source(dir_.path() + "/made");
  mount->add_options("rbind");
  mount->add_options("X-containerd.mkdir.path=" + dir_.path() + "/made");
  services::mounts::v1::ActivateResponse activated;
  Context activate_context;
  ASSERT_TRUE(stub->Activate(&activate_context, activate, &activated).ok());
  EXPECT_EQ(activated.info().name(), "m");
  ASSERT_EQ(activated.info().system_size(), 1);
  EXPECT_EQ(activated.info().system(0).type(), "bind");
  EXPECT_EQ(activated.info().system(0).options_size(), 1);
  EXPECT_EQ(access((dir_.path() + "/made").c_str(), F_OK), 0);
  Context again;
  EXPECT_EQ(stub->Activate(&again, activate, &activated).error_code(), StatusCode::ALREADY_EXISTS);

  services::mounts::v1::UpdateRequest update;
  update.mutable_info()->set_name("m");
  (*update.mutable_info()->mutable_labels())["k"] = "w";
  update.mutable_update_mask()->add_paths("labels.k");
  services::mounts::v1::UpdateResponse updated;
  Context update_context;
  ASSERT_TRUE(stub->Update(&update_context, update, &updated).ok());
  EXPECT_EQ(updated.info().labels_size(), 2);

  const auto list = [&](const std::string& filter) {
    services::mounts::v1::ListRequest request;
    request.add_filters(filter);
    Context context;
    auto stream = stub->List(&context, request);
    services::mounts::v1::ListMessage message;
    int found = 0;
    while (stream->Read(&message)) ++found;
    EXPECT_TRUE(stream->Finish().ok());
    return found;
  };
  EXPECT_EQ(list("name==m"), 1);
  EXPECT_EQ(list("labels.k==w"), 1);
  EXPECT_EQ(list("labels.k==v"), 0);

  services::mounts::v1::DeactivateRequest deactivate;
  deactivate.set_name("m");
  google::protobuf::Empty empty;
  Context deactivate_context;
  EXPECT_TRUE(stub->Deactivate(&deactivate_context, deactivate, &empty).ok());
  Context gone;
  EXPECT_EQ(stub->Deactivate(&gone, deactivate, &empty).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, ASandboxLivesFromCreateToShutdown) {
  auto stub = Stub<services::sandbox::v1::Controller>();
  services::sandbox::v1::ControllerCreateRequest create;
  create.set_sandbox_id("pod");
  services::sandbox::v1::ControllerCreateResponse created;
  Context unnamed;
  EXPECT_EQ(stub->Create(&unnamed, create, &created).error_code(), StatusCode::INVALID_ARGUMENT);
  create.set_sandboxer("podsandbox");
  Context unknown;
  EXPECT_EQ(stub->Create(&unknown, create, &created).error_code(), StatusCode::NOT_FOUND);
  create.set_sandboxer("shim");
  Context known;
  ASSERT_TRUE(stub->Create(&known, create, &created).ok());
  services::sandbox::v1::ControllerStartRequest start;
  start.set_sandbox_id("pod");
  start.set_sandboxer("shim");
  services::sandbox::v1::ControllerStartResponse started;
  Context start_context;
  ASSERT_TRUE(stub->Start(&start_context, start, &started).ok());
  services::sandbox::v1::ControllerStatusRequest status;
  status.set_sandbox_id("pod");
  status.set_sandboxer("shim");
  services::sandbox::v1::ControllerStatusResponse state;
  Context status_context;
  ASSERT_TRUE(stub->Status(&status_context, status, &state).ok());
  EXPECT_EQ(state.state(), "SANDBOX_READY");

  ReopenDoor();
  stub = Stub<services::sandbox::v1::Controller>();
  services::sandbox::v1::ControllerStatusResponse same;
  Context same_context;
  ASSERT_TRUE(stub->Status(&same_context, status, &same).ok());
  EXPECT_EQ(same.SerializeAsString(), state.SerializeAsString());
  Context again;
  EXPECT_EQ(stub->Create(&again, create, &created).error_code(), StatusCode::ALREADY_EXISTS);

  services::sandbox::v1::ControllerStopRequest stop;
  stop.set_sandbox_id("pod");
  stop.set_sandboxer("shim");
  services::sandbox::v1::ControllerStopResponse stopped;
  Context stop_context;
  ASSERT_TRUE(stub->Stop(&stop_context, stop, &stopped).ok());
  services::sandbox::v1::ControllerWaitRequest wait;
  wait.set_sandbox_id("pod");
  wait.set_sandboxer("shim");
  services::sandbox::v1::ControllerWaitResponse waited;
  Context wait_context;
  ASSERT_TRUE(stub->Wait(&wait_context, wait, &waited).ok());
  EXPECT_GT(waited.exited_at().seconds(), 0);

  services::sandbox::v1::ControllerShutdownRequest shutdown;
  shutdown.set_sandbox_id("pod");
  shutdown.set_sandboxer("shim");
  services::sandbox::v1::ControllerShutdownResponse gone;
  Context shutdown_context;
  ASSERT_TRUE(stub->Shutdown(&shutdown_context, shutdown, &gone).ok());
  ReopenDoor();
  Context gone_context;
  EXPECT_EQ(
      Stub<services::sandbox::v1::Controller>()->Status(&gone_context, status, &state).error_code(),
      StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace gantry::api
