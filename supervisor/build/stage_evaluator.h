// What the instructions of one stage mean: the configuration as it becomes, the history, the
// variables, and for RUN, COPY, ADD and WORKDIR what is to be done to the files, with everything
// expanded.
//
// Made with the configuration that the stage stands on; Next() once for each instruction, in order.
// Does nothing itself. Thread-compatible. Errors are kInvalidArgument with file and line.
// Spec: Dockerfile reference; OCI image-spec v1.1 "Image Configuration".
#ifndef GANTRY_SUPERVISOR_BUILD_STAGE_EVALUATOR_H_
#define GANTRY_SUPERVISOR_BUILD_STAGE_EVALUATOR_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

#include "supervisor/build/build_plan.h"
#include "supervisor/build/dockerfile_parser.h"
#include "supervisor/build/dockerfile_words.h"
#include "supervisor/build/run_mounts.h"
#include "supervisor/oci/image_config.h"

namespace gantry::build {

struct CopySource {
  enum class Kind { kPath, kHeredoc, kUrl, kGit };
  Kind kind = Kind::kPath;
  std::string path;     // below the root of what is copied from; a URL; a here-document's name
  std::string content;  // of kHeredoc
};

// A change of the stage's files.
struct LayerStep {
  enum class Kind { kRun, kCopy, kAdd, kWorkdir };
  Kind kind = Kind::kRun;
  int stage = 0;
  int line = 0;
  std::string shown;       // "RUN make", as progress shows it
  std::string created_by;  // of its history entry

  // RUN
  std::vector<std::string> arguments;
  std::vector<std::string> environment;        // "NAME=value", arguments of the build included
  std::map<std::string, std::string> proxies;  // also in the environment, not in the cache's key
  std::string script_name;  // a here-document that begins with "#!", at /dev/pipes/NAME
  std::string script;
  std::vector<RunMount> mounts;
  std::string network;   // default, none, host
  std::string security;  // sandbox, insecure
  std::vector<std::string> devices;

  // COPY, ADD
  std::vector<CopySource> sources;
  Source from;
  std::string destination;  // absolute; ends in "/" if it was written so
  std::string owner;        // USER[:GROUP], "" for 0:0
  std::string mode;         // octal or symbolic, "" for the source's
  bool link = false;
  bool parents = false;
  std::vector<std::string> excludes;
  std::string checksum;
  absl::optional<bool> unpack;
  bool keep_git_dir = false;

  // RUN, WORKDIR
  std::string user;
  std::string working_dir;
};

class StageEvaluator {
 public:
  // `base` is the configuration that the stage stands on; of another stage, `before` is its
  // evaluator at its end, whose ARGs are inherited. `plan` outlives this.
  StageEvaluator(const BuildPlan& plan, int stage, oci::ImageConfig base,
                 const StageEvaluator* before);

  // The base's triggers, which come before the stage's own instructions; they are taken out of the
  // configuration.
  absl::StatusOr<std::vector<Instruction>> TakeTriggers();

  // Carries the instruction into configuration and history. What is returned has to be done to the
  // files, then Done() adds it to the history.
  absl::StatusOr<absl::optional<LayerStep>> Next(const Instruction& instruction);
  // `layer`: the step made one.
  void Done(const LayerStep& step, bool layer);

  const oci::ImageConfig& config() const { return config_; }
  oci::ImageConfig& config() { return config_; }
  const std::vector<Lint>& lints() const { return lints_; }
  // Of --build-arg, those that an ARG has named so far.
  const std::set<std::string>& used_args() const { return used_args_; }

 private:
  absl::StatusOr<absl::optional<LayerStep>> Evaluate(const Instruction& instruction);
  absl::StatusOr<std::string> Expand(absl::string_view text) const;
  // Of the variables as they are; what they lack is kept in `unknown_`.
  Lookup Variables() const;
  void WarnOfUnknown(const Instruction& instruction);
  void Remember(std::string created_by);
  absl::Status Arg(const Instruction& instruction);
  absl::Status Environment(const Instruction& instruction);
  absl::Status Label(const Instruction& instruction);
  absl::Status Expose(const Instruction& instruction);
  absl::Status Volume(const Instruction& instruction);
  absl::Status Healthcheck(const Instruction& instruction);
  absl::Status Stopsignal(const Instruction& instruction);
  absl::StatusOr<absl::optional<LayerStep>> Workdir(const Instruction& instruction);
  absl::StatusOr<LayerStep> Run(const Instruction& instruction);
  absl::StatusOr<LayerStep> CopyOrAdd(const Instruction& instruction);
  std::vector<std::string> CommandLine(const Instruction& instruction) const;

  const BuildPlan& plan_;
  const int stage_;
  oci::ImageConfig config_;
  // Variables as instructions see them; `order_` is that of their first setting.
  std::map<std::string, std::string> scope_;
  std::vector<std::string> order_;
  // ARGs in the order of their lines, with the value they had there.
  std::vector<std::pair<std::string, absl::optional<std::string>>> args_;
  std::set<std::string> used_args_;
  bool cmd_set_ = false;
  std::vector<Lint> lints_;
  mutable std::set<std::string> unknown_;  // names that the instruction at hand has looked for
};

// "1m30s", as Go prints durations.
std::string DurationText(absl::Duration duration);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_STAGE_EVALUATOR_H_
