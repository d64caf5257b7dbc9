#include "snapshotter/layer_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/processor_time.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/chunk_queue.h"
#include "snapshotter/layer_complete.h"
#include "snapshotter/layer_paths.h"
#include "snapshotter/layer_writer.h"
#include "snapshotter/private_mounts.h"
#include "snapshotter/stream_digest.h"

namespace gantry::snapshot {
namespace {

constexpr size_t kBuffers = 4;
constexpr size_t kBufferBytes = 512 << 10;
constexpr int64_t kProgressBytes = 1 << 20;
constexpr int64_t kFreeExpansionBytes = 1 << 30;

class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(ByteSource& source) : source_(source) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::StatusOr<size_t> got = source_.Read(buffer, n);
    if (got.ok()) bytes_ += static_cast<int64_t>(*got);
    return got;
  }
  int64_t bytes() const { return bytes_; }

 private:
  ByteSource& source_;
  int64_t bytes_ = 0;
};

// Hashes what passes.
class HashingChunks final : public ChunkSource {
 public:
  explicit HashingChunks(ChunkSource& source, StreamDigest* digest)
      : source_(source), digest_(digest) {}
  absl::StatusOr<absl::string_view> NextChunk() override {
    absl::StatusOr<absl::string_view> chunk = source_.NextChunk();
    if (chunk.ok() && digest_ != nullptr) {
      const ProcessorTimer timer(spent_);
      digest_->Update(*chunk);
    }
    return chunk;
  }
  absl::Duration spent() const { return spent_; }

 private:
  ChunkSource& source_;
  StreamDigest* const digest_;  // null: hashed elsewhere
  absl::Duration spent_;
};

// Reads and inflates into `queue` until the end, a limit, a cancellation, or the writer's stop.
absl::Status Produce(ByteSource& layer, const ApplyOptions& options, CountingSource& compressed,
                     Decompressor& plain, ChunkQueue& queue, StreamDigest* digest,
                     ApplyResult& result) {
  int64_t& total = result.uncompressed_bytes;
  int64_t reported = 0;
  while (true) {
    if (options.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options.cancel->Check());
    char* const buffer = queue.NextFree();
    if (buffer == nullptr) return absl::OkStatus();
    // Whole buffers: fewer hand-overs and larger writes. But what is there is not held back for
    // long.
    size_t filled = 0;
    bool ended = false;
    while (filled < queue.buffer_bytes() && !ended) {
      const ProcessorTimer timer(result.cost.inflate);
      GANTRY_ASSIGN_OR_RETURN(const size_t n,
                              plain.Read(buffer + filled, queue.buffer_bytes() - filled));
      if (n == 0) ended = true;
      filled += n;
      if (options.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options.cancel->Check());
    }
    total += static_cast<int64_t>(filled);
    if (total > options.limits.uncompressed_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "layer: larger than ", options.limits.uncompressed_bytes, " bytes when uncompressed"));
    }
    if (total > kFreeExpansionBytes && total / options.limits.expansion > compressed.bytes()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("layer: ", compressed.bytes(), " bytes expand to more than ", total,
                       ", more than ", options.limits.expansion, " times"));
    }
    if (filled > 0) {
      if (digest != nullptr) {
        const ProcessorTimer timer(result.cost.hash);
        digest->Update(absl::string_view(buffer, filled));
      }
      queue.Push(filled);
    }
    if (options.progress && total - reported >= kProgressBytes) {
      options.progress(total);
      reported = total;
    }
    if (ended) return absl::OkStatus();
  }
}

using Confine = std::function<absl::Status(const std::function<absl::Status()>&)>;

absl::StatusOr<ApplyResult> ApplyConfined(ByteSource& layer, const ApplyOptions& options,
                                          Whiteouts whiteouts, const Confine& confine) {
  CountingSource compressed(layer);
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Decompressor> plain, OpenDecompressor(compressed));
  // Hashing goes to the thread that has less to do.
  const bool hash_here = plain->compression() == Compression::kNone;
  StreamDigest digest;
  ChunkQueue queue(kBuffers, kBufferBytes);
  LayerWriter files(whiteouts, options);
  HashingChunks chunks(queue, hash_here ? nullptr : &digest);
  TarReader tar(chunks, options.limits.tar);

  ApplyResult result;
  absl::Status written;
  absl::Duration writing;
  GANTRY_ASSIGN_OR_RETURN(std::thread writer, NewThread([&] {
                            written = confine([&] {
                              // In here: the confined work has a thread of its own.
                              const ProcessorTimer timer(writing);
                              return files.Run(tar);
                            });
                            queue.Stop();
                          }));
  const absl::Status produced =
      Produce(layer, options, compressed, *plain, queue, hash_here ? &digest : nullptr, result);
  queue.Finish(produced);
  writer.join();
  // The writer passes the producer's error on; its own comes first because it happened first.
  GANTRY_RETURN_IF_ERROR(written);
  GANTRY_RETURN_IF_ERROR(produced);
  if (options.progress) options.progress(result.uncompressed_bytes);
  result.cost.hash += chunks.spent();
  result.cost.files = writing - chunks.spent();
  result.diff_id = digest.Finish();
  result.entries = tar.entry_count();
  result.deferred = files.TakeDeferred();
  return result;
}

