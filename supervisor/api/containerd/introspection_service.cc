// containerd.services.introspection.v1, and containerd.services.version.v1 beside it.
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/containerd/services/introspection/v1/introspection.grpc.pb.h"
#include "proto/containerd/services/version/v1/version.grpc.pb.h"
#include "proto/containerd/types/introspection.pb.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "supervisor/api/containerd/plugin_table.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/oci/platform.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::api::containerd_api {
namespace {

namespace intro = containerd::services::introspection::v1;
namespace version = containerd::services::version::v1;

std::vector<Plugin> Table(const Room& room) {
  std::map<std::string, std::string> snapshotters;
  for (const auto& [name, snapshotter] : room.stores->snapshotters.all()) {
    snapshotters[name] = absl::StrCat(room.root_directory, "/snapshots/", name);
  }
  return PluginTable(snapshotters, absl::StrCat(room.root_directory, "/content"));
}

class IntrospectionService final : public intro::Introspection::CallbackService,
                                   public DoorService {
 public:
  explicit IntrospectionService(const Room& room)
      : room_(room), platform_(ServedPlatform(oci::HostPlatform())), table_(Table(room)) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Plugins(grpc::CallbackServerContext* context,
                                    const intro::PluginsRequest* request,
                                    intro::PluginsResponse* response) override {
    return HandleQuick(
        *context,
        [&](Call&) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(const metadata::Filter filter,
                                  metadata::Filter::Parse(TextsOf(request->filters())));
          for (const Plugin& plugin : table_) {
            if (filter.Matches(FieldsOf(plugin))) SetPlugin(plugin, response->add_plugins());
          }
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

  grpc::ServerUnaryReactor* Server(grpc::CallbackServerContext* context,
                                   const google::protobuf::Empty*,
                                   intro::ServerResponse* response) override {
    return HandleQuick(
        *context,
        [&](Call&) {
          response->set_uuid(room_.uuid);
          response->set_pid(static_cast<uint64_t>(getpid()));
          struct stat info;
          if (stat("/proc/self/ns/pid", &info) == 0) response->set_pidns(info.st_ino);
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

  // A runtime may have to be asked.
  grpc::ServerUnaryReactor* PluginInfo(grpc::CallbackServerContext* context,
                                       const intro::PluginInfoRequest* request,
                                       intro::PluginInfoResponse* response) override {
    return HandleOn(
        *room_.long_calls, *context, [=, this](Call&) { return FindInfo(*request, *response); },
        Scoped::kNo);
  }

 private:
  absl::Status FindInfo(const intro::PluginInfoRequest& request,
                        intro::PluginInfoResponse& response) const {
    for (const Plugin& plugin : table_) {
      if (plugin.type != request.type() || plugin.id != request.id()) continue;
      SetPlugin(plugin, response.mutable_plugin());
      if (!request.has_options()) return absl::OkStatus();
      if (plugin.type != kRuntimePlugin) {
        return absl::UnimplementedError(absl::StrCat("plugin ", plugin.type, " ", plugin.id,
                                                     " takes no options: not implemented"));
      }
      containerd::types::RuntimeRequest runtime;
      GANTRY_RETURN_IF_ERROR(ReadAny(request.options(), &runtime));
      GANTRY_ASSIGN_OR_RETURN(const containerd::types::RuntimeInfo info, Describe(runtime));
      *response.mutable_extra() = AnyOf(info);
      return absl::OkStatus();
    }
    return absl::NotFoundError(
        absl::StrCat("plugin ", request.type(), " ", request.id(), ": not found"));
  }

  // Every runtime's shim is ours; what differs is the OCI runtime, and what that can do.
  absl::StatusOr<containerd::types::RuntimeInfo> Describe(
      const containerd::types::RuntimeRequest& request) const {
    containerd::types::RuntimeInfo info;
    info.set_name(request.runtime_path().empty() ? "io.containerd.runc.v2"
                                                 : request.runtime_path());
    info.mutable_version()->set_version(room_.version);
    if (request.has_options()) *info.mutable_options() = request.options();
    if (room_.runtimes == nullptr) return info;
    std::string binary;
    if (request.has_options() && TypeName(request.options()) == "containerd.runc.v1.Options") {
      containerd::runc::v1::Options options;
      GANTRY_RETURN_IF_ERROR(ReadAny(request.options(), &options));
      binary = options.binary_name();
    }
    GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo found,
                            room_.runtimes->ResolveForContainerd(info.name(), binary));
    (*info.mutable_annotations())["org.gantry.runtime.path"] = found.path;
    (*info.mutable_annotations())["org.gantry.runtime.version"] = found.version;
    info.mutable_features()->set_type_url(
        "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    // An older runtime cannot say; then this is what was found out about it.
    info.mutable_features()->set_value(
        !found.features_json.empty()
            ? found.features_json
            : absl::StrCat(R"({"ociVersionMin":"1.0.0","ociVersionMax":")", found.oci_version_max,
                           R"(","linux":{"mountExtensions":{"idmap":{"enabled":)",
                           found.idmap_mounts ? "true" : "false", "}}}}"));
    return info;
  }

  void SetPlugin(const Plugin& plugin, intro::Plugin* out) const {
    out->set_type(plugin.type);
    out->set_id(plugin.id);
    for (const std::string& type : plugin.requires_types) out->add_requires(type);
    if (plugin.on_platform) SetPlatform(platform_, out->add_platforms());
    out->mutable_exports()->insert(plugin.exports.begin(), plugin.exports.end());
    for (const std::string& capability : plugin.capabilities) out->add_capabilities(capability);
  }

  const Room& room_;
  const content::Platform platform_;
  const std::vector<Plugin> table_;
};

class VersionService final : public version::Version::CallbackService, public DoorService {
 public:
  explicit VersionService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context,
                                    const google::protobuf::Empty*,
                                    version::VersionResponse* response) override {
    return HandleQuick(
        *context,
        [&](Call&) {
          response->set_version(room_.version);
          response->set_revision("gantry");
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

 private:
  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewIntrospectionService(const Room& room) {
  return std::make_unique<IntrospectionService>(room);
}
std::unique_ptr<DoorService> NewVersionService(const Room& room) {
  return std::make_unique<VersionService>(room);
}

}  // namespace gantry::api::containerd_api
