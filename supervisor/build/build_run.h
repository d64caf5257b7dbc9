// One build under way: what its stages share. Used by BuildExecutor only.
//
// Thread-safe between Start() and the end of the stages, of which each has a thread.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_RUN_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_RUN_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

#include "base/cancel_token.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/build/attestation.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_context.h"
#include "supervisor/build/build_inputs.h"
#include "supervisor/build/build_log.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/build/cache_mounts.h"
#include "supervisor/build/dockerfile_lint.h"
#include "supervisor/build/emulation.h"
#include "supervisor/build/file_copy.h"
#include "supervisor/build/remote_files.h"
#include "supervisor/build/stage_evaluator.h"
#include "supervisor/build/step_mounts.h"
#include "supervisor/build/tree_digest.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/core/build_cache_import.h"
#include "supervisor/core/image_build.h"

namespace gantry::build {

// A step that made a layer, or was found in a cache.
struct DoneStep {
  std::string key;  // of its result
  core::BuildRoot after;
  absl::Time made_at;
};

// A stage at its end.
struct BuiltStage {
  core::BuildRoot root;
  std::unique_ptr<StageEvaluator> evaluator;
  size_t base_layers = 0;       // of the image that it stands on in the end
  std::vector<DoneStep> steps;  // in order, with those of the stages that it stands on
};

// Warns of those that are to be reported. kInvalidArgument: they end the build.
absl::Status ReportLints(const std::vector<Lint>& lints, const LintRules& rules,
                         const std::string& file, BuildLog& log);

class BuildRun {
 public:
  struct Parts {
    core::ImageBuild::Session* session;
    core::BuildCache* cache;
    const v1::BuildRequest::Open* request;
    BuildClient* client;
    const BuildPlan* plan;
    const BuildContext* context;
    // Beside the main one, by name.
    const std::map<std::string, std::unique_ptr<BuildContext>>* contexts;
    const std::map<std::string, ClientLayout>* layouts;
    std::vector<core::BuildCacheImport*> imports;
    const Emulation* emulation;
    const LintRules* lint_rules = nullptr;  // null: another platform's stages are linted
    RemoteFiles* remote;
    BuildLog* log;
    CancelToken* cancel;  // ends all stages; the first failure cancels it
    CacheMounts* caches;
    std::string init_path;        // as in BuildExecutor::Parts
    std::string directory;        // of this build alone
    std::string state_directory;  // the same, on a tmpfs
    std::string platform;         // of the target, "" for the host's
    std::string shown;            // what names of steps begin with, "linux/arm64 " of several
  };
  explicit BuildRun(const Parts& parts);

  // Carries out all stages of the plan. The target's stage, or why the first one failed.
  absl::StatusOr<const BuiltStage*> RunStages();

  // After that: steps of all stages, and what images and addresses they were made from.
  std::vector<DoneStep> Steps() ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<Material> Materials() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Status RunStage(int index) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for a stage that another thread carries out. kCancelled when it failed.
  absl::StatusOr<const BuiltStage*> WaitFor(int index) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for the stages that the step reads from, so that its time is its own.
  absl::Status AwaitInputs(const LayerStep& layer) ABSL_LOCKS_EXCLUDED(mu_);
  // As it is told of the step: one that another stage's failure has ended is cancelled.
  absl::Status Told(const absl::Status& failed) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<core::BuildBase> BaseOf(const Stage& stage, v1::BuildStep& step);
  // The files that a COPY or a mount in the stage `reader` takes from: a stage's or image's, else
  // those of a context.
  absl::StatusOr<StepFiles> FilesOf(const Source& source, int reader) ABSL_LOCKS_EXCLUDED(mu_);

  absl::Status DoStep(const Stage& stage, const LayerStep& layer, v1::BuildStep& step,
                      BuiltStage& built);
  // The result of an earlier build, here or elsewhere.
  absl::StatusOr<absl::optional<core::BuildCache::Hit>> FindDone(const core::BuildRoot& root,
                                                                 const LayerStep& layer,
                                                                 const std::string& key);
  void Used(Material material) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<core::BuildRoot> DoRun(const core::BuildRoot& root, const LayerStep& layer,
                                        v1::BuildStep& step);
  absl::StatusOr<core::BuildRoot> DoCopy(const core::BuildRoot& root, const LayerStep& layer);
  // A copy whose layer is made on nothing and lies on whatever is below it, so that it is reused
  // when that changes. `made_at` becomes the time of an earlier build if it was made there.
  absl::StatusOr<core::BuildRoot> DoLinked(const Stage& stage, const core::BuildRoot& root,
                                           const LayerStep& layer,
                                           absl::optional<absl::Time>& made_at);
  absl::StatusOr<core::BuildRoot> DoWorkdir(const core::BuildRoot& root, const LayerStep& layer);
  // A digest of all that the step reads: the files below it, its definition, and what it copies or
  // mounts.
  absl::StatusOr<std::string> KeyOf(const core::BuildRoot& root, const LayerStep& layer);
  absl::Status AddCopied(const LayerStep& layer, KeyWriter& key);
  absl::Status AddRemote(const LayerStep& layer, const CopySource& source, KeyWriter& key);
  absl::Status AddMounted(const LayerStep& layer, KeyWriter& key);
  // A file or repository that ADD names, as a source of a copy below an open directory.
  struct Fetched {
    UniqueFd root;
    MatchedSource match;
  };
  absl::StatusOr<Fetched> Fetch(const LayerStep& layer, const CopySource& source);
  bool MayReuse(const Stage& stage) const;
  absl::Status Allowed(const std::string& entitlement) const;

  const Parts parts_;

  // Of each stage's FROM, among the instructions of all stages that are built, from 1.
  std::map<int, int> positions_;
  int instructions_ = 0;  // of all of them

  absl::Mutex mu_;
  std::map<int, BuiltStage> done_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::unique_ptr<core::BuildRoot>> images_ ABSL_GUARDED_BY(mu_);
  absl::Status failure_ ABSL_GUARDED_BY(mu_);  // the first
  std::set<Material> materials_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_RUN_H_
