#include "ctl/fake_daemon.h"

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/field_error.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "proto/gantry/v1/images.grpc.pb.h"
#include "proto/gantry/v1/networks.grpc.pb.h"
#include "proto/gantry/v1/system.grpc.pb.h"
#include "proto/gantry/v1/volumes.grpc.pb.h"

namespace gantry::ctl {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      EncodeFieldError(status));
}

}  // namespace

struct FakeDaemon::Server {
  class Containers final : public v1::Containers::Service {
   public:
    Containers(FakeDaemon& daemon, Server& server) : daemon_(daemon), server_(server) {}

    grpc::Status Run(grpc::ServerContext* context,
                     grpc::ServerReaderWriter<v1::RunOutput, v1::RunInput>* stream) override {
      v1::RunInput input;
      stream->Read(&input);
      server_.Note(*context, absl::StrCat("run ", input.open().config().image()));
      {
        absl::MutexLock lock(&server_.mu);
        server_.last_config = input.open().config();
        // An image that was pulled meanwhile is there.
        if (!daemon_.play.create.ok() && !server_.pulled) return ToGrpc(daemon_.play.create);
      }
      v1::RunOutput output;
      output.mutable_created()->set_id("0123456789abcdef");
      stream->Write(output);
      if (!daemon_.play.start.ok()) return ToGrpc(daemon_.play.start);
      output.mutable_started()->set_pid(1);
      stream->Write(output);
      if (input.open().detach()) return grpc::Status::OK;
      return Converse(stream, [](v1::RunOutput& out) { out.set_removed(true); });
    }

    grpc::Status Exec(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<v1::ExecOutput, v1::ExecInput>* stream) override {
      v1::ExecInput input;
      stream->Read(&input);
      server_.Note(*context, absl::StrCat("exec ", input.open().container()));
      if (!daemon_.play.start.ok()) return ToGrpc(daemon_.play.start);
      v1::ExecOutput output;
      output.mutable_started()->set_exec_id("e1");
      stream->Write(output);
      if (input.open().detach()) return grpc::Status::OK;
      return Converse(stream, [](v1::ExecOutput&) {});
    }

    grpc::Status List(grpc::ServerContext* context, const v1::ListContainersRequest* request,
                      v1::ListContainersResponse* response) override {
      server_.Note(*context, request->all() ? "list all" : "list");
      if (daemon_.play.broken_off > 0) {
        --daemon_.play.broken_off;
        return grpc::Status(grpc::StatusCode::CANCELLED, "CANCELLED");
      }
      *response = daemon_.containers;
      return grpc::Status::OK;
    }

    grpc::Status Inspect(grpc::ServerContext* context, const v1::InspectContainerRequest* request,
                         v1::InspectContainerResponse* response) override {
      const auto it = daemon_.details.find(request->container());
      if (it == daemon_.details.end()) {
        return ToGrpc(
            absl::NotFoundError(absl::StrCat("no such container: ", request->container())));
      }
      *response->mutable_container() = it->second;
      return grpc::Status::OK;
    }

    grpc::Status Stop(grpc::ServerContext* context, const v1::StopContainerRequest* request,
                      v1::StopContainerResponse* response) override {
      server_.Note(*context, absl::StrCat("stop ", request->container(),
                                          request->has_timeout_seconds()
                                              ? absl::StrCat(" ", request->timeout_seconds())
                                              : ""));
      if (daemon_.details.count(request->container()) == 0) {
        return ToGrpc(
            absl::NotFoundError(absl::StrCat("no such container: ", request->container())));
      }
      return grpc::Status::OK;
    }

    grpc::Status Logs(grpc::ServerContext* context, const v1::LogsRequest* request,
                      grpc::ServerWriter<v1::LogsResponse>* writer) override {
      v1::LogsResponse response;
      const auto add = [&](bool to_stderr, const char* text) {
        v1::LogsResponse::Entry* entry = response.add_entries();
        entry->set_stderr(to_stderr);
        entry->set_text(text);
        entry->mutable_at()->set_seconds(1000000000);
        entry->mutable_at()->set_nanos(5);
      };
      add(false, "one\n");
      add(true, "two\n");
      add(false, "long ");
      add(false, "line\n");
      writer->Write(response);
      return grpc::Status::OK;
    }

