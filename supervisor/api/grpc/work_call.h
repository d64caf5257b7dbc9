// Unary calls. Work is `absl::Status(Call&)`; the messages of the request and of the answer live as
// long as the call, so that work captures their addresses.
#ifndef GANTRY_SUPERVISOR_API_GRPC_WORK_CALL_H_
#define GANTRY_SUPERVISOR_API_GRPC_WORK_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"

namespace gantry::api {

// The answer made of what core returned.
template <class T>
absl::Status Answer(absl::StatusOr<T> result, T* response) {
  if (!result.ok()) return result.status();
  *response = *std::move(result);
  return absl::OkStatus();
}

// What becomes of the work when its client goes away before the answer.
enum class Departure {
  kCancels,  // the call's token is cancelled
  kIgnored,  // the work is done to its end; only the client's deadline ends it
};

// One type for the work of all calls: a reactor for each lambda would be compiled as often.
using CallWork = absl::AnyInvocable<absl::Status(Call&)>;

// A call that is answered from memory: on gRPC's own thread, which saves handing it to another. Not
// for what may wait or takes more than some microseconds, because that thread serves all
// connections.
grpc::ServerUnaryReactor* HandleQuick(grpc::CallbackServerContext& context,
                                      absl::FunctionRef<absl::Status(Call&)> work,
                                      Scoped scoped = Scoped::kYes);

// A call whose work may wait: it runs on a thread of the lane.
grpc::ServerUnaryReactor* HandleOn(Lane& lane, const grpc::CallbackServerContext& context,
                                   CallWork work, Scoped scoped,
                                   Departure departure = Departure::kCancels);
inline grpc::ServerUnaryReactor* HandleOn(Lane& lane, const grpc::CallbackServerContext& context,
                                          CallWork work,
                                          Departure departure = Departure::kCancels) {
  return HandleOn(lane, context, std::move(work), lane.scoped(), departure);
}

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_WORK_CALL_H_
