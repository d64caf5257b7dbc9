// A digest of files as a build step reads them: two trees have the same digest only if copying
// either gives the same files.
//
// Names, kinds, modes, owners, links, devices, attributes and contents count, times do not. Every
// field is written with its length, so that no two different trees are written alike.
//
// Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_BUILD_TREE_DIGEST_H_
#define GANTRY_SUPERVISOR_BUILD_TREE_DIGEST_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/ignore_file.h"
#include "content-store/digest.h"
#include "supervisor/build/file_copy.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

// Collects named fields into one digest.
class KeyWriter {
 public:
  void Add(absl::string_view name, absl::string_view value);
  content::Digest digest() { return hasher_.Current(); }

 private:
  content::Hasher hasher_;
};

// The digest of a regular file's content that is known without reading it, by its path in the tree,
// "/a/b"; "" if it is not. Such a file has no attributes.
using KnownDigestFn = std::function<const std::string&(absl::string_view path)>;

// The files at `sources` in the tree at `root`, less what `excludes` leaves out of directories.
absl::Status AddFiles(int root, const std::vector<MatchedSource>& sources,
                      const engine::IgnoreRules& excludes, CancelToken* cancel, KeyWriter& key,
                      const KnownDigestFn& known = nullptr);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_TREE_DIGEST_H_
