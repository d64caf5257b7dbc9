#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/buildkit/build_history.h"
#include "supervisor/api/buildkit/services.h"
#include "supervisor/api/buildkit/session_call.h"
#include "supervisor/api/buildkit/solve_job.h"
#include "supervisor/api/buildkit/solver.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/oci/platform.h"

namespace gantry::api::buildkit {
namespace {

namespace control = moby::buildkit::v1;

// Calls of one connection at once. Each build has two that last as long as it.
constexpr size_t kControlShare = 256;

Attributes MapOf(const google::protobuf::Map<std::string, std::string>& map) {
  return {map.begin(), map.end()};
}

// containerd's filters, "type==regular", and "shared" for one that is set; the operators that this
// cache can answer. buildx writes "id~=ID" for an id.
template <class Filters, class Request>
absl::Status AddFilters(const Filters& filters, Request& request) {
  for (const std::string& filter : filters) {
    for (absl::string_view one : absl::StrSplit(filter, ',', absl::SkipEmpty())) {
      size_t equal = one.find("==");
      if (absl::StartsWith(one, "id~=")) equal = one.find("~=");
      v1::Filter& out = *request.add_filters();
      if (one == "inuse" || one == "shared" || one == "private") {
        out.set_key(std::string(one));
        out.set_value("true");
        continue;
      }
      if (equal == absl::string_view::npos || (one[equal] == '=' && absl::StrContains(one, '~')))
        return absl::InvalidArgumentError(
            absl::StrCat("filter \"", one, "\" is not supported: write KEY=VALUE"));
      out.set_key(std::string(one.substr(0, equal)));
      out.set_value(std::string(one.substr(equal + 2)));
    }
  }
  return absl::OkStatus();
}

control::UsageRecord RecordOf(const v1::BuildCacheRecord& record) {
  control::UsageRecord out;
  out.set_id(record.id());
  out.set_inuse(record.in_use());
  out.set_size(record.size_bytes());
  if (record.has_created_at()) *out.mutable_createdat() = record.created_at();
  if (record.has_last_used_at()) *out.mutable_lastusedat() = record.last_used_at();
  out.set_usagecount(record.uses());
  out.set_description(record.description());
  out.set_recordtype(record.type());
  out.set_shared(record.shared());
  out.set_mutable_(record.type() == "exec.cachemount");
  return out;
}

absl::StatusOr<std::vector<Destination>> DestinationsOf(const control::SolveRequest& request) {
  std::vector<Destination> out;
  for (const control::Exporter& exporter : request.exporters()) {
    GANTRY_ASSIGN_OR_RETURN(Destination one,
                            ReadExporter(exporter.type(), MapOf(exporter.attrs())));
    out.push_back(std::move(one));
  }
  if (out.empty() && !request.exporterdeprecated().empty()) {
    GANTRY_ASSIGN_OR_RETURN(
        Destination one,
        ReadExporter(request.exporterdeprecated(), MapOf(request.exporterattrsdeprecated())));
    out.push_back(std::move(one));
  }
  return out;
}

class ControlService final : public control::Control::CallbackService {
 public:
  ControlService(Solver& solver, SolveJobs& jobs, Sessions& sessions, core::BuildCache& cache,
                 BuildHistory& history, std::string version, Executor& work)
      : solver_(solver),
        jobs_(jobs),
        sessions_(sessions),
        cache_(cache),
        history_(history),
        version_(std::move(version)),
        work_(work, kControlShare, Scoped::kDefault) {}

  grpc::ServerUnaryReactor* Solve(grpc::CallbackServerContext* context,
                                  const control::SolveRequest* request,
                                  control::SolveResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) -> absl::Status {
      const absl::Status solved = SolveNow(call, *request, *response);
      return solved.ok() || absl::IsUnknown(solved) ? solved : FailureOf(solved, "", "");
    });
  }

