// AppArmor's profiles on this host: the one of containers that name none, and whether a named one
// is there.
//
// Where AppArmor is on, the default profile is loaded once after a boot, by apparmor_parser of the
// package apparmor. Without that program containers that name no profile have none. A profile of
// the same name that another engine loaded is used as it is.
//
// Free functions, thread-safe. `root` is the host's "/", for tests.
#ifndef GANTRY_SUPERVISOR_RUNTIME_APPARMOR_H_
#define GANTRY_SUPERVISOR_RUNTIME_APPARMOR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::runtime {

// The name that docker's clients know.
inline constexpr char kDefaultAppArmorProfile[] = "docker-default";

// Also OK where AppArmor is off, or the profile is loaded already.
//   kNotFound  the parser is not installed
//   kUnknown   it refuses the profile; the message has its words
absl::Status LoadDefaultAppArmorProfile(const std::string& root = "/");

// kFailedPrecondition: AppArmor is off, or no such profile is loaded.
absl::Status CheckAppArmorProfile(absl::string_view name, const std::string& root = "/");

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_APPARMOR_H_
