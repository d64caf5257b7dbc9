// Another form of a layer that is in the store: compressed otherwise, or with the times of its
// files limited.
//
// The layer that is made is remembered by a label of the one that it was made from, which also
// keeps it; so a form is made once. Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_CORE_LAYER_FORM_H_
#define GANTRY_SUPERVISOR_CORE_LAYER_FORM_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

#include "base/compression.h"
#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/core/image_assembly.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::core {

struct LayerForm {
  absl::optional<Compression> compression;  // none: as the layer has it
  int level = 0;                            // 0: the usual one
  absl::optional<absl::Time> newest;        // files get no time after this; whole seconds

  friend bool operator==(const LayerForm&, const LayerForm&) = default;
};

// How a layer of that media type is compressed. kInvalidArgument: not a layer that is known.
absl::StatusOr<Compression> CompressionOf(const std::string& media_type);
// A layer's media type: of docker's family or OCI's.
std::string LayerMediaType(Compression compression, bool docker);

// The same layer in that form, of OCI's media type; unchanged where it has it already. A level
// makes it anew. kNotFound: it is not in the store.
absl::StatusOr<ImageLayer> ConvertLayer(content::Store& store, const ImageLayer& layer,
                                        const LayerForm& form, CancelToken* cancel);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LAYER_FORM_H_
