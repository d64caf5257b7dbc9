// One person (or pipe) talking to one process in a container: stdin forwarded, the terminal raw and
// resized, signals passed on or acted upon, detach keys watched.
//
// Lifecycle: construct, Start(), Stop() once the process has ended or the stream is gone; one at a
// time in a process, because signals are the process's. Before and after, signals have their former
// effect. The caller handles output. Callbacks are called on the session's own threads.
// Thread-compatible; detached() and ended_by_signal() may be asked from any thread.
#ifndef GANTRY_CTL_SESSION_H_
#define GANTRY_CTL_SESSION_H_

#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "ctl/detach_keys.h"
#include "ctl/terminal.h"

namespace gantry::ctl {

struct SessionOptions {
  int in = 0;
  int out = 1;
  bool forward_stdin = false;
  bool raw_terminal = false;  // `in` is a terminal and the process has one
  bool signal_proxy = false;  // signals go to the process; otherwise they end the session
  DetachKeys detach_keys;     // watched with raw_terminal only
};

struct SessionCallbacks {
  std::function<bool(absl::string_view)> send_stdin;  // false: no more is accepted
  std::function<void()> close_stdin;
  std::function<void(WindowSize)> resize;
  std::function<void(int signal)> send_signal;
  // Called on detach keys and on a signal that is not passed on. Ends the stream.
  std::function<void()> leave;
};

class Session {
 public:
  Session(SessionOptions options, SessionCallbacks callbacks);
  ~Session();

  absl::Status Start();
  // Restores the terminal and ends the threads. `send_stdin` must return by now or soon.
  void Stop();

  bool detached() const { return detached_; }
  // The signal that ended the session, 0 if none did.
  int ended_by_signal() const { return ended_by_signal_; }

 private:
  void ReadInput();
  void WatchSignals();
  void Resize();
  void CatchSignals();
  void ReleaseSignals();

  const SessionOptions options_;
  const SessionCallbacks callbacks_;
  DetachKeys detach_keys_;
  RawTerminal terminal_;
  UniqueFd wake_;
  UniqueFd signals_;        // what the handler writes arrives here
  UniqueFd signals_write_;  // a byte a signal
  std::vector<std::pair<int, struct sigaction>> former_actions_;
  std::thread input_thread_;
  std::thread signal_thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> detached_{false};
  std::atomic<int> ended_by_signal_{0};
};

// "TERM" for SIGTERM; "" if it has no name.
std::string SignalName(int signal);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_SESSION_H_
