// Volumes as docker's API and command line write them.
#ifndef GANTRY_BASE_ENGINE_VOLUME_JSON_H_
#define GANTRY_BASE_ENGINE_VOLUME_JSON_H_

#include "base/engine/value.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::engine {

// What `volume inspect` prints of one. With UsageData if its size was measured.
Value VolumeDocument(const v1::Volume& volume);
// A row of `volume ls`.
Value VolumeRow(const v1::Volume& volume);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_VOLUME_JSON_H_
