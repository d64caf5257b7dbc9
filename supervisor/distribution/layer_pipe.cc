#include "supervisor/distribution/layer_pipe.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status_macros.h"

namespace gantry::distribution {

LayerPipe::LayerPipe(int64_t own_limit, int64_t total_limit, std::atomic<int64_t>& total,
                     CancelToken& cancel)
    : own_limit_(own_limit), total_limit_(total_limit), total_(total), cancel_(cancel) {
  registration_ = cancel.OnCancel([this] {
    absl::MutexLock lock(&mu_);
    closed_ = true;
  });
}

LayerPipe::~LayerPipe() {
  registration_ = {};
  total_ -= buffered_;
}

void LayerPipe::Write(absl::string_view bytes) {
  absl::MutexLock lock(&mu_);
  const auto size = static_cast<int64_t>(bytes.size());
  if (spilled_ || closed_ || size == 0) return;
  if (buffered_ + size > own_limit_ || total_ + size > total_limit_) {
    spilled_ = true;
    return;
  }
  chunks_.emplace_back(bytes.data(), bytes.size());
  buffered_ += size;
  total_ += size;
}

void LayerPipe::Finish(const content::Digest& digest) {
  absl::MutexLock lock(&mu_);
  digest_ = digest;
  finished_ = true;
}

void LayerPipe::Close() {
  absl::MutexLock lock(&mu_);
  if (!finished_) closed_ = true;
}

bool LayerPipe::ready() {
  absl::MutexLock lock(&mu_);
  return Ready();
}

absl::StatusOr<LayerPipe::Piece> LayerPipe::Next() {
  absl::MutexLock lock(&mu_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return Ready(); };
  while (!mu_.AwaitWithTimeout(absl::Condition(&ready), cancel_.remaining())) {
    GANTRY_RETURN_IF_ERROR(cancel_.Check());
  }
  Piece piece;
  if (!chunks_.empty()) {
    piece.bytes = std::move(chunks_.front());
    chunks_.pop_front();
    buffered_ -= static_cast<int64_t>(piece.bytes.size());
    total_ -= static_cast<int64_t>(piece.bytes.size());
    return piece;
  }
  if (closed_) {
    GANTRY_RETURN_IF_ERROR(cancel_.Check());
    return absl::AbortedError("the layer stopped arriving");
  }
  piece.digest = digest_;
  piece.in_store = spilled_;
  piece.ended = !spilled_;
  return piece;
}

content::Digest LayerPipe::digest() {
  absl::MutexLock lock(&mu_);
  return digest_;
}

bool LayerPipe::closed() {
  absl::MutexLock lock(&mu_);
  return closed_;
}

absl::StatusOr<size_t> BlobSource::Read(char* buffer, size_t n) {
  GANTRY_ASSIGN_OR_RETURN(const size_t got, reader_->ReadAt(offset_, buffer, n));
  offset_ += static_cast<int64_t>(got);
  return got;
}

absl::StatusOr<size_t> LayerPipeSource::Read(char* buffer, size_t n) {
  while (piece_.empty() && rest_ == nullptr) {
    if (ended_) return size_t{0};
    absl::StatusOr<LayerPipe::Piece> next = Wait();
    GANTRY_RETURN_IF_ERROR(next.status());
    ended_ = next->ended;
    if (next->in_store) {
      GANTRY_ASSIGN_OR_RETURN(auto reader, store_.Open(next->digest));
      rest_ = std::make_unique<BlobSource>(std::move(reader), offset_);
    }
    text_ = std::move(next->bytes);
    piece_ = text_;
  }
  size_t got = 0;
  if (!piece_.empty()) {
    got = std::min(n, piece_.size());
    std::memcpy(buffer, piece_.data(), got);
    piece_.remove_prefix(got);
  } else {
    GANTRY_ASSIGN_OR_RETURN(got, rest_->Read(buffer, n));
  }
  offset_ += static_cast<int64_t>(got);
  return got;
}

absl::StatusOr<LayerPipe::Piece> LayerPipeSource::Wait() {
  if (pipe_.ready()) return pipe_.Next();
  slot_.Release();
  absl::StatusOr<LayerPipe::Piece> next = pipe_.Next();
  GANTRY_RETURN_IF_ERROR(slot_.Acquire());
  return next;
}

}  // namespace gantry::distribution
