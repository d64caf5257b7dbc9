// moby.buildkit.v1.Control.Session: a client's session inside of a call, for clients that open no
// connection of its own for it. The bytes of the session's connection are the call's messages.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_CALL_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "proto/buildkit/control.pb.h"
#include "supervisor/api/buildkit/session.h"
#include "supervisor/api/grpc/lane.h"

namespace gantry::api::buildkit {

using SessionReactor =
    grpc::ServerBidiReactor<moby::buildkit::v1::BytesMessage, moby::buildkit::v1::BytesMessage>;

// Owns itself until gRPC is done with it. Takes two threads of the lane.
SessionReactor* StartSessionCall(Lane& lane, grpc::CallbackServerContext& context,
                                 Sessions& sessions);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_CALL_H_
