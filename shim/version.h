// The version a shim reports to its supervisor.
#ifndef GANTRY_SHIM_VERSION_H_
#define GANTRY_SHIM_VERSION_H_

namespace gantry::shim {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_VERSION_H_
