#include "shim/sealed_program.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace gantry::shim {
namespace {

constexpr off_t kMaxProgramBytes = 64 << 20;
// Exactly these: runtimes compare for equality.
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
#ifndef MFD_EXEC
constexpr unsigned MFD_EXEC = 0x10;
#endif

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec &&
         a.st_ctim.tv_sec == b.st_ctim.tv_sec && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

UniqueFd NewMemory() {
  UniqueFd memory(memfd_create("runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  // Kernels before 6.3 do not know MFD_EXEC and need none.
  if (!memory.valid() && errno == EINVAL) {
    memory = UniqueFd(memfd_create("runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  return memory;
}

UniqueFd CopyOf(int original, off_t size) {
  const UniqueFd memory = NewMemory();
  if (!memory.valid()) return UniqueFd();
  for (off_t copied = 0; copied < size;) {
    const ssize_t n = sendfile(memory.get(), original, nullptr, static_cast<size_t>(size - copied));
    if (n <= 0) return UniqueFd();
    copied += n;
  }
  if (fchmod(memory.get(), 0500) != 0 || fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) {
    return UniqueFd();
  }
  // A file open for writing cannot be executed, sealed or not.
  return UniqueFd(
      open(("/proc/self/fd/" + std::to_string(memory.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

int SealedPrograms::Find(const std::string& path) {
  const UniqueFd original(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!original.valid() || fstat(original.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      info.st_size > kMaxProgramBytes || faccessat(AT_FDCWD, path.c_str(), X_OK, 0) != 0) {
    copies_.erase(path);
    return -1;
  }
  const auto known = copies_.find(path);
  if (known != copies_.end() && SameFile(known->second.original, info)) {
    return known->second.fd.get();
  }
  Copy copy{info, CopyOf(original.get(), info.st_size)};
  return copies_.insert_or_assign(path, std::move(copy)).first->second.fd.get();
}

}  // namespace gantry::shim
