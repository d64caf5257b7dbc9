// What a terminal may be resized to.
#ifndef GANTRY_SUPERVISOR_CORE_TERMINAL_SIZE_H_
#define GANTRY_SUPERVISOR_CORE_TERMINAL_SIZE_H_

#include "absl/status/status.h"

#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {

// kInvalidArgument: not 1 to 65535 characters each way.
inline absl::Status CheckTerminalSize(const v1::TerminalSize& size) {
  const auto valid = [](uint32_t length) { return length > 0 && length <= 65535; };
  if (valid(size.width()) && valid(size.height())) return absl::OkStatus();
  return absl::InvalidArgumentError("resize: width and height are 1 to 65535 characters");
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TERMINAL_SIZE_H_
