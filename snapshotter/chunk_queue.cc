#include "snapshotter/chunk_queue.h"

namespace gantry::snapshot {

ChunkQueue::ChunkQueue(size_t buffers, size_t buffer_bytes)
    : buffer_bytes_(buffer_bytes), buffers_(buffers) {}

char* ChunkQueue::NextFree() {
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(this, &ChunkQueue::HasFree));
  if (stopped_) return nullptr;
  Buffer& buffer = buffers_[filled_ % buffers_.size()];
  // Not before it is needed: small layers never touch the others.
  if (buffer.bytes == nullptr) buffer.bytes = std::make_unique<char[]>(buffer_bytes_);
  return buffer.bytes.get();
}

void ChunkQueue::Push(size_t bytes) {
  absl::MutexLock lock(&mu_);
  buffers_[filled_ % buffers_.size()].size = bytes;
  ++filled_;
}

void ChunkQueue::Finish(const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  finished_ = true;
  status_ = status;
}

absl::StatusOr<absl::string_view> ChunkQueue::NextChunk() {
  absl::MutexLock lock(&mu_);
  released_ = taken_;
  mu_.Await(absl::Condition(this, &ChunkQueue::HasFilled));
  if (taken_ == filled_) {
    if (!status_.ok()) return status_;
    return absl::string_view();
  }
  const Buffer& buffer = buffers_[taken_ % buffers_.size()];
  ++taken_;
  return absl::string_view(buffer.bytes.get(), buffer.size);
}

void ChunkQueue::Stop() {
  absl::MutexLock lock(&mu_);
  stopped_ = true;
}

}  // namespace gantry::snapshot
