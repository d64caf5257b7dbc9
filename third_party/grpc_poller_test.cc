#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace {

class Directory {
 public:
  Directory() { made_ = mkdtemp(name_) != nullptr; }
  ~Directory() {
    if (made_) rmdir(name_);
  }
  std::string Socket() const { return std::string("unix:") + name_ + "/socket"; }

 private:
  char name_[32] = "/tmp/gantry-poller.XXXXXX";
  bool made_;
};

// The call "/first" does not return to gRPC before "/second" has come.
class Service final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    if (context->method() == "/first") {
      arrived.Notify();
      second.WaitForNotification();
    } else {
      second.Notify();
    }
    return new Reactor;  // NOLINT(cppcoreguidelines-owning-memory): deletes itself in OnDone
  }
  absl::Notification arrived, second;

 private:
  struct Reactor final : grpc::ServerGenericBidiReactor {
    Reactor() { Finish(grpc::Status::OK); }
    void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)
  };
};

void Call(grpc::GenericStub& stub, grpc::ClientContext& context, const std::string& method,
          grpc::Status& status, absl::Notification& done) {
  static const grpc::Slice empty;
  static const grpc::ByteBuffer nothing(&empty, 1);
  static grpc::ByteBuffer answers[2];
  stub.UnaryCall(&context, method, grpc::StubOptions(), &nothing, &answers[method == "/first"],
                 [&](grpc::Status ended) {
                   status = std::move(ended);
                   done.Notify();
                 });
}

TEST(GrpcPollerTest, ACallbackThatBlocksStopsNobodyElse) {
  const Directory directory;
  Service service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(directory.Socket(), grpc::InsecureServerCredentials());
  builder.RegisterCallbackGenericService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  grpc::GenericStub stub(
      grpc::CreateChannel(directory.Socket(), grpc::InsecureChannelCredentials()));

  grpc::ClientContext first_context, second_context;
  grpc::Status first, second;
  absl::Notification first_done, second_done;
  Call(stub, first_context, "/first", first, first_done);
  service.arrived.WaitForNotification();
  Call(stub, second_context, "/second", second, second_done);
  ASSERT_TRUE(second_done.WaitForNotificationWithTimeout(absl::Seconds(60)));
  ASSERT_TRUE(first_done.WaitForNotificationWithTimeout(absl::Seconds(60)));
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
}

}  // namespace
