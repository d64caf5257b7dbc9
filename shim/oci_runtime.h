// Drives an OCI runtime (crun, runc, or one that takes their arguments) by its command line.
//
// Each call is one run of the program, in the bundle directory, with its own JSON log; what it
// reports as its last error becomes the message, worded alike for all runtimes. From one that fails
// without a word in its log the last line of its standard error is taken. Every call has a
// deadline: a runtime that hangs is killed with whatever processes it has left.
//
// Errors of all calls:
//   kNotFound            the runtime program is missing; of kill and delete: it says that the container is not there (any more)
//   kAlreadyExists       create and restore: it has a container of this id, which is not ours
//   kUnavailable         it did not answer in time
//   kInternal            it failed; its own words in the message
//
// Thread-safe; calls block, not for the event loop's thread. Spec: OCI runtime-spec "runtime and
// lifecycle"; runc's man pages.
#ifndef GANTRY_SHIM_OCI_RUNTIME_H_
#define GANTRY_SHIM_OCI_RUNTIME_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "proto/shim/v1/shim.pb.h"
#include "shim/reaper.h"

namespace gantry::shim {

// What the started process gets as its standard streams; -1 is /dev/null. With a console socket
// they are not used.
struct RuntimeStdio {
  int in = -1;
  int out = -1;
  int err = -1;
  std::string console_socket;  // path relative to the bundle, "" for none
  // The end of the output on `err` so far, where another component reads it. May be empty.
  std::function<std::string()> last_words;
};

class OciRuntime {
 public:
  // `program` is what is executed, "": config.path() itself. `bundle` is the working directory of
  // this process. The runtime's processes, and so the container's, begin with `oom_score_adj`,
  // which is the spec's. `reaper` outlives the runtime.
  OciRuntime(v1::Runtime config, std::string program, std::string bundle, std::string id,
             int oom_score_adj, Reaper* reaper);
  OciRuntime(const OciRuntime&) = delete;
  OciRuntime& operator=(const OciRuntime&) = delete;

  // `start`: `run --detach` instead of `create`. The init's pid, a child of this process, verified.
  // Call under a Reaper::Hold, kept until the pid is claimed.
  absl::StatusOr<pid_t> Create(bool start, const RuntimeStdio& stdio, absl::Duration timeout);
  absl::StatusOr<pid_t> Restore(const std::string& image_path, const std::string& work_path,
                                const RuntimeStdio& stdio, absl::Duration timeout);
  absl::Status Start(absl::Duration timeout);
  // Under a Reaper::Hold like Create().
  absl::StatusOr<pid_t> Exec(const std::string& process_json, const RuntimeStdio& stdio,
                             absl::Duration timeout);
  absl::Status Kill(uint32_t signal, bool all, absl::Duration timeout);
  // A container unknown to the runtime is success.
  absl::Status Delete(bool force, absl::Duration timeout);
  absl::Status Pause(absl::Duration timeout);
  absl::Status Resume(absl::Duration timeout);
  absl::Status Update(const std::string& resources_json, absl::Duration timeout);
  // kFailedPrecondition: criu is not installed.
  absl::Status Checkpoint(const v1::CheckpointRequest& request, absl::Duration timeout);
  // Host pids of the container.
  absl::StatusOr<std::vector<pid_t>> Ps(absl::Duration timeout);

  // Does by hand what `start` does for a spec without poststart hooks. False: the container is as
  // it was, or has ended; call Start(), which finds the words for it.
  bool StartByHand() const;

  // Whether the pid that this runtime reports is the container's own first process, so that a signal
  // to it is what `kill` does, and its end the container's: of crun and runc. Other runtimes may
  // report the pid of a virtual machine or a sandbox.
  bool InitIsOnHost() const;

  // Does by hand what `delete` does after the end of a container, at a fraction of the cost of
  // another program start. False: this runtime keeps its state in a way we do not know; call
  // Delete().
  bool RemoveState() const;

  const v1::Runtime& config() const { return config_; }

 private:
  absl::Status Call(absl::string_view verb, absl::Span<const std::string> args,
                    const RuntimeStdio& stdio, absl::Duration timeout);
  absl::StatusOr<pid_t> CallForPid(absl::string_view verb, std::vector<std::string> args,
                                   const RuntimeStdio& stdio, absl::Duration timeout);
  std::string ScratchName(absl::string_view kind);
  absl::string_view ProgramName() const;  // without the directory

  const v1::Runtime config_;
  const std::string program_;
  const std::string bundle_;
  const std::string id_;
  const int oom_score_adj_;
  Reaper* const reaper_;
  std::atomic<uint64_t> sequence_{0};
};

// The message of the last error in a runtime's JSON log, or its last line when it wrote plain text;
// one line of valid UTF-8, of bounded length. "" if there is none.
std::string LastRuntimeError(absl::string_view log);

// Wording that clients look for, whatever the runtime: `exec: "x": executable file not found in
// $PATH`, "no such file or directory", "permission denied".
std::string NormaliseRuntimeError(absl::string_view message);

// The status for a call of `verb` that failed with `message`, which is in the status's message.
// Only what is asked about a container that was made before (kill, delete, state) takes "does not
// exist" for kNotFound: in other calls it may be a file of the container's, a device or a namespace
// that does not exist.
absl::Status RuntimeFailure(absl::string_view verb, absl::string_view message);

// Whether a message says that the container or process is gone.
bool SaysNotRunning(absl::string_view message);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_OCI_RUNTIME_H_
