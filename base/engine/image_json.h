// Images as docker's Engine API lists and shows them.
//
// The image store is told as the containerd one: an image's id is the digest of its manifest or
// index. `minor` is the API's version, 51 for "1.51": what a version lacks is left out, what it
// had of its own is there.
#ifndef GANTRY_BASE_ENGINE_IMAGE_JSON_H_
#define GANTRY_BASE_ENGINE_IMAGE_JSON_H_

#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class Descriptor;
class ImageDetails;
class ImageHistoryResponse;
class ImageSummary;
class ListImagesResponse;
class PruneImagesResponse;
class RemoveImageResponse;
class SearchImagesResponse;
}  // namespace gantry::v1

namespace gantry::engine {

// GET /images/json.
Value ImageListDocument(const v1::ListImagesResponse& images, int minor);
Value ImageListItem(const v1::ImageSummary& image, int minor);

// GET /images/{name}/json: ImageDocument() (engine_json.h), with what older versions have beside.
Value ImageInspectDocument(const v1::ImageDetails& image, int minor);

// GET /images/search.
Value ImageSearchDocument(const v1::SearchImagesResponse& found);

// GET /images/{name}/history.
Value ImageHistoryDocument(const v1::ImageHistoryResponse& history);

// DELETE /images/{name}: [{"Untagged":...},{"Deleted":...}].
Value ImageRemovalsDocument(const v1::RemoveImageResponse& removed);
// POST /images/prune.
Value ImagePruneDocument(const v1::PruneImagesResponse& pruned);

// {"mediaType":...,"digest":...,"size":...}; annotations and platform where there are some.
Value DescriptorDocument(const v1::Descriptor& descriptor);
// "linux/arm64/v8" -> {"architecture":"arm64","os":"linux","variant":"v8"}.
Value PlatformDocument(absl::string_view platform);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_IMAGE_JSON_H_
