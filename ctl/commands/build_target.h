// Where the result of a build goes on this machine: what --output says, and the bytes that come.
//
// Parse() -> Write() each piece -> Finish(). Thread-compatible.
#ifndef GANTRY_CTL_COMMANDS_BUILD_TARGET_H_
#define GANTRY_CTL_COMMANDS_BUILD_TARGET_H_

#include <map>
#include <string>

#include "absl/status/status.h"

#include "base/unique_fd.h"
#include "ctl/verb.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

// "KEY=VALUE,KEY=VALUE" of --secret and --output.
std::map<std::string, std::string> FieldsOf(const std::string& text);

class BuildTarget {
 public:
  // `output_text` is the flag's value, "" without it. kInvalidArgument: there is no such output.
  absl::Status Parse(const std::string& output_text, v1::BuildRequest::Open& open);
  // The image is to be pushed.
  bool push() const { return push_; }

  absl::Status Write(Context& context, const std::string& bytes);
  // Takes the files of type=local out of the tar that came.
  absl::Status Finish();

 private:
  std::string destination_;  // "-": stdout
  bool into_directory_ = false;
  bool push_ = false;
  UniqueFd file_out_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_TARGET_H_