  grpc::ServerWriteReactor<control::StatusResponse>* Status(
      grpc::CallbackServerContext* context, const control::StatusRequest* request) override {
    return HandleList<control::StatusResponse>(
        work_, *context,
        [=, this](Call& call, Sender<control::StatusResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<SolveJob> job,
                                  jobs_.Find(request->ref(), &call.cancel()));
          return job->Follow(&call.cancel(), [&](const control::StatusResponse& status) {
            return out.Send(status);
          });
        });
  }

  SessionReactor* Session(grpc::CallbackServerContext* context) override {
    return StartSessionCall(work_, *context, sessions_);
  }

  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const control::ListWorkersRequest*,
                                        control::ListWorkersResponse* response) override {
    moby::buildkit::v1::types::WorkerRecord& worker = *response->add_record();
    worker.set_id("gantry");
    // By this label docker's clients know a store that holds indexes, so that they ask for several
    // platforms, caches and pushes.
    (*worker.mutable_labels())["org.mobyproject.buildkit.worker.snapshotter"] = "overlayfs";
    (*worker.mutable_labels())["org.mobyproject.buildkit.worker.executor"] = "oci";
    *worker.mutable_buildkitversion() = Version();
    const content::Platform& host = oci::HostPlatform();
    pb::Platform& platform = *worker.add_platforms();
    platform.set_os(host.os);
    platform.set_architecture(host.architecture);
    // The bare architecture is what builds are for unless they say otherwise.
    if (host.architecture != "amd64" && host.architecture != "arm64")
      platform.set_variant(host.variant);
    return HandleQuick(
        *context, [](Call&) { return absl::OkStatus(); }, Scoped::kNo);
  }

  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context, const control::InfoRequest*,
                                 control::InfoResponse* response) override {
    *response->mutable_buildkitversion() = Version();
    return HandleQuick(
        *context, [](Call&) { return absl::OkStatus(); }, Scoped::kNo);
  }

  grpc::ServerUnaryReactor* DiskUsage(grpc::CallbackServerContext* context,
                                      const control::DiskUsageRequest* request,
                                      control::DiskUsageResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) -> absl::Status {
      v1::BuildCacheUsageRequest asked;
      GANTRY_RETURN_IF_ERROR(AddFilters(request->filter(), asked));
      GANTRY_ASSIGN_OR_RETURN(const v1::BuildCacheUsageResponse usage, cache_.Usage(call, asked));
      for (const v1::BuildCacheRecord& record : usage.records())
        *response->add_record() = RecordOf(record);
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<control::UsageRecord>* Prune(
      grpc::CallbackServerContext* context, const control::PruneRequest* request) override {
    return HandleList<control::UsageRecord>(
        work_, *context, [=, this](Call& call, Sender<control::UsageRecord>& out) -> absl::Status {
          v1::PruneBuildCacheRequest asked;
          asked.set_all(request->all());
          asked.set_keep_bytes(std::max(request->reservedspace(), request->maxusedspace()));
          GANTRY_RETURN_IF_ERROR(AddFilters(request->filter(), asked));
          if (request->keepduration() > 0) {
            v1::Filter& until = *asked.add_filters();
            until.set_key("until");
            until.set_value(absl::StrCat(request->keepduration() / 1'000'000'000, "s"));
          }
          GANTRY_ASSIGN_OR_RETURN(const v1::PruneBuildCacheResponse pruned,
                                  cache_.Prune(call, asked));
          for (const v1::BuildCacheRecord& record : pruned.removed())
            GANTRY_RETURN_IF_ERROR(out.Send(RecordOf(record)));
          return absl::OkStatus();
        });
  }

  grpc::ServerWriteReactor<control::BuildHistoryEvent>* ListenBuildHistory(
      grpc::CallbackServerContext* context, const control::BuildHistoryRequest* request) override {
    return HandleList<control::BuildHistoryEvent>(
        work_, *context,
        [=, this](Call& call, Sender<control::BuildHistoryEvent>& out) {
          return history_.Listen(
              *request, &call.cancel(),
              [&](const control::BuildHistoryEvent& event) { return out.Send(event); });
        },
        kViewerPatience);
  }

  grpc::ServerUnaryReactor* UpdateBuildHistory(grpc::CallbackServerContext* context,
                                               const control::UpdateBuildHistoryRequest* request,
                                               control::UpdateBuildHistoryResponse*) override {
    return HandleOn(work_, *context, [=, this](Call&) -> absl::Status {
      if (request->delete_()) return history_.Remove(request->ref());
      // There is nothing to write down of a build when it is finalized.
      if (request->finalize()) return absl::OkStatus();
      return history_.Pin(request->ref(), request->pinned());
    });
  }

 private:
  moby::buildkit::v1::types::BuildkitVersion Version() const {
    moby::buildkit::v1::types::BuildkitVersion version;
    version.set_package("gantry");
    version.set_version(version_);
    return version;
  }

  absl::Status SolveNow(Call& call, const control::SolveRequest& request,
                        control::SolveResponse& response) {
    GANTRY_ASSIGN_OR_RETURN(const std::shared_ptr<SolveJob> job,
                            jobs_.Begin(request.ref(), request.session()));
    const absl::Cleanup end = [&] { jobs_.End(job); };
    if (request.definition().def_size() > 0)
      return absl::UnimplementedError(
          "definitions (LLB) are not supported: Gantry builds Dockerfiles only; for others run "
          "buildkitd with its containerd worker on Gantry's socket");
    Solver::Job build;
    build.ref = request.ref();
    build.session = request.session();
    GANTRY_ASSIGN_OR_RETURN(build.destinations, DestinationsOf(request));
    if (!request.frontend().empty()) {
      GANTRY_ASSIGN_OR_RETURN(build.solve,
                              ReadFrontend(request.frontend(), MapOf(request.frontendattrs()), {}));
      if (!build.solve.request.call().empty()) {
        GANTRY_ASSIGN_OR_RETURN(const v1::BuildReport report,
                                solver_.Describe(call, std::move(build)));
        (*response.mutable_exporterresponse())["result.json"] = report.json();
        (*response.mutable_exporterresponse())["result.txt"] = report.text();
        return absl::OkStatus();
      }
    } else {
      GANTRY_ASSIGN_OR_RETURN(std::optional<buildkit::Solve> planned,
                              job->AwaitReturn(&call.cancel()));
      if (!planned.has_value()) return absl::OkStatus();
      build.solve = *std::move(planned);
    }
    for (const std::string& one : request.entitlements()) build.solve.request.add_allow(one);
    for (const control::CacheOptionsEntry& one : request.cache().imports())
      GANTRY_RETURN_IF_ERROR(AddCacheImport(one.type(), MapOf(one.attrs()), build.solve));
    for (const control::CacheOptionsEntry& one : request.cache().exports())
      GANTRY_RETURN_IF_ERROR(AddCacheExport(one.type(), MapOf(one.attrs()), build.solve));
    GANTRY_ASSIGN_OR_RETURN(const Attributes results,
                            solver_.Run(call, std::move(build), [&](SolveJob::Status status) {
                              job->Publish(std::move(status));
                            }));
    for (const auto& [key, value] : results) (*response.mutable_exporterresponse())[key] = value;
    return absl::OkStatus();
  }

  Solver& solver_;
  SolveJobs& jobs_;
  Sessions& sessions_;
  core::BuildCache& cache_;
  BuildHistory& history_;
  const std::string version_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewControlService(Solver& solver, SolveJobs& jobs,
                                                 Sessions& sessions, core::BuildCache& cache,
                                                 BuildHistory& history, std::string version,
                                                 Executor& work) {
  return std::make_unique<ControlService>(solver, jobs, sessions, cache, history,
                                          std::move(version), work);
}

}  // namespace gantry::api::buildkit
