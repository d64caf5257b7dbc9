// containerd's door as connections and calls use it: where output goes, how large messages may be,
// pings, deadlines, and that a call which its client gives up stops its work in the daemon. What
// the daemon does is seen from outside: in its descriptors, in its counters, and in whom it keeps
// waiting.
#include <dirent.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/api_client.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "proto/containerd/services/diff/v1/diff.grpc.pb.h"
#include "proto/containerd/services/transfer/v1/transfer.grpc.pb.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "proto/containerd/types/transfer/imagestore.pb.h"
#include "proto/containerd/types/transfer/registry.pb.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::integration {
namespace {

constexpr int kLargestMessage = 16 << 20;

class DoorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Testbed::Options options;
    options.daemon_flags = {"--metrics-address", "127.0.0.1:0"};
    bed_ = std::make_unique<Testbed>(options);
    api_ = std::make_unique<ApiClient>(bed_->address(), bed_->ns());
    ASSERT_TRUE(MakeBusyboxRoot(bed_->scratch() + "/rootfs").ok());
  }

  void TearDown() override {
    for (const std::string& id : tasks_) {
      Kill(id);
      WaitFor(id);
      Delete(id);
    }
    api_.reset();
    bed_.reset();
  }

  std::string Spec(const std::string& id, const std::string& script) const {
    return absl::StrCat(
        R"({"ociVersion":"1.0.2","process":{"cwd":"/","env":["PATH=/bin"],"args":["sh","-c",")",
        script, R"("]},"root":{"path":")", bed_->scratch(),
        R"(/rootfs","readonly":true},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],)",
        R"("linux":{"cgroupsPath":"/gantry/)", bed_->ns(), "-", id,
        R"(","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"}]}})");
  }

  // Makes the record and the task, which is not started.
  absl::Status Create(const std::string& id, const std::string& script,
                      const std::string& stdout_uri, const std::string& stderr_uri = "",
                      const std::string& shim_cgroup = "") {
    const absl::Status made = api_->CreateContainer(id, "none", Spec(id, script));
    if (!made.ok()) return made;
    tasks_api::CreateTaskRequest request;
    tasks_api::CreateTaskResponse response;
    request.set_container_id(id);
    request.set_stdout(stdout_uri);
    request.set_stderr(stderr_uri);
    if (!shim_cgroup.empty()) {
      containerd::runc::v1::Options options;
      options.set_shim_cgroup(shim_cgroup);
      request.mutable_options()->set_type_url("containerd.runc.v1.Options");
      request.mutable_options()->set_value(options.SerializeAsString());
    }
    const absl::Status created =
        FromGrpc(api_->tasks().Create(api_->Context().get(), request, &response));
    if (created.ok()) tasks_.push_back(id);
    return created;
  }
  absl::Status Start(const std::string& id) {
    tasks_api::StartRequest request;
    tasks_api::StartResponse response;
    request.set_container_id(id);
    return FromGrpc(api_->tasks().Start(api_->Context().get(), request, &response));
  }
  int WaitFor(const std::string& id) {
    tasks_api::WaitRequest request;
    tasks_api::WaitResponse response;
    request.set_container_id(id);
    const grpc::Status ended = api_->tasks().Wait(api_->Context().get(), request, &response);
    return ended.ok() ? static_cast<int>(response.exit_status()) : -1;
  }
  void Kill(const std::string& id) {
    tasks_api::KillRequest request;
    google::protobuf::Empty nothing;
    request.set_container_id(id);
    request.set_signal(SIGKILL);
    api_->tasks().Kill(api_->Context().get(), request, &nothing);
  }
  void Delete(const std::string& id) {
    tasks_api::DeleteTaskRequest request;
    tasks_api::DeleteResponse response;
    request.set_container_id(id);
    api_->tasks().Delete(api_->Context().get(), request, &response);
  }
  void RunToItsEnd(const std::string& id) {
    ASSERT_TRUE(Start(id).ok());
    EXPECT_EQ(WaitFor(id), 0);
    tasks_.pop_back();
    Delete(id);
  }

  // How many calls of the method have ended otherwise than well, by the daemon's own count.
  int GivenUp(const std::string& method) const {
    const std::string text = bed_->Metrics();
    int count = 0;
    for (const char* code : {"CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "UNKNOWN"}) {
      const std::string line =
          absl::StrCat("gantry_grpc_calls_total{method=\"/containerd.services.", method,
                       "\",code=\"", code, "\"} ");
      const size_t at = text.find(line);
      if (at != std::string::npos) count += atoi(text.c_str() + at + line.size());
    }
    return count;
  }

  // Whether the daemon has a file open whose path holds these words.
  bool DaemonHasOpen(const std::string& words) const {
    const std::string directory = absl::StrCat("/proc/", bed_->daemon_pid(), "/fd");
    std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(directory.c_str()), &closedir);
    if (open == nullptr) return false;
    while (const dirent* entry = readdir(open.get())) {
      char target[4096];
      const ssize_t n =
          readlink(absl::StrCat(directory, "/", entry->d_name).c_str(), target, sizeof target);
      if (n > 0 && absl::StrContains(absl::string_view(target, static_cast<size_t>(n)), words))
        return true;
    }
    return false;
  }

  static std::string Text(const std::string& path) { return ReadFile(path, 1 << 20).value_or(""); }

  std::unique_ptr<Testbed> bed_;
  std::unique_ptr<ApiClient> api_;
  std::vector<std::string> tasks_;
};

