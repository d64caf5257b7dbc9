#include "base/standard_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace gantry {

namespace {

// Libraries make descriptors while their static objects are constructed, which is before main().
// The lowest priority that programs may use runs first.
[[gnu::constructor(101)]] void BeforeStaticObjects() { OpenStandardFds(); }

}  // namespace

// Neither Abseil nor C++ streams: gantry-init is linked with this.
bool OpenStandardFds() {
  for (int wanted = STDIN_FILENO; wanted <= STDERR_FILENO; ++wanted) {
    if (fcntl(wanted, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is `wanted`, because those below it are open.
    int fd = open("/dev/null", O_RDWR);
    if (fd < 0) fd = open("/", O_PATH);
    if (fd != wanted) {
      if (fd >= 0) close(fd);
      return false;
    }
  }
  return true;
}

}  // namespace gantry
