// Notices clients that leave while their request is being worked on.
//
// A handler that waits for something else does not read its connection, so it would learn of a
// client's departure only with its next write. One thread watches the descriptors of all such
// connections. A client that closes only its sending side counts as gone: HTTP clients that want a
// response keep it open.
//
// Thread-safe. The thread is made with the first watch.
#ifndef GANTRY_SUPERVISOR_HTTP_PEER_WATCH_H_
#define GANTRY_SUPERVISOR_HTTP_PEER_WATCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "base/unique_fd.h"

namespace gantry::http {

class PeerWatch {
 public:
  // Ends the watch when it is destroyed; waits for a call of its callback that is under way, unless
  // it is destroyed by that callback.
  class Watch {
   public:
    Watch() = default;
    Watch(Watch&& other) noexcept;
    Watch& operator=(Watch&& other) noexcept;
    ~Watch();

   private:
    friend class PeerWatch;
    Watch(PeerWatch* owner, uint64_t id) : owner_(owner), id_(id) {}
    PeerWatch* owner_ = nullptr;
    uint64_t id_ = 0;
  };

  PeerWatch();
  // All watches have ended.
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  // Calls `gone` once, on the thread of this object, when the client of the connection `fd` has
  // gone; it must not block. `fd` stays open until the watch ends. Without a descriptor or a thread
  // to spare there is no watch: the departure is then noticed with the next write.
  Watch Add(int fd, std::function<void()> gone);

 private:
  struct Entry {
    int fd;
    std::function<void()> gone;
  };

  void Run();
  void Drop(uint64_t id);

  const UniqueFd epoll_;
  const UniqueFd stop_;

  absl::Mutex mu_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t running_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::thread thread_;  // made under mu_, joined by the destructor
};

}  // namespace gantry::http

#endif  // GANTRY_SUPERVISOR_HTTP_PEER_WATCH_H_
