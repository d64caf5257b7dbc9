#include "supervisor/core/lease_scope.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/status_macros.h"
#include "content-store/digest.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/filter.h"

namespace gantry::core {
namespace {

constexpr char kInterrupted[] = "gantry.io/interrupted";
// On every lease of a scope; its value is the work, or kUnnamed: an empty label counts as absent.
constexpr char kScope[] = "gantry.io/scope";
constexpr char kUnnamed[] = "unnamed";

std::string KeptId(absl::string_view work) {
  return absl::StrCat("interrupted-", content::Digest::Sha256Of(work).hex().substr(0, 16));
}

// Puts what lease `from` holds into the lease of the work.
absl::Status KeepFor(metadata::LeaseStore& leases, const Clock& clock, const metadata::Scope& from,
                     absl::string_view work, absl::Duration patience) {
  const metadata::Scope ns{from.ns, ""};
  GANTRY_ASSIGN_OR_RETURN(std::vector<metadata::LeaseResource> resources,
                          leases.ListResources(ns, from.lease));
  if (resources.empty()) return absl::OkStatus();
  record::v1::Lease record;
  record.set_id(KeptId(work));
  (*record.mutable_labels())[kInterrupted] = std::string(work);
  (*record.mutable_labels())["containerd.io/gc.expire"] =
      absl::FormatTime(absl::RFC3339_sec, clock.Now() + patience, absl::UTCTimeZone());
  absl::StatusOr<record::v1::Lease> kept =
      leases.Create(ns, record, metadata::Durability::kBuffered);
  if (absl::IsAlreadyExists(kept.status())) {
    // Its time begins anew. What is in it is collected at the earliest between these calls, and
    // then fetched again.
    GANTRY_ASSIGN_OR_RETURN(const std::vector<metadata::LeaseResource> earlier,
                            leases.ListResources(ns, record.id()));
    resources.insert(resources.end(), earlier.begin(), earlier.end());
    GANTRY_RETURN_IF_ERROR(leases.Delete(ns, record.id(), metadata::Durability::kBuffered));
    kept = leases.Create(ns, record, metadata::Durability::kBuffered);
  }
  GANTRY_RETURN_IF_ERROR(kept.status());
  for (const metadata::LeaseResource& resource : resources) {
    GANTRY_RETURN_IF_ERROR(
        leases.AddResource(ns, record.id(), resource, metadata::Durability::kBuffered));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LeaseScope> LeaseScope::Create(metadata::LeaseStore& leases, const Clock& clock,
                                              const std::string& ns, const std::string& lease,
                                              absl::string_view work, absl::Duration expiry) {
  if (!lease.empty()) return LeaseScope(nullptr, metadata::Scope{ns, lease});
  record::v1::Lease record;
  (*record.mutable_labels())[kScope] = work.empty() ? kUnnamed : std::string(work);
  (*record.mutable_labels())["containerd.io/gc.expire"] =
      absl::FormatTime(absl::RFC3339_sec, clock.Now() + expiry, absl::UTCTimeZone());
  // Need not survive a power cut: what it protects is not recorded by then, and garbage either way.
  GANTRY_ASSIGN_OR_RETURN(
      record, leases.Create(metadata::Scope{ns, ""}, record, metadata::Durability::kBuffered));
  return LeaseScope(&leases, metadata::Scope{ns, record.id()});
}

absl::Status LeaseScope::Keep(const Clock& clock, absl::string_view work,
                              absl::Duration patience) const {
  return leases_ == nullptr ? absl::OkStatus() : KeepFor(*leases_, clock, scope_, work, patience);
}

absl::Status LeaseScope::TakeOver(metadata::LeaseStore& leases, const Clock& clock,
                                  const std::string& ns, absl::Duration patience) {
  std::vector<std::pair<std::string, std::string>> left;  // lease, work
  GANTRY_RETURN_IF_ERROR(
      leases.List(metadata::Scope{ns, ""}, metadata::Filter(), [&](const record::v1::Lease& lease) {
        const auto work = lease.labels().find(kScope);
        if (work != lease.labels().end()) left.emplace_back(lease.id(), work->second);
        return absl::OkStatus();
      }));
  for (const auto& [id, work] : left) {
    if (work != kUnnamed) {
      GANTRY_RETURN_IF_ERROR(KeepFor(leases, clock, metadata::Scope{ns, id}, work, patience));
    }
    const absl::Status gone =
        leases.Delete(metadata::Scope{ns, ""}, id, metadata::Durability::kBuffered);
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
  }
  return absl::OkStatus();
}

absl::Status LeaseScope::Forget(metadata::LeaseStore& leases, const std::string& ns,
                                absl::string_view work) {
  absl::Status gone =
      leases.Delete(metadata::Scope{ns, ""}, KeptId(work), metadata::Durability::kBuffered);
  return absl::IsNotFound(gone) ? absl::OkStatus() : gone;
}

absl::Status LeaseScope::ForgetAll(metadata::LeaseStore& leases, const std::string& ns) {
  std::vector<std::string> kept;
  GANTRY_RETURN_IF_ERROR(
      leases.List(metadata::Scope{ns, ""}, metadata::Filter(), [&](const record::v1::Lease& lease) {
        if (lease.labels().contains(kInterrupted)) kept.push_back(lease.id());
        return absl::OkStatus();
      }));
  for (const std::string& id : kept) {
    absl::Status gone = leases.Delete(metadata::Scope{ns, ""}, id, metadata::Durability::kBuffered);
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
  }
  return absl::OkStatus();
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
