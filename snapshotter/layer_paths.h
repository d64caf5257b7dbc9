// Names in layers: cleaning, whiteouts, and finding a path in a stack of overlay layers.
#ifndef GANTRY_SNAPSHOTTER_LAYER_PATHS_H_
#define GANTRY_SNAPSHOTTER_LAYER_PATHS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry::snapshot {

inline constexpr absl::string_view kWhiteoutPrefix = ".wh.";
inline constexpr absl::string_view kOpaqueMarker = ".wh..wh..opq";

// "./a//b/../c/" and "/a/c" -> "a/c"; "" for the root itself. kInvalidArgument: leads above the
// root, a name of more than 255 bytes, deeper than `max_depth`.
absl::StatusOr<std::string> CleanLayerPath(absl::string_view path, int max_depth);

// "a/b/c" -> "a/b" and "c"; "c" -> "" and "c".
absl::string_view ParentOf(absl::string_view path);
absl::string_view BaseOf(absl::string_view path);

// Opens `path` ("" for the directory itself) below an open directory: no symlink, "..", or /proc
// link leads out of it.
// Invalid with errno on failure.
UniqueFd OpenBelow(int root, const std::string& path, int flags);
// The same, but fails with ELOOP if `path` has a symlink in it.
UniqueFd OpenBelowWithoutLinks(int root, const std::string& path, int flags);

// Whether an overlay layer's directory hides what is below it.
bool IsOpaque(int directory);

// Where a layer that is being made keeps places for files of the layers below that it links to: a
// directory in its root, whose name no entry can have. The file named N is the one that stands for
// DeferredWork::links[N].
inline constexpr char kLinkStore[] = ".wh..wh.links";

// What one overlay layer says about a path without links.
enum class InLayer { kHas, kHides, kSaysNothing };
InLayer FindInLayer(int layer, const std::string& path);

struct FoundEntry {
  UniqueFd directory;  // that holds it
  std::string name;
  unsigned int mode = 0;
};

// What overlayfs shows at `path` (clean) in a stack of layer directories, topmost first; nothing if
// nothing. Symlinks on the way are not followed.
absl::StatusOr<std::optional<FoundEntry>> FindInLayers(const std::vector<std::string>& layers,
                                                       const std::string& path);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_PATHS_H_
