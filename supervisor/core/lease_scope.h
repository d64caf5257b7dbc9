// A lease for the length of one piece of work: what the work makes is kept from garbage collection
// until it is referenced.
//
// Made with an expiry, so that a daemon that dies in between leaves nothing for ever. Move-only;
// thread-compatible.
#ifndef GANTRY_SUPERVISOR_CORE_LEASE_SCOPE_H_
#define GANTRY_SUPERVISOR_CORE_LEASE_SCOPE_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/scope.h"

namespace gantry::core {

class LeaseScope {
 public:
  // With a caller's own lease (`lease` not empty) nothing is made and nothing ends: that one is
  // used. `work` names what an interrupted attempt is worth keeping of, as for Keep(); "" for work
  // that begins anew.
  static absl::StatusOr<LeaseScope> Create(metadata::LeaseStore& leases, const Clock& clock,
                                           const std::string& ns, const std::string& lease,
                                           absl::string_view work = "",
                                           absl::Duration expiry = absl::Hours(24));
  // Ends the lease.
  ~LeaseScope();
  LeaseScope(LeaseScope&& other) noexcept
      : leases_(std::exchange(other.leases_, nullptr)), scope_(std::move(other.scope_)) {}
  LeaseScope& operator=(LeaseScope&&) = delete;

  // Puts what the lease holds into the care of another one that outlives this scope by `patience`:
  // parts of work that failed, for the next attempt to take up. `work` names it ("pull
  // docker.io/library/debian:12"); what an earlier attempt left is added. A caller's own lease
  // keeps everything by itself.
  absl::Status Keep(const Clock& clock, absl::string_view work, absl::Duration patience) const;

  // At start, for each namespace: ends what scopes of a daemon that died have left. What they held
  // for a named piece of work is kept as by Keep(); the rest goes with the next collection.
  static absl::Status TakeOver(metadata::LeaseStore& leases, const Clock& clock,
                               const std::string& ns, absl::Duration patience);

  // That work is done or dropped: what was kept of it goes with the next collection.
  static absl::Status Forget(metadata::LeaseStore& leases, const std::string& ns,
                             absl::string_view work);
  // The same for all work of the namespace.
  static absl::Status ForgetAll(metadata::LeaseStore& leases, const std::string& ns);

  // Namespace and lease, for the stores.
  const metadata::Scope& scope() const { return scope_; }

 private:
  LeaseScope(metadata::LeaseStore* leases, metadata::Scope scope)
      : leases_(leases), scope_(std::move(scope)) {}
  metadata::LeaseStore* leases_;  // null: not ours to end
  metadata::Scope scope_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LEASE_SCOPE_H_
