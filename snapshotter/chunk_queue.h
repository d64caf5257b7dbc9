// Hands pieces of a byte stream from one thread to another through a few fixed buffers.
//
// One producer, one consumer. Either side may stop; the other learns why.
#ifndef GANTRY_SNAPSHOTTER_CHUNK_QUEUE_H_
#define GANTRY_SNAPSHOTTER_CHUNK_QUEUE_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/tar/reader.h"

namespace gantry::snapshot {

class ChunkQueue final : public ChunkSource {
 public:
  ChunkQueue(size_t buffers, size_t buffer_bytes);

  size_t buffer_bytes() const { return buffer_bytes_; }

  // Producer: a buffer to fill, once one is free; null when the consumer has stopped.
  char* NextFree();
  // Producer: the buffer of the last NextFree() holds `bytes`, more than none.
  void Push(size_t bytes);
  // Producer: no more comes; the consumer sees the end, or `status` if that is an error.
  void Finish(const absl::Status& status);

  // Consumer.
  absl::StatusOr<absl::string_view> NextChunk() override;
  // Consumer: takes no more.
  void Stop();

 private:
  struct Buffer {
    std::unique_ptr<char[]> bytes;
    size_t size = 0;
  };
  bool HasFree() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return stopped_ || filled_ - released_ < buffers_.size();
  }
  bool HasFilled() const ABSL_SHARED_LOCKS_REQUIRED(mu_) { return finished_ || taken_ < filled_; }

  const size_t buffer_bytes_;
  std::vector<Buffer> buffers_;  // each belongs to the side that the counters say

  absl::Mutex mu_;
  // Buffer i % size is filled for the i-th time when filled_ > i, with the consumer when taken_ >
  // i, free again when released_ > i.
  size_t filled_ ABSL_GUARDED_BY(mu_) = 0;
  size_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  size_t released_ ABSL_GUARDED_BY(mu_) = 0;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_CHUNK_QUEUE_H_
