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
  };
  explicit ContainerStreams(const Parts& parts) : parts_(parts) {}

  // Streams of the running main process. kFailedPrecondition: it does not run.
  absl::StatusOr<std::unique_ptr<runtime::AttachStream>> Attach(
      const CallContext& context, const v1::AttachInput_Open& open,
      runtime::AttachStream::Handler* handler);
  struct ConnectedStart {
    int32_t pid = 0;
    std::unique_ptr<runtime::AttachStream> stream;
  };
  // A client is about to start something that is not known yet: what a start waits for in the
  // kernel begins now. Never blocks.
  void AnnounceStart();
  // Starts the container with its streams connected, so that no output is missed: the shim lets it
  // go when it has both calls. `before_start` is called between the two. A failure leaves the
  // container as it was, not started.
  absl::StatusOr<ConnectedStart> StartConnected(const CallContext& context,
                                                const v1::AttachInput_Open& open,
                                                runtime::AttachStream::Handler* handler,
                                                const std::function<void()>& before_start);
  absl::Status Resize(const CallContext& context, const v1::ResizeRequest& request);

  // The log as the shim writes it: <path>, <path>.1, ... in json-file format. kFailedPrecondition:
  // the container keeps no log.
  absl::StatusOr<std::string> LogPath(const CallContext& context, const std::string& container);
  // True while more may be written to the log.
  bool MayWriteLog(const CallContext& context, const std::string& container);
  // For a client that has followed the log to its end. kAborted: the shim, which writes the log,
  // died; what the container said last may be missing. Waits shortly for the end to be in the
  // records.
  absl::Status CheckLogEnd(const CallContext& context, const std::string& container);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_STREAMS_H_
