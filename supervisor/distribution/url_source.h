// The bytes behind a URL, read as they arrive.
//
// A thread makes the request and hands the body over through a socket pair, so a slow reader slows
// the transfer and a body of any length needs no memory. Redirects are followed, http and https
// alike; nothing is retried. Thread-compatible.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_URL_SOURCE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_URL_SOURCE_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/unique_fd.h"
#include "supervisor/distribution/http_client.h"

namespace gantry::distribution {

class UrlSource : public ByteSource {
 public:
  // Sends the request and waits for the header of its answer. `http` and `cancel` (may be null)
  // outlive the source.
  //   kInvalidArgument     not an http or https URL
  //   kNotFound, kUnavailable, ...  what the server said, or that it cannot be reached
  static absl::StatusOr<std::unique_ptr<UrlSource>> Open(HttpClient& http, absl::string_view url,
                                                         CancelToken* cancel);
  // Ends the transfer.
  ~UrlSource() override;

  // Of the body; -1: the server did not say.
  int64_t size_bytes() const { return size_bytes_; }

  // An error: the transfer broke.
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  class Receiver;

  UrlSource(HttpClient& http, Url url, CancelToken* cancel, UniqueFd reader, UniqueFd writer);
  void Transfer();
  absl::Status TransferFrom(Url url);

  HttpClient& http_;
  const Url url_;
  CancelToken cancel_;  // ends with the caller's
  const UniqueFd reader_;
  UniqueFd writer_;  // the thread's
  int64_t size_bytes_ = -1;
  std::thread thread_;

  absl::Mutex mu_;
  bool answered_ ABSL_GUARDED_BY(mu_) = false;  // the body begins
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status result_ ABSL_GUARDED_BY(mu_);  // once it has ended
  int64_t announced_ ABSL_GUARDED_BY(mu_) = -1;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_URL_SOURCE_H_
