// Names in an archive of images that somebody else made: paths of entries, names of images, and
// manifest.json of docker's archives.
//
// All of it is checked here, because nothing that an archive says about itself is known to be true.
// Pure functions. Writer and reader share archive_layout.h.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_NAMES_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_NAMES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "content-store/digest.h"

namespace gantry::distribution {

// "a/./b/" -> "a/b". Empty for what leads out of the archive or is its root.
std::string CleanEntryName(absl::string_view name);

inline absl::string_view EntryBaseName(absl::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

// The digest in "blobs/<algorithm>/<hex>"; empty for other names.
// kInvalidArgument: the name has that form and no digest in it.
absl::StatusOr<content::Digest> DigestInEntryName(absl::string_view path);

// The full form of an image's name. kInvalidArgument: not a name.
absl::StatusOr<std::string> CanonicalImageName(absl::string_view text);

// A name with a digest promises what it stands for. An archive that breaks the promise would have
// its image run in place of another. kInvalidArgument: `target` is not what `name` promises.
absl::Status CheckNamePromise(const std::string& name, const content::Digest& target);

// One image of manifest.json: paths in the archive, and names.
struct DockerArchiveEntry {
  std::string config;
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;
};

// kInvalidArgument: not a list of these; kResourceExhausted: too many layers or names.
absl::StatusOr<std::vector<DockerArchiveEntry>> ParseDockerManifest(const std::string& text);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_ARCHIVE_NAMES_H_
