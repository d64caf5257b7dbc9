// Preloaded into gantryd by scarcity_test: makes one fsync(), fdatasync() or syncfs() fail, as a
// disk does that lost what it was given and says so once.
//
// $FAILING_SYNC names a file. While it holds a number n, n calls pass; the next one fails with EIO
// and empties the file.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

namespace {

bool Fails() {
  const char* path = getenv("FAILING_SYNC");
  if (path == nullptr) return false;
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  flock(fd, LOCK_EX);
  char text[32] = {};
  bool fails = false;
  if (read(fd, text, sizeof(text) - 1) > 0) {
    const int left = atoi(text);
    fails = left == 0;
    snprintf(text, sizeof(text), "%d", left - 1);
    if (ftruncate(fd, 0) != 0) abort();
    if (!fails && pwrite(fd, text, strlen(text), 0) < 0) abort();
  }
  close(fd);
  if (fails) errno = EIO;
  return fails;
}

int Call(const char* name, int fd) {
  if (Fails()) return -1;
  return reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, name))(fd);
}

}  // namespace

extern "C" {
int fsync(int fd) { return Call("fsync", fd); }
int fdatasync(int fd) { return Call("fdatasync", fd); }
int syncfs(int fd) noexcept { return Call("syncfs", fd); }
}
