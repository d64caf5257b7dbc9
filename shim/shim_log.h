// The shim's own log: a few lines about what went wrong, in <bundle>/shim.log.
//
// Not glog, and not the supervisor's stderr: a shim must not stop because the reader of its stderr
// has, and each megabyte counts once per container. The file is opened with the first line, is
// bounded, and losing a line is not an error.
//
// Thread-safe after OpenShimLog(), which the shim calls once, before any other thread has something
// to say.
#ifndef GANTRY_SHIM_SHIM_LOG_H_
#define GANTRY_SHIM_SHIM_LOG_H_

#include <string>

#include "absl/strings/string_view.h"

#include "shim/zygote_protocol.h"

namespace gantry::shim {

// Lines below `level` are dropped. `fields` ("ns=default id=web") goes into each line.
void OpenShimLog(const std::string& path, LogLevel level, const std::string& fields);
void ShimLog(LogLevel level, absl::string_view message);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SHIM_LOG_H_
