// What a build is made from: its Dockerfile, its context, and the contexts beside it.
//
// Contexts of the client come in the order of their numbers: 0 is the main one, then those that the
// request names, then the local caches of cache_from. Used by BuildExecutor only.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_INPUTS_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_INPUTS_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/cancel_token.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_context.h"
#include "supervisor/build/build_log.h"
#include "supervisor/build/dockerfile_parser.h"
#include "supervisor/build/remote_files.h"
#include "supervisor/core/blob_origin.h"

namespace gantry::build {

// An OCI layout of the client, and its files where these were sent.
struct ClientLayout {
  std::unique_ptr<BuildContext> files;
  std::unique_ptr<core::BlobOrigin> origin;
};

struct BuildInputs {
  std::unique_ptr<BuildContext> context;
  // Beside the main one, by name in lower case.
  std::map<std::string, std::unique_ptr<BuildContext>> contexts;
  std::map<std::string, ClientLayout> layouts;
  std::string dockerfile_text;  // where it is not in the context
};

// What inputs are taken with. Nothing is owned.
struct InputParts {
  const v1::BuildRequest::Open* request;
  BuildClient* client;
  BuildContext::Places places;
  std::string directory;  // of this build; other contexts lie below it
  RemoteFiles* remote;
  CancelToken* cancel;
  BuildLog* log;
};

absl::StatusOr<BuildInputs> TakeInputs(const InputParts& parts);
// The client's layout of that number: its files, else what the client serves. `tag` and `digest`
// say what in it is meant.
absl::StatusOr<ClientLayout> TakeLayout(const InputParts& parts, int index, const std::string& name,
                                        const std::string& tag, const std::string& digest);

// `inputs` is null before they were taken: the text is in the request. `text` becomes what was
// read.
absl::StatusOr<Dockerfile> LoadDockerfile(const v1::BuildRequest::Open& request,
                                          const BuildInputs* inputs, BuildLog& log,
                                          std::string& text);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_INPUTS_H_
