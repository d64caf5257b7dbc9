// A build's context: the files of a directory less what its .dockerignore leaves out, as a listing,
// and the contents of those that the daemon lacks.
//
// List() -> SendEntries() -> the daemon wants some -> SendContents()
//
// Thread-compatible.
#ifndef GANTRY_CTL_COMMANDS_CONTEXT_FILES_H_
#define GANTRY_CTL_COMMANDS_CONTEXT_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/engine/ignore_file.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

// Of `<dockerfile>.dockerignore` if that is there, else of `.dockerignore` in the directory; no
// rules if there is neither. kInvalidArgument: it does not parse.
absl::StatusOr<engine::IgnoreRules> ContextRules(const std::string& directory,
                                                 const std::string& dockerfile);

class ContextFiles {
 public:
  // False: the call is over.
  using Write = std::function<bool(const v1::BuildRequest&)>;

  // `dockerfile` is a path in the directory that is sent whatever the rules say; "" for none.
  // Sorted; a directory comes before what is in it. Sockets are left out.
  static absl::StatusOr<ContextFiles> List(const std::string& directory,
                                           const engine::IgnoreRules& rules,
                                           const std::string& dockerfile);

  const std::vector<v1::ContextEntry>& entries() const { return entries_; }

  // As context number `context` of the build. kCancelled: the call is over.
  absl::Status SendEntries(uint32_t context, const Write& write) const;
  // The contents of these entries. A file that was removed meanwhile is sent as missing.
  absl::Status SendContents(uint32_t context, const std::vector<uint32_t>& wanted,
                            const Write& write) const;

 private:
  ContextFiles() = default;

  std::string directory_;
  UniqueFd root_;
  std::vector<v1::ContextEntry> entries_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_CONTEXT_FILES_H_
