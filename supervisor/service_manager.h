// The daemon's side of systemd's protocols: sockets that systemd listens on for it (socket
// activation), readiness, and the watchdog.
//
// Nothing here needs systemd: without its environment variables there are no sockets, Notify() does
// nothing and there is no watchdog. Thread-compatible.
// Spec: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
#ifndef GANTRY_SUPERVISOR_SERVICE_MANAGER_H_
#define GANTRY_SUPERVISOR_SERVICE_MANAGER_H_

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry {

// Listening unix sockets that the daemon was started with. They belong to systemd: their files are
// not removed when the daemon stops, and clients that connect meanwhile wait for the next daemon.
class InheritedSockets {
 public:
  struct Socket {
    std::string path;
    std::string name;  // FileDescriptorName= of the socket unit; its default is the unit's name
    UniqueFd fd;       // non-blocking, not inherited by programs
  };

  InheritedSockets() = default;
  explicit InheritedSockets(std::vector<Socket> sockets) : sockets_(std::move(sockets)) {}

  bool Has(absl::string_view path) const;
  // The socket bound to `path`, once.
  std::optional<UniqueFd> Take(absl::string_view path);
  // All that are left with this name.
  std::vector<Socket> TakeNamed(absl::string_view name);
  // Those that nothing took.
  const std::vector<Socket>& left() const { return sockets_; }

 private:
  std::vector<Socket> sockets_;
};

class ServiceManager {
 public:
  // Reads the environment of the process and takes systemd's variables out of it, because the
  // daemon's children would take them for their own. Once, before any thread is made.
  static ServiceManager FromEnvironment();

  // "READY=1" and the like. Best effort: a failure is logged.
  void Notify(const std::string& state) const;

  // A daemon that reports nothing for so long is restarted; zero: there is no watchdog.
  absl::Duration watchdog() const { return watchdog_; }

  InheritedSockets& sockets() { return sockets_; }

 private:
  std::string notify_socket_;
  absl::Duration watchdog_ = absl::ZeroDuration();
  InheritedSockets sockets_;
};

// Whether the daemon answers on its own socket: connects, and waits for what a gRPC server sends
// first. Never blocks; driven by the main loop. It shows that connections are accepted and that
// gRPC's threads run.
class SelfCheck {
 public:
  explicit SelfCheck(std::string path) : path_(std::move(path)) {}

  // Begins a check if none is under way, else looks whether the server has answered. True once for
  // each check that was answered.
  bool Answered();

 private:
  const std::string path_;
  UniqueFd connection_;
};

// Reports to the watchdog as long as the daemon answers. Thread-compatible.
class Watchdog {
 public:
  // `answers` as SelfCheck::Answered().
  Watchdog(absl::Duration limit, std::function<bool()> answers, std::function<void()> report)
      : period_(limit / 3), answers_(std::move(answers)), report_(std::move(report)) {}

  // At each turn of the main loop; `now` is monotonic.
  void Tick(absl::Duration now);

 private:
  const absl::Duration period_;
  const std::function<bool()> answers_;
  const std::function<void()> report_;
  absl::Duration next_ = absl::ZeroDuration();
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_SERVICE_MANAGER_H_
