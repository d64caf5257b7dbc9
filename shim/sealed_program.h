// Copies of OCI runtimes in sealed memory, to run them from.
//
// Runtimes protect themselves from the containers they enter: before anything else they copy or
// remount their own program and execute it a second time, unless they find that it is a sealed
// memfd already. A copy made once saves that second start in every call, and the program on disk
// cannot be reached through a container's /proc/self/exe at all. Processes forked from the owner
// share the copy.
//
// Thread-compatible. See memfd_create(2), fcntl(2) F_ADD_SEALS.
#ifndef GANTRY_SHIM_SEALED_PROGRAM_H_
#define GANTRY_SHIM_SEALED_PROGRAM_H_

#include <sys/stat.h>

#include <map>
#include <string>

#include "base/unique_fd.h"

namespace gantry::shim {

class SealedPrograms {
 public:
  // A descriptor of the copy of the program at `path`, owned by this object; made anew when the
  // file has changed since. -1 when it cannot be made (no such program, too large, a kernel
  // that does not execute such memory): run it from its path, which says why if it cannot be run.
  int Find(const std::string& path);

 private:
  struct Copy {
    struct stat original;
    UniqueFd fd;
  };
  std::map<std::string, Copy> copies_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SEALED_PROGRAM_H_
