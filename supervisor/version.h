// What this build calls itself.
#ifndef GANTRY_SUPERVISOR_VERSION_H_
#define GANTRY_SUPERVISOR_VERSION_H_

namespace gantry {

inline constexpr char kVersion[] = "0.1.0";

// The version reported to containerd's clients: they choose their calls by it, so it is the version
// of the API served, as a semantic version.
inline constexpr char kContainerdApiVersion[] = "2.4.0+gantry";

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_VERSION_H_
