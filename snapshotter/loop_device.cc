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

}  // namespace

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
    // Shown by losetup; longer names are cut.
    memcpy(config.info.lo_file_name, file.data(), std::min<size_t>(file.size(), LO_NAME_SIZE - 1));
    if (ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) return device;
    // Between the two calls another program took it.
    if (errno != EBUSY) {
      return ErrnoToStatus(errno, absl::StrCat("attach ", file, " to ", device.path));
    }
  }
  return absl::UnavailableError(absl::StrCat("loop device for ", file, ": none stays free"));
}

}  // namespace gantry::snapshot