TEST_F(DoorTest, AShimGoesToTheCgroupThatItsClientMade) {
  const std::string name = "/gantry-shim-" + bed_->ns();
  const std::string hierarchies =
      access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ? "" : "/pids";
  const std::string directory = absl::StrCat("/sys/fs/cgroup", hierarchies, name);
  EXPECT_TRUE(absl::IsNotFound(Create("early", "true", "", "", name)));
  EXPECT_TRUE(
      absl::StrContains(Create("relative", "true", "", "", "a").message(), "not an absolute path"));
  ASSERT_EQ(mkdir(directory.c_str(), 0755), 0);
  // The shim is in it for a moment after its task was deleted.
  const absl::Cleanup remove = [&] {
    EXPECT_TRUE(Eventually([&] { return rmdir(directory.c_str()) == 0; }));
  };
  ASSERT_TRUE(Create("moved", "exec sleep 1000", "", "", name).ok());
  EXPECT_EQ(*ReadFile(directory + "/cgroup.procs", 4096),
            absl::StrCat(bed_->ShimPid("moved"), "\n"))
      << "the shim, and nothing of the container";
  Kill("moved");
  WaitFor("moved");
  tasks_.pop_back();
  Delete("moved");
}

TEST_F(DoorTest, ALogBinaryIsReadyBeforeTheContainerAndGetsItsOutput) {
  const std::string to = bed_->scratch();
  const std::string program = to + "/logger";
  // Descriptors 3 and 4 are the streams; closing 5 says that it is ready.
  ASSERT_TRUE(WriteFile(program, R"(#!/bin/sh
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $1" > "$2/who"
while [ ! -e "$2/gate" ]; do sleep 0.01; done
exec 5>&-
cat <&4 > "$2/err" &
cat <&3 > "$2/out"
wait
: > "$2/done"
)")
                  .ok());
  ASSERT_EQ(chmod(program.c_str(), 0755), 0);
  std::atomic<bool> created = false;
  absl::Status status;
  std::thread creator([&] {
    status = Create("logged", "echo to out; echo to err >&2",
                    absl::StrCat("binary://", program, "?to=", to));
    created = true;
  });
  EXPECT_TRUE(Eventually([&] { return !Text(to + "/who").empty(); }));
  EXPECT_EQ(Text(to + "/who"), absl::StrCat("logged ", bed_->ns(), " to\n"));
  // Time enough for another's whole life.
  ASSERT_TRUE(Create("other", "true", "").ok());
  RunToItsEnd("other");
  EXPECT_FALSE(created) << "the container did not wait for its logger";
  EXPECT_TRUE(WriteFile(to + "/gate", "").ok());
  creator.join();
  ASSERT_TRUE(status.ok()) << status;
  RunToItsEnd("logged");
  EXPECT_TRUE(Eventually([&] { return access((to + "/done").c_str(), F_OK) == 0; }))
      << "the logger does not see the end";
  EXPECT_EQ(Text(to + "/out"), "to out\n");
  EXPECT_EQ(Text(to + "/err"), "to err\n");
}

