// What a Dockerfile says, without a build: docker's --check and --call.
//
// Free functions on values, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_BUILD_DOCKERFILE_REPORT_H_
#define GANTRY_SUPERVISOR_BUILD_DOCKERFILE_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/build/build_plan.h"
#include "supervisor/build/dockerfile_parser.h"

namespace gantry::build {

// In the forms that BuildKit's clients know.
struct DockerfileReport {
  std::string json;
  std::string text;
  bool failed = false;  // of "check": there is a warning
};

// `call` is one of
//   check     what is most likely not meant so: `lints`
//   outline   arguments, secrets and SSH agents of the target
//   targets   the stages that can be built
//   describe  these calls
// `text` is the Dockerfile, `file` what was read from it. kInvalidArgument: there is no such call.
absl::StatusOr<DockerfileReport> DescribeDockerfile(absl::string_view call, absl::string_view text,
                                                    const Dockerfile& file, const BuildPlan& plan,
                                                    const std::vector<Lint>& lints);

// What the stages of the plan warn of whose base is known without an image.
std::vector<Lint> LintStages(const BuildPlan& plan);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_DOCKERFILE_REPORT_H_
