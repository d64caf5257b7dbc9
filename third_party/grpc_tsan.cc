// Shows ThreadSanitizer what gRPC orders (--config=tsan only).
//
// Whatever happened before a batch of operations was started, and before the event came that
// completes it, happened before its completion is heard of, in whichever thread that is. Inside,
// Debian's gRPC is not instrumented; so the ends are marked here, by the tag that goes in and comes
// out. Handlers that the library instantiates by itself (of generic services) are not covered.
// grpc_tsan_test.cc proves what is.

#include <dlfcn.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpcpp/server.h>
#include <grpcpp/support/callback_common.h>
#include <grpcpp/support/server_callback.h>
#include <sanitizer/tsan_interface.h>

#include <atomic>
#include <memory>
#include <utility>

#include "absl/status/status.h"

// Where an event comes from a peer in the same process, what the peer did before it sent is before
// that event, too. As the sanitizer does by itself, this takes all sockets for one.
static char sockets;

// The ends that are functions of the shared library.

extern "C" grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t nops,
                                                 void* tag, void* reserved) {
  static const auto next =
      reinterpret_cast<decltype(&grpc_call_start_batch)>(dlsym(RTLD_NEXT, "grpc_call_start_batch"));
  __tsan_release(tag);
  __tsan_release(&sockets);
  return next(call, ops, nops, tag, reserved);
}

// Internal: called by the thread that completes an operation.
struct grpc_cq_completion;
void grpc_cq_end_op(grpc_completion_queue* queue, void* tag, absl::Status status,
                    void (*done)(void*, grpc_cq_completion*), void* done_argument,
                    grpc_cq_completion* storage, bool internal) {
  static const auto next = reinterpret_cast<decltype(&grpc_cq_end_op)>(
      dlsym(RTLD_NEXT,
            "_Z14grpc_cq_end_opP21grpc_completion_queuePvN4absl7debian36StatusEPFvS1_"
            "P18grpc_cq_completionES1_S6_b"));
  __tsan_acquire(&sockets);
  __tsan_release(tag);
  next(queue, tag, std::move(status), done, done_argument, storage, internal);
}

extern "C" grpc_event grpc_completion_queue_next(grpc_completion_queue* queue,
                                                 gpr_timespec deadline, void* reserved) {
  static const auto next = reinterpret_cast<decltype(&grpc_completion_queue_next)>(
      dlsym(RTLD_NEXT, "grpc_completion_queue_next"));
  const grpc_event event = next(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(event.tag);
  return event;
}

extern "C" grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag,
                                                  gpr_timespec deadline, void* reserved) {
  static const auto next = reinterpret_cast<decltype(&grpc_completion_queue_pluck)>(
      dlsym(RTLD_NEXT, "grpc_completion_queue_pluck"));
  const grpc_event event = next(queue, tag, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(event.tag);
  return event;
}

// The other end of a callback is inline in gRPC's headers: these two take the place of
// CallbackWithSuccessTag::StaticRun() and CallbackWithStatusTag::StaticRun() everywhere. The
// functor is the tag. (Compiled with -fno-access-control, because what they call is private.)

extern "C" void
_ZN4grpc8internal22CallbackWithSuccessTag9StaticRunEP30grpc_completion_queue_functori(
    grpc_completion_queue_functor* functor, int ok) {
  __tsan_acquire(functor);
  static_cast<grpc::internal::CallbackWithSuccessTag*>(functor)->Run(ok != 0);
}

extern "C" void
_ZN4grpc8internal21CallbackWithStatusTag9StaticRunEP30grpc_completion_queue_functori(
    grpc_completion_queue_functor* functor, int ok) {
  __tsan_acquire(functor);
  static_cast<grpc::internal::CallbackWithStatusTag*>(functor)->Run(ok != 0);
}

// Who is through with a call or with a server counts itself down, some of them inside the library;
// the last one destroys the call, or ends Server::Shutdown().

void grpc::internal::ServerCallbackCall::ScheduleOnDone(bool inline_ondone) {
  static const auto next = reinterpret_cast<void (*)(ServerCallbackCall*, bool)>(
      dlsym(RTLD_NEXT, "_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb"));
  __tsan_acquire(&callbacks_outstanding_);
  next(this, inline_ondone);
}

namespace {

// Passes OnCancel() on; after it, the library counts.
class OrderedCancel : public grpc::internal::ServerReactor {
 public:
  OrderedCancel(grpc::internal::ServerReactor* inner, std::atomic_int* count)
      : inner_(inner), count_(count) {}

  void OnCancel() override {
    inner_->OnCancel();
    __tsan_release(count_);
    delete this;
  }
  void OnDone() override {}

 private:
  bool InternalInlineable() override { return inner_->InternalInlineable(); }

  grpc::internal::ServerReactor* const inner_;
  std::atomic_int* const count_;
};

}  // namespace

void grpc::internal::ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
  static const auto next = reinterpret_cast<void (*)(ServerCallbackCall*, ServerReactor*)>(dlsym(
      RTLD_NEXT, "_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE"));
  next(this, new OrderedCancel(reactor, &callbacks_outstanding_));
}

void grpc::Server::UnrefWithPossibleNotify() {
  static const auto next = reinterpret_cast<void (*)(Server*)>(
      dlsym(RTLD_NEXT, "_ZN4grpc6Server23UnrefWithPossibleNotifyEv"));
  __tsan_release(&shutdown_refs_outstanding_);
  next(this);
}

void grpc::Server::UnrefAndWaitLocked() {
  static const auto next = reinterpret_cast<void (*)(Server*)>(
      dlsym(RTLD_NEXT, "_ZN4grpc6Server18UnrefAndWaitLockedEv"));
  next(this);
  __tsan_acquire(&shutdown_refs_outstanding_);
}

// Who shares a slice is counted inside, too; the last one gives the memory back to its owner.

namespace {

char given_up_slices;  // its address stands for all of them

struct Owner {
  void (*destroy)(void*);
  void* memory;
};

void GiveBack(void* argument) {
  __tsan_acquire(&given_up_slices);
  const std::unique_ptr<Owner> owner(static_cast<Owner*>(argument));
  owner->destroy(owner->memory);
}

}  // namespace

extern "C" grpc_slice grpc_slice_new_with_user_data(void* bytes, size_t size,
                                                    void (*destroy)(void*), void* memory) {
  static const auto next = reinterpret_cast<decltype(&grpc_slice_new_with_user_data)>(
      dlsym(RTLD_NEXT, "grpc_slice_new_with_user_data"));
  return next(bytes, size, &GiveBack, new Owner{destroy, memory});
}

extern "C" void grpc_slice_unref(grpc_slice slice) {
  static const auto next =
      reinterpret_cast<decltype(&grpc_slice_unref)>(dlsym(RTLD_NEXT, "grpc_slice_unref"));
  __tsan_release(&given_up_slices);
  next(slice);
}

extern "C" void grpc_byte_buffer_destroy(grpc_byte_buffer* buffer) {
  static const auto next = reinterpret_cast<decltype(&grpc_byte_buffer_destroy)>(
      dlsym(RTLD_NEXT, "grpc_byte_buffer_destroy"));
  __tsan_release(&given_up_slices);
  next(buffer);
}
