// A word to a shim that needs no answer. Thread-safe.
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_SIGNAL_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_SIGNAL_H_

#include "absl/status/status.h"

#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/task_key.h"

namespace gantry::runtime {

// Has the shim of a running task read its file of forwarded ports again, soon. A signal and not a
// call, because the shim's answer would change nothing: what fails is in its log.
//   kNotFound  the task has no shim that lives
absl::Status SignalPortsChanged(const BundleStore& store, const TaskKey& key);

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_SIGNAL_H_
