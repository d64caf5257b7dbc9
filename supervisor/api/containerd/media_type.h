// Which layers this daemon takes apart and makes. Pure functions.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_MEDIA_TYPE_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_MEDIA_TYPE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/compression.h"

namespace gantry::api::containerd_api {

inline constexpr char kTarLayer[] = "application/vnd.oci.image.layer.v1.tar";

// A tar in the OCI's or docker's name, foreign ones included, plain or compressed by gzip or zstd.
// How it is compressed is seen from its first bytes: docker's types have never been reliable.
bool IsLayer(absl::string_view media_type);

// How a layer of that type is compressed when we write it. kUnimplemented: we do not.
absl::StatusOr<Compression> CompressionToMake(absl::string_view media_type);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_MEDIA_TYPE_H_
