// The version that ctl prints.
#ifndef GANTRY_CTL_VERSION_H_
#define GANTRY_CTL_VERSION_H_

namespace gantry::ctl {

inline constexpr char kCtlVersion[] = "0.1.0";

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_VERSION_H_
