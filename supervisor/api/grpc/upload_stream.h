// Calls that bring bytes: an opening message, then bytes, which the work reads as a ByteSource on a
// thread of a lane.
//
//   HandleUpload()   answers go out meanwhile
//   HandleReceive()  one answer, at the end
//
// The incoming message type `In` has the fields `open` and `data`; work that wants other fields takes
// whole messages with Next(). A client that sends nothing for kPatience ends its call.
#ifndef GANTRY_SUPERVISOR_API_GRPC_UPLOAD_STREAM_H_
#define GANTRY_SUPERVISOR_API_GRPC_UPLOAD_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/outgoing.h"

namespace gantry::api {

// `Base` is a StreamingCall of a reactor that reads `In`.
template <class In, class Base>
class Upload final : public Base, public ByteSource {
 public:
  using Work = std::function<absl::Status(Upload&, const In& open)>;

  template <class... BaseArguments>
  static Upload* Start(Lane& lane, grpc::CallbackServerContext& context, Work work,
                       absl::Duration patience, BaseArguments... arguments) {
    auto upload = std::make_shared<Upload>(lane, context, std::move(work), patience, arguments...);
    upload->Owned(upload);
    upload->me_ = upload;
    upload->StartRead(&upload->incoming_);
    return upload.get();
  }

  template <class... BaseArguments>
  Upload(Lane& lane, grpc::CallbackServerContext& context, Work work, absl::Duration patience,
         BaseArguments... arguments)
      : Base(&context, lane, arguments...), work_(std::move(work)), patience_(patience) {}

  void OnReadDone(bool ok) override {
    if (!opened_) {
      opened_ = true;
      Open(ok);
      return;
    }
    absl::MutexLock lock(&this->mu_);
    if (!ok) {
      at_end_ = true;
      if (this->cancelled()) this->gone_ = true;
      return;
    }
    // One message waits here while gRPC holds the next back: that is the flow control.
    chunk_ = std::move(incoming_);
    chunk_offset_ = 0;
    has_chunk_ = true;
  }

  // The next message; false at their end, and after Interrupt(). For the work, instead of Read(), on
  // one thread at a time.
  absl::StatusOr<bool> Next(In& message, absl::Duration patience) {
    absl::MutexLock lock(&this->mu_);
    const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
      return has_chunk_ || at_end_ || interrupted_ || this->gone_;
    };
    if (!this->mu_.AwaitWithTimeout(absl::Condition(&something), patience))
      return this->GiveUp("sent nothing", patience);
    if (!has_chunk_ || interrupted_) {
      if (this->gone_) return ClientGone();
      return false;
    }
    message = std::move(chunk_);
    has_chunk_ = false;
    if (!this->gone_ && !at_end_) this->StartRead(&incoming_);
    return true;
  }
  // Ends a Next() that waits on another thread.
  void Interrupt() {
    absl::MutexLock lock(&this->mu_);
    interrupted_ = true;
  }

  // For the work, on its own thread.
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override {
    absl::MutexLock lock(&this->mu_);
    while (true) {
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
        return has_chunk_ || at_end_ || this->gone_;
      };
      if (!this->mu_.AwaitWithTimeout(absl::Condition(&something), patience_))
        return this->GiveUp("sent nothing", patience_);
      if (has_chunk_) {
        const std::string& data = chunk_.data();
        const size_t taken = std::min(n, data.size() - chunk_offset_);
        std::memcpy(buffer, data.data() + chunk_offset_, taken);
        chunk_offset_ += taken;
        if (chunk_offset_ == data.size()) {
          has_chunk_ = false;
          if (!this->gone_ && !at_end_) this->StartRead(&incoming_);
        }
        if (taken == 0 && n > 0) continue;
        return taken;
      }
      if (this->gone_) return ClientGone();
      return 0;
    }
  }

 private:
  void Open(bool ok) {
    absl::Status status = this->call().Validate();
    if (status.ok() && !(ok && incoming_.has_open()))
      status = absl::InvalidArgumentError("the first message must be `open`");
    if (!status.ok()) return this->End(status);
    open_ = std::move(incoming_);
    // Before the work is scheduled, which may end the call.
    this->StartRead(&incoming_);
    const std::shared_ptr<Upload> self = me_.lock();
    this->Enter([self] { self->End(self->work_(*self, self->open_)); });
  }

  const Work work_;
  const absl::Duration patience_;
  std::weak_ptr<Upload> me_;
  In incoming_;  // gRPC's while a read is under way
  In open_;
  bool opened_ = false;
  In chunk_ ABSL_GUARDED_BY(this->mu_);  // what was read last
  size_t chunk_offset_ ABSL_GUARDED_BY(this->mu_) = 0;
  bool has_chunk_ ABSL_GUARDED_BY(this->mu_) = false;
  bool at_end_ ABSL_GUARDED_BY(this->mu_) = false;
  bool interrupted_ ABSL_GUARDED_BY(this->mu_) = false;
};

// Work: `absl::Status(Call&, const In& open, ByteSource&, Sender<Out>&)`; the source is an Upload.
template <class In, class Out, class Work>
grpc::ServerBidiReactor<In, Out>* HandleUpload(Lane& lane, grpc::CallbackServerContext& context,
                                               Work work, absl::Duration patience = kPatience) {
  using Stream = Upload<In, OutgoingCall<grpc::ServerBidiReactor<In, Out>, Out>>;
  return Stream::Start(
      lane, context,
      [work = std::move(work)](Stream& stream, const In& open) {
        return work(stream.call(), open, stream, stream);
      },
      patience, patience);
}

// Work: `absl::Status(Call&, const In& open, ByteSource&)`.
template <class In, class Work>
grpc::ServerReadReactor<In>* HandleReceive(Lane& lane, grpc::CallbackServerContext& context,
                                           Work work, absl::Duration patience = kPatience) {
  using Stream = Upload<In, StreamingCall<grpc::ServerReadReactor<In>>>;
  return Stream::Start(
      lane, context,
      [work = std::move(work)](Stream& stream, const In& open) {
        return work(stream.call(), open, stream);
      },
      patience);
}

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_UPLOAD_STREAM_H_
