// What is done with a volume as a whole: its content out of and into an archive, a copy of it, and
// another name for it.
//
// Volumes are kept from removal meanwhile. Containers that run with one may go on writing: a copy
// has each file as it was when it was read. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_VOLUME_CONTENT_H_
#define GANTRY_SUPERVISOR_CORE_VOLUME_CONTENT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/core/call_context.h"

namespace gantry::volume {
class LocalDriver;
}

namespace gantry::core {

class RunVolumes;
class VolumeService;

// Labels of a snapshot: of which volume.
inline constexpr char kSnapshotOfLabel[] = "gantry.snapshot.of";

class VolumeContent {
 public:
  // Nothing is owned.
  struct Parts {
    VolumeService* volumes;
    RunVolumes* runs;  // mounts volumes with options
    const volume::LocalDriver* local;
  };
  explicit VolumeContent(const Parts& parts) : parts_(parts) {}

  // A tar archive of what is in the volume; names are relative to it. kNotFound.
  absl::Status Export(const CallContext& context, const std::string& name, ByteSink& out);

  // Unpacks a tar archive (plain, gzip, zstd, xz or bzip2) into the volume. An empty volume gets
  // all of it or nothing; in one that is not, what was unpacked before a failure stays.
  //   kNotFound         no such volume
  //   kInvalidArgument  the archive is malformed
  absl::Status Import(const CallContext& context, const std::string& name, ByteSource& archive);

  // A new volume with the content of another one, or nothing.
  //   kAlreadyExists  the new name
  absl::StatusOr<v1::CloneVolumeResponse> Clone(const CallContext& context,
                                                const v1::CloneVolumeRequest& request);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_VOLUME_CONTENT_H_
