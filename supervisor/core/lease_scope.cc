#include "supervisor/core/lease_scope.h"

#include "glog/logging.h"

#include "base/status_macros.h"

namespace gantry::core {

absl::StatusOr<LeaseScope> LeaseScope::Create(metadata::LeaseStore& leases, const Clock& clock,
                                              const std::string& ns, const std::string& lease,
                                              absl::Duration expiry) {
  if (!lease.empty()) return LeaseScope(nullptr, metadata::Scope{ns, lease});
  record::v1::Lease record;
  (*record.mutable_labels())["containerd.io/gc.expire"] =
      absl::FormatTime(absl::RFC3339_sec, clock.Now() + expiry, absl::UTCTimeZone());
  // Need not survive a power cut: what it protects is not recorded by then, and garbage either way.
  GANTRY_ASSIGN_OR_RETURN(
      record, leases.Create(metadata::Scope{ns, ""}, record, metadata::Durability::kBuffered));
  return LeaseScope(&leases, metadata::Scope{ns, record.id()});
}

LeaseScope::~LeaseScope() {
  if (leases_ == nullptr) return;
  absl::Status ended = leases_->Delete(metadata::Scope{scope_.ns, ""}, scope_.lease,
                                       metadata::Durability::kBuffered);
  if (!ended.ok() && !absl::IsNotFound(ended)) {
    LOG(WARNING) << "ns=" << scope_.ns << " lease " << scope_.lease
                 << " not ended (it expires by itself): " << ended;
  }
}

}  // namespace gantry::core
