// Files of a container: looking at a path, copying out and in, exporting all, committing to an
// image.
//
// Thread-safe. kNotFound: no such container or path; kInvalidArgument: ambiguous prefix, bad
// request; kFailedPrecondition: its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_FILES_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_FILES_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/mount_points.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::v1 {
class CommitRequest;
class CommitResponse;
class CopyFromRequest;
class CopyToRequest_Open;
class PathStat;
class StatPathRequest;
}  // namespace gantry::v1

namespace gantry::core {

class ContainerFiles {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    TaskService* tasks;
    ImageCatalog* images;
    const MountPoints* mount_points;
    std::string state_directory;  // <state>/mounts/ holds mounts for the length of a call
  };
  explicit ContainerFiles(const Parts& parts) : parts_(parts) {}

  absl::StatusOr<v1::PathStat> StatPath(const CallContext& context,
                                        const v1::StatPathRequest& request);
  // Sends `begin` the path's stat, then a tar of it into `out`.
  absl::Status CopyFrom(const CallContext& context, const v1::CopyFromRequest& request,
                        const std::function<absl::Status(const v1::PathStat&)>& begin,
                        ByteSink& out);
  absl::Status CopyTo(const CallContext& context, const v1::CopyToRequest_Open& open,
                      ByteSource& tar);
  absl::Status Export(const CallContext& context, const std::string& container, ByteSink& out);
  absl::StatusOr<v1::CommitResponse> Commit(const CallContext& context,
                                            const v1::CommitRequest& request);

  enum class View {
    kWithMounts,  // as the container sees its files, bind mounts included; it may or may not run
    kRootOnly,    // what is mounted does not matter: a container that does not run is seen without
  };
  // Runs `use` on the root of the container's file system, on a thread that has it as its own root.
  // `writable`: what was written is on disk when this returns.
  absl::Status WithRootfs(const CallContext& context, const LoadedContainer& loaded, bool writable,
                          View view, const std::function<absl::Status(int root_fd)>& use);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_FILES_H_
