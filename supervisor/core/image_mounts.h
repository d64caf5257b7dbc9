// Images, or directories in them, shown in containers read-only.
//
// The layers of the image are mounted as they are, so that nothing is copied. They stay as long as
// the container's record, which refers to them by labels.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_MOUNTS_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_MOUNTS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/stores.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

class ImageCatalog;
class ImageUnpack;

class ImageMounts {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    ImageCatalog* images;
    ImageUnpack* unpack;
  };
  explicit ImageMounts(const Parts& parts) : parts_(parts) {}

  struct Shown {
    oci::MountConfig mount;  // without destination and options
    std::string image_id;
  };
  // `path` is a directory below the image's root, "" for the root. Adds to `labels` what the
  // container's record has to refer to; until then the lease of `context` keeps it.
  //   kNotFound         no such image
  //   kInvalidArgument  the path leads out of the image, or is no directory of it
  absl::StatusOr<Shown> Show(const CallContext& context, absl::string_view image,
                             absl::string_view path,
                             std::map<std::string, std::string>& labels) const;

  // Adds the image mounts of `config` to those of a new container, notes in `config` what they
  // show, and puts all mounts in the order of their depth, so that none hides another.
  //   kInvalidArgument, field "mount"  as Show(), or a mount that is not read-only
  absl::Status AddTo(const CallContext& context, v1::ContainerConfig& config,
                     std::vector<oci::MountConfig>& mounts,
                     std::map<std::string, std::string>& labels) const;

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_MOUNTS_H_
