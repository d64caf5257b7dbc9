// What a container may do unless told otherwise: docker's capabilities, system call filter, hidden
// and read-only paths.
//
// Free functions, safe to call from any thread. The filter is built on first use and cached as
// text. Source of the rules: data/seccomp-default.tsv, embedded at build time.
#ifndef GANTRY_SUPERVISOR_OCI_DEFAULT_PROFILE_H_
#define GANTRY_SUPERVISOR_OCI_DEFAULT_PROFILE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "supervisor/oci/host_facts.h"

namespace gantry::oci {

// docker's 14, "CAP_AUDIT_WRITE" first.
absl::Span<const char* const> DefaultCapabilities();

// All that the kernel and our own bounding set know.
std::vector<std::string> AllCapabilities(const HostFacts& host);

// "net_admin", "CAP_NET_ADMIN" -> "CAP_NET_ADMIN"; "all" -> "ALL". kInvalidArgument: no such
// capability.
absl::StatusOr<std::string> ParseCapability(absl::string_view text);

// docker's rules for --cap-add and --cap-drop ("ALL" in either); the result is in the kernel's
// order.
absl::StatusOr<std::vector<std::string>> TweakCapabilities(absl::Span<const std::string> add,
                                                           absl::Span<const std::string> drop,
                                                           const HostFacts& host);

absl::Span<const char* const> MaskedPaths();
absl::Span<const char* const> ReadonlyPaths();

// The default filter as the JSON of `linux.seccomp`, resolved for the host and the container's
// bounding set. Shared: equal arguments give the same string object.
std::shared_ptr<const std::string> DefaultSeccomp(
    const HostFacts& host, absl::Span<const std::string> bounding_capabilities);

// A profile in docker's form (archMap, includes, excludes) or the runtime's, resolved the same way.
// kInvalidArgument: not JSON, or unknown actions and operators.
absl::StatusOr<std::string> ResolveSeccomp(absl::string_view profile_json, const HostFacts& host,
                                           absl::Span<const std::string> bounding_capabilities);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_DEFAULT_PROFILE_H_