TEST_F(DoorTest, AFileGetsBothStreamsAndIsAppendedTo) {
  const std::string file = bed_->scratch() + "/logs/deep/container.log";
  for (const char* id : {"first", "second"}) {
    const absl::Status created = Create(id, absl::StrCat("echo out ", id, "; echo err >&2"),
                                        "file://" + file, "file://" + file);
    ASSERT_TRUE(created.ok()) << created;
    RunToItsEnd(id);
  }
  EXPECT_EQ(Text(file), "out first\nerr\nout second\nerr\n");
  struct stat info = {};
  ASSERT_EQ(stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0644u);
}

TEST_F(DoorTest, MessagesOfSixteenMebibytesPassBothWays) {
  const std::string large(kLargestMessage - (64 << 10), 'x');
  for (const char* id : {"one", "two"}) {
    const absl::Status made = api_->CreateContainer(id, "none", large);
    ASSERT_TRUE(made.ok()) << made;
  }
  containers_api::GetContainerRequest get;
  containers_api::GetContainerResponse got;
  get.set_id("one");
  const grpc::Status found = api_->containers().Get(api_->Context().get(), get, &got);
  ASSERT_TRUE(found.ok()) << found.error_message();
  EXPECT_TRUE(got.container().spec().value() == large);

  // Both together are too large for one message, and not for a stream.
  containers_api::ListContainersResponse list;
  const grpc::Status listed = api_->containers().List(api_->Context().get(), {}, &list);
  EXPECT_EQ(listed.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << listed.error_message();
  auto context = api_->Context();
  auto stream = api_->containers().ListStream(context.get(), {});
  containers_api::ListContainerMessage message;
  int streamed = 0;
  while (stream->Read(&message)) ++streamed;
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(streamed, 2);

  // More than that is refused, by us and not by our own client.
  grpc::ChannelArguments arguments;
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetMaxReceiveMessageSize(-1);
  auto unbounded = containers_api::Containers::NewStub(grpc::CreateCustomChannel(
      "unix:" + bed_->address(), grpc::InsecureChannelCredentials(), arguments));
  containers_api::CreateContainerRequest create;
  containers_api::CreateContainerResponse made;
  create.mutable_container()->set_id("three");
  create.mutable_container()->mutable_runtime()->set_name("io.containerd.runc.v2");
  create.mutable_container()->mutable_spec()->set_value(std::string(kLargestMessage, 'x'));
  const grpc::Status refused = unbounded->Create(api_->Context().get(), create, &made);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  for (const char* id : {"one", "two"}) {
    containers_api::DeleteContainerRequest request;
    google::protobuf::Empty nothing;
    request.set_id(id);
    EXPECT_TRUE(api_->containers().Delete(api_->Context().get(), request, &nothing).ok());
  }
}

// As HTTP/2 has it: three bytes of length, type, flags, four of stream.
std::string Frame(char type, char flags, const std::string& payload) {
  std::string frame(9, '\0');
  frame[2] = static_cast<char>(payload.size());
  frame[3] = type;
  frame[4] = flags;
  return frame + payload;
}

// Clients ping an idle connection to see whether it is alive, some far more often than gRPC's
// servers like.
TEST_F(DoorTest, PingsOfAnIdleConnectionAreAnsweredHoweverMany) {
  constexpr int kPings = 50;
  constexpr char kSettings = 4, kPing = 6, kGoAway = 7;
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  bed_->address().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  std::string out = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, "");
  for (int i = 0; i < kPings; ++i) absl::StrAppend(&out, Frame(kPing, 0, "pingpong"));
  ASSERT_EQ(send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));

  std::string in;
  int answered = 0;
  bool sent_away = false;
  pollfd readable = {fd.get(), POLLIN, 0};
  while (answered < kPings && !sent_away && poll(&readable, 1, 30000) > 0) {
    char buffer[4096];
    const ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n <= 0) break;
    in.append(buffer, static_cast<size_t>(n));
    while (in.size() >= 9) {
      const auto byte = [&in](size_t at) { return static_cast<unsigned char>(in[at]); };
      const size_t size = 9 + (size_t{byte(0)} << 16 | size_t{byte(1)} << 8 | byte(2));
      if (in.size() < size) break;
      if (in[3] == kPing && (in[4] & 1) != 0) ++answered;
      if (in[3] == kGoAway) sent_away = true;
      in.erase(0, size);
    }
  }
  EXPECT_FALSE(sent_away) << "too many pings";
  EXPECT_EQ(answered, kPings);
}

