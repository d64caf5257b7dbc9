// What the files that implement Client share. Not for verbs: it brings gRPC with it.
#ifndef GANTRY_CTL_CLIENT_WIRE_H_
#define GANTRY_CTL_CLIENT_WIRE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "ctl/client.h"

namespace gantry::ctl {

struct Client::State {
  std::string address;
  std::string name_space;
  absl::Mutex mu;
  std::shared_ptr<grpc::Channel> channel ABSL_GUARDED_BY(mu);
};

// Gives template definitions access to the client's state.
struct Wire {
  static std::shared_ptr<grpc::Channel> Channel(const Client& client) {
    absl::MutexLock lock(&client.state_->mu);
    return client.state_->channel;
  }
  // One unary call. A daemon that is about to end for another one does not take calls any more that
  // come just then: these are made again, and wait for the next daemon at the socket that the
  // service manager holds.
  using UnaryCall =
      std::function<grpc::Status(grpc::ClientContext*, const std::shared_ptr<grpc::Channel>&)>;
  static absl::Status Unary(const Client& client, absl::Duration timeout, const UnaryCall& call);
  static void Prepare(const Client& client, absl::Duration timeout, grpc::ClientContext* context);
  static absl::Status ToStatus(const Client& client, const grpc::Status& status);
};

template <class Response, class Stream>
class GrpcReadStream final : public ReadStream<Response> {
 public:
  explicit GrpcReadStream(const Client& client) : client_(client) {
    Wire::Prepare(client, absl::InfiniteDuration(), &context_);
  }
  ~GrpcReadStream() override {
    if (!finished_) {
      context_.TryCancel();
      Response dropped;
      while (stream->Read(&dropped)) {
      }
      (void)stream->Finish();
    }
  }
  bool Read(Response* response) override { return stream->Read(response); }
  void Cancel() override { context_.TryCancel(); }
  absl::Status Finish() override {
    finished_ = true;
    return Wire::ToStatus(client_, stream->Finish());
  }
  grpc::ClientContext* context() { return &context_; }

  std::unique_ptr<Stream> stream;

 private:
  const Client& client_;
  grpc::ClientContext context_;
  bool finished_ = false;
};

template <class Request, class Response>
class GrpcDuplexStream final : public DuplexStream<Request, Response> {
 public:
  explicit GrpcDuplexStream(const Client& client) : client_(client) {
    Wire::Prepare(client, absl::InfiniteDuration(), &context_);
  }
  ~GrpcDuplexStream() override {
    if (!finished_) {
      context_.TryCancel();
      Response dropped;
      while (stream->Read(&dropped)) {
      }
      (void)stream->Finish();
    }
  }
  bool Read(Response* response) override { return stream->Read(response); }
  bool Write(const Request& request) override { return stream->Write(request); }
  void WritesDone() override { stream->WritesDone(); }
  void Cancel() override { context_.TryCancel(); }
  absl::Status Finish() override {
    finished_ = true;
    return Wire::ToStatus(client_, stream->Finish());
  }
  grpc::ClientContext* context() { return &context_; }

  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream;

 private:
  const Client& client_;
  grpc::ClientContext context_;
  bool finished_ = false;
};

template <class Request>
class GrpcWriteStream final : public WriteStream<Request> {
 public:
  explicit GrpcWriteStream(const Client& client) : client_(client) {
    Wire::Prepare(client, absl::InfiniteDuration(), &context_);
  }
  ~GrpcWriteStream() override {
    if (!finished_) {
      context_.TryCancel();
      (void)stream->Finish();
    }
  }
  bool Write(const Request& request) override { return stream->Write(request); }
  absl::Status Finish() override {
    finished_ = true;
    stream->WritesDone();
    return Wire::ToStatus(client_, stream->Finish());
  }
  grpc::ClientContext* context() { return &context_; }

  std::unique_ptr<grpc::ClientWriter<Request>> stream;

 private:
  const Client& client_;
  grpc::ClientContext context_;
  bool finished_ = false;
};

}  // namespace gantry::ctl

// Defines and instantiates one call of `service` (a generated service class).
#define GANTRY_CTL_UNARY(service, method, request, response)                            \
  template <>                                                                           \
  absl::Status Client::Call(const request& in, response* out, absl::Duration timeout) { \
    return Wire::Unary(*this, timeout, [&](auto* context, const auto& channel) {        \
      service::Stub stub(channel);                                                      \
      return stub.method(context, in, out);                                             \
    });                                                                                 \
  }
#define GANTRY_CTL_READ(service, method, request, response)                                        \
  template <>                                                                                      \
  std::unique_ptr<ReadStream<response>> Client::Open<request, response>(const request& in) {       \
    auto stream = std::make_unique<GrpcReadStream<response, grpc::ClientReader<response>>>(*this); \
    service::Stub stub(Wire::Channel(*this));                                                      \
    stream->stream = stub.method(stream->context(), in);                                           \
    return stream;                                                                                 \
  }
#define GANTRY_CTL_DUPLEX(service, method, request, response)                   \
  template <>                                                                   \
  std::unique_ptr<DuplexStream<request, response>> Client::OpenDuplex() {       \
    auto stream = std::make_unique<GrpcDuplexStream<request, response>>(*this); \
    service::Stub stub(Wire::Channel(*this));                                   \
    stream->stream = stub.method(stream->context());                            \
    return stream;                                                              \
  }
#define GANTRY_CTL_WRITE(service, method, request, response)                                    \
  template <>                                                                                   \
  std::unique_ptr<WriteStream<request>> Client::OpenWriter<request, response>(response * out) { \
    auto stream = std::make_unique<GrpcWriteStream<request>>(*this);                            \
    service::Stub stub(Wire::Channel(*this));                                                   \
    stream->stream = stub.method(stream->context(), out);                                       \
    return stream;                                                                              \
  }

#endif  // GANTRY_CTL_CLIENT_WIRE_H_
