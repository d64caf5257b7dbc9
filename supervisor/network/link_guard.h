// Hears of network devices that are deleted, by the kernel's notifications.
//
// A filter in the kernel passes deletions only, so that what else happens to devices wakes nobody.
//
// One thread, "link-guard", from Start() to the destructor. Thread-safe.
// rtnetlink(7): RTM_DELLINK, group RTNLGRP_LINK.
#ifndef GANTRY_SUPERVISOR_NETWORK_LINK_GUARD_H_
#define GANTRY_SUPERVISOR_NETWORK_LINK_GUARD_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry::network {

class LinkGuard {
 public:
  // The name of a device that has gone; "": some may have, because notifications were lost. Runs on
  // the guard's thread.
  using Deleted = std::function<void(const std::string& device)>;

  // Watches the namespace of the calling thread, or another.
  static absl::StatusOr<std::unique_ptr<LinkGuard>> Start(Deleted deleted);
  static absl::StatusOr<std::unique_ptr<LinkGuard>> StartIn(int netns, Deleted deleted);
  // Waits for a call that is running.
  ~LinkGuard();
  LinkGuard(const LinkGuard&) = delete;
  LinkGuard& operator=(const LinkGuard&) = delete;

 private:
  LinkGuard(UniqueFd events, UniqueFd stop, Deleted deleted)
      : events_(std::move(events)), stop_(std::move(stop)), deleted_(std::move(deleted)) {}
  void Loop();
  void Read();

  const UniqueFd events_;
  const UniqueFd stop_;
  const Deleted deleted_;
  std::thread thread_;
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_LINK_GUARD_H_
