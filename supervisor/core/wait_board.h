// Callbacks that wait for one answer about a subject: the end of a process, the removal of a
// container.
//
// Every callback that was added is called exactly once: with the answer, with the status that says
// why there will be none, or with the status given to AnswerOne(), such as kCancelled. A subject is
// whatever Key names; it needs no registration. The board remembers no answers: the owner looks for
// one itself, in this order, so that none is missed:
//
//   ticket = board.Add(key, callback);
//   if (the answer is known by now) board.AnswerOne(ticket, answer);
//
// or adds under the same lock under which it records the answer and takes the waiters. An owner
// that forgets a subject takes its waiters first, because nothing else will answer them.
//
// Thread-safe. Callbacks run on the thread that answers, with no lock of the board held, and may
// call the board. Take() leaves the calls to its caller, for owners that answer while they hold a
// lock of their own.
#ifndef GANTRY_SUPERVISOR_CORE_WAIT_BOARD_H_
#define GANTRY_SUPERVISOR_CORE_WAIT_BOARD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace gantry::core {

// Calls that are due, in order, once the caller has released its locks.
using DueCalls = std::vector<std::function<void()>>;

template <typename Key, typename Answer>
class WaitBoard {
 public:
  using Callback = std::function<void(absl::StatusOr<Answer>)>;
  using Ticket = uint64_t;  // never 0

  WaitBoard() = default;
  WaitBoard(const WaitBoard&) = delete;
  WaitBoard& operator=(const WaitBoard&) = delete;

  // Close()'s status once the board is closed: the callback is untouched then, and not called.
  absl::StatusOr<Ticket> Add(const Key& key, Callback&& callback) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    if (!closed_.ok()) return closed_;
    const Ticket ticket = next_ticket_++;
    keys_.emplace(ticket, key);
    waiters_[key].emplace(ticket, std::move(callback));
    return ticket;
  }

  // Takes out all waiters of the subject and appends the calls that answer them, oldest first.
  void Take(const Key& key, const absl::StatusOr<Answer>& answer, DueCalls& due)
      ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    const auto found = waiters_.find(key);
    if (found == waiters_.end()) return;
    for (auto& [ticket, callback] : found->second) {
      keys_.erase(ticket);
      due.push_back([callback = std::move(callback), answer] { callback(answer); });
    }
    waiters_.erase(found);
  }

  // Take() and the calls.
  void AnswerAll(const Key& key, const absl::StatusOr<Answer>& answer) ABSL_LOCKS_EXCLUDED(mu_) {
    DueCalls due;
    Take(key, answer, due);
    for (const auto& call : due) call();
  }

  // False: the ticket was answered before, or never given.
  bool AnswerOne(Ticket ticket, absl::StatusOr<Answer> answer) ABSL_LOCKS_EXCLUDED(mu_) {
    Callback callback;
    {
      absl::MutexLock lock(&mu_);
      const auto key = keys_.find(ticket);
      if (key == keys_.end()) return false;
      const auto subject = waiters_.find(key->second);
      const auto waiter = subject->second.find(ticket);
      callback = std::move(waiter->second);
      subject->second.erase(waiter);
      if (subject->second.empty()) waiters_.erase(subject);
      keys_.erase(key);
    }
    callback(std::move(answer));
    return true;
  }

  // Answers all waiters with `why`, which is not OK, and takes no more. For the end of the owner.
  void Close(absl::Status why) ABSL_LOCKS_EXCLUDED(mu_) {
    std::map<Key, std::map<Ticket, Callback>> waiters;
    {
      absl::MutexLock lock(&mu_);
      if (!closed_.ok()) return;
      closed_ = why;
      waiters.swap(waiters_);
      keys_.clear();
    }
    for (auto& [key, subject] : waiters) {
      for (auto& [ticket, callback] : subject) callback(why);
    }
  }

  // Waiters that have no answer yet.
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    return keys_.size();
  }

 private:
  mutable absl::Mutex mu_;
  Ticket next_ticket_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<Key, std::map<Ticket, Callback>> waiters_ ABSL_GUARDED_BY(mu_);
  std::map<Ticket, Key> keys_ ABSL_GUARDED_BY(mu_);
  absl::Status closed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_WAIT_BOARD_H_
