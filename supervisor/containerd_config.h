// The dialect of containerd's `config.toml`, versions 2 to 4: where each key that Gantry honours
// lies in containerd's layout, and what it sets here.
//
// A free function without state; reads one parsed file, touches no disk.
#ifndef GANTRY_SUPERVISOR_CONTAINERD_CONFIG_H_
#define GANTRY_SUPERVISOR_CONTAINERD_CONFIG_H_

#include "supervisor/config.h"
#include "supervisor/config_reader.h"

namespace gantry {

// containerd's own layout. Plugin sections moved between versions; each place that one of them used
// is looked at. What is not taken from `in` counts as ignored; a value of a wrong type becomes its
// error().
void ReadContainerd(ConfigReader& in, Config& config);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_CONTAINERD_CONFIG_H_
