// The files that a client sends to build from, as a tree on disk.
//
// The tree lies in a directory of its own, which is removed in the background after the object, or
// it is one that is kept for the next build (context_store.h); nothing changes in it after
// Receive(). Everything belongs to root, whatever the client says: what a context's files are
// does not depend on who sends them. How they come is the client's matter (build_client.h).
//
// Thread-safe after Receive().
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_CONTEXT_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "supervisor/build/context_store.h"
#include "supervisor/build/trash.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

class BuildClient;

class BuildContext {
 public:
  // Where trees may lie. Outlives the contexts.
  struct Places {
    std::string directory;  // made for a tree that is not kept
    ContextStore* kept = nullptr;
    Trash* trash = nullptr;
  };
  // Context `index` of the client. `progress` gets the bytes received so far. Errors are those of
  // BuildClient::Files() and Update().
  static absl::StatusOr<std::unique_ptr<BuildContext>> Receive(
      BuildClient& client, int index, const Places& places, CancelToken* cancel,
      const std::function<void(int64_t)>& progress);
  static absl::StatusOr<std::unique_ptr<BuildContext>> Empty(const Places& places);
  // The files of a directory that somebody else removes.
  static absl::StatusOr<std::unique_ptr<BuildContext>> Of(const std::string& directory);
  ~BuildContext();
  BuildContext(const BuildContext&) = delete;
  BuildContext& operator=(const BuildContext&) = delete;

  int root() const { return kept_ != nullptr ? kept_->root() : root_.get(); }
  const std::string& directory() const { return kept_ != nullptr ? kept_->path() : directory_; }
  // The digest of a file's content as it was received, by its path, "/a/b"; "" if it is not known.
  const std::string& DigestOf(absl::string_view path) const;

  // A file of the context, by a path in it. kNotFound.
  absl::StatusOr<std::string> ReadFile(const std::string& path) const;
  // Takes the Dockerfile and the ignore file away where the ignore file names them: they were sent
  // for the build only.
  absl::Status DropIgnored(const std::string& dockerfile);

 private:
  BuildContext() = default;

  std::string directory_;
  UniqueFd root_;
  Trash* trash_ = nullptr;  // null: the directory is not this object's
  std::unique_ptr<ContextTree> kept_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_CONTEXT_H_
