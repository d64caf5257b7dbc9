// The files that a client sends to build from, as a tree on disk.
//
// The tree lies in a directory of its own, which is removed with the object; nothing changes in it
// after Receive(). Everything belongs to root, whatever the client says: what a context's files are
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

#include "base/unique_fd.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

class BuildClient;

class BuildContext {
 public:
  // `directory` is made and belongs to the object. `progress` gets the bytes received so far.
  // Errors are those of BuildClient::Files().
  static absl::StatusOr<std::unique_ptr<BuildContext>> Receive(
      BuildClient& client, const std::string& directory, CancelToken* cancel,
      const std::function<void(int64_t)>& progress);
  static absl::StatusOr<std::unique_ptr<BuildContext>> Empty(const std::string& directory);
  ~BuildContext();
  BuildContext(const BuildContext&) = delete;
  BuildContext& operator=(const BuildContext&) = delete;

  int root() const { return root_.get(); }
  const std::string& directory() const { return directory_; }

  // A file of the context, by a path in it. kNotFound.
  absl::StatusOr<std::string> ReadFile(const std::string& path) const;
  // Takes the Dockerfile and the ignore file away where the ignore file names them: they were sent
  // for the build only.
  absl::Status DropIgnored(const std::string& dockerfile);

 private:
  BuildContext(std::string directory, UniqueFd root)
      : directory_(std::move(directory)), root_(std::move(root)) {}

  const std::string directory_;
  const UniqueFd root_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_CONTEXT_H_
