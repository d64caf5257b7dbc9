// Where calls of a door wait for a thread: one queue per connection, served in turn, so that a
// client with thousands of calls does not keep another one's single call waiting behind them.
//
// A connection has a share of the lane: so many calls at once, each from when its work begins until
// its answer is taken. What is beyond that waits, and holds neither a thread nor an answer
// meanwhile.
//
// Thread-safe. Does not own the executor, which is destroyed (and thereby idle) before the lane.
#ifndef GANTRY_SUPERVISOR_API_GRPC_LANE_H_
#define GANTRY_SUPERVISOR_API_GRPC_LANE_H_

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

#include "base/executor.h"
#include "supervisor/api/grpc/call.h"

namespace gantry::api {

class Lane {
 public:
  // `share`: of one connection, in calls. `scoped`: what the calls say about their namespace, if
  // they do not differ.
  Lane(Executor& executor, size_t share, Scoped scoped = Scoped::kYes)
      : executor_(executor), share_(share), scoped_(scoped) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // A call: runs `work` on a thread of the executor, in its connection's turn. The call keeps its
  // place until Leave(), which has to follow if this returned true. Never blocks. False: the
  // executor is being destroyed and `work` will not run.
  bool Enter(const std::string& connection, absl::AnyInvocable<void()> work)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Leave(const std::string& connection) ABSL_LOCKS_EXCLUDED(mu_);

  // A step of a call: the same, with Leave() at the end of `work`.
  bool Schedule(const std::string& connection, absl::AnyInvocable<void()> work) {
    return Enter(connection, [this, connection, work = std::move(work)]() mutable {
      work();
      work = nullptr;  // and what it holds, before its place is free
      Leave(connection);
    });
  }

  Scoped scoped() const { return scoped_; }

 private:
  struct Connection {
    std::deque<absl::AnyInvocable<void()>> waiting;
    size_t begun = 0;
  };
  using Connections = std::map<std::string, Connection>;

  // Called once for each work, or later again for one whose connection had no place.
  void RunNext() ABSL_LOCKS_EXCLUDED(mu_);
  // The next connection, in turn, that has both work and a place.
  Connections::iterator Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Executor& executor_;
  const size_t share_;
  const Scoped scoped_;
  absl::Mutex mu_;
  Connections connections_ ABSL_GUARDED_BY(mu_);  // those with waiting or begun calls
  std::string last_ ABSL_GUARDED_BY(mu_);         // the connection that was served last
  size_t postponed_ ABSL_GUARDED_BY(mu_) = 0;     // RunNext()s that found no work with a place
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_LANE_H_