   private:
    template <class Out, class In, class Last>
    grpc::Status Converse(grpc::ServerReaderWriter<Out, In>* stream, Last last) {
      Out output;
      if (!daemon_.play.out.empty()) {
        output.set_stdout(daemon_.play.out);
        stream->Write(output);
      }
      if (!daemon_.play.err.empty()) {
        output.set_stderr(daemon_.play.err);
        stream->Write(output);
      }
      In input;
      while (daemon_.play.echo && stream->Read(&input) && !input.close_stdin()) {
        output.set_stdout(input.stdin());
        stream->Write(output);
      }
      output.mutable_exited()->set_exit_code(daemon_.play.exit_code);
      stream->Write(output);
      Out end;
      last(end);
      stream->Write(end);
      return grpc::Status::OK;
    }

    FakeDaemon& daemon_;
    Server& server_;
  };

  class Images final : public v1::Images::Service {
   public:
    Images(FakeDaemon& daemon, Server& server) : daemon_(daemon), server_(server) {}

    grpc::Status List(grpc::ServerContext* context, const v1::ListImagesRequest* request,
                      v1::ListImagesResponse* response) override {
      *response = daemon_.images;
      return grpc::Status::OK;
    }
    grpc::Status Inspect(grpc::ServerContext* context, const v1::InspectImageRequest* request,
                         v1::InspectImageResponse* response) override {
      return ToGrpc(absl::NotFoundError(absl::StrCat("no such image: ", request->image())));
    }
    grpc::Status Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                      grpc::ServerWriter<v1::PullResponse>* writer) override {
      server_.Note(*context, absl::StrCat("pull ", request->reference()));
      v1::PullResponse response;
      response.mutable_progress()->set_id("layer");
      response.mutable_progress()->set_state(v1::Progress::COMPLETE);
      writer->Write(response);
      response.mutable_pulled()->set_reference(request->reference());
      response.mutable_pulled()->set_digest("sha256:d");
      writer->Write(response);
      absl::MutexLock lock(&server_.mu);
      server_.pulled = true;
      return grpc::Status::OK;
    }
    grpc::Status Load(
        grpc::ServerContext* context,
        grpc::ServerReaderWriter<v1::LoadResponse, v1::LoadRequest>* stream) override {
      v1::LoadRequest request;
      size_t bytes = 0;
      while (stream->Read(&request)) bytes += request.data().size();
      server_.Note(*context, absl::StrCat("load ", bytes));
      v1::LoadResponse response;
      response.mutable_loaded()->set_reference("a:b");
      stream->Write(response);
      return grpc::Status::OK;
    }

