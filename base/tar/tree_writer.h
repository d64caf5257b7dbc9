// Writes a tree of files as a tar archive: what `cp` and `export` send.
//
// The tree may be hostile and change meanwhile: it is reached through open directories and plain
// names only, and no symlink is followed. Hard links within one archive stay hard links; sockets
// are left out. Extended attributes: security.capability and user.*, not overlayfs' own.
//
// Thread-compatible.
#ifndef GANTRY_BASE_TAR_TREE_WRITER_H_
#define GANTRY_BASE_TAR_TREE_WRITER_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "base/id_map.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"

namespace gantry {

class CancelToken;

struct TreeWriterOptions {
  CancelToken* cancel = nullptr;  // checked between pieces; may be null
  // Directories on other file systems are written as empty ones.
  bool one_file_system = false;
  int max_depth = 256;
  // The tree is seen with the host's ids of a user namespace; the archive gets the ids inside. Ids
  // that have none stay as they are.
  IdMaps ids = {};
};

class TreeWriter {
 public:
  // `tar` outlives the writer; the caller calls its Finish().
  explicit TreeWriter(TarWriter& tar, const TreeWriterOptions& options = {})
      : tar_(tar), options_(options) {}

  // `name` in an open directory, with what is in it, as `path` in the archive. `follow`: if it is a
  // symlink, what that leads to instead.
  //   kResourceExhausted  deeper than max_depth
  //   kAborted            a file was replaced by something else while it was read
  absl::Status Add(int directory, const std::string& name, const std::string& path,
                   bool follow = false);
  // What is in an open directory, below `path` ("" for names relative to it).
  absl::Status AddChildren(UniqueFd directory, const std::string& path);

 private:
  absl::Status AddAt(int directory, const std::string& name, const std::string& path, bool follow,
                     int depth);
  absl::Status AddChildrenAt(UniqueFd directory, const std::string& path, dev_t device, int depth);
  absl::Status AddFile(int directory, const std::string& name, bool follow, TarEntry entry);
  absl::Status AddDirectory(int directory, const std::string& name, bool follow, TarEntry entry,
                            const struct stat& info, int depth);

  TarWriter& tar_;
  const TreeWriterOptions options_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::vector<char> piece_;
};

}  // namespace gantry

#endif  // GANTRY_BASE_TAR_TREE_WRITER_H_
