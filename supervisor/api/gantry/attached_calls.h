// The calls whose client is attached to a process: Run, Attach, Exec.
//
// Each function starts one call and returns its reactor, which deletes itself at the end of the
// call. `parts` and `lane` outlive it.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_ATTACHED_CALLS_H_
#define GANTRY_SUPERVISOR_API_GANTRY_ATTACHED_CALLS_H_

#include <grpcpp/grpcpp.h>

#include "proto/gantry/v1/containers.pb.h"
#include "supervisor/api/gantry/containers.h"
#include "supervisor/api/grpc/lane.h"

namespace gantry::api::gantry_v1 {

grpc::ServerBidiReactor<v1::RunInput, v1::RunOutput>* NewRunCall(
    grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane);
grpc::ServerBidiReactor<v1::AttachInput, v1::AttachOutput>* NewAttachCall(
    grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane);
grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* NewExecCall(
    grpc::CallbackServerContext* context, const ContainersParts& parts, Lane& lane);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_ATTACHED_CALLS_H_
