#include "supervisor/api/docker/activity_routes.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/time/time.h"

#include "base/engine/container_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/container_view.h"

namespace gantry::api::docker {
namespace {

constexpr absl::Duration kStatsPeriod = absl::Seconds(1);

absl::Status Top(const Parts& parts, Request& request) {
  v1::TopRequest top;
  top.set_container(request.Path("id"));
  for (absl::string_view word : absl::StrSplit(request.Query("ps_args"), ' ', absl::SkipEmpty()))
    top.add_ps_args(std::string(word));
  GANTRY_ASSIGN_OR_RETURN(const v1::TopResponse response, parts.view->Top(request.context(), top));
  return request.Reply(200, engine::TopDocument(response));
}

absl::Status Changes(const Parts& parts, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const v1::DiffResponse response,
                          parts.view->Diff(request.context(), request.Path("id")));
  return request.Reply(200, engine::ChangesDocument(response));
}

// Samples of one container, the latest and the one before it.
class Sampler {
 public:
  Sampler(const Parts& parts, Request& request) : parts_(parts), request_(request) {
    wanted_.add_containers(request.Path("id"));
  }

  absl::Status Take() {
    before_ = std::move(now_);
    now_.Clear();
    GANTRY_ASSIGN_OR_RETURN(v1::StatsResponse response,
                            parts_.view->Stats(request_.context(), wanted_, samples_));
    // A container whose shim does not answer has no sample this time.
    if (response.containers_size() != 0) now_ = std::move(*response.mutable_containers(0));
    return absl::OkStatus();
  }
  bool running() const { return now_.running(); }
  engine::Value Document() const { return engine::StatsDocument(now_, before_); }

 private:
  const Parts& parts_;
  Request& request_;
  v1::StatsRequest wanted_;
  std::map<std::string, v1::ContainerStats> samples_;
  v1::ContainerStats now_;
  v1::ContainerStats before_;
};

absl::Status Stats(const Parts& parts, Request& request) {
  Sampler sampler(parts, request);
  GANTRY_RETURN_IF_ERROR(sampler.Take());
  if (!request.Flag("stream", true)) {
    // Rates need two samples, unless the client says that it keeps the last one.
    const bool one_shot = request.version() >= ApiVersion{1, 41} && request.Flag("one-shot");
    if (!one_shot && sampler.running()) {
      GANTRY_RETURN_IF_ERROR(request.cancel().Sleep(kStatsPeriod));
      GANTRY_RETURN_IF_ERROR(sampler.Take());
    }
    return request.Reply(200, sampler.Document());
  }
  GANTRY_RETURN_IF_ERROR(request.Begin(200, "application/json"));
  while (true) {
    GANTRY_RETURN_IF_ERROR(request.Write(sampler.Document()));
    GANTRY_RETURN_IF_ERROR(request.cancel().Sleep(kStatsPeriod));
    const absl::Status taken = sampler.Take();
    // A container that was removed has no more samples.
    if (absl::IsNotFound(taken)) return request.End();
    GANTRY_RETURN_IF_ERROR(taken);
  }
}

}  // namespace

void AddActivityRoutes(Router& router, const Parts& parts) {
  router.Add("GET", "/containers/{id}/top", parts, Top);
  router.Add("GET", "/containers/{id}/stats", parts, Stats);
  router.Add("GET", "/containers/{id}/changes", parts, Changes);
}

}  // namespace gantry::api::docker
