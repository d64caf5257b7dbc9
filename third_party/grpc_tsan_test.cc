// What passes through gRPC is silent under ThreadSanitizer, and what handlers do beside it is
// found. Without --config=tsan only the first half is compiled, and says that the calls work.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

// The handler of the generic service: of the two, this one is instrumented and not the library's.
template class grpc::internal::CallbackBidiHandler<grpc::ByteBuffer, grpc::ByteBuffer>;

namespace {

// Sends every message back, after `look` was called.
class Echo : public grpc::CallbackGenericService {
 public:
  explicit Echo(std::function<void()> look) : look_(std::move(look)) {}

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Reactor(look_);
  }

 private:
  class Reactor : public grpc::ServerGenericBidiReactor {
   public:
    explicit Reactor(const std::function<void()>& look) : look_(look) { StartRead(&message_); }
    void OnReadDone(bool ok) override {
      EXPECT_TRUE(ok);
      look_();
      ++steps_;
      StartWrite(&message_);
    }
    void OnWriteDone(bool ok) override {
      EXPECT_TRUE(ok);
      ++steps_;
      message_.Clear();
      Finish(grpc::Status::OK);
    }
    void OnDone() override {
      EXPECT_EQ(steps_, 2);
      delete this;
    }

   private:
    const std::function<void()>& look_;
    grpc::ByteBuffer message_;
    int steps_ = 0;
  };

  const std::function<void()> look_;
};

// Makes `count` calls at once and waits for their answers.
void CallEcho(int count, const std::function<void()>& look) {
  const std::string address = "unix-abstract:gantry-grpc-tsan-test-" + std::to_string(getpid());
  Echo echo(look);
  grpc::ServerBuilder builder;
  builder.RegisterCallbackGenericService(&echo);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);

  struct Call {
    grpc::ClientContext context;
    grpc::ByteBuffer request;
    grpc::ByteBuffer answer;
    size_t answered = 0;
  };
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  auto calls = std::make_unique<Call[]>(count);
  absl::BlockingCounter running(count);
  for (int i = 0; i < count; ++i) {
    Call& call = calls[i];
    const grpc::Slice text("hello");
    call.request = grpc::ByteBuffer(&text, 1);
    stub.UnaryCall(&call.context, "/echo", {}, &call.request, &call.answer,
                   [&](const grpc::Status& status) {
                     EXPECT_TRUE(status.ok()) << status.error_message();
                     call.answered = call.answer.Length();
                     running.DecrementCount();
                   });
  }
  running.Wait();
  for (int i = 0; i < count; ++i) EXPECT_EQ(calls[i].answered, 5u);
  server->Shutdown();
}

TEST(GrpcTsanTest, WhatAReactorDoesStepByStepIsOrdered) {
  for (int i = 0; i < 20; ++i) CallEcho(10, [] {});
}

#ifdef __SANITIZE_THREAD__

TEST(GrpcTsanTest, ARaceBetweenTwoHandlersIsFound) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  std::atomic<int> arrived = 0;
  std::atomic<bool> written = false;
  int value = 0;
  // Both are in the handler when the first of them writes, and the second does so later.
  auto look = [&] {
    auto wait = [](auto happened) {
      const absl::Time deadline = absl::Now() + absl::Seconds(30);
      while (!happened() && absl::Now() < deadline) usleep(1000);
    };
    if (arrived.fetch_add(1, std::memory_order_relaxed) == 0) {
      wait([&] { return arrived.load(std::memory_order_relaxed) == 2; });
      ++value;
      written.store(true, std::memory_order_relaxed);
    } else {
      wait([&] { return written.load(std::memory_order_relaxed); });
      ++value;
    }
  };
  EXPECT_EXIT((CallEcho(2, look), exit(0)), testing::ExitedWithCode(66), "data race");
}

#endif

}  // namespace