TEST_F(DoorTest, AWaitThatIsGivenUpIsForgotten) {
  ASSERT_TRUE(Create("web", "exec sleep 1000", "").ok());
  ASSERT_TRUE(Start("web").ok());
  tasks_api::WaitRequest request;
  tasks_api::WaitResponse response;
  request.set_container_id("web");
  // By its deadline.
  const grpc::Status late =
      api_->tasks().Wait(api_->Context(absl::Milliseconds(200)).get(), request, &response);
  EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] { return GivenUp("tasks.v1.Tasks/Wait") == 1; }));
  // By its client. A later call of the same connection that has been answered tells that the wait
  // is on its way.
  auto context = api_->Context(absl::Minutes(5));
  absl::Notification over;
  grpc::Status given_up;
  api_->tasks().async()->Wait(context.get(), &request, &response, [&](grpc::Status status) {
    given_up = std::move(status);
    over.Notify();
  });
  tasks_api::GetRequest get;
  tasks_api::GetResponse got;
  get.set_container_id("web");
  EXPECT_TRUE(api_->tasks().Get(api_->Context().get(), get, &got).ok());
  context->TryCancel();
  over.WaitForNotification();
  EXPECT_EQ(given_up.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return GivenUp("tasks.v1.Tasks/Wait") == 2; }));
}

TEST_F(DoorTest, AReadThatIsGivenUpClosesItsBlob) {
  const std::string bytes(32 << 20, 'x');
  const auto digest = api_->WriteBlob("ref", bytes, {{"containerd.io/gc.root", "now"}});
  ASSERT_TRUE(digest.ok()) << digest.status();
  ApiClient slow(bed_->address(), bed_->ns(), ApiClient::Windows::kSmall);
  auto context = slow.Context(absl::Minutes(5));
  content_api::ReadContentRequest request;
  request.set_digest(*digest);
  auto stream = slow.content().Read(context.get(), request);
  content_api::ReadContentResponse part;
  ASSERT_TRUE(stream->Read(&part));
  // It is in the middle of it, for we take no more.
  EXPECT_TRUE(DaemonHasOpen("/content/blobs/"));
  context->TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return !DaemonHasOpen("/content/blobs/"); }));
  EXPECT_TRUE(Eventually([&] { return GivenUp("content.v1.Content/Read") == 1; }));
}

TEST_F(DoorTest, AWriteThatIsGivenUpLetsGoOfItsRefAndKeepsWhatCame) {
  const auto open = [&](grpc::ClientContext& context, int64_t* offset) {
    auto stream = api_->content().Write(&context);
    content_api::WriteContentRequest request;
    request.set_action(content_api::STAT);
    request.set_ref("ref");
    request.set_total(4 << 20);
    content_api::WriteContentResponse response;
    if (stream->Write(request) && stream->Read(&response)) *offset = response.offset();
    return stream;
  };
  auto context = api_->Context(absl::Minutes(5));
  int64_t offset = -1;
  auto stream = open(*context, &offset);
  ASSERT_EQ(offset, 0);
  content_api::WriteContentRequest write;
  content_api::WriteContentResponse response;
  write.set_action(content_api::WRITE);
  write.set_data(std::string(1 << 20, 'x'));
  ASSERT_TRUE(stream->Write(write));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.offset(), 1 << 20);
  {
    auto other = api_->Context();
    auto locked_out = open(*other, &offset);
    EXPECT_EQ(locked_out->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  context->TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] {
    auto again = api_->Context();
    offset = -1;
    auto next = open(*again, &offset);
    next->WritesDone();
    return next->Finish().ok();
  }));
  EXPECT_EQ(offset, 1 << 20);
  EXPECT_TRUE(Eventually([&] { return !DaemonHasOpen("/content/ingest/"); }));
}

