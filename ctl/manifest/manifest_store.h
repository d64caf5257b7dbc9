// Manifest lists that are being put together, in the files of docker's command line, which ctl
// shares with it.
//
// Below the configuration directory (DOCKER_CONFIG, else ~/.docker) a list is the directory
// manifests/NAME and each of its manifests a file in it, a JSON object: Ref, Descriptor with
// mediaType, digest, size and platform, Raw (base64) and the document itself. In file names ":"
// becomes "-" and "/" becomes "_".
//
// Thread-compatible; every call reads or writes the files.
#ifndef GANTRY_CTL_MANIFEST_MANIFEST_STORE_H_
#define GANTRY_CTL_MANIFEST_MANIFEST_STORE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/engine/value.h"

namespace gantry::ctl {

class ManifestStore {
 public:
  explicit ManifestStore(const std::map<std::string, std::string>& environment);

  // References are in full: "docker.io/library/app:1".

  // The list's manifests by the names of their files. kNotFound: no such list. kInvalidArgument: a
  // file is not a manifest's.
  absl::StatusOr<std::vector<engine::Value>> List(const std::string& list) const;
  // kNotFound: the list has no such manifest.
  absl::StatusOr<engine::Value> Find(const std::string& list, const std::string& manifest) const;
  // A new or changed one; makes the list where it is not there yet.
  absl::Status Put(const std::string& list, const std::string& manifest,
                   const engine::Value& document) const;
  // kNotFound.
  absl::Status Remove(const std::string& list) const;

 private:
  std::string Path(const std::string& list) const;

  std::string directory_;
};

// "docker.io/library/app:1" of "app:1"; latest where there is neither tag nor digest.
// kInvalidArgument: not a reference.
absl::StatusOr<std::string> FullReference(const std::string& reference);

// The manifest list of those manifests, as it is sent to a registry. kFailedPrecondition: one has
// no os and architecture; `list` names the object in messages.
absl::StatusOr<std::string> ManifestListDocument(const std::string& list,
                                                 const std::vector<engine::Value>& manifests);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_MANIFEST_MANIFEST_STORE_H_
