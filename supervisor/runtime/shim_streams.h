// The streams of one shim's connection: the numbered events, and attached clients. What a stream
// promises is said by EventStream and AttachStream. Used by ShimClient only.
//
// A stream holds the connection that it runs over, so it may outlive the client that opened it; it
// has no thread, gRPC's callback threads call back.
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_STREAMS_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_STREAMS_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/shim_client.h"
#include "supervisor/runtime/shim_dialler.h"
#include "supervisor/runtime/task_key.h"

namespace gantry::runtime {

// As ShimClient::Events().
std::unique_ptr<EventStream> OpenEvents(TaskKey key, std::shared_ptr<ShimDialler> dialler,
                                        uint64_t after,
                                        std::function<void(const pb::Event&)> on_event,
                                        std::function<void(const absl::Status&)> on_end);

// As ShimClient::Attach().
std::unique_ptr<AttachStream> OpenAttach(const TaskKey& key, ShimDialler& dialler,
                                         const pb::AttachInput::Open& open,
                                         AttachStream::Handler* handler);

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_STREAMS_H_
