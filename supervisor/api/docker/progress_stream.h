// Work whose progress a docker client watches: pull, push and load, as messages of one response.
//
// Core reports from several threads and must not wait for the client; the connection belongs to the
// handler's thread. So reports become lines in a queue, which the handler's thread sends. A line
// that says how far a layer is takes the place of the one before it that was not sent yet: the
// queue is as long as there are layers and steps, however slow the client is.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_PROGRESS_STREAM_H_
#define GANTRY_SUPERVISOR_API_DOCKER_PROGRESS_STREAM_H_

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "base/engine/progress_json.h"

namespace gantry::v1 {
class Progress;
}

namespace gantry::api::docker {

class Request;

// Lines on their way to the client. Thread-safe.
class ProgressQueue {
 public:
  explicit ProgressQueue(engine::LayerProgress::Work work) : layers_(work) {}

  // A report of core.
  void Add(const v1::Progress& step);
  // What waits, in its order.
  std::vector<std::string> Take();
  // The same, once there is something or Close() was called. Empty: closed, and nothing is left.
  std::vector<std::string> Wait();
  void Close();

 private:
  struct Line {
    std::string layer;
    bool running;  // the next one says it better
    std::string text;
  };

  absl::Mutex mu_;
  engine::LayerProgress layers_ ABSL_GUARDED_BY(mu_);
  std::deque<Line> lines_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

// One response of messages. The header goes out with the first of them: work that fails before it
// is answered with the error's own status.
class MessageStream {
 public:
  explicit MessageStream(Request& request) : request_(request) {}

  // What the first message is preceded by: "Pulling from ...".
  void SetPreamble(std::string line) { preamble_ = std::move(line); }
  absl::Status Send(absl::string_view line);
  absl::Status Send(const std::vector<std::string>& lines);
  // Ends the response: with `result`'s message as the last one, or as the whole answer where
  // nothing was sent.
  absl::Status Finish(const absl::Status& result);

 private:
  Request& request_;
  std::string preamble_;
  bool begun_ = false;
};

// Runs `work` on a thread of its own and sends what comes into `queue` meanwhile. A client that
// leaves cancels the request's token, which `work` watches. Returns what `work` returned.
absl::Status RunWatched(Request& request, ProgressQueue& queue, MessageStream& out,
                        const std::function<absl::Status()>& work);

// The body of a request, which sends what is in the queue while it is read: for work that runs on
// the handler's thread. Many clients read nothing before they have sent everything, so only as much
// is sent meanwhile as fits into a socket's buffers.
class WatchedBody : public ByteSource {
 public:
  WatchedBody(Request& request, ProgressQueue& queue, MessageStream& out)
      : request_(request), queue_(queue), out_(out) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  Request& request_;
  ProgressQueue& queue_;
  MessageStream& out_;
  size_t sent_bytes_ = 0;
  absl::Time last_ = absl::InfinitePast();
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_PROGRESS_STREAM_H_
