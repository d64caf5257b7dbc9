// What run, attach, start -a and exec have in common once their stream is open: bytes both ways
// until the process has ended or the client detaches.
#ifndef GANTRY_CTL_COMMANDS_INTERACTIVE_H_
#define GANTRY_CTL_COMMANDS_INTERACTIVE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/client.h"
#include "ctl/session.h"
#include "ctl/verb.h"

namespace gantry::ctl {

struct InteractiveOptions {
  bool forward_stdin = false;
  bool tty = false;          // the process has a terminal
  bool signal_proxy = true;  // without a terminal: signals go to the process
  bool redraw = false;       // make a program that runs already draw its screen again
  bool exec = false;         // the process is an exec: ctl's signals are ctl's
  std::string detach_keys;   // "": docker's default
};

struct InteractiveOutcome {
  std::optional<int> exit_code;  // of the process, if it ended
  std::string error;             // that the daemon noted with the exit
  bool detached = false;         // by keys
  int signal = 0;                // that ended the session
  absl::Status status;           // of the stream, when the process's end was not seen
};

// Exit status of ctl for an outcome; complains where there is something to say.
int ExitStatus(Context& context, const InteractiveOutcome& outcome);

// kInvalidArgument: a terminal is asked for and stdin is not a terminal.
absl::Status CheckTerminal(Context& context, bool tty, bool stdin_wanted);

// 127, 126 or 125: why a process did not start, by docker's reading of the message.
int StartFailureStatus(const absl::Status& status);

absl::StatusOr<DetachKeys> DetachKeysFrom(const std::string& text, Context& context);

// Signals and resizes are sent by calls of their own, because the stream may be full of stdin that
// the process does not read.
void SendSignal(Context& context, const std::string& container, int signal);
void SendResize(Context& context, const std::string& container, const std::string& exec_id,
                WindowSize size);

// Moves bytes until the stream ends. `on_message` sees every message first (to pick up ids) and
// says when the session may begin. The container's id and the exec's are read through the pointers
// when a signal or resize has to be sent.
template <class Input, class Output>
InteractiveOutcome Converse(Context& context, DuplexStream<Input, Output>& stream,
                            const InteractiveOptions& options, const DetachKeys& keys,
                            const std::string* container, const std::string* exec_id,
                            const std::function<bool(const Output&)>& on_message) {
  SessionOptions session_options;
  session_options.in = context.in_fd();
  session_options.out = context.out_fd();
  session_options.forward_stdin = options.forward_stdin;
  session_options.raw_terminal =
      options.tty && options.forward_stdin && IsTerminal(context.in_fd());
  session_options.signal_proxy = options.signal_proxy && !options.tty && !options.exec;
  session_options.detach_keys = keys;

  SessionCallbacks callbacks;
  callbacks.send_stdin = [&stream](absl::string_view data) {
    Input input;
    input.set_stdin(std::string(data));
    return stream.Write(input);
  };
  callbacks.close_stdin = [&stream] {
    Input input;
    input.set_close_stdin(true);
    stream.Write(input);
  };
  callbacks.resize = [&](WindowSize size) { SendResize(context, *container, *exec_id, size); };
  callbacks.send_signal = [&](int signal) { SendSignal(context, *container, signal); };
  const Session* asked = nullptr;  // set before a callback can come
  callbacks.leave = [&stream, &asked] {
    // A client of an exec that goes without a word ends it.
    if constexpr (requires(Input input) { input.set_detach(true); }) {
      Input input;
      input.set_detach(true);
      if (asked->detached() && stream.Write(input)) return;
    }
    stream.Cancel();
  };
  Session session(std::move(session_options), std::move(callbacks));
  asked = &session;

  InteractiveOutcome outcome;
  bool started = false;
  Output output;
  while (stream.Read(&output)) {
    const bool ready = on_message(output);
    if (ready && !started) {
      started = true;
      if (const absl::Status status = session.Start(); !status.ok()) {
        outcome.status = status;
        stream.Cancel();
        continue;
      }
      if (options.redraw && options.tty) {
        // A size that changes and changes back makes programs repaint.
        if (const auto size = TerminalWindow(context.in_fd())) {
          SendResize(context, *container, *exec_id, {size->width + 1, size->height + 1});
          SendResize(context, *container, *exec_id, *size);
        }
      }
    }
    if (!output.stdout().empty()) context.OutRaw(output.stdout());
    if (!output.stderr().empty()) context.ErrRaw(output.stderr());
    if (output.has_exited()) {
      outcome.exit_code = static_cast<int>(output.exited().exit_code());
      outcome.error = output.exited().error();
    }
  }
  // A thread that still writes stdin must not wait for a stream that is over.
  if (outcome.exit_code) stream.Cancel();
  session.Stop();
  const absl::Status finished = stream.Finish();
  outcome.detached = session.detached();
  outcome.signal = session.ended_by_signal();
  if (!outcome.exit_code && outcome.status.ok()) outcome.status = finished;
  return outcome;
}

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_INTERACTIVE_H_
