// Builds an image from a Dockerfile: reads it, plans, and carries out the stages that the target
// needs, side by side where they do not wait for each other. The flow is docs/flows.md (e).
//
// What a step does to files is done through core (image_build.h): a RUN is a container like any
// other, COPY and ADD change a snapshot. A build that fails, is cancelled or whose daemon dies
// leaves nothing but the layers of its finished steps in the build cache.
//
// Values are messages of gantry.v1. Thread-safe; each build takes a thread of the caller's and one
// for each stage.
// Several platforms are built one after the other, each from a plan of its own; what they have in
// common comes from the cache. Inputs are build_inputs.h, results build_output.h, caches elsewhere
// build_caches.h.
//   kInvalidArgument    the Dockerfile or the request is wrong; the message has file and line
//   kFailedPrecondition a RUN is for a platform that this machine does not run (emulation.h)
//   kNotFound           no such target, base image, or source of COPY
//   kAborted            a command of a RUN ended with another status than 0
//   kCancelled          by the context
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_EXECUTOR_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_EXECUTOR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_log.h"
#include "supervisor/build/cache_mounts.h"
#include "supervisor/build/context_store.h"
#include "supervisor/build/trash.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_build.h"

namespace gantry::distribution {
class HttpClient;
}

namespace gantry::build {

class BuildExecutor {
 public:
  // Nothing is owned.
  struct Parts {
    core::ImageBuild* images;
    core::BuildCache* cache;
    std::string root_directory;      // <root>/builds/ holds contexts for the length of a build
    std::string state_directory;     // <state>/builds/ holds secrets and scripts, on a tmpfs
    std::string cache_directory;     // <root>/build-caches/ holds cache mounts
    distribution::HttpClient* http;  // for ADD of URLs and remote contexts
    std::string context_directory;   // <root>/build-contexts/ holds contexts between builds
    std::string init_path = {};      // gantry-init, which brings secret variables; "" for none
  };
  // Beside the state directory: sockets by which contexts come.
  std::string socket_directory() const { return parts_.state_directory + "-in"; }
  explicit BuildExecutor(const Parts& parts)
      : parts_(parts),
        trash_(parts.root_directory),
        caches_(parts.cache_directory),
        contexts_(parts.context_directory, trash_) {
    parts_.cache->Include(&caches_);
    parts_.cache->Include(&contexts_);
  }

  // At start: removes the files of builds that a daemon which died had under way.
  absl::Status Recover();

  // `client` is asked for files where `request` says that there are any; a request that has the
  // Dockerfile's text is parsed before that. Secrets and registries of the request are not looked
  // at. What `events` is given last is the image.
  absl::Status Build(const core::CallContext& call, const v1::BuildRequest::Open& request,
                     BuildClient& client, const BuildEventFn& events);
  // The same for a client that has said everything in its request: `context` is a tar, read to its
  // end where there is one.
  absl::Status Build(const core::CallContext& call, const v1::BuildRequest::Open& request,
                     ByteSource& context, const BuildEventFn& events);

 private:
  const Parts parts_;
  Trash trash_;
  CacheMounts caches_;
  ContextStore contexts_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_EXECUTOR_H_
