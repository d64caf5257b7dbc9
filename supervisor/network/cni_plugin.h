// One run of a CNI plugin: a program with its parameters in the environment and its configuration
// on standard input.
//
// Functions are thread-safe and block until the program has ended. Spec: CNI 1.1 section 2.
#ifndef GANTRY_SUPERVISOR_NETWORK_CNI_PLUGIN_H_
#define GANTRY_SUPERVISOR_NETWORK_CNI_PLUGIN_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry {
class CancelToken;
}

namespace gantry::network {

// Parameters of a run. What a command does not have is "".
struct CniParameters {
  std::string command;  // "ADD"
  std::string container_id;
  std::string netns;
  std::string interface;
  std::string args;
};

struct CniRunner {
  std::vector<std::string> bin_dirs;
  absl::Duration timeout = absl::InfiniteDuration();  // of one run
};

// The program of a plugin. kFailedPrecondition: none of the directories has it.
absl::StatusOr<std::string> FindCniPlugin(const CniRunner& runner, absl::string_view type);

// What the plugin printed, at most kMaxCniBytes.
//   kFailedPrecondition  there is no such program
//   kInvalidArgument     it refuses parameters or configuration (codes 1, 2, 4, 6 and 7 of CNI)
//   kNotFound            it does not know the container (3)
//   kUnavailable         any other failure, or output that is no answer
//   kDeadlineExceeded, kCancelled  it was killed, with its children
// Messages begin with the plugin and the command and have the plugin's own words.
absl::StatusOr<std::string> RunCniPlugin(const CniRunner& runner, absl::string_view type,
                                         const CniParameters& parameters, const std::string& input,
                                         CancelToken* cancel);

// Kills, with its children, what a daemon that was killed has left running for the containers that
// are named: a DEL, and, where the value is true, an ADD, which would go on to reserve addresses
// beside this daemon's DEL or after it. What an ADD that ended has left on purpose lives on.
void EndFormerPlugins(const std::map<std::string, bool>& containers);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_CNI_PLUGIN_H_