   private:
    FakeDaemon& daemon_;
    Server& server_;
  };

  class Volumes final : public v1::Volumes::Service {
   public:
    Volumes(FakeDaemon& daemon, Server& server) : daemon_(daemon), server_(server) {}

    grpc::Status List(grpc::ServerContext*, const v1::ListVolumesRequest*,
                      v1::ListVolumesResponse* response) override {
      *response = daemon_.volumes;
      return grpc::Status::OK;
    }
    grpc::Status Inspect(grpc::ServerContext*, const v1::InspectVolumeRequest* request,
                         v1::InspectVolumeResponse* response) override {
      for (const v1::Volume& one : daemon_.volumes.volumes()) {
        if (one.name() != request->name()) continue;
        *response->mutable_volume() = one;
        return grpc::Status::OK;
      }
      return ToGrpc(absl::NotFoundError(absl::StrCat("get ", request->name(), ": no such volume")));
    }
    grpc::Status Prune(grpc::ServerContext* context, const v1::PruneVolumesRequest* request,
                       v1::PruneVolumesResponse* response) override {
      server_.Note(*context, request->all() ? "volume prune all" : "volume prune");
      for (const v1::Volume& one : daemon_.volumes.volumes()) response->add_names(one.name());
      response->set_space_reclaimed_bytes(1000);
      return grpc::Status::OK;
    }

   private:
    FakeDaemon& daemon_;
    Server& server_;
  };

  class Networks final : public v1::Networks::Service {
   public:
    Networks(FakeDaemon& daemon, Server& server) : daemon_(daemon), server_(server) {}

    grpc::Status List(grpc::ServerContext*, const v1::ListNetworksRequest*,
                      v1::ListNetworksResponse* response) override {
      *response = daemon_.networks;
      return grpc::Status::OK;
    }
    grpc::Status Inspect(grpc::ServerContext*, const v1::InspectNetworkRequest* request,
                         v1::InspectNetworkResponse* response) override {
      for (const v1::Network& one : daemon_.networks.networks()) {
        if (one.name() != request->network()) continue;
        *response->mutable_network() = one;
        return grpc::Status::OK;
      }
      return ToGrpc(
          absl::NotFoundError(absl::StrCat("network ", request->network(), " not found")));
    }
    grpc::Status Prune(grpc::ServerContext* context, const v1::PruneNetworksRequest*,
                       v1::PruneNetworksResponse* response) override {
      server_.Note(*context, "network prune");
      for (const v1::Network& one : daemon_.networks.networks()) response->add_names(one.name());
      return grpc::Status::OK;
    }
    grpc::Status Create(grpc::ServerContext* context, const v1::CreateNetworkRequest* request,
                        v1::CreateNetworkResponse* response) override {
      server_.Note(*context, absl::StrCat("network create ", request->name()));
      absl::MutexLock lock(&server_.mu);
      server_.last_network = *request;
      response->set_id("0123456789abcdef");
      return grpc::Status::OK;
    }
    grpc::Status Connect(grpc::ServerContext* context, const v1::ConnectNetworkRequest* request,
                         v1::ConnectNetworkResponse*) override {
      server_.Note(*context, absl::StrCat("network connect ", request->attachment().network(), " ",
                                          request->container()));
      absl::MutexLock lock(&server_.mu);
      server_.last_connection = *request;
      return grpc::Status::OK;
    }
    grpc::Status Disconnect(grpc::ServerContext* context,
                            const v1::DisconnectNetworkRequest* request,
                            v1::DisconnectNetworkResponse*) override {
      server_.Note(*context,
                   absl::StrCat("network disconnect ", request->network(), " ",
                                request->container(), request->force() ? " by force" : ""));
      return grpc::Status::OK;
    }

   private:
    FakeDaemon& daemon_;
    Server& server_;
  };

  class System final : public v1::System::Service {
   public:
    explicit System(FakeDaemon& daemon) : daemon_(daemon) {}

    grpc::Status Info(grpc::ServerContext*, const v1::InfoRequest*,
                      v1::InfoResponse* response) override {
      for (const std::string& name : daemon_.namespaces) response->add_namespaces(name);
      return grpc::Status::OK;
    }

   private:
    FakeDaemon& daemon_;
  };

  Server(FakeDaemon& daemon, const std::string& path)
      : containers(daemon, *this),
        images(daemon, *this),
        networks(daemon, *this),
        system(daemon),
        volumes(daemon, *this) {
    // Never destroyed: shutting gRPC down with its last user may wait ten seconds for one of its
    // pollers.
    grpc_init();
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + path, grpc::InsecureServerCredentials());
    builder.RegisterService(&containers);
    builder.RegisterService(&images);
    builder.RegisterService(&networks);
    builder.RegisterService(&system);
    builder.RegisterService(&volumes);
    server = builder.BuildAndStart();
  }
  ~Server() { server->Shutdown(std::chrono::system_clock::now()); }

  void Note(const grpc::ServerContext& context, std::string call) {
    absl::MutexLock lock(&mu);
    calls.push_back(std::move(call));
    const auto it = context.client_metadata().find("containerd-namespace");
    name_space = it == context.client_metadata().end()
                     ? ""
                     : std::string(it->second.data(), it->second.size());
  }

  absl::Mutex mu;
  std::vector<std::string> calls ABSL_GUARDED_BY(mu);
  std::string name_space ABSL_GUARDED_BY(mu);
  v1::ContainerConfig last_config ABSL_GUARDED_BY(mu);
  v1::CreateNetworkRequest last_network ABSL_GUARDED_BY(mu);
  v1::ConnectNetworkRequest last_connection ABSL_GUARDED_BY(mu);
  bool pulled ABSL_GUARDED_BY(mu) = false;
  Containers containers;
  Images images;
  Networks networks;
  System system;
  Volumes volumes;
  std::unique_ptr<grpc::Server> server;
};

FakeDaemon::FakeDaemon(const std::string& socket_path)
    : server_(std::make_unique<Server>(*this, socket_path)) {}
FakeDaemon::~FakeDaemon() = default;

std::vector<std::string> FakeDaemon::calls() const {
  absl::MutexLock lock(&server_->mu);
  return server_->calls;
}
v1::ContainerConfig FakeDaemon::last_config() const {
  absl::MutexLock lock(&server_->mu);
  return server_->last_config;
}
v1::CreateNetworkRequest FakeDaemon::last_network() const {
  absl::MutexLock lock(&server_->mu);
  return server_->last_network;
}
v1::ConnectNetworkRequest FakeDaemon::last_connection() const {
  absl::MutexLock lock(&server_->mu);
  return server_->last_connection;
}
std::string FakeDaemon::last_namespace() const {
  absl::MutexLock lock(&server_->mu);
  return server_->name_space;
}

}  // namespace gantry::ctl
