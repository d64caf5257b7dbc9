#include "snapshotter/loop_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"

namespace gantry::snapshot {
namespace {

constexpr int kMaxTries = 64;
constexpr unsigned kLoopMajor = 7;

// Where no device manager makes the node, as in a container, it is made here.
UniqueFd OpenDevice(const std::string& path, int number, int flags) {
  UniqueFd device(open(path.c_str(), flags | O_CLOEXEC));
  if (device.valid() || errno != ENOENT) return device;
  if (mknod(path.c_str(), S_IFBLK | 0660, makedev(kLoopMajor, static_cast<unsigned>(number))) !=
          0 &&
      errno != EEXIST) {
    return UniqueFd();
  }
  return UniqueFd(open(path.c_str(), flags | O_CLOEXEC));
}

// As it is stored in the device: longer names are cut.
std::string StoredName(const std::string& file) {
  return file.substr(0, std::min<size_t>(file.size(), LO_NAME_SIZE - 1));
}

}  // namespace

absl::Status KeepLoopDevice(const LoopDevice& device) {
  struct loop_info64 info = {};
  if (ioctl(device.fd.get(), LOOP_GET_STATUS64, &info) == 0) {
    info.lo_flags &= ~static_cast<uint32_t>(LO_FLAGS_AUTOCLEAR);
    if (ioctl(device.fd.get(), LOOP_SET_STATUS64, &info) == 0) return absl::OkStatus();
  }
  return ErrnoToStatus(errno, absl::StrCat("keep ", device.path));
}

absl::Status DetachLoopDevice(const std::string& path, const std::string& file) {
  const UniqueFd device(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!device.valid()) {
    return errno == ENOENT || errno == ENXIO ? absl::OkStatus()
                                             : ErrnoToStatus(errno, absl::StrCat("open ", path));
  }
  struct loop_info64 info = {};
  if (ioctl(device.get(), LOOP_GET_STATUS64, &info) != 0) {
    return errno == ENXIO ? absl::OkStatus() : ErrnoToStatus(errno, absl::StrCat("look at ", path));
  }
  const char* name = reinterpret_cast<const char*>(info.lo_file_name);
  if (StoredName(file) != std::string(name, strnlen(name, LO_NAME_SIZE))) return absl::OkStatus();
  // While it is in use the kernel notes it and does so at the last close.
  if (ioctl(device.get(), LOOP_CLR_FD) == 0 || errno == ENXIO) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("detach ", path));
}

absl::StatusOr<LoopDevice> AttachLoopDevice(const std::string& file, bool read_only) {
  const int flags = read_only ? O_RDONLY : O_RDWR;
  const UniqueFd backing(open(file.c_str(), flags | O_CLOEXEC));
  if (!backing.valid()) return ErrnoToStatus(errno, absl::StrCat("loop device: open ", file));
  const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) return ErrnoToStatus(errno, "loop device: open /dev/loop-control");
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return ErrnoToStatus(errno, "loop device: find a free one");
    LoopDevice device;
    device.path = absl::StrCat("/dev/loop", number);
    device.fd = OpenDevice(device.path, number, flags);
    if (!device.fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", device.path));
    struct loop_config config = {};
    config.fd = static_cast<uint32_t>(backing.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    // Shown by losetup.
    const std::string name = StoredName(file);
    memcpy(config.info.lo_file_name, name.data(), name.size());
    if (ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) return device;
    // Between the two calls another program took it.
    if (errno != EBUSY) {
      return ErrnoToStatus(errno, absl::StrCat("attach ", file, " to ", device.path));
    }
  }
  return absl::UnavailableError(absl::StrCat("loop device for ", file, ": none stays free"));
}

}  // namespace gantry::snapshot
