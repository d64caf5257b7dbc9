// Reports, while a container runs, that the kernel killed a process in its cgroup because memory
// ran out.
//
// cgroup v2: inotify on memory.events. v1: an eventfd registered with memory.oom_control. Where
// neither can be had the watch is silent, and Cgroup::ReadOomKills() at the exit has the truth
// anyway.
//
// Thread-compatible; lives on the event loop.
#ifndef GANTRY_SHIM_OOM_WATCH_H_
#define GANTRY_SHIM_OOM_WATCH_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/unique_fd.h"
#include "shim/cgroup.h"
#include "shim/event_loop.h"

namespace gantry::shim {

class OomWatch {
 public:
  // `on_oom` is called on the loop for each further kill seen. `loop` outlives the watch.
  static absl::StatusOr<std::unique_ptr<OomWatch>> Start(EventLoop* loop, const Cgroup& cgroup,
                                                         std::function<void()> on_oom);
  ~OomWatch();
  OomWatch(const OomWatch&) = delete;
  OomWatch& operator=(const OomWatch&) = delete;

  // Looks now. For the exit of the container: the notification may come behind it.
  void Check();

 private:
  OomWatch(EventLoop* loop, Cgroup cgroup, UniqueFd fd, std::function<void()> on_oom);

  EventLoop* const loop_;
  const Cgroup cgroup_;
  const UniqueFd fd_;
  const std::function<void()> on_oom_;
  uint64_t seen_ = 0;
  EventLoop::TimerId recheck_ = 0;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_OOM_WATCH_H_
