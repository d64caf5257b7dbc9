#include "supervisor/api/docker/session_build.h"

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/byte_stream.h"
#include "base/clock.h"
#include "base/engine/value.h"
#include "base/status_macros.h"
#include "proto/buildkit/control.pb.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/buildkit/buildkit_door.h"
#include "supervisor/api/buildkit/solve_progress.h"
#include "supervisor/api/buildkit/solve_request.h"
#include "supervisor/api/docker/build_query.h"
#include "supervisor/api/docker/named_builds.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/build/build_executor.h"

namespace gantry::api::docker {
namespace {

using buildkit::Attributes;
using engine::Value;

// A query parameter that holds a JSON document; null where it is missing.
absl::StatusOr<Value> JsonQuery(const Request& request, absl::string_view name) {
  const std::string& text = request.Query(name);
  if (text.empty()) return Value();
  absl::StatusOr<Value> value = Value::FromJson(text);
  if (!value.ok())
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": not a JSON document: ", value.status().message()));
  return value;
}

// {"NAME": "VALUE"}, each under `prefix`NAME.
absl::Status AddMap(const Request& request, absl::string_view name, absl::string_view prefix,
                    Attributes& attributes) {
  GANTRY_ASSIGN_OR_RETURN(const Value map, JsonQuery(request, name));
  if (!map.is_object()) return absl::OkStatus();
  for (const auto& [key, value] : map.object().fields) {
    if (value.is_string()) attributes[absl::StrCat(prefix, key)] = value.string();
  }
  return absl::OkStatus();
}

// [{"Type": ..., "Attrs": {...}}]; the image store where there is none.
absl::StatusOr<std::vector<buildkit::Destination>> DestinationsOf(const Request& request) {
  std::vector<buildkit::Destination> out;
  GANTRY_ASSIGN_OR_RETURN(const Value outputs, JsonQuery(request, "outputs"));
  if (outputs.is_list()) {
    for (const Value& output : outputs.list()) {
      const Value* type = output.Find("Type");
      const Value* attributes = output.Find("Attrs");
      if (type == nullptr || !type->is_string())
        return absl::InvalidArgumentError("outputs: an output has no Type");
      Attributes given;
      if (attributes != nullptr && attributes->is_object()) {
        for (const auto& [key, value] : attributes->object().fields) {
          if (value.is_string()) given[key] = value.string();
        }
      }
      GANTRY_ASSIGN_OR_RETURN(buildkit::Destination one,
                              buildkit::ReadExporter(type->string(), given));
      out.push_back(std::move(one));
    }
  }
  if (out.empty()) out.emplace_back();
  for (buildkit::Destination& one : out) {
    if (one.kind != buildkit::Destination::Kind::kImage || one.output.names_size() > 0) continue;
    for (const std::string& name : request.QueryAll("t")) one.output.add_names(name);
  }
  return out;
}

Value TraceOf(const buildkit::SolveProgress::Status& status) {
  Value line = Value::EmptyObject();
  line.Set("id", "moby.buildkit.trace");
  line.Set("aux", absl::Base64Escape(status.SerializeAsString()));
  return line;
}

}  // namespace

