// What the daemon says of itself as documents of docker's Engine API.
#ifndef GANTRY_BASE_ENGINE_SYSTEM_JSON_H_
#define GANTRY_BASE_ENGINE_SYSTEM_JSON_H_

#include "base/engine/value.h"

namespace gantry::v1 {
class InfoResponse;
class VersionResponse;
}  // namespace gantry::v1

namespace gantry::engine {

// GET /info, with the keys of every version of the API. Keys that mean nothing here (swarm, plugins
// of others) have the value that docker gives them on a host without these; keys whose value the
// daemon does not report (the proxies, counts of descriptors and listeners) are left out. What the
// API has no key for is in an object of its own, "Gantry", as in documents of containers.
Value EngineInfoDocument(const v1::InfoResponse& info);

// The same for `ctl info`, with what is ours among docker's keys.
Value InfoDocument(const v1::InfoResponse& info);

// GET /version, which is also what `version --format json` has under "Server".
Value VersionDocument(const v1::VersionResponse& version);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_SYSTEM_JSON_H_
