// A gRPC event engine for short-lived processes that speak over ready-made descriptors.
//
// gRPC 1.51's own makes three threads as soon as there is a channel or a server: two for closures
// and one for timers. Channels and servers on ready-made descriptors hardly ever give it anything
// to do, so in a process that lives for milliseconds these threads cost more than most of what it
// is there for. This one makes a thread, a single one for closures and timers, when there is first
// something to run. It neither listens, connects nor resolves names.
//
// Thread-safe.
#ifndef GANTRY_THIRD_PARTY_GRPC_EVENT_ENGINE_H_
#define GANTRY_THIRD_PARTY_GRPC_EVENT_ENGINE_H_

namespace gantry {

// Makes it the engine that gRPC uses in this process. Before gRPC is used at all.
void UseLazyEventEngine();

}  // namespace gantry

#endif  // GANTRY_THIRD_PARTY_GRPC_EVENT_ENGINE_H_
