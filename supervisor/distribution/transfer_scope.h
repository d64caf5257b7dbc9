// What pull and push of one image have in common: whose call it is, what is reported about it, and
// its parts side by side.
//
// One object per call, on the caller's stack. Thread-safe once constructed.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_TRANSFER_SCOPE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_TRANSFER_SCOPE_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/cancel_token.h"
#include "content-store/descriptor.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/progress.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"

namespace gantry::distribution {

Progress::Kind KindOf(absl::string_view media_type);

// For CallContext::on_retry: reports each retry of a request as the state of the reference.
std::function<void(absl::string_view)> RetryTeller(const Reference& ref, ProgressFn progress);

class TransferScope {
 public:
  // `client` and what `context` points at outlive the scope. `progress` may be null and is called
  // from several threads.
  TransferScope(const Reference& ref, const RegistryClient& client, const CallContext& context,
                ProgressFn progress);
  TransferScope(const TransferScope&) = delete;
  TransferScope& operator=(const TransferScope&) = delete;

  const Reference& ref() const { return ref_; }
  // The caller's, with one look-up per credential and with stop() in it.
  const CallContext& context() const { return context_; }
  // Ends what is left of this transfer; ends with the caller's own.
  CancelToken& stop() { return stop_; }

  void Tell(const content::Descriptor& descriptor, Progress::State state, int64_t offset_bytes,
            absl::string_view detail = "") const;

  // part(0) to part(count - 1), at most `parallel` at once, also on the calling thread. The first
  // failure is returned; it stops the others, and no more are begun.
  absl::Status ForEach(size_t count, int parallel, const std::function<absl::Status(size_t)>& part);

 private:
  const Reference ref_;
  const ProgressFn progress_;
  MemoCredentials memo_;
  CancelToken stop_;
  CallContext context_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_TRANSFER_SCOPE_H_
