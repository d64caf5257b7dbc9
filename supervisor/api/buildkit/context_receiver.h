// Files that a client sends as fsutil packets, brought into a context that is kept between builds:
// only contents of files that have changed are asked for.
//
// A file is taken to be the same while its kind, mode, size, time of modification and link are, as
// BuildKit takes it; one that was modified a moment ago is asked for all the same, since a second
// change need not show in its time. The sender is hostile (context_store.h).
//
// Thread-safe: a function without state. Wire format: proto/buildkit/fsutil.proto.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_CONTEXT_RECEIVER_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_CONTEXT_RECEIVER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "supervisor/api/buildkit/file_receiver.h"
#include "supervisor/build/context_store.h"

namespace gantry::api::buildkit {

// Reads to the end of the stream; Finish() of the update is the caller's. Errors are those of
// ReceiveFiles(), and
//   kUnimplemented  a file has attributes, which a kept context cannot hold; nothing is lost by
//                   asking for the files again in the other way
absl::Status ReceiveContext(PacketStream& stream, build::ContextUpdate& update, absl::Time now,
                            CancelToken* cancel, const std::function<void(int64_t)>& progress);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_CONTEXT_RECEIVER_H_
