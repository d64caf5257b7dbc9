// A logger program of a binary:// stdio string: it reads the container's output from its
// descriptors 3 and 4.
//
// It runs until it sees the end of both, on its own; the shim never ends it.
#ifndef GANTRY_SHIM_LOGGER_PROCESS_H_
#define GANTRY_SHIM_LOGGER_PROCESS_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"
#include "shim/reaper.h"
#include "shim/stdio_uri.h"

namespace gantry::shim {

// Both ends of the pipes to it. The read ends are kept so that the logger's death raises no SIGPIPE
// in the container; the owner is informed of the death and empties them.
struct LoggerPipes {
  UniqueFd stdout_write;
  UniqueFd stdout_read;
  UniqueFd stderr_write;
  UniqueFd stderr_read;
};

// Starts it and waits until it is ready. `on_exit` is called on the event loop's thread. Blocks;
// not for that thread.
//   kNotFound, kPermissionDenied   the program
//   kFailedPrecondition            it ended without getting ready (binary-v2)
//   kUnavailable                   not ready in time; killed
absl::StatusOr<LoggerPipes> StartLogger(const StdioUri& uri, const std::string& name_space,
                                        const std::string& container_id, Reaper* reaper,
                                        std::function<void()> on_exit);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_LOGGER_PROCESS_H_
