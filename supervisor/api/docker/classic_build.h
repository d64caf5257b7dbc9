// What a build says, as docker's classic builder says it: one JSON document per line, one step after
// the other in the order of the Dockerfile, though stages are built side by side.
//
// Thread-compatible. Pure.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_CLASSIC_BUILD_H_
#define GANTRY_SUPERVISOR_API_DOCKER_CLASSIC_BUILD_H_

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "proto/gantry/v1/builds.pb.h"

namespace gantry::api::docker {

class ClassicBuild {
 public:
  // `quiet`: only the image's id in the end. `keep_containers`: the client asked not to remove them,
  // so it is not said that they are.
  ClassicBuild(bool quiet, bool keep_containers)
      : quiet_(quiet), keep_containers_(keep_containers) {}

  // Documents that can be sent now, each with its line end.
  std::vector<std::string> Add(const v1::BuildResponse& event);
  // The last document of a build that failed.
  std::string Failed(const absl::Status& status) const;

 private:
  struct Step {
    v1::BuildStep last;
    std::vector<std::string> lines;  // that wait for the steps before
    bool begun = false;
    bool running = false;  // its container was told
  };
  void Begin(Step& step);
  void End(Step& step);
  std::vector<std::string> Take();

  const bool quiet_;
  const bool keep_containers_;
  std::map<int, Step> steps_;
  std::deque<int> order_;  // steps that have not been told to their end
  std::vector<std::string> rest_;
  int exit_code_ = 0;
  std::string command_;
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_CLASSIC_BUILD_H_
