// Events that people may look back at after the daemon has restarted: the same that event_feed.h
// shows, in two files of bounded size below the root directory.
//
// Best effort: they are written together, up to kCollect after they happened and without waiting
// for the disk, so a daemon that is killed loses the last of them and a power cut some more. A file
// that ends in the middle of a record is cut there when it is opened.
//
// Thread-safe; has one thread of its own.
#ifndef GANTRY_SUPERVISOR_CORE_EVENT_JOURNAL_H_
#define GANTRY_SUPERVISOR_CORE_EVENT_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"

namespace gantry::v1 {
class Event;
}

namespace gantry::core {

class EventJournal {
 public:
  static constexpr absl::Duration kCollect = absl::Milliseconds(200);

  // Writes what happens on `bus` from now on. `directory` is made; both files together stay below
  // `max_bytes`.
  static absl::StatusOr<std::unique_ptr<EventJournal>> Open(const std::string& directory,
                                                            EventBus& bus,
                                                            const EventSubjects& subjects,
                                                            int64_t max_bytes = 8 << 20);
  // Writes what has happened so far.
  ~EventJournal();
  EventJournal(const EventJournal&) = delete;
  EventJournal& operator=(const EventJournal&) = delete;

  // Events of a namespace with since <= at < before, the oldest first.
  std::vector<v1::Event> Read(absl::string_view ns, absl::Time since, absl::Time before);

 private:
  EventJournal(const std::string& directory, EventBus& bus, const EventSubjects& subjects,
               int64_t max_bytes)
      : current_path_(directory + "/journal"),
        older_path_(directory + "/journal.1"),
        bus_(bus),
        subjects_(subjects),
        file_bytes_(max_bytes / 2) {}
  // From `since` on.
  void Subscribe(absl::Time since) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status OpenCurrent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WriteQueued() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run();

  const std::string current_path_;
  const std::string older_path_;
  EventBus& bus_;
  const EventSubjects& subjects_;
  const int64_t file_bytes_;

  absl::Mutex mu_;
  std::shared_ptr<Subscription> subscription_ ABSL_GUARDED_BY(mu_);
  UniqueFd file_ ABSL_GUARDED_BY(mu_);
  int64_t written_ ABSL_GUARDED_BY(mu_) = 0;
  bool failing_ ABSL_GUARDED_BY(mu_) = false;

  // Its own lock: set by publishers, who must not wait for a write.
  absl::Mutex wake_mu_;
  bool waiting_ ABSL_GUARDED_BY(wake_mu_) = false;
  bool ending_ ABSL_GUARDED_BY(wake_mu_) = false;

  std::thread thread_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EVENT_JOURNAL_H_
