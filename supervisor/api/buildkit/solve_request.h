// What a BuildKit client asks for, as a build of ours: the options of the Dockerfile frontend, and
// where the results go.
//
// Free functions on values, safe to call from any thread.
//   kInvalidArgument  an option that is malformed
//   kUnimplemented    a frontend, an option or a destination that is not served
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_REQUEST_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_REQUEST_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/gantry/v1/builds.pb.h"

namespace gantry::api::buildkit {

using Attributes = std::map<std::string, std::string>;

// A store of blobs that a client serves.
struct SolveStore {
  std::string id;
  std::string digest;  // of the manifest or index that is meant

  friend bool operator==(const SolveStore&, const SolveStore&) = default;
};

// Where the client has the files to build from.
struct SolveSources {
  std::string filename = "Dockerfile";    // in the directory below
  std::string dockerfile = "dockerfile";  // as the client knows the directory
  std::string context = "context";        // the same; "" when it is uploaded
  std::string upload;                     // path of an upload with the context
  std::string dockerfile_session;         // ids; "" for the build's own
  std::string context_session;
  // Of the request's contexts, by number from 1: directories of the client, and OCI layouts.
  std::map<int, std::string> directories;
  std::map<int, SolveStore> layouts;
  std::vector<SolveStore> caches;         // of its cache_from, empty for those in registries
  std::vector<std::string> cache_stores;  // of its cache_to: ids of the client's stores

  friend bool operator==(const SolveSources&, const SolveSources&) = default;
};

struct Solve {
  v1::BuildRequest::Open request;
  SolveSources sources;
  std::vector<std::string> notes;  // to be said once, when the build begins
  // As they were asked for.
  std::string frontend;
  Attributes attributes;
};

// `frontend` is "dockerfile.v0", or "gateway.v0" with a Dockerfile frontend's image as "source".
absl::StatusOr<Solve> ReadFrontend(const std::string& frontend, const Attributes& attributes,
                                   const std::vector<std::string>& entitlements);

// One place where a result goes.
struct Destination {
  enum class Kind {
    kImage,   // the image store
    kDocker,  // a docker archive, sent to the client
    kOci,     // the same as an OCI layout
    kTar,     // the files as a tar
    kLocal,   // the files, in a directory of the client
  };
  Kind kind = Kind::kImage;
  v1::BuildOutput output;  // its names are in it
};
absl::StatusOr<Destination> ReadExporter(const std::string& type, const Attributes& attributes);

// Where a cache is read or written, added to `solve`. Kinds that are not served are noted and
// passed over when they are read, and refused when they are to be written.
absl::Status AddCacheImport(const std::string& type, const Attributes& attributes, Solve& solve);
absl::Status AddCacheExport(const std::string& type, const Attributes& attributes, Solve& solve);
// "attest:provenance" and "attest:sbom".
absl::Status AddAttestation(const std::string& kind, const std::string& value,
                            v1::BuildRequest::Open& open);

// The patterns of an ignore file as its client matches them: without comments, cleaned.
std::vector<std::string> IgnorePatterns(absl::string_view text);

// "FILE:LINE: REST" of a build's failure in its Dockerfile; line 0: no such place in it.
struct Place {
  int line = 0;
  std::string message;  // without the place
};
Place PlaceOf(const std::string& file, absl::string_view message);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_REQUEST_H_
