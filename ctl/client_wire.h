// What the files that implement Client share. Not for verbs: it brings gRPC with it.
#ifndef GANTRY_CTL_CLIENT_WIRE_H_
#define GANTRY_CTL_CLIENT_WIRE_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "ctl/client.h"

namespace gantry::ctl {

struct Client::State {
  std::string address;
  std::string name_space;
  std::shared_ptr<grpc::Channel> channel;
};

// Gives template definitions access to the client's state.
struct Wire {
  static const std::shared_ptr<grpc::Channel>& Channel(const Client& client) {
    return client.state_->channel;
  }
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
    grpc::ClientContext context;                                                        \
    Wire::Prepare(*this, timeout, &context);                                            \
    service::Stub stub(Wire::Channel(*this));                                           \
    return Wire::ToStatus(*this, stub.method(&context, in, out));                       \
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
