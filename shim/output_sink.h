// Where a process's output goes besides logs and attached clients: a FIFO, a file, or the pipe to a
// logger program.
//
// Never blocks. What a full FIFO or pipe does not take is kept as "pending"; the owner reads no
// more from the process meanwhile. A FIFO without a reader does not hold the process up: what is in
// it stays, further output is dropped until there is a reader. Whether there is one is found out by
// closing our own read end for a moment.
//
// Thread-compatible; lives on the event loop.
#ifndef GANTRY_SHIM_OUTPUT_SINK_H_
#define GANTRY_SHIM_OUTPUT_SINK_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "shim/event_loop.h"

namespace gantry::shim {

class OutputSink {
 public:
  // A FIFO, or a regular file that is appended to. kNotFound and others: as the file system says.
  static absl::StatusOr<std::unique_ptr<OutputSink>> OpenPath(EventLoop* loop,
                                                              const std::string& path);
  // The write end of a logger's pipe; `keeper` is its read end.
  static std::unique_ptr<OutputSink> ForPipe(EventLoop* loop, UniqueFd write, UniqueFd keeper);
  ~OutputSink();
  OutputSink(const OutputSink&) = delete;
  OutputSink& operator=(const OutputSink&) = delete;

  // Takes all of `bytes`, in order. What cannot be written now is pending, or dropped with `lossy`.
  void Write(absl::string_view bytes, bool lossy);
  bool pending() const { return !pending_.empty(); }
  // Called once each time pending bytes have gone.
  void set_on_drained(std::function<void()> on_drained) { on_drained_ = std::move(on_drained); }

  // Ends the stream once pending bytes have gone: readers see end of file.
  void Finish();
  // The one who read it is known to be dead: drop everything from now on.
  void Abandon();

 private:
  OutputSink(EventLoop* loop, UniqueFd write, UniqueFd keeper, std::string fifo_path);
  size_t WriteSome(absl::string_view bytes);
  bool HasReader();
  void OnWritable();
  void CheckReader();
  void CloseAll();

  EventLoop* const loop_;
  const std::string fifo_path_;  // "" unless a FIFO
  UniqueFd write_;
  UniqueFd keeper_;  // a read end of our own
  bool watched_ = false;
  bool finishing_ = false;
  bool seen_reader_ = false;
  std::string pending_;
  EventLoop::TimerId timer_ = 0;
  std::function<void()> on_drained_;
};

// For a process to write to directly: opened for appending, made 0644 with its parents.
absl::StatusOr<UniqueFd> OpenForAppending(const std::string& path);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_OUTPUT_SINK_H_