absl::StatusOr<buildkit::Solver::Job> SessionBuildOf(const Request& request, NamedBuilds& builds) {
  Attributes attributes;
  const auto copy = [&](const char* query, const char* key) {
    if (!request.Query(query).empty()) attributes[key] = request.Query(query);
  };
  copy("dockerfile", "filename");
  copy("target", "target");
  copy("platform", "platform");
  copy("networkmode", "force-network-mode");
  copy("cgroupparent", "cgroup-parent");
  if (request.Flag("nocache")) attributes["no-cache"] = "";
  if (request.Flag("pull")) attributes["image-resolve-mode"] = "pull";
  if (request.Query("shmsize") != "0") copy("shmsize", "shm-size");
  if (request.Flag("squash")) return absl::UnimplementedError("squash is not supported");
  const std::string& id = request.Query("buildid");
  const bool upload = request.Query("remote") == "upload-request";
  if (upload) {
    attributes["context"] = absl::StrCat("http://buildkit-session/", id);
  } else if (const std::string& remote = request.Query("remote"); remote != "client-session") {
    attributes["context"] = remote;
  }
  GANTRY_RETURN_IF_ERROR(AddMap(request, "buildargs", "build-arg:", attributes));
  GANTRY_RETURN_IF_ERROR(AddMap(request, "labels", "label:", attributes));
  std::vector<std::string> hosts;
  for (const std::string& host : request.QueryAll("extrahosts")) {
    const size_t colon = host.find(':');
    if (colon == std::string::npos)
      return absl::InvalidArgumentError(absl::StrCat("extrahosts: \"", host, "\" has no address"));
    hosts.push_back(absl::StrCat(host.substr(0, colon), "=", host.substr(colon + 1)));
  }
  if (!hosts.empty()) attributes["add-hosts"] = absl::StrJoin(hosts, ",");
  GANTRY_ASSIGN_OR_RETURN(const Value ulimits, JsonQuery(request, "ulimits"));
  if (ulimits.is_list()) {
    std::vector<std::string> limits;
    for (const Value& one : ulimits.list()) {
      const Value* name = one.Find("Name");
      const Value* soft = one.Find("Soft");
      const Value* hard = one.Find("Hard");
      if (name == nullptr || !name->is_string() || soft == nullptr || !soft->is_number() ||
          hard == nullptr || !hard->is_number())
        return absl::InvalidArgumentError("ulimits: a limit has no Name, Soft or Hard");
      limits.push_back(absl::StrCat(name->string(), "=", soft->integer(), ":", hard->integer()));
    }
    if (!limits.empty()) attributes["ulimit"] = absl::StrJoin(limits, ",");
  }
  buildkit::Solver::Job job;
  job.ref = id;
  if (upload) {
    job.upload = [&builds, id](const std::function<absl::Status(ByteSource&)>& read) {
      return builds.ReadUpload(id, read);
    };
  }
  job.session = request.Query("session");
  job.plain_failures = true;
  if (job.session.empty())
    return absl::InvalidArgumentError("a build with version=2 needs a session");
  // These clients ask for the host's network without saying that they allow it.
  GANTRY_ASSIGN_OR_RETURN(job.solve,
                          buildkit::ReadFrontend("dockerfile.v0", attributes, {"network.host"}));
  GANTRY_ASSIGN_OR_RETURN(const Value caches, JsonQuery(request, "cachefrom"));
  if (caches.is_list()) {
    for (const Value& one : caches.list()) {
      if (!one.is_string()) continue;
      GANTRY_RETURN_IF_ERROR(
          buildkit::AddCacheImport("registry", {{"ref", one.string()}}, job.solve));
    }
  }
  const auto wants_inline = attributes.find("build-arg:BUILDKIT_INLINE_CACHE");
  if (wants_inline != attributes.end() && wants_inline->second == "1")
    GANTRY_RETURN_IF_ERROR(buildkit::AddCacheExport("inline", {}, job.solve));
  GANTRY_ASSIGN_OR_RETURN(job.destinations, DestinationsOf(request));
  return job;
}

namespace {

// The last documents of the answer: the image's id, or why there is none.
absl::Status EndBuild(Request& request, const absl::StatusOr<std::string>& built) {
  Value line = Value::EmptyObject();
  if (built.ok()) {
    Value id = Value::EmptyObject();
    id.Set("ID", *built);
    line.Set("id", "moby.image.id");
    line.Set("aux", std::move(id));
    if (request.Flag("q")) {
      // Which is all that such a client prints.
      Value text = Value::EmptyObject();
      text.Set("stream", built->empty() ? "" : absl::StrCat(*built, "\n"));
      GANTRY_RETURN_IF_ERROR(request.Write(text));
    }
  } else {
    Value detail = Value::EmptyObject();
    detail.Set("message", built.status().message());
    line.Set("errorDetail", std::move(detail));
    line.Set("error", built.status().message());
  }
  GANTRY_RETURN_IF_ERROR(request.Write(line));
  return request.End();
}

}  // namespace

absl::Status BuildFromBody(build::BuildExecutor& builder, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const v1::BuildRequest::Open open, BuildQuery(request));
  GANTRY_RETURN_IF_ERROR(request.Begin(200, "application/json"));
  buildkit::SolveProgress progress(request.Query("buildid"),
                                   open.dockerfile().empty() ? "Dockerfile" : open.dockerfile());
  std::string image;
  const absl::Status built = builder.Build(
      request.context(), open, request.body(), [&](v1::BuildResponse event) -> absl::Status {
        if (event.has_built()) image = event.built().image_id();
        const buildkit::SolveProgress::Status status = progress.Add(event, Clock::Real().Now());
        return status.ByteSizeLong() > 0 ? request.Write(TraceOf(status)) : absl::OkStatus();
      });
  return EndBuild(request, built.ok() ? absl::StatusOr<std::string>(image) : built);
}

absl::Status BuildInSession(BuildkitDoor& door, NamedBuilds& builds, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(buildkit::Solver::Job job, SessionBuildOf(request, builds));
  GANTRY_RETURN_IF_ERROR(request.Begin(200, "application/json"));
  absl::Status sent;
  const absl::StatusOr<Attributes> built = door.solver().Run(
      request.context(), std::move(job), [&](const buildkit::SolveProgress::Status& status) {
        // A client that has left cancels the build by that.
        if (sent.ok() && status.ByteSizeLong() > 0) sent = request.Write(TraceOf(status));
      });
  GANTRY_RETURN_IF_ERROR(sent);
  if (!built.ok()) return EndBuild(request, built.status());
  const auto digest = built->find("containerimage.digest");
  return EndBuild(request, digest == built->end() ? std::string() : digest->second);
}

}  // namespace gantry::api::docker
