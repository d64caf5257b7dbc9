// Build checks: what works in a Dockerfile and is most likely not meant so. Rules and texts are
// docker's.
//
// LintDockerfile() finds what the text alone shows. The parser, PlanBuild() and StageEvaluator add
// what they come across, since some rules need values of variables or the base image. LintRules
// says which of all these are reported, and whether they end the build.
//
//   # check=skip=StageNameCasing,UndefinedVar;error=true     directive of the whole file
//   # check=skip=all                                         comment above one instruction
//
// Values and free functions, safe to call from any thread.
// Spec: docker's "Build checks" reference.
#ifndef GANTRY_SUPERVISOR_BUILD_DOCKERFILE_LINT_H_
#define GANTRY_SUPERVISOR_BUILD_DOCKERFILE_LINT_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/ignore_file.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/build/dockerfile_parser.h"

namespace gantry::build {

// The argument of a build that takes the place of the directive.
inline constexpr char kCheckArgument[] = "BUILDKIT_DOCKERFILE_CHECK";

class LintRules {
 public:
  // All but the experimental ones.
  LintRules() = default;
  // kInvalidArgument: an option of the directive or the argument is not known.
  static absl::StatusOr<LintRules> Of(const Dockerfile& file, const BuildArgs& args);

  bool Reports(const Lint& lint) const;
  // Lints that are reported end the build.
  bool fails() const { return everywhere_.error; }

 private:
  struct Options {
    bool skips_all = false;
    std::vector<std::string> skips;
    bool experiments_all = false;
    std::vector<std::string> experiments;
    bool error = false;
  };
  static absl::Status Read(absl::string_view text, Options& options);

  Options everywhere_;
  std::map<int, Options> at_lines_;  // by the line of the instruction
};

// `ignored` are the rules of the context's ignore file.
std::vector<Lint> LintDockerfile(const Dockerfile& file, const engine::IgnoreRules& ignored);

// What a build ends with whose lints are errors. Ok if there are none.
absl::Status LintFailure(const std::vector<Lint>& reported);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_DOCKERFILE_LINT_H_
