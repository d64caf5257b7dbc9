#include "supervisor/distribution/layer_looks.h"

#include "base/compression.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {

Looks SniffLayer(absl::string_view head) {
  switch (DetectCompression(head)) {
    case Compression::kGzip:
      return Looks::kGzip;
    case Compression::kZstd:
      return Looks::kZstd;
    default:
      return head.size() >= 262 && head.substr(257, 5) == "ustar" ? Looks::kTar : Looks::kOther;
  }
}

const char* OciLayerType(Looks looks) {
  return looks == Looks::kGzip   ? oci::kOciLayerGzip
         : looks == Looks::kZstd ? oci::kOciLayerZstd
                                 : oci::kOciLayer;
}

const char* DockerLayerType(Looks looks) {
  return looks == Looks::kGzip || looks == Looks::kZstd ? oci::kDockerLayerGzip : oci::kDockerLayer;
}

}  // namespace gantry::distribution
