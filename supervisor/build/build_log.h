// What a build says while it runs: its steps with their times, their output, and warnings, as
// messages of gantry.v1.
//
// Thread-safe. The receiver is called on the thread that made the log, and on no other: stages put
// their messages into a queue, which Pump() empties; a stage waits while the queue is full.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_LOG_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_LOG_H_

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/builds.pb.h"

namespace gantry::build {

// May wait for a slow client. A failure ends the build.
using BuildEventFn = std::function<absl::Status(v1::BuildResponse)>;

class BuildLog {
 public:
  explicit BuildLog(BuildEventFn send) : send_(std::move(send)) {}

  // A step that begins now. `instruction` and its position are those of the Dockerfile.
  v1::BuildStep Begin(const std::string& name, const std::string& instruction = "",
                      int position = 0, int positions = 0, bool metadata = false);
  absl::Status Change(const v1::BuildStep& step);
  // The step ends: done, taken from the cache, or failed.
  absl::Status End(v1::BuildStep& step, bool cached = false);
  void Fail(v1::BuildStep& step, const absl::Status& why, int exit_code = 0);
  absl::Status Output(const v1::BuildStep& step, int stream, absl::string_view bytes);
  void Progress(const v1::BuildStep& step, const std::string& id, int64_t current, int64_t total);
  void Warn(const std::string& rule, const std::string& text, const std::string& file, int line);
  // A failure of the receiver is returned from here on.
  absl::Status Send(v1::BuildResponse response);

  // Before a thread begins that sends, and at its end.
  void AddSender();
  void RemoveSender();
  // Gives on what the senders send, until the last of them has ended. On the thread that made the
  // log. `failed` is called once if the receiver fails.
  void Pump(const std::function<void()>& failed);

 private:
  const BuildEventFn send_;
  const std::thread::id owner_ = std::this_thread::get_id();

  absl::Mutex mu_;
  std::deque<v1::BuildResponse> queue_ ABSL_GUARDED_BY(mu_);
  int senders_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  int steps_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_LOG_H_
