// The gate between those who change metadata and the garbage collector: many may pass together, the
// collector alone.
//
// A holder is not bound to a thread. Holding it twice in one call chain deadlocks when the
// collector waits in between: hand the hold on (Database::Begin takes its own; see
// SnapshotNamespace for the pattern). Thread-safe.
#ifndef GANTRY_SUPERVISOR_METADATA_GC_GATE_H_
#define GANTRY_SUPERVISOR_METADATA_GC_GATE_H_

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry::metadata {

class GcGate {
 public:
  // Held until destroyed or Release()d. Move-only.
  class Shared {
   public:
    Shared() = default;
    Shared(Shared&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Shared& operator=(Shared&& other) noexcept;
    ~Shared() { Release(); }
    void Release();
    bool held() const { return gate_ != nullptr; }

   private:
    friend class GcGate;
    explicit Shared(GcGate* gate) : gate_(gate) {}
    GcGate* gate_ = nullptr;
  };

  class Exclusive {
   public:
    Exclusive(Exclusive&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Exclusive& operator=(Exclusive&&) = delete;
    ~Exclusive() { Release(); }
    void Release();

   private:
    friend class GcGate;
    explicit Exclusive(GcGate* gate) : gate_(gate) {}
    GcGate* gate_ = nullptr;
  };

  // Waits for the collector to leave.
  Shared EnterShared() ABSL_LOCKS_EXCLUDED(mu_);

  // Waits until no writer is inside and lets none in meanwhile; returns after `timeout`, so that
  // one who is stuck inside stops the collector and not everybody else.
  std::optional<Exclusive> EnterExclusive(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Mutex mu_;
  int sharers_ ABSL_GUARDED_BY(mu_) = 0;
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;  // for exclusive entry
  bool exclusive_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_GC_GATE_H_
