// The door's streams over a real connection, on fake shims.
#include "supervisor/api/gantry/containers.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/executor.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/exec_service.h"

namespace gantry::api::gantry_v1 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ContainersDoorTest : public core::ContainerFixture {
 protected:
  ContainersDoorTest() {
    execs_ = std::make_unique<core::ExecService>(
        core::ExecService::Parts{records_.get(), nullptr, tasks_.get(), &host_});
    door_ = NewContainersDoor({records_.get(), lifecycle_.get(), streams_.get(), view_.get(),
                               nullptr, wait_.get(), execs_.get()},
                              work_, followers_);
    const std::string address = "unix:" + dir_.Join("door.sock");
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(door_.get());
    server_ = builder.BuildAndStart();
    stub_ =
        v1::Containers::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }
  ~ContainersDoorTest() override {
    starts_.Close(absl::UnavailableError("gantryd stops"));
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    server_->Wait();
    work_.WaitIdle();
    End();
  }

  // One Attach call.
  struct Attached {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::AttachInput, v1::AttachOutput>> stream;
    v1::AttachOutput last;

    bool Read() { return stream->Read(&last); }
  };
  std::unique_ptr<Attached> AwaitStart(const std::string& container) {
    auto attached = std::make_unique<Attached>();
    attached->stream = stub_->Attach(&attached->context);
    v1::AttachInput input;
    input.mutable_open()->set_container(container);
    input.mutable_open()->set_stdin(true);
    input.mutable_open()->set_stdout(true);
    input.mutable_open()->set_wait_for_start(true);
    EXPECT_TRUE(attached->stream->Write(input));
    return attached;
  }

  Executor work_{"call", 16};
  Executor followers_{"follow", 16};
  std::unique_ptr<core::ExecService> execs_;
  std::unique_ptr<grpc::Service> door_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Containers::Stub> stub_;
};

TEST_F(ContainersDoorTest, CreateAttachStartLosesNothing) {
  const std::string id = Make("web");
  const std::unique_ptr<Attached> attached = AwaitStart("web");
  ASSERT_TRUE(attached->Read());
  EXPECT_TRUE(attached->last.has_attached());
  launcher_.OnLaunch([](runtime::FakeShim& shim) { shim.Output("first byte"); });
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(attached->Read());
  EXPECT_EQ(attached->last.stdout(), "first byte");
  v1::AttachInput input;
  input.set_stdin("typed");
  ASSERT_TRUE(attached->stream->Write(input));
  EXPECT_TRUE(Eventually([&] { return Shim(id).stdin_received() == "typed"; }));
  Shim(id).Exit("", 5);
  ASSERT_TRUE(attached->Read());
  EXPECT_EQ(attached->last.exited().exit_code(), 5u);
  EXPECT_FALSE(attached->Read());
  EXPECT_TRUE(attached->stream->Finish().ok());
  EXPECT_EQ(Stored(id).exit_code(), 5u);
}

TEST_F(ContainersDoorTest, AClientThatGoesBeforeTheStartLeavesNothingBehind) {
  Make("web");
  const std::unique_ptr<Attached> attached = AwaitStart("web");
  ASSERT_TRUE(attached->Read());
  EXPECT_EQ(starts_.size(), 1u);
  attached->context.TryCancel();
  EXPECT_EQ(attached->stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return starts_.size() == 0; }));
}

TEST_F(ContainersDoorTest, ARemovalEndsTheWaitForTheStart) {
  const std::string id = Make("web");
  const std::unique_ptr<Attached> attached = AwaitStart("web");
  ASSERT_TRUE(attached->Read());
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_FALSE(attached->Read());
  const grpc::Status ended = attached->stream->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(ended.error_message(), HasSubstr("removed before it was started"));
}

TEST_F(ContainersDoorTest, AnExecsCodeIsKnownWhenItsClientHasIt) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  grpc::ClientContext context;
  const auto stream = stub_->Exec(&context);
  v1::ExecInput input;
  input.mutable_open()->set_container("web");
  input.mutable_open()->mutable_config()->add_command("true");
  input.mutable_open()->mutable_config()->set_attach_stdout(true);
  ASSERT_TRUE(stream->Write(input));
  v1::ExecOutput output;
  ASSERT_TRUE(stream->Read(&output));
  const std::string exec_id = output.started().exec_id();
  EXPECT_TRUE(execs_->Inspect(context_, exec_id)->running());
  grpc::ClientContext resize_context;
  v1::ResizeRequest resize;
  resize.set_container("web");
  resize.set_exec_id(exec_id);
  resize.mutable_size()->set_width(80);
  resize.mutable_size()->set_height(24);
  v1::ResizeResponse resized;
  EXPECT_TRUE(stub_->Resize(&resize_context, resize, &resized).ok());
  Shim(id).Exit(exec_id, 9);
  while (!output.has_exited()) ASSERT_TRUE(stream->Read(&output));
  EXPECT_EQ(output.exited().exit_code(), 9u);
  EXPECT_EQ(execs_->Inspect(context_, exec_id)->exit_code, 9u);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ContainersDoorTest, LogsAreStreamedWithTheirTimes) {
  const std::string id = Make("web");
  ASSERT_TRUE(WriteFile(records_->Directory(kNs, id) + "/container.log",
                        R"({"log":"one\n","stream":"stdout","time":"2026-01-02T03:04:05Z"})"
                        "\n"
                        R"({"log":"two\n","stream":"stderr","time":"2026-01-02T03:04:06Z"})"
                        "\n",
                        0640)
                  .ok());
  grpc::ClientContext context;
  v1::LogsRequest request;
  request.set_container("web");
  request.set_stdout(true);
  request.set_stderr(true);
  request.mutable_since()->set_seconds(1767323046);
  const auto stream = stub_->Logs(&context, request);
  std::vector<std::string> texts;
  v1::LogsResponse response;
  while (stream->Read(&response)) {
    for (const auto& entry : response.entries()) {
      texts.push_back(entry.text());
      EXPECT_TRUE(entry.stderr());
      EXPECT_EQ(entry.at().seconds(), 1767323046);
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_THAT(texts, ElementsAre("two\n"));
}

}  // namespace
}  // namespace gantry::api::gantry_v1
