#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/buildkit/services.h"
#include "supervisor/api/buildkit/solve_job.h"
#include "supervisor/api/buildkit/solver.h"
#include "supervisor/api/grpc/work_call.h"

namespace gantry::api::buildkit {
namespace {

namespace frontend = moby::buildkit::v1::frontend;

constexpr size_t kGatewayShare = 256;
// The build that a call belongs to.
constexpr char kBuildId[] = "buildkit-controlapi-buildid";
constexpr uint32_t kDirectory = 1u << 31;

// What a client may count on, by BuildKit's names.
constexpr const char* kFrontendCaps[] = {
    "solve.base",    "solve.inlinereturn", "return",           "returnmap",
    "statfile",      "importcaches",       "proto.refarray",   "frontend.inputs",
    "frontend.caps", "gateway.evaluate",   "gateway.warnings", "gateway.solve.metadata",
    "readfile",      "resolveimage",
};
constexpr const char* kBuildCaps[] = {
    "source.image",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "exec.meta.base",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.ulimit",
    "exec.meta.cgroup.parent",
    "exec.mount.bind",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.secretenv",
    "file.base",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "exporter.sourcedateepoch",
    "exporter.image.attestations",
    "exporter.multiple",
    "source.ocilayout",
};

class GatewayService final : public frontend::LLBBridge::CallbackService {
 public:
  GatewayService(Solver& solver, SolveJobs& jobs, Executor& work)
      : solver_(solver), jobs_(jobs), work_(work, kGatewayShare, Scoped::kDefault) {}

  grpc::ServerUnaryReactor* Ping(grpc::CallbackServerContext* context, const frontend::PingRequest*,
                                 frontend::PongResponse* response) override {
    return WithJob(context, [=](Call&, SolveJob&) {
      const auto add = [](const char* id, auto* caps) {
        caps->set_id(id);
        caps->set_enabled(true);
      };
      for (const char* id : kFrontendCaps) add(id, response->add_frontendapicaps());
      for (const char* id : kBuildCaps) add(id, response->add_llbcaps());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Solve(grpc::CallbackServerContext* context,
                                  const frontend::SolveRequest* request,
                                  frontend::SolveResponse* response) override {
    return WithJob(context, [=, this](Call& call, SolveJob& job) -> absl::Status {
      if (request->definition().def_size() > 0)
        return absl::UnimplementedError(
            "definitions (LLB) are not supported: Gantry builds Dockerfiles only");
      for (const auto& [name, definition] : request->frontendinputs())
        return absl::UnimplementedError(absl::StrCat("build context \"", name,
                                                     "\": results of other builds as contexts are "
                                                     "not supported"));
      const Attributes options = {request->frontendopt().begin(), request->frontendopt().end()};
      GANTRY_ASSIGN_OR_RETURN(buildkit::Solve solve,
                              ReadFrontend(request->frontend(), options, {}));
      if (!solve.request.call().empty()) return Describe(call, job, std::move(solve), response);
      response->mutable_result()->mutable_ref()->set_id(job.Plan(std::move(solve)));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Return(grpc::CallbackServerContext* context,
                                   const frontend::ReturnRequest* request,
                                   frontend::ReturnResponse*) override {
    return WithJob(context, [=](Call&, SolveJob& job) -> absl::Status {
      if (request->has_error()) {
        // As it was told to the client by an earlier call, or its own.
        job.Return(absl::UnknownError(request->error().message()));
        return absl::OkStatus();
      }
      const frontend::Result& result = request->result();
      std::string name = result.ref().id();
      // Of several platforms all are one plan, which has one name.
      for (const auto& [platform, ref] : result.refs().refs()) name = ref.id();
      job.Return(std::move(name));
      return absl::OkStatus();
    });
  }

  // A result is evaluated when it is built; until then nothing is known of its files.
  grpc::ServerUnaryReactor* StatFile(grpc::CallbackServerContext* context,
                                     const frontend::StatFileRequest* request,
                                     frontend::StatFileResponse* response) override {
    return WithJob(context, [=](Call&, SolveJob& job) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckRef(job, request->ref()));
      if (request->path() != "." && request->path() != "/")
        return absl::UnimplementedError("files of a result cannot be looked at");
      response->mutable_stat()->set_path(".");
      response->mutable_stat()->set_mode(kDirectory | 0755);
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* Evaluate(grpc::CallbackServerContext* context,
                                     const frontend::EvaluateRequest* request,
                                     frontend::EvaluateResponse*) override {
    return WithJob(context, [=](Call&, SolveJob& job) { return CheckRef(job, request->ref()); });
  }

  grpc::ServerUnaryReactor* Inputs(grpc::CallbackServerContext* context,
                                   const frontend::InputsRequest*,
                                   frontend::InputsResponse*) override {
    return WithJob(context, [](Call&, SolveJob&) { return absl::OkStatus(); });
  }

  grpc::ServerUnaryReactor* Warn(grpc::CallbackServerContext* context,
                                 const frontend::WarnRequest* request,
                                 frontend::WarnResponse*) override {
    return WithJob(context, [=](Call&, SolveJob& job) {
      SolveJob::Status status;
      moby::buildkit::v1::VertexWarning& warning = *status.add_warnings();
      warning.set_vertex(request->digest());
      warning.set_level(request->level());
      warning.set_short_(request->short_());
      *warning.mutable_detail() = request->detail();
      warning.set_url(request->url());
      *warning.mutable_info() = request->info();
      *warning.mutable_ranges() = request->ranges();
      job.Publish(std::move(status));
      return absl::OkStatus();
    });
  }

 private:
  // An answer at once, instead of a plan: it is in the metadata of an empty result.
  absl::Status Describe(Call& call, SolveJob& job, buildkit::Solve solve,
                        frontend::SolveResponse* response) {
    Solver::Job asked;
    asked.ref = job.ref();
    asked.session = job.session();
    asked.solve = std::move(solve);
    GANTRY_ASSIGN_OR_RETURN(const v1::BuildReport report, solver_.Describe(call, std::move(asked)));
    auto& metadata = *response->mutable_result()->mutable_metadata();
    metadata["result.json"] = report.json();
    metadata["result.txt"] = report.text();
    metadata["result.statuscode"] = report.failed() ? "1" : "0";
    metadata["version"] = "1.0.0";
    return absl::OkStatus();
  }

  static absl::Status CheckRef(SolveJob& job, const std::string& ref) {
    return job.HasPlan(ref) ? absl::OkStatus()
                            : absl::NotFoundError(absl::StrCat("no such result ", ref));
  }

  // The first call may come before that which begins the build.
  template <class Work>
  grpc::ServerUnaryReactor* WithJob(grpc::CallbackServerContext* context, Work work) {
    std::string id;
    const auto found = context->client_metadata().find(kBuildId);
    if (found != context->client_metadata().end())
      id.assign(found->second.data(), found->second.size());
    return HandleOn(work_, *context, [this, id, work](Call& call) -> absl::Status {
      if (id.empty()) return absl::InvalidArgumentError("the call names no build");
      GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<SolveJob> job, jobs_.Find(id, &call.cancel()));
      return work(call, *job);
    });
  }

  Solver& solver_;
  SolveJobs& jobs_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewGatewayService(Solver& solver, SolveJobs& jobs, Executor& work) {
  return std::make_unique<GatewayService>(solver, jobs, work);
}

}  // namespace gantry::api::buildkit
