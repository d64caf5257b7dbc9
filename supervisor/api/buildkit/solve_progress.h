// What a build says, as BuildKit's clients are told it: a vertex for each step, statuses of what
// goes on in it, its output, and warnings.
//
// Steps that change the configuration only are no vertexes. Thread-compatible. Pure.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_PROGRESS_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_PROGRESS_H_

#include <map>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/buildkit/control.pb.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::api::buildkit {

class SolveProgress {
 public:
  using Status = moby::buildkit::v1::StatusResponse;

  // `ref` names the build; vertexes of different builds have different digests. `file` and `text`
  // are the Dockerfile's, for warnings.
  SolveProgress(std::string ref, std::string file) : ref_(std::move(ref)), file_(std::move(file)) {}
  void SetDockerfile(std::string text) { text_ = std::move(text); }

  // Empty when there is nothing to tell. `now` is the time of output and of what goes on.
  Status Add(const v1::BuildResponse& event, absl::Time now);
  // A remark on the build as a whole.
  Status Note(absl::string_view text);

 private:
  struct Step {
    v1::BuildStep last;
    // Of what goes on in it, by its name; what has ended is not in here.
    std::map<std::string, moby::buildkit::v1::VertexStatus> open;
  };
  std::string DigestOf(absl::string_view what) const;
  void AddVertex(const v1::BuildStep& step, Status& out) const;
  void AddExported(const v1::BuiltImage& built, Status& out);

  const std::string ref_;
  const std::string file_;
  std::string text_;
  std::map<int, Step> steps_;
  int definition_ = 0;  // the step that reads the Dockerfile: warnings belong to it
  v1::BuildStep held_;  // the end of the step that makes the image, until it is known what was made
};

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_PROGRESS_H_
