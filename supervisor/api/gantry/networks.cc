#include "supervisor/api/gantry/networks.h"

#include "base/executor.h"
#include "proto/gantry/v1/networks.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/container_networks.h"
#include "supervisor/core/network_service.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 32;

class NetworksDoor final : public v1::Networks::CallbackService {
 public:
  NetworksDoor(core::NetworkService& networks, core::ContainerNetworks& containers, Executor& work)
      : networks_(networks), containers_(containers), work_(work, kShare, Scoped::kDefault) {}

  // Done to its end also when the client is gone: a network is whole or not there.
  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const v1::CreateNetworkRequest* request,
                                   v1::CreateNetworkResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(networks_.Create(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListNetworksRequest* request,
                                 v1::ListNetworksResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(networks_.List(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext* context,
                                    const v1::InspectNetworkRequest* request,
                                    v1::InspectNetworkResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(networks_.Inspect(call, request->network()), response->mutable_network());
    });
  }
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const v1::RemoveNetworkRequest* request,
                                   v1::RemoveNetworkResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) {
          return Answer(networks_.Remove(call, request->network()), response);
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Prune(grpc::CallbackServerContext* context,
                                  const v1::PruneNetworksRequest* request,
                                  v1::PruneNetworksResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(networks_.Prune(call, *request), response); },
        Departure::kIgnored);
  }

  grpc::ServerUnaryReactor* Connect(grpc::CallbackServerContext* context,
                                    const v1::ConnectNetworkRequest* request,
                                    v1::ConnectNetworkResponse*) override {
    return HandleOn(
        work_, *context, [=, this](Call& call) { return containers_.Connect(call, *request); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Disconnect(grpc::CallbackServerContext* context,
                                       const v1::DisconnectNetworkRequest* request,
                                       v1::DisconnectNetworkResponse*) override {
    return HandleOn(
        work_, *context, [=, this](Call& call) { return containers_.Disconnect(call, *request); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* ListPorts(grpc::CallbackServerContext* context,
                                      const v1::ListPortsRequest* request,
                                      v1::ListPortsResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return containers_.ListPorts(call, *request, response);
    });
  }

 private:
  core::NetworkService& networks_;
  core::ContainerNetworks& containers_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewNetworksDoor(core::NetworkService& networks,
                                               core::ContainerNetworks& containers,
                                               Executor& work) {
  return std::make_unique<NetworksDoor>(networks, containers, work);
}

}  // namespace gantry::api::gantry_v1
