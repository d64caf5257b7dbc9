// The user's terminal: its size, and raw mode that is undone however the program ends.
#ifndef GANTRY_CTL_TERMINAL_H_
#define GANTRY_CTL_TERMINAL_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

namespace gantry::ctl {

struct WindowSize {
  uint32_t width = 0;
  uint32_t height = 0;
};

bool IsTerminal(int fd);
// nullopt: no terminal, or it does not say.
std::optional<WindowSize> TerminalWindow(int fd);

// Raw mode of one terminal, one at a time in a process. Fatal signals (a crash, a closed pipe) restore it on their way.
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
  const int fd_;
  bool active_ = false;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TERMINAL_H_
