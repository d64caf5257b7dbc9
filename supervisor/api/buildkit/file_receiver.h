// Files that a client sends as fsutil packets, written beneath an open directory.
//
// The sender names each file with a STAT, in the order of a walk through its tree; the content of
// regular files is asked for and comes in pieces. A few requests are under way at a time, so that
// neither side fills the other's window. The sender is hostile: names are checked, parents are
// directories that this call has made, and links are never followed. Everything belongs to the
// caller's user, whatever the sender says.
//
// Thread-safe: a function without state. Wire format: proto/buildkit/fsutil.proto.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_FILE_RECEIVER_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_FILE_RECEIVER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fsutil::types {
class Packet;
}
namespace gantry {
class CancelToken;
}

namespace gantry::api::buildkit {

// A stream of packets, used by one thread.
class PacketStream {
 public:
  virtual ~PacketStream() = default;
  // False: the sender has ended the stream.
  virtual absl::StatusOr<bool> Read(fsutil::types::Packet& packet) = 0;
  virtual absl::Status Write(const fsutil::types::Packet& packet) = 0;
};

struct ReceiveLimits {
  int64_t files = 2'000'000;
  int64_t name_bytes = int64_t{128} << 20;  // of all names and attributes together
  size_t depth = 256;
};

// Reads to the end of the stream. `directory` is empty. `progress` gets the bytes received so far.
//   kInvalidArgument     packets that are malformed or out of order, names that climb out
//   kFailedPrecondition  the sender reports an error of its own
//   kUnavailable         the stream ended too early
//   kResourceExhausted   a limit, or the disk is full
absl::Status ReceiveFiles(PacketStream& stream, int directory, CancelToken* cancel,
                          const std::function<void(int64_t)>& progress,
                          const ReceiveLimits& limits = {});

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_FILE_RECEIVER_H_
