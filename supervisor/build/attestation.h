// What is said about an image beside it: from what and how it was built (provenance), and which
// packages are in it (an SPDX document).
//
// Pure; free functions on values. Equal inputs give equal bytes.
// Spec: in-toto Attestation Framework v0.1 "Statement"; SLSA v0.2 and v1 "Provenance".
#ifndef GANTRY_SUPERVISOR_BUILD_ATTESTATION_H_
#define GANTRY_SUPERVISOR_BUILD_ATTESTATION_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/engine/value.h"
#include "content-store/descriptor.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::build {

inline constexpr char kInToto[] = "application/vnd.in-toto+json";
inline constexpr char kSpdxPredicate[] = "https://spdx.dev/Document";

// Something that a build was made from.
struct Material {
  std::string uri;     // "pkg:docker/debian@12?platform=linux%2Famd64", a URL
  std::string digest;  // "sha256:..." or a commit, "" if it is not known

  friend bool operator==(const Material&, const Material&) = default;
  friend auto operator<=>(const Material&, const Material&) = default;
};

// "pkg:docker/NAME@TAG?digest=...&platform=..." of an image's reference.
std::string PurlOfImage(absl::string_view reference, const content::Platform& platform,
                        absl::string_view digest);

struct BuildFacts {
  const v1::BuildRequest::Open* request = nullptr;
  std::string id;  // of this build
  std::string dockerfile;
  std::string dockerfile_text;
  content::Platform builder;
  std::vector<Material> materials;
  std::vector<std::string> steps;  // as progress names them
  absl::Time started;
  absl::Time finished;
};

// The type of predicate that the request asks for, and the predicate. Secrets, credentials and,
// but for the fullest kind, arguments are left out.
std::string ProvenanceType(const v1::BuildAttestations& asked);
engine::Value Provenance(const BuildFacts& facts);

// The statement that `predicate` is about the image of that digest.
std::string Statement(const std::string& predicate_type, engine::Value predicate,
                      const std::vector<std::string>& names, const content::Platform& platform,
                      const content::Digest& subject);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_ATTESTATION_H_
