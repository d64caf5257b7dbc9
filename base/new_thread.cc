#include "base/new_thread.h"

#include <system_error>
#include <utility>

namespace gantry {

absl::StatusOr<std::thread> NewThread(std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error&) {
    return absl::ResourceExhaustedError(kNoMoreProcesses);
  }
}

}  // namespace gantry
