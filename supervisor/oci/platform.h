// Which machine an image is for, and which of several fits best.
//
// Values and free functions, safe to call from any thread.
// Spec: OCI image-spec v1.1 "Image Index", platform; names are Go's GOOS and GOARCH.
#ifndef GANTRY_SUPERVISOR_OCI_PLATFORM_H_
#define GANTRY_SUPERVISOR_OCI_PLATFORM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "content-store/descriptor.h"

namespace gantry::oci {

// `os`, `arch`, `os/arch` or `os/arch/variant`, in any spelling uname or docker uses; what is
// missing is the host's. Normalised. kInvalidArgument: empty or foreign parts.
absl::StatusOr<content::Platform> ParsePlatform(absl::string_view text);

// x86_64 -> amd64, aarch64 -> arm64 without v8, armhf -> arm/v7, ...
content::Platform NormalizePlatform(content::Platform platform);

// "linux/arm64/v8"; parts that are empty are left out.
std::string FormatPlatform(const content::Platform& platform);

// This machine, with the variant it can run (amd64/v3 where the CPU has it).
const content::Platform& HostPlatform();

// Accepts some platforms and says which it likes better. Immutable value.
class PlatformMatcher {
 public:
  // Everything, equally.
  static PlatformMatcher All();
  // `platform` and what it can run beside it: arm/v7 takes v7, v6, v5; amd64/v3 takes v3, v2, v1.
  static PlatformMatcher Only(const content::Platform& platform);
  // Any of them, the first preferred. Empty: All().
  static PlatformMatcher AnyOf(const std::vector<content::Platform>& platforms);
  static PlatformMatcher Host() { return Only(HostPlatform()); }

  // Smaller is better, negative does not match.
  int Rank(const content::Platform& platform) const;
  bool Matches(const content::Platform& platform) const { return Rank(platform) >= 0; }
  bool all() const { return wanted_.empty(); }

  // What was asked for, for messages: "linux/arm64".
  std::string Describe() const;

 private:
  std::vector<content::Platform> wanted_;  // in order of preference, fallbacks included
  std::string description_;
};

// The entries of an index that fit, best first; attestations are left out, entries without platform
// come last.
std::vector<content::Descriptor> SelectManifests(const std::vector<content::Descriptor>& manifests,
                                                 const PlatformMatcher& matcher);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_PLATFORM_H_
