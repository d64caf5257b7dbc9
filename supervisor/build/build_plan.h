// The stages of a Dockerfile: what each stands on, which of them a target needs, and in what order.
//
// Only names are resolved here. Instructions are carried out by StageEvaluator (what they mean) and
// BuildExecutor (what they do), since triggers of ONBUILD are known only with the base image.
//
// Free functions on values, safe to call from any thread. kInvalidArgument: the Dockerfile or the
// options are wrong; kNotFound: no such target.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_PLAN_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_PLAN_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

#include "content-store/descriptor.h"
#include "supervisor/build/dockerfile_parser.h"

namespace gantry::build {

// What the source of a context that is an OCI layout begins with.
inline constexpr absl::string_view kOciLayout = "oci-layout://";

// Of --build-arg; no value: the variable is known and not set.
using BuildArgs = std::map<std::string, absl::optional<std::string>>;

// Where a stage or a COPY --from takes its files.
struct Source {
  enum class Kind { kContext, kScratch, kStage, kImage };
  Kind kind = Kind::kContext;
  int stage = -1;  // of kStage
  std::string
      image;  // of kImage: a reference as written, or "oci-layout://" and the name of a context;
              // of kContext: its name, "" for the main one

  friend bool operator==(const Source&, const Source&) = default;
};

struct Stage {
  int index = 0;
  std::string name;   // in lower case; "" for one without
  std::string shown;  // the name, or "stage-1"
  Source base;
  std::string platform;        // of FROM --platform, "" for the target's
  content::Platform made_for;  // what its files are for, and its commands run as
  std::string from;            // the instruction as progress shows it
  int line = 0;
  std::vector<Instruction> instructions;
};

struct PlanOptions {
  BuildArgs args;
  std::string target;  // name or number; "" for the last stage
  // Contexts beside the main one, by their names in lower case: "docker-image://REF",
  // "oci-layout://...", else files.
  // They take the place of images and stages of that name.
  std::map<std::string, std::string> contexts;
  content::Platform build_platform;
  content::Platform target_platform;
};

struct BuildPlan {
  std::string file;
  char escape = '\\';
  std::vector<Stage> stages;
  int target = 0;
  // Stages that the target needs, each after those that it needs itself; the target is last.
  std::vector<int> order;
  std::map<std::string, std::string> globals;  // global ARGs with their values
  BuildArgs args;
  std::map<std::string, std::string> contexts;  // as in the options
  content::Platform target_platform;
  std::vector<Lint> lints;
};

absl::StatusOr<BuildPlan> PlanBuild(Dockerfile dockerfile, const PlanOptions& options);

// What `from` means in a stage. `expected` says what it is for in messages: "copy" or "mount".
absl::StatusOr<Source> ResolveFrom(const BuildPlan& plan, int stage, const std::string& from);

// The stages that an instruction reads from.
absl::StatusOr<std::vector<int>> StagesReadBy(const BuildPlan& plan, int stage,
                                              const Instruction& instruction);

// "linux/arm64/v8"
std::string PlatformText(const content::Platform& platform);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_PLAN_H_
