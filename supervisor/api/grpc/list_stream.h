// A call that answers with a stream of messages, made by work, `absl::Status(Call&,
// Sender<Response>&)`, on a thread of a lane.
#ifndef GANTRY_SUPERVISOR_API_GRPC_LIST_STREAM_H_
#define GANTRY_SUPERVISOR_API_GRPC_LIST_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/outgoing.h"

namespace gantry::api {

template <class Response>
class ListStream final : public OutgoingCall<grpc::ServerWriteReactor<Response>, Response> {
 public:
  using OutgoingCall<grpc::ServerWriteReactor<Response>, Response>::OutgoingCall;
};

// The request lives as long as the call: work captures its address.
template <class Response>
grpc::ServerWriteReactor<Response>* HandleList(
    Lane& lane, grpc::CallbackServerContext& context,
    absl::AnyInvocable<absl::Status(Call&, Sender<Response>&)> work,
    absl::Duration patience = kPatience) {
  auto stream = std::make_shared<ListStream<Response>>(&context, lane, patience);
  stream->Owned(stream);
  stream->Enter([stream, work = std::move(work)]() mutable {
    absl::Status status = stream->call().Validate();
    if (status.ok()) status = work(stream->call(), *stream);
    stream->End(status);
  });
  return stream.get();
}

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_LIST_STREAM_H_
