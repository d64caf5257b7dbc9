// Keeps the rules of our networks in the kernel, whatever other programs do to them.
//
// `nft flush ruleset`, the reload of a firewall service or the deletion of our table takes the
// rules away. The guard hears of it by the kernel's notifications and has the Firewall write its
// rules anew, in one transaction, a moment after the last change. Transactions of our own Firewall
// are told apart by their generation. It never polls.
//
// Another program that keeps deleting our rules makes the pauses longer, up to a minute, so that
// two programs do not chase each other.
//
// One thread, "rules-guard", from Start() to the destructor. Thread-safe.
#ifndef GANTRY_SUPERVISOR_NETWORK_RULES_GUARD_H_
#define GANTRY_SUPERVISOR_NETWORK_RULES_GUARD_H_

#include <memory>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/network/firewall.h"
#include "supervisor/network/ruleset_events.h"

namespace gantry::network {

class RulesGuard {
 public:
  struct Pauses {
    absl::Duration quiet = absl::Milliseconds(30);     // without a change before it writes
    absl::Duration longest = absl::Milliseconds(300);  // but after the first change not later
    absl::Duration between_most = absl::Minutes(1);    // between two restorations
  };
  // Watches the network namespace that `firewall` was opened in. `firewall` outlives the guard.
  static absl::StatusOr<std::unique_ptr<RulesGuard>> Start(Firewall& firewall) {
    return Start(firewall, Pauses());
  }
  static absl::StatusOr<std::unique_ptr<RulesGuard>> Start(Firewall& firewall, Pauses pauses);
  ~RulesGuard();
  RulesGuard(const RulesGuard&) = delete;
  RulesGuard& operator=(const RulesGuard&) = delete;

 private:
  RulesGuard(Firewall& firewall, Pauses pauses, RulesetEvents events, UniqueFd stop);
  void Loop();
  // Whether what has arrived asks for a restoration.
  bool Changed();
  // Until something arrives or `due`, on the monotonic clock. False when the guard is to end.
  bool WaitUntil(std::optional<absl::Duration> due, bool& event);

  Firewall& firewall_;
  const Pauses pauses_;
  RulesetEvents events_;  // of the thread
  const UniqueFd stop_;
  std::thread thread_;
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_RULES_GUARD_H_
