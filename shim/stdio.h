// The streams of one process: where its output goes, where its input comes from, and who is
// attached to it.
//
// Forms of the stdio strings (containerd's, scheme taken from stdout):
//   ""                    /dev/null
//   /path, fifo:///path   a FIFO the client made (a regular file is appended to)
//   file:///path          appended to, made 0644 with parents; stdout and stderr share it
//   binary:///prog?k=v    a logger program with arguments k v ...; fd 3 and 4 are stdout and stderr, closing fd 5 says it is ready.
//                         binary-v2 wants a byte written to fd 5 before
// With `log` the output goes to a LogSink as well; with `log`, `attachable` or `attach_stdin`
// clients may attach.
//
// Who waits for whom. A log never holds the container up (unless block_when_full). Attached clients
// get every byte: with a log the container does not wait for them, what a slow client has not taken
// is kept in a file beside the log; without a log the container waits for the slowest. A FIFO whose
// reader is slow holds the container up, as containerd's clients expect of a FIFO, unless there is
// a log; a FIFO without a reader does not: what is in it stays, the rest is dropped until there is
// a reader again. Both ends of each FIFO are kept open, so that a client that leaves raises neither
// SIGPIPE nor an end of file; the reader sees the end when the process's end of the pipe is closed.
// stdin likewise: it ends after CloseStdin().
//
// Open() and TakeConsole() block shortly and are for worker threads; all other methods may be
// called from any thread and take effect on the event loop. Shared ownership: container, attached
// clients and callbacks in flight.
#ifndef GANTRY_SHIM_STDIO_H_
#define GANTRY_SHIM_STDIO_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.pb.h"
#include "shim/console_socket.h"
#include "shim/event_loop.h"
#include "shim/log_sink.h"
#include "shim/oci_runtime.h"
#include "shim/reaper.h"

namespace gantry::shim {

class LogForward;

// A receiver of the output. Called on the event loop; must not block.
class AttachedClient {
 public:
  virtual ~AttachedClient() = default;
  // From here on nothing is missed.
  virtual void OnAttached() = 0;
  // The output has a log: the client keeps what it cannot hand on at once in a file in `directory`,
  // and holds up nothing.
  virtual void KeepIn(const std::string& directory) = 0;
  virtual void OnOutput(LogStream stream, absl::string_view bytes) = 0;
  // It has so much output that it cannot hand on that no more should be read from the process.
  virtual bool HoldsUp() const = 0;
  // The last call. OK: no more output, the process has ended.
  virtual void OnDetached(const absl::Status& status) = 0;
};

struct ClientInterest {
  bool stdin_bytes = false;
  bool stdout_bytes = false;
  bool stderr_bytes = false;
};

class ProcessIo : public std::enable_shared_from_this<ProcessIo> {
 public:
  static constexpr absl::Duration kClientPatience = absl::Seconds(10);

  struct Context {
    EventLoop* loop;  // outlives the streams
    Reaper* reaper;   // same
    std::string name_space;
    std::string container_id;
    std::string
        console_socket;  // path, relative to the working directory, to listen on for a terminal
  };

  // Streams that lead nowhere yet. Clients may attach already, and nothing will be missed.
  static std::shared_ptr<ProcessIo> Make(Context context);

  // Once. Makes pipes and opens what the strings name; starts a logger and waits until it is ready.
  //   kInvalidArgument    a string of no known form
  //   kNotFound and others: as the file system says, with stream and path named
  absl::Status Open(const v1::Stdio& stdio);
  ~ProcessIo();
  ProcessIo(const ProcessIo&) = delete;
  ProcessIo& operator=(const ProcessIo&) = delete;

  // For the runtime. Good until CloseChildEnds(), which is due when the runtime has returned. The
  // end of what came on stderr is kept until then, for a runtime that fails.
  const RuntimeStdio& child_stdio() const { return child_stdio_; }
  void CloseChildEnds();

  // Begins to move bytes. For pipes before the runtime runs: its output must not wait for it.
  void Begin();
  // With a terminal, after the runtime has returned: takes the console it sent, then begins.
  //   kInternal  the runtime sent none
  absl::Status TakeConsole();

  // Due with the start of the process: opens the client's FIFO for stdin. Until then what the
  // client writes waits, so that one that has written all of its input, and asks for the end of it,
  // finds that there is a process to ask for.
  void TakeInput();

  void Resize(uint32_t width, uint32_t height);
  // The process sees the end of its input once what came before is written.
  void CloseStdin();

  // The client is detached with kFailedPrecondition when the streams were not opened for attaching,
  // and at once after the end of the process.
  void Attach(std::shared_ptr<AttachedClient> client, ClientInterest interest);
  // For a worker thread: returns when a client has attached, at once unless the streams were opened
  // with await_client. kUnavailable: none came in ten seconds, or within `limit` if that is
  // shorter.
  absl::Status AwaitClient(absl::Duration limit) const;
  // No further calls to `client` but the ones under way. Closes stdin when asked to by stdin_once
  // and it had sent any.
  void Detach(const AttachedClient* client);
  // `client` will send no more input, but wants to see the output. Ends stdin when stdin_once and
  // it was to send any.
  void EndInput(const AttachedClient* client);
  // `client` has handed on what was buffered.
  void ClientDrained();
  // From an attached client. `taken` is called on the loop when there is room for more.
  void WriteStdin(const AttachedClient* client, std::string bytes, std::function<void()> taken);

