// What changed between two trees: as a list, and as a layer (a tar stream that layer_apply turns
// back into the changes).
//
// Where the newer tree is an overlay on the older one its upper directory is read, which costs as
// much as there are changes. Otherwise both trees are walked side by side.
//
// Spec: OCI image-spec v1.1 "Layer", "Creating".
#ifndef GANTRY_SNAPSHOTTER_LAYER_DIFF_H_
#define GANTRY_SNAPSHOTTER_LAYER_DIFF_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "base/byte_stream.h"
#include "snapshotter/mount.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::snapshot {

// The numbers are those of docker's "changes" API.
enum class ChangeKind { kModified = 0, kAdded = 1, kDeleted = 2 };

struct Change {
  ChangeKind kind = ChangeKind::kModified;
  std::string path;  // absolute within the tree: "/etc/passwd"
};

struct DiffOptions {
  std::optional<absl::Time> source_date_epoch = std::nullopt;  // later mtimes become this one
  CancelToken* cancel = nullptr;                               // may be null
};

struct DiffResult {
  std::string diff_id;  // "sha256:<hex>" of the stream
  int64_t size_bytes = 0;
};

// Visits changes in lexical order of their paths. Empty `older`: everything is new.
// A status other than OK from `visit` ends the listing and is returned.
absl::Status ListChanges(absl::Span<const Mount> older, absl::Span<const Mount> newer,
                         const std::function<absl::Status(const Change&)>& visit,
                         CancelToken* cancel = nullptr);

// Writes the layer, uncompressed, in lexical order; the same trees give the same bytes. `sink` is
// called from another thread, one call at a time.
absl::StatusOr<DiffResult> WriteDiff(absl::Span<const Mount> older, absl::Span<const Mount> newer,
                                     ByteSink& sink, const DiffOptions& options);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_DIFF_H_
