// Stack frames for glog without libunwind.
//
// Debian's glog takes the stack trace of a failed CHECK from libunwind, whose archive is not
// position independent and whose shared library every shim would load and pay for. The compiler's
// own unwinder is linked anyway: the four functions that glog calls are answered from it, under
// libunwind's ABI names for x86-64.

#include <unwind.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr size_t kMaxFrames = 64;

// Lives in the caller's unw_cursor_t, which is 127 words of opaque memory.
struct Cursor {
  uint64_t count;
  uint64_t next;
  uint64_t frames[kMaxFrames];
};
static_assert(sizeof(Cursor) <= 127 * sizeof(uint64_t));

_Unwind_Reason_Code Record(struct _Unwind_Context* context, void* arg) {
  auto* cursor = static_cast<Cursor*>(arg);
  if (cursor->count == kMaxFrames) return _URC_END_OF_STACK;
  cursor->frames[cursor->count++] = _Unwind_GetIP(context);
  return _URC_NO_REASON;
}

}  // namespace

extern "C" {

int _Ux86_64_getcontext(void*);
int _ULx86_64_init_local(Cursor* cursor, void*);
int _ULx86_64_step(Cursor* cursor);
int _ULx86_64_get_reg(Cursor* cursor, int, uint64_t* value);

int _Ux86_64_getcontext(void*) { return 0; }

int _ULx86_64_init_local(Cursor* cursor, void*) {
  cursor->count = 0;
  cursor->next = 1;  // Frame 0 is this function, which libunwind would not show.
  _Unwind_Backtrace(&Record, cursor);
  return 0;
}

int _ULx86_64_step(Cursor* cursor) {
  if (cursor->next + 1 >= cursor->count) return 0;
  ++cursor->next;
  return 1;
}

// glog asks for the instruction pointer only.
int _ULx86_64_get_reg(Cursor* cursor, int, uint64_t* value) {
  if (cursor->next >= cursor->count) return -1;
  *value = cursor->frames[cursor->next];
  return 0;
}

}  // extern "C"
