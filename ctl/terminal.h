// The user's terminal: its size, and raw mode that is undone however the program ends.
#ifndef GANTRY_CTL_TERMINAL_H_
#define GANTRY_CTL_TERMINAL_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

#include "base/unique_fd.h"

namespace gantry::ctl {

struct WindowSize {
  uint32_t width = 0;
  uint32_t height = 0;
};

bool IsTerminal(int fd);
// nullopt: not a terminal, or its size is unknown.
std::optional<WindowSize> TerminalWindow(int fd);

// Raw mode of one terminal, one at a time in a process. Fatal signals (a crash, a closed pipe)
// restore it on their way; for those that leave no time, SIGKILL above all, a small process waits
// beside this one and restores it when this one is gone.
//
// Thread-compatible.
class RawTerminal {
 public:
  explicit RawTerminal(int fd) : fd_(fd) {}
  ~RawTerminal() { Leave(); }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  // Also after Leave(), to come back from job control.
  absl::Status Enter();
  void Leave();

 private:
  void StartGuard();
  void EndGuard();

  const int fd_;
  bool active_ = false;
  pid_t guard_ = -1;
  UniqueFd
      lifeline_;  // the guard reads its other end: a byte ends it, the end of the file makes it restore
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TERMINAL_H_
