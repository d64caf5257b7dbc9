// A library that leaves a mark in whatever loads it: see hostile.cc.
#include <fcntl.h>
#include <unistd.h>

namespace {

__attribute__((constructor)) void Mark() {
  const int fd = open("/pwned", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  if (fd >= 0) close(fd);
}

}  // namespace
