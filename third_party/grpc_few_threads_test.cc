// Linked with grpc_few_threads: which threads gRPC has, and that calls and their deadlines work.
#include <dirent.h>
#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace gantry {
namespace {

std::set<std::string> ThreadNames() {
  std::set<std::string> names;
  DIR* const tasks = opendir("/proc/self/task");
  while (const dirent* entry = readdir(tasks)) {
    std::string name;
    std::ifstream(std::string("/proc/self/task/") + entry->d_name + "/comm") >> name;
    if (!name.empty()) names.insert(name);
  }
  closedir(tasks);
  return names;
}

// A server with a thread that polls, as a shim has, and a client, over a socket pair.
class FewThreadsTest : public testing::Test {
 protected:
  FewThreadsTest() {
    grpc::ServerBuilder builder;
    builder.RegisterAsyncGenericService(&service_);
    // As in a shim and its clients: nothing that needs a timer.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    builder.AddChannelArgument(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
    queue_ = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    const int small = 4096;
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    grpc::AddInsecureChannelFromFd(server_.get(), pair[0]);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomInsecureChannelFromFd("test", pair[1], arguments));
    service_.RequestCall(&server_context_, &server_stream_, queue_.get(), queue_.get(), &accepted_);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FewThreadsTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    queue_->Shutdown();
    thread_.join();
  }

  // The status of the one call of a test. The server answers it if `answer`, when it has the whole
  // request.
  grpc::Status Call(grpc::ClientContext& context, bool answer, size_t request_bytes) {
    answer_ = answer;
    grpc::CompletionQueue calls;
    int done = 0;
    const grpc::Slice bytes(std::string(request_bytes, 'x'));
    const grpc::ByteBuffer request(&bytes, 1);
    grpc::ByteBuffer response;
    grpc::Status status;
    const std::unique_ptr<grpc::GenericClientAsyncResponseReader> call =
        stub_->PrepareUnaryCall(&context, "/test/Method", request, &calls);
    call->StartCall();
    call->Finish(&response, &status, &done);
    void* tag;
    bool ok;
    EXPECT_TRUE(calls.Next(&tag, &ok));
    EXPECT_EQ(tag, &done);
    return status;
  }

 private:
  void Serve() {
    void* tag;
    bool ok;
    while (queue_->Next(&tag, &ok)) {
      if (!ok) continue;
      if (tag == &accepted_ && answer_) server_stream_.Read(&request_, &read_);
      if (tag == &read_) {
        server_stream_.WriteAndFinish(grpc::ByteBuffer(), grpc::WriteOptions(), grpc::Status::OK,
                                      &finished_);
      }
    }
  }

  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::GenericServerContext server_context_;
  grpc::GenericServerAsyncReaderWriter server_stream_{&server_context_};
  grpc::ByteBuffer request_;
  int accepted_ = 0;
  int read_ = 0;
  int finished_ = 0;
  std::atomic<bool> answer_ = false;
  std::thread thread_;
};

TEST_F(FewThreadsTest, ACallWithoutDeadlineNeedsNoThread) {
  grpc::ClientContext context;
  EXPECT_TRUE(Call(context, /*answer=*/true, 10).ok());
  const std::set<std::string> names = ThreadNames();
  EXPECT_EQ(names.count("default-executo"), 0u);
  EXPECT_EQ(names.count("resolver-execut"), 0u);
  EXPECT_EQ(names.count("grpc_global_tim"), 0u);
}

TEST_F(FewThreadsTest, ADeadlineEndsACall) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(20));
  EXPECT_EQ(Call(context, /*answer=*/false, 10).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

// Less than the window of a stream, and more than the socket takes at once.
TEST_F(FewThreadsTest, WhatTheSocketDoesNotTakeAtOnceIsSentLater) {
  grpc::ClientContext context;
  EXPECT_TRUE(Call(context, /*answer=*/true, 60'000).ok());
}

}  // namespace
}  // namespace gantry
