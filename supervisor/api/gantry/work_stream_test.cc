// The two reactors behind a real server on a temporary socket: a service whose calls do what each test says.
#include "supervisor/api/gantry/work_stream.h"

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

#include "base/temp_dir.h"
#include "proto/gantry/v1/images.grpc.pb.h"

namespace gantry::api::gantry_v1 {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

using PullWork = WorkStream<v1::PullResponse>::Work;
using LoadWork = UploadStream<v1::LoadRequest, v1::LoadResponse>::Work;
using Base =
    v1::Images::WithCallbackMethod_Pull<v1::Images::WithCallbackMethod_Load<v1::Images::Service>>;

class Service final : public Base {
 public:
  explicit Service(Executor& executor) : executor_(executor) {}
  grpc::ServerWriteReactor<v1::PullResponse>* Pull(grpc::CallbackServerContext* context,
                                                   const v1::PullRequest*) override {
    return WorkStream<v1::PullResponse>::Start(context, executor_, pull);
  }
  grpc::ServerBidiReactor<v1::LoadRequest, v1::LoadResponse>* Load(
      grpc::CallbackServerContext* context) override {
    return UploadStream<v1::LoadRequest, v1::LoadResponse>::Start(context, executor_, load);
  }
  PullWork pull;
  LoadWork load;

 private:
  Executor& executor_;
};

class WorkStreamTest : public ::testing::Test {
 protected:
  WorkStreamTest() : executor_("work", 8), service_(executor_) {
    // Kept for good: gRPC going down with its last user may wait ten seconds for a poller of its own.
    grpc_init();
    const std::string address = "unix:" + directory_.Join("s");
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = v1::Images::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    context_.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
  }
  ~WorkStreamTest() override {
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
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Images::Stub> stub_;
  grpc::ClientContext context_;
};

TEST_F(WorkStreamTest, MessagesArriveInOrderThenTheStatus) {
  service_.pull = [](const core::CallContext&, Emitter<v1::PullResponse>& out) -> absl::Status {
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

TEST_F(WorkStreamTest, NamespaceAndLeaseComeFromTheMetadata) {
  service_.pull = [](const core::CallContext& call, Emitter<v1::PullResponse>& out) {
    return out.Send(Message(call.ns + "/" + call.lease));
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

TEST_F(WorkStreamTest, ClientThatLeavesCancelsTheWork) {
  absl::Notification begun, ended;
  service_.pull = [&](const core::CallContext& call, Emitter<v1::PullResponse>& out) {
    begun.Notify();
    const absl::Status slept = call.cancel->Sleep(kDeadline);
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

TEST_F(WorkStreamTest, SenderWaitsForAClientThatDoesNotRead) {
  std::atomic<int> sent{0};
  absl::Notification ended;
  service_.pull = [&](const core::CallContext&, Emitter<v1::PullResponse>& out) -> absl::Status {
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

TEST_F(WorkStreamTest, OffersNeverWaitAndKeptOnesAllArrive) {
  service_.pull = [](const core::CallContext&, Emitter<v1::PullResponse>& out) {
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

TEST_F(WorkStreamTest, MergedMessagesLoseNothing) {
  service_.pull = [](const core::CallContext&, Emitter<v1::PullResponse>& out) -> absl::Status {
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

TEST_F(WorkStreamTest, UploadIsReadToItsEndWhileAnswersGoOut) {
  service_.load = [](const core::CallContext&, const v1::LoadRequest& open, ByteSource& source,
                     Emitter<v1::LoadResponse>& out) -> absl::Status {
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

TEST_F(WorkStreamTest, UploadWithoutOpeningMessageIsRefused) {
  auto stream = stub_->Load(&context_);
  v1::LoadRequest request;
  request.set_data("x");
  stream->Write(request);
  v1::LoadResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkStreamTest, UploadThatIsAbandonedWakesTheReader) {
  absl::Notification reading, ended;
  service_.load = [&](const core::CallContext&, const v1::LoadRequest&, ByteSource& source,
                      Emitter<v1::LoadResponse>&) {
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

TEST_F(WorkStreamTest, WorkThatStopsReadingEndsTheUpload) {
  service_.load = [](const core::CallContext&, const v1::LoadRequest&, ByteSource& source,
                     Emitter<v1::LoadResponse>&) {
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

}  // namespace
}  // namespace gantry::api::gantry_v1
