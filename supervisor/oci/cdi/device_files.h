// The devices that the CDI files of some directories describe.
//
// Files are read anew for each call: a driver's package or an operator writes them at any time, and
// a container gets what they say at its start. Of two directories that describe a device the later
// one counts; of two files of one directory neither, because nobody could tell which was meant. A
// file that cannot be read or makes no sense is left out, and named when a device is not found.
//
// Regular files named *.json, *.yaml or *.yml are read, up to kMaxFileBytes each and kMaxFiles of a
// directory. Immutable, thread-safe.
#ifndef GANTRY_SUPERVISOR_OCI_CDI_DEVICE_FILES_H_
#define GANTRY_SUPERVISOR_OCI_CDI_DEVICE_FILES_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "supervisor/oci/cdi/cdi_file.h"

namespace gantry::oci::cdi {

inline constexpr size_t kMaxFileBytes = 1 << 20;
inline constexpr size_t kMaxFiles = 256;

class DeviceFiles {
 public:
  // Those that do not exist have no devices.
  explicit DeviceFiles(std::vector<std::string> directories)
      : directories_(std::move(directories)) {}

  struct Listing {
    std::vector<std::string> devices;   // whole names, sorted
    std::vector<std::string> problems;  // a file each
  };
  Listing List() const;

  // What the named devices ask for, in the order of `names`: each device once, and what a file asks
  // for with each of its devices once, before them.
  //   kInvalidArgument     a name that has not the form of one
  //   kNotFound            a device that no file describes
  //   kFailedPrecondition  one that two files of a directory describe
  absl::StatusOr<ContainerEdits> Resolve(const std::vector<std::string>& names) const;

  const std::vector<std::string>& directories() const { return directories_; }

 private:
  struct Found;
  Found Read() const;

  const std::vector<std::string> directories_;
};

}  // namespace gantry::oci::cdi

#endif  // GANTRY_SUPERVISOR_OCI_CDI_DEVICE_FILES_H_
