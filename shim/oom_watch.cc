#include "shim/oom_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

// The v1 notification comes before the kill is counted; the counter is looked at again so much
// later.
constexpr absl::Duration kRecheckDelay = absl::Milliseconds(20);

absl::StatusOr<UniqueFd> OpenV2(const std::string& directory) {
  UniqueFd fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.valid()) return ErrnoToStatus(errno, "inotify");
  const std::string path = absl::StrCat(directory, "/memory.events");
  if (inotify_add_watch(fd.get(), path.c_str(), IN_MODIFY) < 0) {
    return ErrnoToStatus(errno, absl::StrCat("watch ", path));
  }
  return fd;
}

absl::StatusOr<UniqueFd> OpenV1(const std::string& directory) {
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return ErrnoToStatus(errno, "eventfd");
  const std::string path = absl::StrCat(directory, "/memory.oom_control");
  UniqueFd control(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!control.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  GANTRY_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/cgroup.event_control"),
                                   absl::StrCat(event.get(), " ", control.get())));
  return event;
}

}  // namespace

OomWatch::OomWatch(EventLoop* loop, Cgroup cgroup, UniqueFd fd, std::function<void()> on_oom)
    : loop_(loop), cgroup_(std::move(cgroup)), fd_(std::move(fd)), on_oom_(std::move(on_oom)) {}

absl::StatusOr<std::unique_ptr<OomWatch>> OomWatch::Start(EventLoop* loop, const Cgroup& cgroup,
                                                          std::function<void()> on_oom) {
  const std::string directory = cgroup.DirectoryOf("memory");
  if (directory.empty()) return absl::NotFoundError("no memory cgroup");
  GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, cgroup.v2() ? OpenV2(directory) : OpenV1(directory));
  std::unique_ptr<OomWatch> watch(new OomWatch(loop, cgroup, std::move(fd), std::move(on_oom)));
  OomWatch* const raw = watch.get();
  GANTRY_RETURN_IF_ERROR(loop->Watch(raw->fd_.get(), EPOLLIN, [raw](uint32_t) {
    std::array<char, 4096> ignored;
    while (read(raw->fd_.get(), ignored.data(), ignored.size()) > 0) {
    }
    raw->Check();
    raw->loop_->CancelTimer(raw->recheck_);
    raw->recheck_ = raw->loop_->After(kRecheckDelay, [raw] { raw->Check(); });
  }));
  // A kill between the container's start and the registration.
  raw->Check();
  return watch;
}

OomWatch::~OomWatch() {
  loop_->CancelTimer(recheck_);
  loop_->Unwatch(fd_.get());
}

void OomWatch::Check() {
  const uint64_t kills = cgroup_.ReadOomKills();
  if (kills > seen_) {
    seen_ = kills;
    on_oom_();
  }
}

}  // namespace gantry::shim