  // Loop thread only: takes in what the process has written so far, then tells the streams that it
  // has ended.
  void ProcessExited();
  // Calls back on the loop thread when all output has gone where it goes, or after `timeout`.
  void WhenDrained(absl::Duration timeout, std::function<void()> done);
  // Ends all streams now. Clients are detached with `reason`.
  void Close(absl::Status reason = absl::OkStatus());

  // The log goes on in a new file of its name, for who has moved the old one. Calls back on the
  // loop thread when the file is there, or with what the file system said; the next line of output
  // tries again. Ok at once without a log.
  void ReopenLog(std::function<void(absl::Status)> done);

 private:
  struct Output;
  struct Client {
    std::shared_ptr<AttachedClient> client;
    ClientInterest interest;
    bool sent_stdin = false;
  };

  explicit ProcessIo(Context context);

  absl::Status OpenOutputs();
  absl::Status OpenTerminalOutput();
  absl::Status OpenPipeOutput(int index, const std::string& uri_text);
  absl::Status ConnectLogger(const std::string& uri_text);
  absl::Status OpenStdin();

  // All below: loop thread.
  void BeginOnLoop();
  void WatchStdinFifo();
  void InstallConsole(UniqueFd console);
  void WatchOutput(int index);
  void PumpOutput(int index, size_t max_bytes, bool for_clients = true);
  void Deliver(int index, absl::string_view bytes);
  // Not on the loop's thread. The end of what has come on stderr.
  std::string LastWords();
  void EndOutput(int index);
  // `for_clients`: attached clients may hold up the reading.
  bool MayRead(int index, bool for_clients = true) const;
  bool ClientHoldsUp() const;
  // Where attached clients keep output, "" when the process waits for them.
  std::string BacklogDirectory() const;
  // Reads again what was paused, if nothing holds it up any more.
  void UpdateInterest();
  void RetryLog();
  // After the end of the process: until the log has said what it lacks.
  void MentionDropped();
  void LoggerExited();
  void PumpStdin();
  void ReadStdinFifo();
  void EndStdin();
  void CheckQuiet(int rounds_left);
  // Sends the log's lines where <log's path>.forward says; nowhere without the file.
  void ConnectCollector();
  // The collector of the log still takes what the process left, and is given a moment for it.
  bool ForwardLags();
  bool AllDelivered() const;
  void FinishIfDelivered();
  void Finish(const absl::Status& reason);
  void DetachAll(const absl::Status& status);
  void CloseOnLoop(const absl::Status& reason);

  const Context context_;

  absl::Notification client_came_;

  // Set by Open(); constant from Begin() on.
  v1::Stdio stdio_;
  bool attachable_ = false;

  std::atomic<bool> keeps_words_{true};

  // The runtime's side, used between Open() and CloseChildEnds() by one thread.
  RuntimeStdio child_stdio_;
  std::vector<UniqueFd> child_ends_;
  std::optional<ConsoleSocket> console_socket_;

  // Set up by Open(), the loop's from Begin() on.
  std::unique_ptr<LogSink> log_;
  std::unique_ptr<LogForward> forward_;  // the loop's, from Begin() on
  // stdout (or the terminal) and stderr; null when the process writes to where it goes itself.
  std::unique_ptr<Output> outputs_[2];
  std::vector<UniqueFd>
      logger_keepers_;    // read ends of pipes that the process shares with a logger
  UniqueFd stdin_write_;  // pipe, or the console once more
  UniqueFd stdin_place_;  // the client's FIFO until TakeInput(), then:
  UniqueFd stdin_fifo_;
  UniqueFd stdin_fifo_keeper_;  // a write end: the FIFO ends only after CloseStdin()
  bool keeps_stdin_fifo_ = true;

  // The loop's.
  std::shared_ptr<ProcessIo> self_;  // from Begin() to Close(): descriptors are watched
  std::string stdin_pending_;
  std::vector<std::function<void()>> stdin_waiters_;
  bool stdin_closing_ = false;
  std::vector<Client> clients_;
  bool had_client_ = false;
  bool begun_ = false;
  bool exited_ = false;
  bool finished_ = false;  // as good as all output delivered; clients were told
  bool closed_ = false;
  bool logger_dead_ = false;
  uint32_t width_ = 0;
  uint32_t height_ = 0;
  std::string last_words_;  // of stderr, as long as child ends are open
  uint64_t bytes_seen_ = 0;
  uint64_t bytes_at_quiet_check_ = 0;
  EventLoop::TimerId log_timer_ = 0;
  EventLoop::TimerId mention_timer_ = 0;
  EventLoop::TimerId quiet_timer_ = 0;
  EventLoop::TimerId forward_timer_ = 0;
  int forward_rounds_ = 0;
  uint64_t next_waiter_ = 1;
  std::map<uint64_t, std::function<void()>> drain_waiters_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_STDIO_H_
