// The name of an image: registry, repository, tag, digest.
//
// Follows docker's rules: a missing registry is docker.io, a one-word docker.io repository lives
// under library/, a missing tag is latest. A Reference that exists is well formed, so its parts are
// safe in URLs and (after '/' is dealt with) in paths.
//
// Immutable value.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_REFERENCE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_REFERENCE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "content-store/digest.h"

namespace gantry::distribution {

class Reference {
 public:
  // What people type: `ubuntu`, `user/app:1`, `localhost:5000/x@sha256:...`. Adds `:latest` when
  // there is neither tag nor digest. kInvalidArgument names the text and the rule it breaks; 64 hex
  // digits and "sha256:..." are refused (they are ids).
  static absl::StatusOr<Reference> Parse(absl::string_view text);

  // The same, but a missing tag stays missing (`docker pull --all-tags`, `ctl images REPO`).
  static absl::StatusOr<Reference> ParseName(absl::string_view text);

  const std::string& domain() const { return domain_; }      // "docker.io", "localhost:5000"
  const std::string& path() const { return path_; }          // "library/ubuntu"
  const std::string& tag() const { return tag_; }            // may be empty
  const content::Digest& digest() const { return digest_; }  // may be empty

  // What to ask the registry for: the digest when there is one, otherwise the tag.
  const std::string& object() const { return digest_.empty() ? tag_ : digest_.str(); }

  std::string repository() const;  // "docker.io/library/ubuntu"
  std::string canonical()
      const;  // "docker.io/library/ubuntu:latest"; tag and digest both kept when both are given
  std::string familiar() const;             // "ubuntu:latest"
  std::string familiar_repository() const;  // "ubuntu"

  // kInvalidArgument: not a tag.
  absl::StatusOr<Reference> WithTag(absl::string_view tag) const;
  Reference WithDigest(const content::Digest& digest) const;  // drops the tag
  Reference WithoutObject() const;                            // drops tag and digest

  friend bool operator==(const Reference&, const Reference&) = default;

 private:
  std::string domain_, path_, tag_;
  content::Digest digest_;
};

// The host whose API serves `domain`: docker.io is served by registry-1.docker.io, everything else
// by itself.
std::string ApiHost(absl::string_view domain);

// localhost, 127.0.0.0/8 and ::1, with or without a port: the only hosts plain HTTP is tried for
// without configuration.
bool IsLoopbackHost(absl::string_view host_port);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_REFERENCE_H_
