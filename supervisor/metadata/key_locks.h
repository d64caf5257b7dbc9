// Locks by name, shared or exclusive, held together by one owner.
//
// Thread-safe; a Held is thread-compatible and not bound to a thread. Entries exist only while a
// thread holds or waits.
#ifndef GANTRY_SUPERVISOR_METADATA_KEY_LOCKS_H_
#define GANTRY_SUPERVISOR_METADATA_KEY_LOCKS_H_

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry::metadata {

class KeyLocks {
 public:
  // The locks of one owner; all are given back when it dies.
  class Held {
   public:
    Held() = default;
    explicit Held(KeyLocks& locks) : locks_(&locks) {}
    Held(Held&& other) noexcept;
    Held& operator=(Held&& other) noexcept;
    ~Held() { ReleaseAll(); }

    // False: not within `timeout`. A key that is held is granted again at once; shared becomes
    // exclusive when this owner is the only sharer.
    bool Exclusive(const std::string& key, absl::Duration timeout);
    bool Shared(const std::string& key, absl::Duration timeout);
    void ReleaseAll();

   private:
    KeyLocks* locks_ = nullptr;
    std::vector<std::pair<std::string, bool>> keys_;  // and whether exclusively
  };

 private:
  struct State {
    int sharers = 0;
    bool exclusive = false;
    int interested = 0;  // holders and waiters
  };
  struct Shard {
    absl::Mutex mu;
    absl::CondVar changed;
    absl::flat_hash_map<std::string, State> states ABSL_GUARDED_BY(mu);
  };

  Shard& ShardOf(absl::string_view key);
  bool Acquire(const std::string& key, bool exclusive, absl::Duration timeout);
  bool Upgrade(const std::string& key, absl::Duration timeout);
  void Release(const std::string& key, bool exclusive);

  std::array<Shard, 16> shards_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_KEY_LOCKS_H_
