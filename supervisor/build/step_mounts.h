// What is mounted into the container of one RUN, for as long as it runs: parts of the context and
// of other stages, caches, secrets and scripts.
//
// What a container may only read is mounted from where it lies: a context does not change after it
// was received, and other stages' files are read-only. What it may write, but for caches, is a copy
// that ends with the step. Secrets and scripts lie in a directory of the build's own, on a tmpfs
// where the state directory is one.
//
// Thread-compatible.
#ifndef GANTRY_SUPERVISOR_BUILD_STEP_MOUNTS_H_
#define GANTRY_SUPERVISOR_BUILD_STEP_MOUNTS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/cancel_token.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/build/agent_relay.h"
#include "supervisor/build/build_client.h"
#include "supervisor/build/build_context.h"
#include "supervisor/build/cache_mounts.h"
#include "supervisor/build/run_mounts.h"
#include "supervisor/build/stage_evaluator.h"
#include "supervisor/core/image_build.h"

namespace gantry::build {

// Files that a step reads from: those of a stage or an image, else of a context.
struct StepFiles {
  const core::BuildRoot* root = nullptr;
  const BuildContext* context = nullptr;
};

class StepMounts {
 public:
  struct Parts {
    core::ImageBuild::Session* session;
    const v1::BuildRequest::Open* request;
    BuildClient* client;
    CacheMounts* caches;
    CancelToken* cancel;
    std::string init_path;          // as in BuildExecutor::Parts
    std::string scratch_directory;  // of this step, for copies
    std::string state_directory;    // of this step, for secrets and scripts
    // The files of a mount's `from`.
    std::function<absl::StatusOr<StepFiles>(const std::string& from)> files_of;
  };
  explicit StepMounts(Parts parts) : parts_(std::move(parts)) {}
  ~StepMounts();
  StepMounts(const StepMounts&) = delete;
  StepMounts& operator=(const StepMounts&) = delete;

  // Adds what the step asks for to its container. kNotFound: a source or a secret that is not
  // there.
  absl::Status AddTo(const LayerStep& step, v1::ContainerConfig& config);

 private:
  absl::Status AddBind(const RunMount& mount, v1::ContainerConfig& config);
  absl::Status AddCache(const RunMount& mount, v1::ContainerConfig& config);
  absl::Status AddSecret(const RunMount& mount, v1::ContainerConfig& config);
  absl::Status AddAgent(const RunMount& mount, const LayerStep& step, v1::ContainerConfig& config);
  absl::Status AddScript(const LayerStep& step, v1::ContainerConfig& config);
  // Secret variables, by a file: the configuration is kept in the database while the step runs,
  // and in its log for longer.
  absl::Status AddVariables(v1::ContainerConfig& config);
  // A path on the host of `source` in the files that `from` names.
  absl::StatusOr<std::string> PathOf(const std::string& from, const std::string& source);
  absl::StatusOr<std::string> CopyOf(const std::string& path, const std::string& to);

  const Parts parts_;
  std::vector<std::unique_ptr<core::ImageBuild::Session::View>> views_;
  std::vector<CacheMounts::Lease> caches_;
  std::vector<std::unique_ptr<AgentRelay>> agents_;
  std::string variables_;  // secret ones: NAME=VALUE, each with a NUL behind it
  int copies_ = 0;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_STEP_MOUNTS_H_
