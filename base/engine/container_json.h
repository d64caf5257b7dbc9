// Answers about containers and execs as documents of docker's Engine API, beside inspect
// (engine_json.h); and the bodies of exec requests.
#ifndef GANTRY_BASE_ENGINE_CONTAINER_JSON_H_
#define GANTRY_BASE_ENGINE_CONTAINER_JSON_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class ContainerStats;
class ContainerSummary;
class DiffResponse;
class ExecConfig;
class ExecDetails;
class PathStat;
class TopResponse;
}  // namespace gantry::v1

namespace gantry::engine {

// Which fields of a list's element there are: not all versions of the API have these. Left out
// while they are made, because to take them out of a thousand documents again costs more than
// these.
struct SummaryFields {
  bool image_manifest = true;
  bool annotations = true;
  bool dns_names = true;
  bool gateway_priority = true;
};

// An element of GET /containers/json, as text behind what `out` holds: a thousand documents would
// take several times as long. `network_ids` are the ids of networks by their names, for those of a
// container that has no place in them now.
void AppendContainerSummary(const v1::ContainerSummary& container,
                            const std::map<std::string, std::string>& network_ids, absl::Time now,
                            const SummaryFields& fields, std::string* out);
// GET /containers/{id}/top.
Value TopDocument(const v1::TopResponse& top);
// GET /containers/{id}/changes: null when there is none.
Value ChangesDocument(const v1::DiffResponse& diff);
// The header X-Docker-Container-Path-Stat: base64 of a document whose mode has Go's bits.
std::string PathStatHeader(const v1::PathStat& stat);

// One sample of GET /containers/{id}/stats. `previous` is the sample before it, or an empty message
// for the first. Of a container that does not run: zeros.
Value StatsDocument(const v1::ContainerStats& stats, const v1::ContainerStats& previous);

// The body of POST /containers/{id}/exec. kInvalidArgument: a FieldError, or no command.
absl::Status ExecFromDocument(const Value& body, v1::ExecConfig& config);
// GET /exec/{id}/json.
Value ExecDocument(const v1::ExecDetails& exec);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_CONTAINER_JSON_H_
