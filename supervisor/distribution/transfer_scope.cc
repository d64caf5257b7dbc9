#include "supervisor/distribution/transfer_scope.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "base/new_thread.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {

Progress::Kind KindOf(absl::string_view media_type) {
  if (oci::IsIndexType(media_type)) return Progress::Kind::kIndex;
  if (oci::IsManifestType(media_type)) return Progress::Kind::kManifest;
  if (oci::IsConfigType(media_type)) return Progress::Kind::kConfig;
  if (oci::IsLayerType(media_type)) return Progress::Kind::kLayer;
  return Progress::Kind::kOther;
}

TransferScope::TransferScope(const Reference& ref, const RegistryClient& client,
                             const CallContext& context, ProgressFn progress)
    : ref_(ref),
      progress_(std::move(progress)),
      memo_(context.credentials != nullptr ? context.credentials : client.options().credentials),
      stop_(absl::InfiniteDuration(), context.cancel),
      context_(context) {
  context_.credentials = &memo_;
  context_.cancel = &stop_;
  if (progress_ && !context_.on_retry) context_.on_retry = RetryTeller(ref_, progress_);
}

std::function<void(absl::string_view)> RetryTeller(const Reference& ref, ProgressFn progress) {
  return [name = ref.canonical(), progress = std::move(progress)](absl::string_view why) {
    Progress step;
    step.kind = Progress::Kind::kReference;
    step.state = Progress::State::kRetrying;
    step.ref = name;
    step.detail = std::string(why);
    progress(step);
  };
}

void TransferScope::Tell(const content::Descriptor& descriptor, Progress::State state,
                         int64_t offset_bytes, absl::string_view detail) const {
  if (!progress_) return;
  Progress progress;
  progress.kind = KindOf(descriptor.media_type);
  progress.state = state;
  progress.ref = descriptor.digest.str();
  progress.detail = std::string(detail);
  progress.offset_bytes = offset_bytes;
  progress.total_bytes = descriptor.size_bytes;
  progress_(progress);
}

absl::Status TransferScope::ForEach(size_t count, int parallel,
                                    const std::function<absl::Status(size_t)>& part) {
  std::atomic<size_t> next{0};
  absl::Mutex mutex;
  absl::Status failure;
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) {
      absl::Status status = part(i);
      if (status.ok()) continue;
      absl::MutexLock lock(&mutex);
      if (failure.ok()) failure = std::move(status);
      next = count;
      stop_.Cancel("another part of the image failed");
      return;
    }
  };
  std::vector<std::thread> threads;
  const size_t workers = std::min(count, static_cast<size_t>(std::max(1, parallel)));
  for (size_t i = 1; i < workers; ++i) {
    absl::StatusOr<std::thread> thread = NewThread(work);
    if (!thread.ok()) break;  // this one does it all, then
    threads.push_back(*std::move(thread));
  }
  if (workers > 0) work();
  for (std::thread& thread : threads) thread.join();
  return failure;
}

}  // namespace gantry::distribution
