// The threads that serve gRPC's callback API, in place of gRPC's own.
//
// gRPC 1.51 starts at least two, which pass the socket's poll on to each other with every message: on a machine of two processors half of
// the time of a short call goes into waking the other thread. And each of them sleeps for 100 ms whenever nothing came for a second,
// so that now and then a first call after a pause waits for that. Here it is one thread (two from eight processors on), which waits
// for as long as it takes.
//
// The linker sends gRPC's calls of the two functions that make and release the queue through these wrappers. No callback may block,
// which holds for gRPC's threads as well.
#include <grpc/grpc.h>
#include <grpcpp/completion_queue.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <thread>

namespace {

void Serve(grpc_completion_queue* queue) {
  pthread_setname_np(pthread_self(), "grpc-poll");
  while (true) {
    const grpc_event event =
        grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr);
    if (event.type == GRPC_QUEUE_SHUTDOWN) return;
    if (event.type != GRPC_OP_COMPLETE) continue;
    auto* done = static_cast<grpc_completion_queue_functor*>(event.tag);
    done->functor_run(done, event.success);
  }
}

grpc::CompletionQueue* Start() {
  auto* queue = new grpc::CompletionQueue;  // NOLINT(cppcoreguidelines-owning-memory): for good
  // A thread inherits the mask it is made under: signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const unsigned count = std::clamp(std::thread::hardware_concurrency() / 4, 1u, 4u);
  for (unsigned i = 0; i < count; ++i) std::thread(Serve, queue->cq()).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return queue;
}

}  // namespace

// The queue of all channels and servers. It stays when the last of them has gone, because that may be on its own thread.
extern "C" grpc::CompletionQueue* __wrap__ZN4grpc15CompletionQueue21CallbackAlternativeCQEv();
extern "C" grpc::CompletionQueue* __wrap__ZN4grpc15CompletionQueue21CallbackAlternativeCQEv() {
  static grpc::CompletionQueue* const queue = Start();
  return queue;
}

extern "C" void __wrap__ZN4grpc15CompletionQueue28ReleaseCallbackAlternativeCQEPS0_(
    grpc::CompletionQueue*);
extern "C" void __wrap__ZN4grpc15CompletionQueue28ReleaseCallbackAlternativeCQEPS0_(
    grpc::CompletionQueue*) {}
