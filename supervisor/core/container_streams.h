// Streams of a container's main process: attach, start with streams connected, terminal size, log.
// The door moves messages between its client and the stream.
//
// Thread-safe. kNotFound: no such container; kInvalidArgument: ambiguous prefix, bad request;
// kFailedPrecondition: its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_STREAMS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_STREAMS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/log_reader.h"
#include "supervisor/core/start_waits.h"
#include "supervisor/core/task_service.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::v1 {
class AttachInput_Open;
class ResizeRequest;
}  // namespace gantry::v1

namespace gantry::core {

class ContainerStreams {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerSteps* steps;
    TaskService* tasks;
    StartWaits* starts;
  };
  explicit ContainerStreams(const Parts& parts) : parts_(parts) {}

  // Streams of the running main process. kFailedPrecondition: it does not run.
  absl::StatusOr<std::unique_ptr<runtime::AttachStream>> Attach(
      const CallContext& context, const v1::AttachInput_Open& open,
      runtime::AttachStream::Handler* handler);
  // Streams from the container's next start on, also one by a restart policy; at once if it runs.
  // They are connected before the process is made, so no output is missed. Calls `connected` once,
  // on any thread: with the stream; with kNotFound when the container is removed first; with
  // kUnavailable when the daemon stops; with kCancelled when the returned function is called, which
  // is to be called at most once. `handler` outlives the stream, and may be called before
  // `connected` is.
  using Connected =
      std::function<void(absl::StatusOr<std::unique_ptr<runtime::AttachStream>> stream)>;
  std::function<void()> AttachAtStart(const CallContext& context, const v1::AttachInput_Open& open,
                                      runtime::AttachStream::Handler* handler, Connected connected);
  struct ConnectedStart {
    int32_t pid = 0;
    std::unique_ptr<runtime::AttachStream> stream;
  };
  // A client is about to start a process: begins what a start waits for in the kernel. Never
  // blocks.
  void AnnounceStart();
  // Starts the container with its streams connected, so that no output is missed: the shim makes
  // the process when it has both calls. `before_start` is called between the two. A failure leaves
  // the container as it was, not started.
  absl::StatusOr<ConnectedStart> StartConnected(const CallContext& context,
                                                const v1::AttachInput_Open& open,
                                                runtime::AttachStream::Handler* handler,
                                                const std::function<void()>& before_start);
  absl::Status Resize(const CallContext& context, const v1::ResizeRequest& request);

  // Reads the container's log: calls `emit` for each entry that `query` selects, in order. A status
  // other than OK from `emit` ends the reading and is returned. With query.follow until nothing
  // more can come; of the query, `more_may_come` and `cancel` are set here. A container that was
  // never started has an empty log.
  //   kFailedPrecondition  the container keeps no log
  //   kAborted             followed to the end, and the shim, which writes the log, died: the last
  //                        output may be missing
  absl::Status Logs(const CallContext& context, const std::string& container, LogQuery query,
                    const std::function<absl::Status(const LogEntry&)>& emit);

 private:
  // True while more may be written to the log.
  bool MayWriteLog(const std::string& ns, const std::string& id) const;
  // After the log was followed to its end. Waits shortly for the end to be in the records.
  absl::Status CheckLogEnd(const CallContext& context, const std::string& id);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_STREAMS_H_
