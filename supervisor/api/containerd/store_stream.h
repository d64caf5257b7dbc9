// Blobs and ingests as streams of bytes. Thread-compatible; what they refer to outlives them.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_STORE_STREAM_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_STORE_STREAM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "content-store/ingest.h"
#include "content-store/store.h"

namespace gantry::api::containerd_api {

class BlobSource final : public ByteSource {
 public:
  explicit BlobSource(content::BlobReader& blob) : blob_(blob) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::StatusOr<size_t> got = blob_.ReadAt(offset_, buffer, n);
    if (got.ok()) offset_ += static_cast<int64_t>(*got);
    return got;
  }

 private:
  content::BlobReader& blob_;
  int64_t offset_ = 0;
};

class IngestSink final : public ByteSink {
 public:
  explicit IngestSink(content::Ingest& ingest) : ingest_(ingest) {}
  absl::Status Write(absl::string_view bytes) override { return ingest_.Append(bytes); }

 private:
  content::Ingest& ingest_;
};

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_STORE_STREAM_H_
