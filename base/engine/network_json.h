// Networks as docker's API and command line write them.
#ifndef GANTRY_BASE_ENGINE_NETWORK_JSON_H_
#define GANTRY_BASE_ENGINE_NETWORK_JSON_H_

#include "base/engine/value.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::engine {

// What `network inspect` prints of one.
Value NetworkDocument(const v1::Network& network);
// A row of `network ls`; `truncate` shortens the id.
Value NetworkRow(const v1::Network& network, bool truncate);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_NETWORK_JSON_H_
