#include "supervisor/core/live_name_files.h"

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "supervisor/core/task_view.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

std::string LiveNameFiles(const TaskView& tasks, const std::string& ns, const std::string& id) {
  const absl::StatusOr<std::shared_ptr<runtime::Shim>> shim = tasks.Shim(ns, id);
  if (!shim.ok() || !(*shim)->bundle().launch().create.has_bounded_files()) return "";
  return absl::StrCat("/proc/", (*shim)->process().pid, "/root", (*shim)->bundle().path(),
                      "/files");
}

}  // namespace gantry::core
