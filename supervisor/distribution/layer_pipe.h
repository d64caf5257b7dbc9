// The bytes of a layer between the thread that receives and the thread that unpacks them.
//
// The first bytes are kept in memory. Once more are kept than allowed, the rest is left to the
// content store, which has them when Finish() is called: the receiver never waits for the unpacker.
// LayerPipe is thread-safe with one writer and one reader; LayerPipeSource belongs to the reader.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_PIPE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_PIPE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "content-store/digest.h"
#include "content-store/store.h"
#include "supervisor/distribution/unpack_slots.h"

namespace gantry::distribution {

class LayerPipe {
 public:
  // Keeps at most `own_limit` bytes, and only while `total`, which all pipes share, is within
  // `total_limit`.
  LayerPipe(int64_t own_limit, int64_t total_limit, std::atomic<int64_t>& total,
            CancelToken& cancel);
  ~LayerPipe();

  // The writer: bytes in order, then Finish() once the blob is in the content store under `digest`,
  // or Close() when no more bytes will come.
  void Write(absl::string_view bytes);
  void Finish(const content::Digest& digest);
  void Close();

  struct Piece {
    std::string bytes;  // empty: see the others
    bool ended = false;
    bool in_store = false;  // the rest is in the blob `digest`
    content::Digest digest;
  };
  // True when Next() would answer at once.
  bool ready();
  // Waits for the next bytes. kAborted: closed before the end; or the token's error.
  absl::StatusOr<Piece> Next();
  // After Finish().
  content::Digest digest();
  // Closed or cancelled before the end: nothing will come of it.
  bool closed();

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !chunks_.empty() || finished_ || closed_;
  }

  const int64_t own_limit_;
  const int64_t total_limit_;
  std::atomic<int64_t>& total_;
  CancelToken& cancel_;
  CancelToken::Registration registration_;

  absl::Mutex mu_;
  std::deque<std::string> chunks_ ABSL_GUARDED_BY(mu_);
  int64_t buffered_ ABSL_GUARDED_BY(mu_) = 0;
  bool spilled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  content::Digest digest_ ABSL_GUARDED_BY(mu_);
};

// A blob of the store, from `offset` on.
class BlobSource : public ByteSource {
 public:
  BlobSource(std::unique_ptr<content::BlobReader> reader, int64_t offset)
      : reader_(std::move(reader)), offset_(offset) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  const std::unique_ptr<content::BlobReader> reader_;
  int64_t offset_;
};

// Reads a pipe, then the blob; lends its processor slot to others while it waits.
class LayerPipeSource : public ByteSource {
 public:
  LayerPipeSource(LayerPipe& pipe, content::Store& store, SlotHold& slot)
      : pipe_(pipe), store_(store), slot_(slot) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  absl::StatusOr<LayerPipe::Piece> Wait();

  LayerPipe& pipe_;
  content::Store& store_;
  SlotHold& slot_;
  std::string text_;
  absl::string_view piece_;
  int64_t offset_ = 0;
  bool ended_ = false;
  std::unique_ptr<BlobSource> rest_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_LAYER_PIPE_H_
