// Images to and from one tar stream: `load` and `save`, `import` and `export`.
//
// Import reads OCI layouts and docker archives (one file may be both), plain or compressed as a
// whole by gzip, zstd, xz or bzip2, in one pass: each blob goes straight into an ingest of the
// content store, and to a LayerSink while it arrives. An image of a docker archive gets an OCI
// manifest. Export writes one archive that is both; the same images give the same bytes.
//
// Free functions, safe to call from any thread.
// Spec: OCI image-spec v1.1 "Image Layout"; docker image spec v1.2 "Combined Image JSON +
// Filesystem Changeset Format".
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/distribution/layer_feed.h"
#include "supervisor/oci/platform.h"

namespace gantry {
class CancelToken;
}

namespace gantry::distribution {

// `entry` is the path in the archive; bytes of it so far.
using ArchiveProgressFn =
    std::function<void(absl::string_view entry, int64_t offset_bytes, int64_t total_bytes)>;

struct ImportOptions {
  // What must be complete of a multi-platform image, as far as the archive has its manifest. At
  // least one platform must be there in any case.
  oci::PlatformMatcher platforms = oci::PlatformMatcher::Host();
  // What the caller will unpack. Layers known to be for others are not handed to the sink.
  oci::PlatformMatcher unpack_platforms = oci::PlatformMatcher::Host();
  // Prefix for entries that only have a tag ("v1" -> "<base_name>:v1"). "": such entries keep the
  // tag as their name.
  std::string base_name;
  // Also the archive's own index (index.json), as one more image, the last; see
  // ImportedImage::is_index.
  bool with_index = false;
  // An entry without any name becomes "<digest_base_name>@sha256:..."; "": it gets no name (see
  // ImportedImage).
  std::string digest_base_name;
  // Store docker archive layers that are plain tars as gzip. Off: as they are, which is faster.
  bool compress = false;
  bool sync_blobs = true;  // false: the caller makes the store durable before it records an image
  int64_t max_archive_bytes = int64_t{1} << 42;  // after decompression
};

struct ImportedImage {
  // Normalised: "docker.io/library/busybox:latest"; a bare tag of an archive that has only that
  // ("v1") as it is; may be empty.
  std::string name;
  content::Descriptor target;  // index or manifest
  bool is_index = false;       // the archive's own; it has no name
};

// Returns the images in the order of the archive. Blobs are committed and children labelled; naming
// the images and unpacking (runnable_image.h, UnpackSession) is the caller's. Blobs that no image
// needs are left to garbage collection.
//   kInvalidArgument     not a tar, or a tar without images; malformed documents; a name with the digest of another image
//   kDataLoss            truncated, or bytes that do not have the digest their name promises
//   kFailedPrecondition  a manifest points at a blob that is neither in the archive nor in the store, or at a foreign layer;
//                        image and blob are named
//   kResourceExhausted   disk full or a limit
absl::StatusOr<std::vector<ImportedImage>> ImportArchive(ByteSource& archive, content::Store& store,
                                                         LayerSink* sink,
                                                         const ImportOptions& options,
                                                         CancelToken& cancel,
                                                         const ArchiveProgressFn& progress);

struct ExportImage {
  content::Descriptor target;
  std::vector<std::string> names;  // full references; may be empty
};

struct ExportOptions {
  // All(): everything that is in the store. Otherwise an index is reduced to the manifests that
  // match.
  oci::PlatformMatcher platforms = oci::PlatformMatcher::All();
  bool docker_compatible = true;  // also manifest.json and repositories
};

// kNotFound: a blob is not in the store, or no platform matches; nothing was written then. Errors
// of `out` are returned.
absl::Status ExportArchive(content::Store& store, const std::vector<ExportImage>& images,
                           const ExportOptions& options, ByteSink& out, CancelToken& cancel,
                           const ArchiveProgressFn& progress);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_H_
