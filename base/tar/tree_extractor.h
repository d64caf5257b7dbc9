// Unpacks a tar archive (not compressed) into a directory: what `cp` receives.
//
// The archive and the tree below the directory are hostile: nothing is ever made outside the
// directory, whatever names and links say. Unlike a layer (snapshotter/layer_apply.h) nothing in it
// is a whiteout.
//
// Thread-compatible.
#ifndef GANTRY_BASE_TAR_TREE_EXTRACTOR_H_
#define GANTRY_BASE_TAR_TREE_EXTRACTOR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "base/id_map.h"
#include "base/tar/reader.h"

namespace gantry {

class CancelToken;

struct ExtractOptions {
  enum class Owner {
    kArchive,  // uid and gid as in the archive
    kRoot,     // 0 and 0
    kCaller,   // whatever files that this process makes get
  };
  Owner owner = Owner::kCaller;
  // The first component of names becomes this; "" leaves names as they are.
  std::string rename_root = {};
  // Directories on the way may be symlinks; these are followed with the target as their root.
  // Otherwise an entry behind a symlink is refused.
  bool follow_links = false;
  // A directory that would replace something else, or the other way round, is refused.
  bool no_overwrite_dir_non_dir = true;
  CancelToken* cancel = nullptr;  // checked between pieces; may be null
  int max_depth = 256;
  TarLimits limits = {};
  // The archive has the ids of a user namespace, the files get the host's of these. The caller's
  // thread has to make files as the namespace's root (base/user_namespace.h).
  IdMaps ids = {};
};

// Unpacks into an open directory (O_PATH will do) and reads `archive` to its end. Returns the
// number of entries. Runs of zeros become holes.
//   kInvalidArgument     malformed archive, or a name that climbs out
//   kDataLoss            the archive is cut short
//   kFailedPrecondition  an entry lies behind a symlink, or see no_overwrite_dir_non_dir
//   kResourceExhausted   a limit, or the disk is full
//   kOutOfRange          an owner that the user namespace does not have
absl::StatusOr<int64_t> ExtractTree(ByteSource& archive, int directory,
                                    const ExtractOptions& options);

}  // namespace gantry

#endif  // GANTRY_BASE_TAR_TREE_EXTRACTOR_H_
