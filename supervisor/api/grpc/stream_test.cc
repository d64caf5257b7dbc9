// Streaming calls behind a real server on a temporary socket: a service whose calls do what each
// test says.
#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

#include "base/byte_stream.h"
#include "base/executor.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "proto/gantry/v1/images.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/upload_stream.h"
#include "supervisor/api/grpc/work_call.h"

namespace gantry::api {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

using PullWork = std::function<absl::Status(Call&, Sender<v1::PullResponse>&)>;
using LoadWork = std::function<absl::Status(Call&, const v1::LoadRequest&, ByteSource&,
                                            Sender<v1::LoadResponse>&)>;
using CopyWork = std::function<absl::Status(Call&, const v1::CopyToRequest&, ByteSource&)>;
using PingWork = std::function<absl::Status(Call&)>;

class Images final : public v1::Images::WithCallbackMethod_Pull<
                         v1::Images::WithCallbackMethod_Load<v1::Images::Service>> {
 public:
  explicit Images(Lane& lane) : lane_(lane) {}
  grpc::ServerWriteReactor<v1::PullResponse>* Pull(grpc::CallbackServerContext* context,
                                                   const v1::PullRequest*) override {
    return HandleList<v1::PullResponse>(lane_, *context, pull, patience);
  }
  grpc::ServerBidiReactor<v1::LoadRequest, v1::LoadResponse>* Load(
      grpc::CallbackServerContext* context) override {
    return HandleUpload<v1::LoadRequest, v1::LoadResponse>(lane_, *context, load, patience);
  }
  PullWork pull;
  LoadWork load;
  absl::Duration patience = kPatience;

 private:
  Lane& lane_;
};

class Containers final : public v1::Containers::WithCallbackMethod_CopyTo<
                             v1::Containers::WithCallbackMethod_Start<v1::Containers::Service>> {
 public:
  explicit Containers(Lane& lane) : lane_(lane) {}
  grpc::ServerReadReactor<v1::CopyToRequest>* CopyTo(grpc::CallbackServerContext* context,
                                                     v1::CopyToResponse*) override {
    return HandleReceive<v1::CopyToRequest>(lane_, *context, copy);
  }
  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                  const v1::StartContainerRequest*,
                                  v1::StartContainerResponse*) override {
    return HandleOn(lane_, *context, start, departure);
  }
  CopyWork copy;
  PingWork start;
  Departure departure = Departure::kCancels;

 private:
  Lane& lane_;
};

class StreamTest : public ::testing::Test {
 protected:
  StreamTest() : executor_("work", 8), service_(lane_), containers_(lane_) {
    // Never undone: gRPC going down with its last user may wait ten seconds for a poller of its
    // own.
    grpc_init();
    const std::string address = "unix:" + directory_.Join("s");
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    builder.RegisterService(&containers_);
    server_ = builder.BuildAndStart();
    const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
    stub_ = v1::Images::NewStub(channel);
    containers_stub_ = v1::Containers::NewStub(channel);
    context_.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
  }
  ~StreamTest() override {
    server_->Shutdown();
    executor_.WaitIdle();
  }

  static v1::PullResponse Message(const std::string& text) {
    v1::PullResponse response;
    response.set_message(text);
    return response;
  }

  TempDir directory_;
  Executor executor_;
  Lane lane_{executor_, /*share=*/4, Scoped::kDefault};
  Images service_;
  Containers containers_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Images::Stub> stub_;
  std::unique_ptr<v1::Containers::Stub> containers_stub_;
  grpc::ClientContext context_;
};

