// What the first bytes of a layer say about its compression, and the media types that follow.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_LOOKS_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_LOOKS_H_

#include "absl/strings/string_view.h"

namespace gantry::distribution {

enum class Looks { kOther, kTar, kGzip, kZstd };

// `head`: the first 512 bytes, or all there are.
Looks SniffLayer(absl::string_view head);

const char* OciLayerType(Looks looks);
// In the manifest that is written for a docker archive. Everything compressed is called gzip, zstd
// too: containerd does the same, and the manifest is to have the same digest. Unpacking looks at the
// bytes.
const char* DockerLayerType(Looks looks);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_LOOKS_H_
