// Keeps threads in reserve for gRPC, which hangs when the kernel refuses it one. For programs that
// must serve on through a shortage of threads. See grpc_threads.cc.
#ifndef GANTRY_THIRD_PARTY_GRPC_THREADS_H_
#define GANTRY_THIRD_PARTY_GRPC_THREADS_H_

namespace gantry {

// Makes the reserve. To be called once, early in main(), before gRPC is used; without it gRPC's
// threads fail as the kernel says. Linking the target is what puts the wrappers in place.
void ReserveGrpcThreads();

}  // namespace gantry

#endif  // GANTRY_THIRD_PARTY_GRPC_THREADS_H_