TEST_F(StreamTest, MessagesArriveInOrderThenTheStatus) {
  service_.pull = [](Call&, Sender<v1::PullResponse>& out) -> absl::Status {
    for (int i = 0; i < 500; ++i) {
      if (absl::Status sent = out.Send(Message(absl::StrCat(i))); !sent.ok()) return sent;
    }
    return absl::DataLossError("broken layer");
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  int count = 0;
  while (reader->Read(&response)) EXPECT_EQ(response.message(), absl::StrCat(count++));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(count, 500);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(status.error_message(), "broken layer");
}

TEST_F(StreamTest, NamespaceAndLeaseComeFromTheMetadata) {
  service_.pull = [](Call& call, Sender<v1::PullResponse>& out) {
    return out.Send(Message(call.ns() + "/" + call.context().lease));
  };
  context_.AddMetadata("containerd-namespace", "k8s.io");
  context_.AddMetadata("containerd-lease", "l1");
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.message(), "k8s.io/l1");
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(StreamTest, ClientThatLeavesCancelsTheWork) {
  absl::Notification begun, ended;
  service_.pull = [&](Call& call, Sender<v1::PullResponse>& out) {
    begun.Notify();
    const absl::Status slept = call.cancel().Sleep(kDeadline);
    EXPECT_EQ(slept.code(), absl::StatusCode::kCancelled) << slept;
    EXPECT_EQ(out.Send(Message("late")).code(), absl::StatusCode::kCancelled);
    ended.Notify();
    return slept;
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  ASSERT_TRUE(begun.WaitForNotificationWithTimeout(kDeadline));
  context_.TryCancel();
  EXPECT_TRUE(ended.WaitForNotificationWithTimeout(kDeadline));
  v1::PullResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(StreamTest, SenderWaitsForAClientThatDoesNotRead) {
  std::atomic<int> sent{0};
  absl::Notification ended;
  service_.pull = [&](Call&, Sender<v1::PullResponse>& out) -> absl::Status {
    absl::Status status;
    while (status.ok()) {
      status = out.Send(Message(std::string(1 << 20, 'x')));
      if (status.ok()) ++sent;
    }
    ended.Notify();
    return status;
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context_.TryCancel();
  ASSERT_TRUE(ended.WaitForNotificationWithTimeout(kDeadline));
  // The queue, what gRPC buffers, and no more: not the hundreds that memory would hold.
  EXPECT_LT(sent, 64);
  while (reader->Read(&response)) {
  }
  (void)reader->Finish();
}

TEST_F(StreamTest, OffersNeverWaitAndKeptOnesAllArrive) {
  service_.pull = [](Call&, Sender<v1::PullResponse>& out) {
    for (int i = 0; i < 1000; ++i) {
      out.Offer(Message("drop"), false);
      if (i % 100 == 0) out.Offer(Message("keep"), true);
    }
    return absl::OkStatus();
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  int kept = 0;
  while (reader->Read(&response)) kept += response.message() == "keep" ? 1 : 0;
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(kept, 10);
}

TEST_F(StreamTest, MergedMessagesLoseNothing) {
  service_.pull = [](Call&, Sender<v1::PullResponse>& out) -> absl::Status {
    for (int i = 0; i < 3000; ++i) {
      const absl::Status sent =
          out.SendMerging(Message("x"), [](v1::PullResponse& last, v1::PullResponse& next) {
            if (last.message().size() >= 100) return false;
            last.set_message(last.message() + next.message());
            return true;
          });
      if (!sent.ok()) return sent;
    }
    return absl::OkStatus();
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  size_t bytes = 0;
  while (reader->Read(&response)) {
    bytes += response.message().size();
    EXPECT_LE(response.message().size(), 100u);
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(bytes, 3000u);
}

TEST_F(StreamTest, UploadIsReadToItsEndWhileAnswersGoOut) {
  service_.load = [](Call&, const v1::LoadRequest& open, ByteSource& source,
                     Sender<v1::LoadResponse>& out) -> absl::Status {
    v1::LoadResponse response;
    response.set_message("begin " + open.open().name());
    if (absl::Status sent = out.Send(response); !sent.ok()) return sent;
    absl::StatusOr<std::string> all = ReadAll(source, 64 << 20);
    if (!all.ok()) return all.status();
    response.set_message(
        absl::StrCat(all->size(), all->substr(0, 3), all->substr(all->size() - 3)));
    return out.Send(response);
  };
  auto stream = stub_->Load(&context_);
  v1::LoadRequest request;
  request.mutable_open()->set_name("n");
  stream->Write(request);
  v1::LoadResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.message(), "begin n");
  request.set_data("abc" + std::string(1 << 20, '.'));
  stream->Write(request);
  request.set_data("");
  stream->Write(request);
  request.set_data(std::string(1 << 20, '.') + "xyz");
  stream->Write(request);
  stream->WritesDone();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.message(), absl::StrCat((2 << 20) + 6, "abcxyz"));
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(StreamTest, UploadWithoutOpeningMessageIsRefused) {
  auto stream = stub_->Load(&context_);
  v1::LoadRequest request;
  request.set_data("x");
  stream->Write(request);
  v1::LoadResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(StreamTest, UploadThatIsAbandonedWakesTheReader) {
  absl::Notification reading, ended;
  service_.load = [&](Call&, const v1::LoadRequest&, ByteSource& source,
                      Sender<v1::LoadResponse>&) {
    reading.Notify();
    char buffer[16];
    const absl::Status status = source.Read(buffer, sizeof(buffer)).status();
    ended.Notify();
    return status;
  };
  auto stream = stub_->Load(&context_);
  v1::LoadRequest request;
  request.mutable_open();
  stream->Write(request);
  ASSERT_TRUE(reading.WaitForNotificationWithTimeout(kDeadline));
  context_.TryCancel();
  EXPECT_TRUE(ended.WaitForNotificationWithTimeout(kDeadline));
  v1::LoadResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(StreamTest, WorkThatStopsReadingEndsTheUpload) {
  service_.load = [](Call&, const v1::LoadRequest&, ByteSource& source, Sender<v1::LoadResponse>&) {
    char buffer[16];
    (void)source.Read(buffer, sizeof(buffer));
    return absl::InvalidArgumentError("not an archive");
  };
  auto stream = stub_->Load(&context_);
  v1::LoadRequest request;
  request.mutable_open();
  stream->Write(request);
  request.set_data(std::string(1 << 20, 'x'));
  while (stream->Write(request)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "not an archive");
}

TEST_F(StreamTest, ClientThatReadsNothingIsWaitedForWithinPatience) {
  service_.patience = absl::Milliseconds(100);
  absl::Notification ended;
  service_.pull = [&](Call&, Sender<v1::PullResponse>& out) -> absl::Status {
    absl::Status status;
    while (status.ok()) status = out.Send(Message(std::string(1 << 20, 'x')));
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    ended.Notify();
    return status;
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  // Nothing is read. The thread of the work is free again all the same, and the call over.
  EXPECT_TRUE(ended.WaitForNotificationWithTimeout(kDeadline));
  executor_.WaitIdle();
  v1::PullResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(StreamTest, ClientThatReadsSlowlyIsNotGivenUp) {
  service_.patience = absl::Milliseconds(300);
  service_.pull = [&](Call&, Sender<v1::PullResponse>& out) -> absl::Status {
    for (int i = 0; i < 40; ++i) {
      if (absl::Status sent = out.Send(Message(std::string(1 << 20, 'x'))); !sent.ok()) return sent;
    }
    return absl::OkStatus();
  };
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  int count = 0;
  for (; reader->Read(&response); ++count) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(count, 40);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(StreamTest, UploadThatBringsNothingIsWaitedForWithinPatience) {
  service_.patience = absl::Milliseconds(100);
  absl::Notification ended;
  service_.load = [&](Call&, const v1::LoadRequest&, ByteSource& source,
                      Sender<v1::LoadResponse>&) {
    char buffer[16];
    const absl::Status status = source.Read(buffer, sizeof(buffer)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    ended.Notify();
    return status;
  };
  auto stream = stub_->Load(&context_);
  v1::LoadRequest request;
  request.mutable_open();
  stream->Write(request);
  EXPECT_TRUE(ended.WaitForNotificationWithTimeout(kDeadline));
  v1::LoadResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(StreamTest, NamespaceThatIsNoIdentifierIsRefusedBeforeTheWork) {
  service_.pull = [](Call&, Sender<v1::PullResponse>&) {
    ADD_FAILURE() << "the work began";
    return absl::OkStatus();
  };
  context_.AddMetadata("containerd-namespace", "no/slashes");
  auto reader = stub_->Pull(&context_, v1::PullRequest());
  v1::PullResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(StreamTest, ReceivedBytesAreReadToTheirEnd) {
  std::string got;
  containers_.copy = [&](Call&, const v1::CopyToRequest& open, ByteSource& source) {
    absl::StatusOr<std::string> all = ReadAll(source, 64 << 20);
    if (all.ok()) got = open.open().container() + *all;
    return all.status();
  };
  v1::CopyToResponse response;
  auto writer = containers_stub_->CopyTo(&context_, &response);
  v1::CopyToRequest request;
  request.mutable_open()->set_container("c:");
  writer->Write(request);
  request.set_data("abc");
  writer->Write(request);
  writer->Write(request);
  writer->WritesDone();
  EXPECT_TRUE(writer->Finish().ok());
  EXPECT_EQ(got, "c:abcabc");
}

TEST_F(StreamTest, UnaryWorkIsCancelledWithItsClientUnlessItMustFinish) {
  for (const Departure departure : {Departure::kCancels, Departure::kIgnored}) {
    absl::Notification begun, left, ended;
    containers_.departure = departure;
    containers_.start = [&](Call& call) -> absl::Status {
      begun.Notify();
      left.WaitForNotification();
      // Long enough for the departure to arrive, where it ends the sleep.
      const absl::Status slept = call.cancel().Sleep(
          departure == Departure::kCancels ? kDeadline : absl::Milliseconds(200));
      EXPECT_EQ(slept.code(), departure == Departure::kCancels ? absl::StatusCode::kCancelled
                                                               : absl::StatusCode::kOk);
      ended.Notify();
      return slept;
    };
    grpc::ClientContext context;
    std::thread client([&] {
      v1::StartContainerResponse response;
      EXPECT_EQ(containers_stub_->Start(&context, {}, &response).error_code(),
                grpc::StatusCode::CANCELLED);
    });
    ASSERT_TRUE(begun.WaitForNotificationWithTimeout(kDeadline));
    context.TryCancel();
    client.join();
    left.Notify();
    EXPECT_TRUE(ended.WaitForNotificationWithTimeout(kDeadline));
  }
}

}  // namespace
}  // namespace gantry::api
