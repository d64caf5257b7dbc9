// A file descriptor with one owner.
//
// Thread-compatible.

#ifndef GANTRY_BASE_UNIQUE_FD_H_
#define GANTRY_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace gantry {

class UniqueFd {
 public:
  UniqueFd() = default;
  // Takes over `fd`; any negative number means none.
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  // Closes what is held. An error of close() is not reported: who must know calls fsync() before.
  void reset(int fd = -1) {
    int old = std::exchange(fd_, fd);
    if (old >= 0 && old != fd) ::close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace gantry

#endif  // GANTRY_BASE_UNIQUE_FD_H_