TEST_F(DoorTest, APullThatIsGivenUpLeavesTheRegistry) {
  distribution::FakeRegistry registry;
  const std::string layer(64 << 20, 'x'), digest = Sha256(layer);
  registry.AddImage("app", "v1", {layer});
  std::atomic<bool> asked = false, gone = false;
  // The layer comes in small pieces without an end, until the client has gone.
  registry.SetHook([&](const distribution::FakeRegistry::Request& request,
                       distribution::FakeRegistry::Connection& connection) {
    if (request.method != "GET" || !absl::EndsWith(request.path, digest)) return false;
    const absl::Notification never;
    connection.Raw("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
    asked = true;
    while (!connection.stopping() && connection.Raw(std::string(1024, 'x')))
      never.WaitForNotificationWithTimeout(absl::Milliseconds(10));
    gone = !connection.stopping();
    connection.Close();
    return true;
  });
  auto transfer = containerd::services::transfer::v1::Transfer::NewStub(api_->channel());
  containerd::services::transfer::v1::TransferRequest request;
  containerd::types::transfer::OCIRegistry source;
  source.set_reference(registry.host() + "/app:v1");
  source.mutable_resolver()->set_default_scheme("http");
  containerd::types::transfer::ImageStore store;
  store.set_name(source.reference());
  request.mutable_source()->set_type_url(source.GetTypeName());
  request.mutable_source()->set_value(source.SerializeAsString());
  request.mutable_destination()->set_type_url(store.GetTypeName());
  request.mutable_destination()->set_value(store.SerializeAsString());
  auto context = api_->Context(absl::Minutes(5));
  std::thread puller([&] {
    google::protobuf::Empty nothing;
    EXPECT_EQ(transfer->Transfer(context.get(), request, &nothing).error_code(),
              grpc::StatusCode::CANCELLED);
  });
  EXPECT_TRUE(Eventually([&] { return asked.load(); }));
  EXPECT_EQ(GivenUp("transfer.v1.Transfer/Transfer"), 0);
  context->TryCancel();
  puller.join();
  EXPECT_TRUE(Eventually([&] { return gone.load(); })) << "the daemon goes on reading";
  EXPECT_TRUE(Eventually([&] { return GivenUp("transfer.v1.Transfer/Transfer") == 1; }));
  EXPECT_TRUE(Eventually([&] { return !DaemonHasOpen("/content/ingest/"); }));
}

TEST_F(DoorTest, AnApplyThatIsGivenUpStopsUnpacking) {
  // Two gigabytes of nothing are a small blob and long work.
  constexpr int64_t kBytes = int64_t{2} << 30;
  const std::string directory = bed_->scratch(), layer = directory + "/layer.tar.zst";
  ASSERT_TRUE(Ok(
      RunProgram({"sh", "-ec",
                  "cd \"$1\"; truncate -s \"$2\" big; tar -cf - big | zstd -q -1 > \"$3\"; rm big",
                  "sh", directory, absl::StrCat(kBytes), layer},
                 "", absl::Minutes(5))));
  const absl::StatusOr<std::string> bytes = ReadFile(layer, 64 << 20);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto digest = api_->WriteBlob("ref", *bytes, {{"containerd.io/gc.root", "now"}});
  ASSERT_TRUE(digest.ok()) << digest.status();
  ASSERT_TRUE(MakeDirectories(directory + "/target", 0755).ok());

  auto diff = containerd::services::diff::v1::Diff::NewStub(api_->channel());
  containerd::services::diff::v1::ApplyRequest request;
  request.mutable_diff()->set_media_type("application/vnd.oci.image.layer.v1.tar+zstd");
  request.mutable_diff()->set_digest(*digest);
  request.mutable_diff()->set_size(static_cast<int64_t>(bytes->size()));
  auto* mount = request.add_mounts();
  mount->set_type("bind");
  mount->set_source(directory + "/target");
  mount->add_options("rbind");
  mount->add_options("rw");
  auto context = api_->Context(absl::Minutes(5));
  std::atomic<bool> ended = false;
  std::thread applier([&] {
    containerd::services::diff::v1::ApplyResponse response;
    EXPECT_EQ(diff->Apply(context.get(), request, &response).error_code(),
              grpc::StatusCode::CANCELLED)
        << "it was over before it could be given up";
    ended = true;
  });
  EXPECT_TRUE(
      Eventually([&] { return access((directory + "/target/big").c_str(), F_OK) == 0 || ended; }));
  context->TryCancel();
  applier.join();
  EXPECT_TRUE(Eventually([&] { return GivenUp("diff.v1.Diff/Apply") == 1; }));
  EXPECT_TRUE(Eventually([&] { return !DaemonHasOpen("/content/blobs/"); }));
  struct stat info = {};
  EXPECT_EQ(stat((directory + "/target/big").c_str(), &info), 0);
  EXPECT_LT(info.st_size, kBytes) << "all of it was unpacked";
}

}  // namespace
}  // namespace gantry::integration
