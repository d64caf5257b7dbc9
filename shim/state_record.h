// What the shim would answer to Info, kept in its bundle, so that a returning supervisor need not
// ask every shim before it knows what runs.
//
//   <bundle>/state   an InfoResponse in protobuf's wire format, written aside and renamed
//
// Written after each event. The state in it is at least as new as the event that its `last_event`
// numbers. It may miss newer events: a reader that has seen a higher number already must ask the
// shim; any other gets what is missing from the event stream. It says nothing about a shim whose
// process is gone, whose last words are in the exit record.
//
// The bundle is on a tmpfs or other directory that a reboot empties: nothing is synced.
#ifndef GANTRY_SHIM_STATE_RECORD_H_
#define GANTRY_SHIM_STATE_RECORD_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "proto/shim/v1/shim.pb.h"
#include "shim/event_log.h"

namespace gantry::shim {

// kNotFound: no event yet, or a shim that writes no record. kDataLoss: damaged.
absl::StatusOr<v1::InfoResponse> ReadStateRecord(const std::string& bundle);

// Writes the record after each event, on the thread that appends it. Write errors are logged once
// and leave the older record; an init process that was deleted is not recorded any more, because
// its bundle may be on its way out.
//
// Thread-safe. Events that are being appended while it is destroyed may still reach `fill`.
class StateRecorder {
 public:
  // `fill` makes the answer, or leaves it empty once there is nothing to record; `events` outlives
  // this.
  StateRecorder(std::string bundle, EventLog* events, std::function<void(v1::InfoResponse*)> fill);
  ~StateRecorder();
  StateRecorder(const StateRecorder&) = delete;
  StateRecorder& operator=(const StateRecorder&) = delete;

 private:
  void Write() ABSL_LOCKS_EXCLUDED(mu_);

  const std::string path_;
  EventLog* const events_;
  const std::function<void(v1::InfoResponse*)> fill_;

  absl::Mutex mu_;  // held across the write: the newest state is written last
  bool failure_logged_ ABSL_GUARDED_BY(mu_) = false;
  const uint64_t listener_;  // last: called from then on
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_STATE_RECORD_H_
