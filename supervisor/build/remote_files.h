// What a build fetches from elsewhere: files by http and https, and git repositories.
//
// Everything lies below one directory of the build, and is fetched once for each address. Git runs
// as a child process without the configuration, hooks, helpers and protocols that a repository or
// the machine's user could bring. A redirect does not lead to an address nearer than the server that
// it comes from.
//
// Thread-safe. kNotFound: the server has no such file or ref; kUnavailable: it cannot be reached or
// answers with an error; kFailedPrecondition: a checksum differs, or there is no git program;
// kCancelled: by the token.
#ifndef GANTRY_SUPERVISOR_BUILD_REMOTE_FILES_H_
#define GANTRY_SUPERVISOR_BUILD_REMOTE_FILES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/build/git_source.h"

namespace gantry {
class CancelToken;
}
namespace gantry::distribution {
class HttpClient;
}

namespace gantry::build {

// The name that a file of this address gets: its last part, "__unnamed__" if there is none.
std::string NameOfUrl(absl::string_view url);

class RemoteFiles {
 public:
  using ProgressFn = std::function<void(int64_t received, int64_t total)>;

  // `http` outlives this; `directory` is made when it is needed and removed by the caller.
  RemoteFiles(distribution::HttpClient* http, std::string directory)
      : http_(http), directory_(std::move(directory)) {}

  // One regular file, mode 0600, with the time of its Last-Modified, else 1970.
  struct File {
    std::string directory;  // holds nothing but the file
    std::string name;
    std::string digest;  // "sha256:..."
  };
  absl::StatusOr<File> Get(const std::string& url, CancelToken* cancel, const ProgressFn& progress)
      ABSL_LOCKS_EXCLUDED(mu_);

  // The files of a commit. Their times are that of the commit.
  struct Tree {
    std::string directory;  // of GitSource::directory
    std::string commit;
  };
  absl::StatusOr<Tree> Clone(const GitSource& source, CancelToken* cancel) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  template <class T>
  struct Fetched {
    absl::Mutex mu;
    bool done ABSL_GUARDED_BY(mu) = false;
    absl::StatusOr<T> result ABSL_GUARDED_BY(mu) = absl::UnknownError("");
  };
  absl::StatusOr<File> Download(const std::string& url, const std::string& directory,
                                CancelToken* cancel, const ProgressFn& progress);
  absl::StatusOr<Tree> Checkout(const GitSource& source, const std::string& directory,
                                CancelToken* cancel);
  std::string NewDirectory() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  distribution::HttpClient* const http_;
  const std::string directory_;
  absl::Mutex mu_;
  int made_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::unique_ptr<Fetched<File>>> files_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::unique_ptr<Fetched<Tree>>> trees_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_REMOTE_FILES_H_
