// Announces a container's addresses to its neighbours: gratuitous ARP and unsolicited neighbour
// advertisements, so that an address that another MAC address had before is found at once.
//
// Frames are sent from the host's end of the network, its bridge or parent device, with the
// container's MAC address as their source: no socket in the container's namespace is needed, and
// none keeps that namespace alive.
//
// The first announcement is sent by the caller, further ones by a thread, "announcer", which exists
// while any are due. What is due is lost with the process. Thread-safe.
// RFC 5227 section 3, RFC 4861 section 7.2.6.
#ifndef GANTRY_SUPERVISOR_NETWORK_ANNOUNCER_H_
#define GANTRY_SUPERVISOR_NETWORK_ANNOUNCER_H_

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/network/address.h"
#include "supervisor/network/links.h"

namespace gantry::network {

struct Announcement {
  int device = 0;  // index of the bridge or parent that it is sent from
  MacAddress mac;
  std::vector<Address> addresses;
  int times = 3;
  absl::Duration interval = absl::Seconds(1);
};

class Announcer {
 public:
  // In the namespace of the calling thread, or in another.
  static absl::StatusOr<std::unique_ptr<Announcer>> Open();
  static absl::StatusOr<std::unique_ptr<Announcer>> OpenIn(int netns);
  ~Announcer();
  Announcer(const Announcer&) = delete;
  Announcer& operator=(const Announcer&) = delete;

  // `key` names whose addresses they are; what is due under it is replaced. Returns what sending
  // the first one met.
  absl::Status Announce(absl::string_view key, Announcement announcement);
  // Sends no more under this key.
  void Forget(absl::string_view key);

 private:
  explicit Announcer(UniqueFd socket) : socket_(std::move(socket)) {}
  absl::Status Send(const Announcement& announcement) const;
  void Loop();

  const UniqueFd socket_;

  absl::Mutex mu_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);
  struct Due {
    Announcement announcement;  // `times` are those that are left
    absl::Duration at;          // on the monotonic clock
  };
  std::map<std::string, Due, std::less<>> due_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_ANNOUNCER_H_
