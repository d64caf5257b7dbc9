// Names in an archive of images, as reader and writer share them.
//
// Spec: OCI image-spec v1.1 "Image Layout".
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_LAYOUT_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_LAYOUT_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"

#include "content-store/digest.h"

namespace gantry::distribution {

inline constexpr int64_t kArchiveProgressStep = 1 << 20;  // bytes between two reports

// Annotations of index.json: the whole name of an image, and its tag.
inline constexpr char kImageNameAnnotation[] = "io.containerd.image.name";
inline constexpr char kRefNameAnnotation[] = "org.opencontainers.image.ref.name";

// Where a blob lies in the archive.
inline std::string BlobPathInArchive(const content::Digest& digest) {
  return absl::StrCat("blobs/", digest.algorithm(), "/", digest.hex());
}

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_LAYOUT_H_
