// What a build is made from, on this machine: its Dockerfile, its context, and the directories
// beside it.
//
// Find() -> AddContexts() and AddCaches() -> Send(). Thread-compatible.
#ifndef GANTRY_CTL_COMMANDS_BUILD_INPUT_H_
#define GANTRY_CTL_COMMANDS_BUILD_INPUT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ctl/commands/context_files.h"
#include "ctl/verb.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

class BuildInput {
 public:
  // `path` is a directory, a URL, or "-"; `file` the value of --file. Says in `open` what there is.
  //   kNotFound         no such directory or Dockerfile
  //   kInvalidArgument  two things that cannot both come from stdin
  static absl::StatusOr<BuildInput> Find(Context& context, const std::string& path,
                                         const std::string& file, v1::BuildRequest::Open& open);
  // The values of --build-context. Directories of this machine are sent after the main context, in
  // their order.
  absl::Status AddContexts(const std::vector<std::string>& contexts, v1::BuildRequest::Open& open);
  // The values of --cache-from. A local cache that does not exist yet is passed over, as at the
  // first build of a place that it is written to.
  absl::Status AddCaches(const std::vector<std::string>& caches, v1::BuildRequest::Open& open);

  // For a report on the Dockerfile: of a directory it and the ignore file are in `open`, and no
  // files are sent.
  absl::Status TakeDockerfileOnly(v1::BuildRequest::Open& open);

  // The context comes as a tar from stdin.
  bool is_tar() const { return tar_ >= 0; }
  // "" where it is not known here.
  const std::string& dockerfile_text() const { return dockerfile_text_; }

  // kCancelled: the build has ended.
  absl::Status Send(ContextWanted& wants, const ContextFiles::Write& write) const;

 private:
  absl::Status FindDirectory(const std::string& path, const std::string& file,
                             v1::BuildRequest::Open& open);
  absl::Status FindOnStdin(Context& context, const std::string& file, v1::BuildRequest::Open& open);
  // Names the directory to the daemon. Builds that leave different files out have a key each.
  std::string ContextKey() const;

  std::string directory_;        // "" for none
  std::string dockerfile_;       // path in the directory, "" if it is sent as text
  std::string dockerfile_path_;  // on this machine
  std::string dockerfile_text_;
  int tar_ = -1;  // a context that comes as a tar
  std::string tar_start_;
  std::vector<std::string> named_;  // directories beside the main one, "" for one of another kind
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_INPUT_H_