bool HasOption(const Mount& mount, absl::string_view word) {
  return std::find(mount.options.begin(), mount.options.end(), word) != mount.options.end();
}

bool HasOptionPrefix(const Mount& mount, absl::string_view prefix) {
  return std::any_of(mount.options.begin(), mount.options.end(),
                     [&](const std::string& option) { return absl::StartsWith(option, prefix); });
}

// "<root>/snapshots/<id>/fs": the layer directory of an overlay snapshot (overlay_snapshotter.h).
bool IsOverlayLayer(absl::string_view directory) {
  const std::vector<absl::string_view> names = absl::StrSplit(directory, '/');
  const size_t n = names.size();
  return n >= 3 && names[n - 1] == "fs" && names[n - 3] == "snapshots" && !names[n - 2].empty() &&
         std::all_of(names[n - 2].begin(), names[n - 2].end(),
                     [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
}

struct Target {
  std::string directory;            // empty: the mounts must be mounted
  std::vector<std::string> lowers;  // of an overlay, topmost first
  bool overlay = false;
  bool user_xattr = false;
};

absl::StatusOr<Target> TargetOf(absl::Span<const Mount> mounts) {
  Target target;
  if (mounts.empty()) return absl::InvalidArgumentError("layer: no mounts to unpack onto");
  if (mounts.size() > 1 || !mounts[0].target.empty() || HasOptionPrefix(mounts[0], "uidmap="))
    return target;
  const Mount& mount = mounts[0];
  if (HasOption(mount, "ro")) {
    return absl::FailedPreconditionError(
        absl::StrCat("layer: cannot unpack onto a read-only mount of ", mount.source));
  }
  std::vector<std::string> directories = MountedDirectories(mounts);
  if (mount.type == "overlay") {
    if (!HasOptionPrefix(mount, "upperdir=")) {
      return absl::FailedPreconditionError(
          "layer: cannot unpack onto an overlay without upper directory, which is read-only");
    }
    target.overlay = true;
    target.user_xattr = HasOption(mount, "userxattr");
    target.directory = directories.front();
    target.lowers.assign(directories.begin() + 1, directories.end());
  } else if (mount.type == "bind") {
    target.directory = directories.front();
    target.overlay = IsOverlayLayer(target.directory);
  }
  return target;
}

}  // namespace

absl::StatusOr<ApplyResult> ApplyLayer(ByteSource& layer, absl::Span<const Mount> mounts,
                                       const ApplyOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(Target target, TargetOf(mounts));
  // An overlay whose whiteouts shall delete must be looked at through its mount.
  if (target.overlay && options.whiteouts == Whiteouts::kDelete && mounts[0].type == "overlay")
    target.directory.clear();
  Whiteouts whiteouts = options.whiteouts;
  if (whiteouts == Whiteouts::kAuto)
    whiteouts = target.overlay ? Whiteouts::kOverlay : Whiteouts::kDelete;
  ApplyOptions adjusted = options;
  adjusted.user_xattr = options.user_xattr || target.user_xattr;
  GANTRY_ASSIGN_OR_RETURN(
      ApplyResult result,
      ApplyConfined(layer, adjusted, whiteouts, [&](const std::function<absl::Status()>& work) {
        return target.directory.empty() ? RunConfinedTo(mounts, work)
                                        : RunConfinedTo(target.directory, work);
      }));
  // With the lower layers at hand nothing has to wait.
  if (!target.lowers.empty() && !target.directory.empty()) {
    GANTRY_RETURN_IF_ERROR(CompleteIn(result.deferred, target.directory, target.lowers));
    result.deferred = {};
  }
  return result;
}

absl::StatusOr<ApplyResult> ApplyLayerToDirectory(ByteSource& layer, const std::string& directory,
                                                  const ApplyOptions& options) {
  const Whiteouts whiteouts =
      options.whiteouts == Whiteouts::kAuto ? Whiteouts::kDelete : options.whiteouts;
  return ApplyConfined(layer, options, whiteouts, [&](const std::function<absl::Status()>& work) {
    return RunConfinedTo(directory, work);
  });
}

absl::Status CompleteLayer(const DeferredWork& deferred, absl::Span<const Mount> layer_mounts,
                           absl::Span<const Mount> parent_mounts) {
  if (deferred.empty()) return absl::OkStatus();
  const std::vector<std::string> layer = MountedDirectories(layer_mounts);
  if (layer.empty())
    return absl::InvalidArgumentError("layer: its mounts are not made of plain directories");
  return CompleteIn(deferred, layer.front(), MountedDirectories(parent_mounts));
}

absl::Status SyncLayer(absl::Span<const Mount> mounts) {
  const std::vector<std::string> directories = MountedDirectories(mounts);
  if (directories.empty())
    return absl::InvalidArgumentError("layer: its mounts are not made of plain directories");
  const UniqueFd fd(open(directories.front().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || syncfs(fd.get()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("sync ", directories.front()));
  return absl::OkStatus();
}

}  // namespace gantry::snapshot
