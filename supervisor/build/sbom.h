// The packages in an image's files, as an SPDX document.
//
// Read are the databases of dpkg (also as distroless images have them, a file for each package) and
// apk. What came into the image in another way, by rpm, pip, npm or a copy, is not seen, and the
// document says so. The tree is hostile. Free functions, safe to call from any thread.
// Spec: SPDX 2.3.
#ifndef GANTRY_SUPERVISOR_BUILD_SBOM_H_
#define GANTRY_SUPERVISOR_BUILD_SBOM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/engine/value.h"

namespace gantry::build {

struct Package {
  enum class Kind { kDeb, kApk };
  Kind kind = Kind::kDeb;
  std::string name;
  std::string version;
  std::string architecture;
  std::string source;  // name of the source package, "" for its own
  std::string maintainer;
  std::string license;  // apk only
  std::string homepage;

  friend bool operator==(const Package&, const Package&) = default;
};

struct PackageList {
  std::string distribution;       // of /etc/os-release: "debian"
  std::string release;            // "12"
  std::vector<Package> packages;  // by name, architecture and version
};

// Of the tree at the open directory `root`. kResourceExhausted: a database that is too large.
absl::StatusOr<PackageList> ListPackages(int root);

// `name` is what the document is about; `created` its time.
engine::Value SpdxDocument(const PackageList& list, const std::string& name, absl::Time created);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_SBOM_H_
