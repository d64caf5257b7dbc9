// An SSH agent of this program's own, which holds the keys of some files for the length of a build.
//
// ssh-agent and ssh-add do the work, so passphrases are asked for on the terminal and no key is
// read here. The agent and its socket end with the object. Thread-compatible.
#ifndef GANTRY_CTL_COMMANDS_KEY_AGENT_H_
#define GANTRY_CTL_COMMANDS_KEY_AGENT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "base/subprocess.h"

namespace gantry::ctl {

class KeyAgent {
 public:
  // kFailedPrecondition: there is no ssh-agent or ssh-add; kInvalidArgument: a file is no key.
  static absl::StatusOr<std::unique_ptr<KeyAgent>> Start(const std::vector<std::string>& keys);
  ~KeyAgent();
  KeyAgent(const KeyAgent&) = delete;
  KeyAgent& operator=(const KeyAgent&) = delete;

  const std::string& socket() const { return socket_; }

 private:
  KeyAgent() = default;

  std::string directory_;
  std::string socket_;
  Process agent_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_KEY_AGENT_H_
