// One operation at a time per container: a lock that exists only while somebody holds it or waits for it.
//
// Thread-safe. First in the lock order (STYLE section 7): may be held across calls to a shim, never taken while holding another.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_LOCKS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_LOCKS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace gantry::core {

class OperationLocks;

// Held until destroyed or assigned over. Empty when default-made.
class OperationLock {
 public:
  OperationLock() = default;
  OperationLock(OperationLock&& other) noexcept
      : locks_(std::exchange(other.locks_, nullptr)), key_(std::move(other.key_)) {}
  OperationLock& operator=(OperationLock&& other) noexcept;
  ~OperationLock() { Release(); }
  void Release();

 private:
  friend class OperationLocks;
  OperationLock(OperationLocks* locks, std::pair<std::string, std::string> key)
      : locks_(locks), key_(std::move(key)) {}
  OperationLocks* locks_ = nullptr;
  std::pair<std::string, std::string> key_;
};

class OperationLocks {
 public:
  // Waits for its turn.
  OperationLock Acquire(const std::string& ns, const std::string& id);

 private:
  friend class OperationLock;
  struct Entry {
    bool held = false;
    int interested = 0;  // holder and waiters
  };
  absl::Mutex mu_;
  std::map<std::pair<std::string, std::string>, Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_LOCKS_H_
