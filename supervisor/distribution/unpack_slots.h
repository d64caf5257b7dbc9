// Who unpacks when: rights to use a processor, and which chain IDs are being unpacked.
//
// Both are thread-safe. Waits end with the operation's token: kCancelled, kDeadlineExceeded.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_UNPACK_SLOTS_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_UNPACK_SLOTS_H_

#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"

namespace gantry::distribution {

// Rights to use a processor. A thread that waits for bytes gives its right back, so that a slow
// download does not block other unpacking.
class ProcessorSlots {
 public:
  // At least one.
  explicit ProcessorSlots(int count);

  absl::Status Acquire(CancelToken& cancel);
  void Release();

 private:
  absl::Mutex mu_;
  int free_ ABSL_GUARDED_BY(mu_);
};

// One slot of a thread, held or lent. Released at destruction. Thread-compatible.
class SlotHold {
 public:
  SlotHold(ProcessorSlots& slots, CancelToken& cancel) : slots_(slots), cancel_(cancel) {}
  ~SlotHold() { Release(); }
  SlotHold(const SlotHold&) = delete;
  SlotHold& operator=(const SlotHold&) = delete;

  absl::Status Acquire();
  void Release();

 private:
  ProcessorSlots& slots_;
  CancelToken& cancel_;
  bool held_ = false;
};

// Chain IDs that are being unpacked, so that two pulls of one layer do not both unpack it.
class ChainClaims {
 public:
  // False: somebody else has it.
  bool Try(const std::string& key);
  bool Held(const std::string& key);
  void Release(const std::string& key);
  // Waits until `key` is free; it may be taken again when this returns.
  absl::Status Wait(const std::string& key, CancelToken& cancel);

 private:
  absl::Mutex mu_;
  std::set<std::string> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_UNPACK_SLOTS_H_
