// The files beneath an open directory, sent to a client as fsutil packets.
//
// The counterpart of file_receiver.h: each file is named by a STAT, in the order of a walk with
// sorted names; then contents go out as the receiver asks for them. The tree does not change
// meanwhile. Links are sent as links, and never followed.
//
// Thread-safe: a function without state.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_FILE_SENDER_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_FILE_SENDER_H_

#include "absl/status/status.h"

#include "supervisor/api/buildkit/file_receiver.h"

namespace gantry::api::buildkit {

//   kFailedPrecondition  the receiver reports an error of its own
//   kInvalidArgument     it asks for what is no file's content
//   kUnavailable         the stream ended too early
absl::Status SendFiles(PacketStream& stream, int directory, CancelToken* cancel);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_FILE_SENDER_H_
