// Streams that clients opened with the streaming service, waiting to be used by another call of
// theirs (a transfer).
//
// A Stream is shared by the transport, which fills and empties it, and by the one consumer that
// takes it out of the registry. A stream that no call takes ends with its client. Thread-safe.
// Semantics: containerd "streaming" service; byte streams carry Data one way and WindowUpdate the
// other.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_STREAM_REGISTRY_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_STREAM_REGISTRY_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "google/protobuf/any.pb.h"

#include "base/byte_stream.h"

namespace gantry {
class CancelToken;
}

namespace gantry::api::containerd_api {

class Stream {
 public:
  // What moves the messages. Called with the stream's lock held: starts an operation and returns.
  class Transport {
   public:
    virtual ~Transport() = default;
    virtual void StartReading() = 0;
    virtual void StartWriting(
        const google::protobuf::Any& message) = 0;  // which stays as it is until Written()
    virtual void End(const absl::Status& status) = 0;
    // Ends the operations that are under way, and so the call: the client does not answer.
    virtual void Abandon() = 0;
  };

  // How long the consumer waits for a client that takes nothing, or sends nothing.
  static constexpr absl::Duration kPatience = absl::Minutes(5);
  explicit Stream(absl::Duration patience = kPatience) : patience_(patience) {}

  // ---- for the consumer ----

  // The next message; no value: the client has said all it will. kCancelled, kDeadlineExceeded
  // (`cancel`); kUnavailable: the client has gone, or did nothing for as long as the patience, and
  // its call is ended.
  absl::StatusOr<std::optional<google::protobuf::Any>> Receive(CancelToken& cancel)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Waits while too much is on its way to the client already. Same codes.
  absl::Status Send(google::protobuf::Any message, CancelToken& cancel) ABSL_LOCKS_EXCLUDED(mu_);
  // Queues if there is room, else drops it: for progress, where the next message says more. Never
  // waits.
  void Offer(google::protobuf::Any message) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the stream with `status` after what is queued has gone out. Safe to call twice.
  void Close(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  // ---- for the transport ----

  // Until Detach(). Starts reading.
  void Attach(Transport* transport) ABSL_LOCKS_EXCLUDED(mu_);
  void Deliver(google::protobuf::Any message) ABSL_LOCKS_EXCLUDED(mu_);
  void ClientFinished() ABSL_LOCKS_EXCLUDED(mu_);
  void Written(bool ok) ABSL_LOCKS_EXCLUDED(mu_);
  // The connection is gone; no calls to the transport afterwards.
  void Detach() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Enqueue(google::protobuf::Any message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Until something changes; `since` is when the client last did what is waited for, and `what` it
  // did not do since.
  absl::Status WaitChange(CancelToken& cancel, absl::Time since, absl::string_view what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const absl::Duration patience_;
  absl::Mutex mu_;
  absl::CondVar changed_;
  Transport* transport_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::deque<google::protobuf::Any> in_ ABSL_GUARDED_BY(mu_);
  size_t in_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool client_finished_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<google::protobuf::Any> out_
      ABSL_GUARDED_BY(mu_);  // the first one is being written while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time last_written_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  std::optional<absl::Status> closing_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
};

class StreamRegistry {
 public:
  // kAlreadyExists: the namespace has a stream of that id; kInvalidArgument: no id; kUnavailable:
  // stopping.
  absl::Status Add(const std::string& ns, const std::string& id, std::shared_ptr<Stream> stream)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Remove(const std::string& ns, const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  // kNotFound: no such stream.
  absl::StatusOr<std::shared_ptr<Stream>> Find(const std::string& ns, const std::string& id)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Closes all of them; later ones are refused.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Stream>> streams_
      ABSL_GUARDED_BY(mu_);
};

// The bytes that a client sends: we grant windows of megabytes, so that it never waits for our
// answer. `stream` and `cancel` outlive it.
class StreamSource final : public ByteSource {
 public:
  StreamSource(Stream& stream, CancelToken& cancel) : stream_(stream), cancel_(cancel) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  absl::Status Grant(int64_t bytes);

  Stream& stream_;
  CancelToken& cancel_;
  bool opened_ = false;
  int64_t consumed_ = 0;  // since the last grant
  std::string chunk_;
  size_t offset_ = 0;
};

// Bytes to a client, as fast as it grants room for them.
class StreamSink final : public ByteSink {
 public:
  StreamSink(Stream& stream, CancelToken& cancel) : stream_(stream), cancel_(cancel) {}
  absl::Status Write(absl::string_view bytes) override;
  // Waits until the client has granted as much room as at the beginning, which it does once it has
  // taken the last bytes; a second at most. ctr ends with the answer of its call, whatever is still
  // on the way to its file.
  void AwaitTaken();

 private:
  absl::Status TakeGrant(CancelToken& cancel);

  Stream& stream_;
  CancelToken& cancel_;
  int64_t window_ = 0;
  int64_t first_grant_ = 0;
};

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_STREAM_REGISTRY_H_
