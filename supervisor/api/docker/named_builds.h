// Builds under way by the ids that their clients gave them, for requests that are about them: one
// that cancels a build, and one that brings its context, as docker's command line 20.10 sends a tar
// from its standard input.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_NAMED_BUILDS_H_
#define GANTRY_SUPERVISOR_API_DOCKER_NAMED_BUILDS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry {
class ByteSource;
class CancelToken;
}  // namespace gantry

namespace gantry::api::docker {

class NamedBuilds {
 public:
  // How long the two requests of a build wait for each other.
  explicit NamedBuilds(absl::Duration patience = absl::Seconds(5)) : patience_(patience) {}

  // The token is that of the build, which outlives its Leave(). "" names none.
  void Enter(const std::string& id, CancelToken* token);
  void Leave(const std::string& id, CancelToken* token);
  // Does nothing where no such build is under way: it may have ended.
  void Cancel(const std::string& id);

  // Gives a context to the build of that id, and waits until the build has read it; returns how
  // that went. kNotFound: no build asks for it.
  absl::Status Upload(const std::string& id, ByteSource& body);
  // For the build: `read` gets the body. kNotFound: none comes.
  absl::Status ReadUpload(const std::string& id,
                          const std::function<absl::Status(ByteSource&)>& read);

 private:
  struct Meeting {
    ByteSource* body = nullptr;
    bool taken = false;
    bool over = false;
    absl::Status result;
  };

  const absl::Duration patience_;
  absl::Mutex mu_;
  std::multimap<std::string, CancelToken*> builds_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<Meeting>> uploads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_NAMED_BUILDS_H_
