// Ends in the way that its first argument names: what the tests of `ctl why` put into images. Or
// prints very much, for the tests of logs.
// Linked statically, so that an image needs nothing else.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// Dies of SIGSYS at the next getpgid(2), as a filter with SCMP_ACT_KILL_PROCESS would have it.
void DieOfSeccomp() {
  sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, __NR_getpgid},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog filter = {4, program};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) exit(3);
  syscall(__NR_getpgid, 0);
}

// Takes memory until the kernel has none left for it.
void EatMemory() {
  for (;;) {
    constexpr size_t kBytes = 1 << 20;
    char* const block = static_cast<char*>(malloc(kBytes));
    if (block != nullptr) memset(block, 1, kBytes);
  }
}

// The kernel lets process 1 of a namespace ignore signals that it sends to itself, unless they are
// faults: those are raised by what causes them.
void Fault(const char* how) {
  if (strcmp(how, "segv") == 0) {
    // Where the pointer leads is kept from the compiler, which would warn of it.
    volatile uintptr_t nowhere = 8;
    *reinterpret_cast<volatile int*>(nowhere) = 1;
  }
  if (strcmp(how, "ill") == 0) __builtin_trap();
  if (strcmp(how, "fpe") == 0) {
    volatile int one = 1;
    volatile int zero = 0;
    volatile int result = one / zero;
    (void)result;
  }
}

// Prints numbered lines of 100 bytes for some seconds at some MiB a second, as far as the reader
// takes them, and ends with how many there were.
int Flood(int mebibytes_per_second, int seconds) {
  constexpr size_t kLine = 100;
  constexpr long kSlices = 50;  // of a second
  const long lines_per_slice = (static_cast<long>(mebibytes_per_second) << 20) / 100 / kSlices;
  static char text[(64 << 20) / kSlices + kLine];
  long number = 0;
  for (long slice = 0; slice < seconds * kSlices; ++slice) {
    size_t size = 0;
    for (long i = 0; i < lines_per_slice && size + kLine <= sizeof text; ++i) {
      size += static_cast<size_t>(snprintf(text + size, kLine + 1, "%012ld %086d\n", number++, 0));
    }
    for (size_t done = 0; done < size;) {
      const ssize_t written = write(STDOUT_FILENO, text + done, size - done);
      if (written <= 0) return 4;
      done += static_cast<size_t>(written);
    }
    usleep(1000000 / kSlices);
  }
  printf("%012ld end\n", number);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const char* const how = argc > 1 ? argv[1] : "";
  if (strcmp(how, "sys") == 0) DieOfSeccomp();
  if (strcmp(how, "memory") == 0) EatMemory();
  if (strcmp(how, "flood") == 0 && argc == 4) return Flood(atoi(argv[2]), atoi(argv[3]));
  Fault(how);
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "wait") == 0) pause();
  // A process that handles no signal, in place of number 1.
  if (strcmp(how, "ignore") == 0) {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
  }
  return 9;
}
