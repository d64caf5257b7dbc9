#include "supervisor/api/buildkit/buildkit_door.h"

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>

#include <chrono>
#include <utility>

#include "supervisor/api/buildkit/services.h"
#include "supervisor/core/build_cache.h"

namespace gantry::api {
namespace {

// A build has two calls that each hold a thread as long as it lasts.
constexpr size_t kThreads = 512;
constexpr int kMaxMessageBytes = 16 << 20;

}  // namespace

BuildkitDoor::BuildkitDoor(const Parts& parts)
    : parts_(parts), solver_(*parts.builder, sessions_, history_, parts.directory) {}

BuildkitDoor::~BuildkitDoor() { Stop(); }

absl::Status BuildkitDoor::ServeControl(UniqueFd connection) {
  absl::MutexLock lock(&mu_);
  if (stopped_) return absl::UnavailableError("the daemon is stopping");
  if (server_ == nullptr) {
    work_ = std::make_unique<Executor>("buildkit", kThreads);
    services_.push_back(buildkit::NewControlService(solver_, jobs_, sessions_, *parts_.cache,
                                                    history_, parts_.version, *work_));
    services_.push_back(buildkit::NewGatewayService(solver_, jobs_, *work_));
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
    for (const auto& service : services_) builder.RegisterService(service.get());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return absl::InternalError("BuildKit's gRPC server does not start");
  }
  grpc::AddInsecureChannelFromFd(server_.get(), connection.release());
  return absl::OkStatus();
}

absl::Status BuildkitDoor::ServeSession(const buildkit::SessionOffer& offer, UniqueFd connection) {
  return sessions_.Serve(offer, std::move(connection));
}

void BuildkitDoor::Stop() {
  std::unique_ptr<grpc::Server> server;
  {
    absl::MutexLock lock(&mu_);
    stopped_ = true;
    server = std::move(server_);
  }
  if (server == nullptr) return;
  // Builds are cancelled at once: nothing of them is lost but their last steps.
  server->Shutdown(std::chrono::system_clock::now());
  server->Wait();
  server.reset();
  absl::MutexLock lock(&mu_);
  work_.reset();  // waits for what still runs
  services_.clear();
}

}  // namespace gantry::api
