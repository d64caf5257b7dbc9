// Where the name files of a container that runs are, as it sees them.
#ifndef GANTRY_SUPERVISOR_CORE_LIVE_NAME_FILES_H_
#define GANTRY_SUPERVISOR_CORE_LIVE_NAME_FILES_H_

#include <string>

namespace gantry::core {

class TaskView;

// A directory with the copies that its shim made for it, reached through the shim's mount
// namespace; "" where it has no copies, or does not run: then the files in its own directory are
// it. Thread-safe; waits for nothing.
std::string LiveNameFiles(const TaskView& tasks, const std::string& ns, const std::string& id);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LIVE_NAME_FILES_H_
