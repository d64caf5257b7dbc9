// Where the subnets of networks come from, as the configuration says it.
#ifndef GANTRY_SUPERVISOR_NETWORK_POOL_SOURCE_H_
#define GANTRY_SUPERVISOR_NETWORK_POOL_SOURCE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/network/address.h"

namespace gantry::network {

// A block that subnets of `length` bits are cut from.
struct PoolSource {
  Prefix base;
  int length;
};

// "base=10.0.0.0/8,size=24", as docker's setting has it.
//   kInvalidArgument  anything else, or blocks larger than the base
absl::StatusOr<PoolSource> ParsePoolSource(absl::string_view text);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_POOL_SOURCE_H_
