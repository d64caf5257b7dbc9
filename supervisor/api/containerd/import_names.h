// Under which names the images of an archive are stored: what the destination of a transfer asks
// for. Immutable value.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_IMPORT_NAMES_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_IMPORT_NAMES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "content-store/digest.h"
#include "proto/containerd/types/transfer/imagestore.pb.h"

namespace gantry::api::containerd_api {

class ImportNames {
 public:
  explicit ImportNames(const containerd::types::transfer::ImageStore& store);

  // For images that the archive gives a tag only: "<prefix>:<tag>". "" when the destination names
  // none.
  const std::string& prefix() const { return prefix_; }

  // Of the archive's own index: the name that the destination has for the whole, references without
  // prefix, and "<name>@<digest>" of those with add_digest.
  std::vector<std::string> IndexNames(const content::Digest& digest) const;
  // Whether the index gets any.
  bool names_index() const;

  // `name` as the archive has it in full, "" for an image without one. None: the image is not
  // wanted under any name. A reference with prefix takes names below it, or all with
  // allow_overwrite; with add_digest it gives "<prefix>@<digest>" to images without name, and to
  // all unless skip_named_digest. Without references every name is taken.
  std::vector<std::string> NamesFor(const std::string& name, const content::Digest& digest) const;

 private:
  std::string index_name_;
  std::string prefix_;
  std::vector<containerd::types::transfer::ImageReference> references_;  // with prefix
  std::vector<containerd::types::transfer::ImageReference> index_references_;
};

// `name` is the prefix itself, or goes on behind it with a tag, digest or path.
bool HasNamePrefix(absl::string_view name, absl::string_view prefix);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_IMPORT_NAMES_H_
