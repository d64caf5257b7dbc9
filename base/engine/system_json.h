// What the daemon says of itself as documents of docker's Engine API.
#ifndef GANTRY_BASE_ENGINE_SYSTEM_JSON_H_
#define GANTRY_BASE_ENGINE_SYSTEM_JSON_H_

#include "base/engine/value.h"

namespace gantry::v1 {
class InfoResponse;
class VersionResponse;
}  // namespace gantry::v1

namespace gantry::engine {

// GET /info. Keys of docker's that mean nothing here (swarm, plugins of others) have the value that
// docker gives them on a host without these; our own follow at the end. Keys whose value the daemon
// does not report (the proxies, counts of descriptors and listeners) are left out.
Value InfoDocument(const v1::InfoResponse& info);

// GET /version, which is also what `version --format json` has under "Server".
Value VersionDocument(const v1::VersionResponse& version);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_SYSTEM_JSON_H_
