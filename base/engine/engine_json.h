// gantry.v1 messages as the documents of docker's Engine API.
#ifndef GANTRY_BASE_ENGINE_ENGINE_JSON_H_
#define GANTRY_BASE_ENGINE_ENGINE_JSON_H_

#include "base/engine/value.h"

namespace gantry::v1 {
class ContainerDetails;
class ContainerSummary;
class Event;
class ImageDetails;
class ImageManifest;
class NetworkAttachment;
class NetworkEndpoint;
}  // namespace gantry::v1

namespace gantry::engine {

// An element of `inspect`, as the Engine API writes it.
Value ContainerDocument(const v1::ContainerDetails& container);
Value ImageDocument(const v1::ImageDetails& image);

// Parts that lists of containers have, too: one of NetworkSettings.Networks, and Mounts.
// `asked`: what the container's configuration asks of this network; null: nothing.
Value EndpointDocument(const v1::NetworkEndpoint& endpoint,
                       const v1::NetworkAttachment* asked = nullptr);
Value MountPointsDocument(const v1::ContainerSummary& container);
// The descriptor of the manifest behind a container.
Value ManifestDocument(const v1::ImageManifest& manifest);

// An event as JSON, as `docker events --format json`.
Value EventDocument(const v1::Event& event);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_ENGINE_JSON_H_
