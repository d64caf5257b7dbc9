// Where the results of a build go on this machine: what --output and --cache-to say, and the bytes
// that come.
//
// Add...() in the order of the command line -> Write() each piece -> Finish(). Thread-compatible.
#ifndef GANTRY_CTL_COMMANDS_BUILD_TARGET_H_
#define GANTRY_CTL_COMMANDS_BUILD_TARGET_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "ctl/verb.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

class BuildTarget {
 public:
  // The values of --output, and whether --push was given. kInvalidArgument: there is no such
  // output.
  absl::Status AddOutputs(const std::vector<std::string>& outputs, bool push,
                          v1::BuildRequest::Open& open);
  // The values of --cache-to.
  absl::Status AddCaches(const std::vector<std::string>& caches, v1::BuildRequest::Open& open);
  // An image is to be pushed.
  bool pushes() const { return pushes_; }

  // `place` as in v1::BuildData.
  absl::Status Write(Context& context, uint32_t place, const std::string& bytes);
  // Takes directories out of the tars that came.
  absl::Status Finish();

 private:
  struct Place {
    std::string destination;  // "-": stdout; "": nothing comes
    bool into_directory = false;
    UniqueFd file_out;
  };
  absl::Status Parse(const std::string& text, v1::BuildOutput& output, Place& place);

  std::vector<Place> places_;
  bool pushes_ = false;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_TARGET_H_
