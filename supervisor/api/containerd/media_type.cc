#include "supervisor/api/containerd/media_type.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace gantry::api::containerd_api {

bool IsLayer(absl::string_view media_type) {
  absl::string_view rest = media_type;
  if (absl::ConsumePrefix(&rest, "application/vnd.oci.image.layer.")) {
    absl::ConsumePrefix(&rest, "nondistributable.");
    return rest == "v1.tar" || rest == "v1.tar+gzip" || rest == "v1.tar+zstd";
  }
  if (absl::ConsumePrefix(&rest, "application/vnd.docker.image.rootfs.")) {
    absl::ConsumePrefix(&rest, "foreign.");
    return rest == "diff.tar" || rest == "diff.tar.gzip" || rest == "diff.tar.zstd";
  }
  return false;
}

absl::StatusOr<Compression> CompressionToMake(absl::string_view media_type) {
  absl::string_view rest = media_type;
  if (absl::ConsumePrefix(&rest, kTarLayer)) {
    if (rest.empty()) return Compression::kNone;
    if (rest == "+gzip") return Compression::kGzip;
    if (rest == "+zstd") return Compression::kZstd;
  }
  if (media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip") return Compression::kGzip;
  return absl::UnimplementedError(
      absl::StrCat("no differ makes media type \"", media_type, "\": not implemented"));
}

}  // namespace gantry::api::containerd_api
