// containerd.services.streaming.v1: the gRPC side of the streams in stream_registry.h.
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "google/protobuf/empty.pb.h"

#include "proto/containerd/services/streaming/v1/streaming.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/stream_registry.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc_status.h"

namespace gantry::api::containerd_api {
namespace {

using containerd::services::streaming::v1::Streaming;
using containerd::services::streaming::v1::StreamInit;
using google::protobuf::Any;

class StreamCall final : public grpc::ServerBidiReactor<Any, Any>, public Stream::Transport {
 public:
  StreamCall(grpc::CallbackServerContext& context, StreamRegistry& registry)
      : context_(context), call_(context), registry_(registry) {
    absl::Status valid = call_.Validate();
    if (!valid.ok()) {
      Finish(ToGrpcWithClass(valid));
      return;
    }
    StartRead(&in_);
  }

  // Transport.
  void StartReading() override { StartRead(&in_); }
  void StartWriting(const Any& message) override { StartWrite(&message); }
  void End(const absl::Status& status) override { Finish(ToGrpcWithClass(status)); }
  void Abandon() override { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!stream_) return Open(ok);
    if (ok) {
      stream_->Deliver(std::move(in_));  // may start the next read, into what was just moved from
    } else {
      stream_->ClientFinished();
    }
  }
  void OnWriteDone(bool ok) override { stream_->Written(ok); }
  // May come beside the opening read.
  void OnCancel() override {
    std::shared_ptr<Stream> stream;
    {
      absl::MutexLock lock(&mu_);
      cancelled_ = true;
      stream = opened_;
    }
    if (stream) stream->Close(absl::CancelledError("the client has gone"));
  }
  void OnDone() override {
    if (stream_) {
      stream_->Detach();
      registry_.Remove(call_.ns(), id_);
    }
    delete this;  // NOLINT(cppcoreguidelines-owning-memory): made for this call
  }

 private:
  void Open(bool ok) {
    StreamInit init;
    absl::Status status =
        ok ? ReadAny(in_, &init) : absl::InvalidArgumentError("stream: no first message");
    auto stream = std::make_shared<Stream>();
    if (status.ok()) status = registry_.Add(call_.ns(), init.id(), stream);
    if (!status.ok()) {
      Finish(ToGrpcWithClass(status));
      return;
    }
    id_ = init.id();
    stream_ = std::move(stream);
    stream_->Offer(
        AnyOf(google::protobuf::
                  Empty()));  // "registered": the client may now name the stream in another call
    stream_->Attach(this);
    absl::MutexLock lock(&mu_);
    opened_ = stream_;
    if (cancelled_) stream_->Close(absl::CancelledError("the client has gone"));
  }

  grpc::CallbackServerContext& context_;
  Call call_;
  StreamRegistry& registry_;
  Any in_;
  std::string id_;
  std::shared_ptr<Stream> stream_;  // set once, in the first OnReadDone; for what comes after it

  absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<Stream> opened_ ABSL_GUARDED_BY(mu_);  // the same, for OnCancel
};

class StreamingService final : public Streaming::CallbackService, public DoorService {
 public:
  explicit StreamingService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }
  void Stop() override { room_.streams->Stop(); }

  grpc::ServerBidiReactor<Any, Any>* Stream(grpc::CallbackServerContext* context) override {
    return new StreamCall(
        *context,
        *room_.streams);  // NOLINT(cppcoreguidelines-owning-memory): deletes itself in OnDone
  }

 private:
  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewStreamingService(const Room& room) {
  return std::make_unique<StreamingService>(room);
}

}  // namespace gantry::api::containerd_api
