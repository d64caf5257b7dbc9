// The manifest that was chosen out of an image for a container's platform, as its record keeps it.
// Pure.
#ifndef GANTRY_SUPERVISOR_CORE_MANIFEST_RECORD_H_
#define GANTRY_SUPERVISOR_CORE_MANIFEST_RECORD_H_

#include <optional>

#include "content-store/descriptor.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/record/v1/record.pb.h"

namespace gantry::core {

void WriteManifest(const content::Descriptor& manifest, const content::Platform& platform,
                   record::v1::Container& record);
// Nothing: the container was made before it was kept, or by a client of containerd's API.
std::optional<v1::ImageManifest> ReadManifest(const record::v1::Container& record);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_MANIFEST_RECORD_H_
