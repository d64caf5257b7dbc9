// What a command line is made of: verbs, their options, and the tree they hang in.
//
// A Verb describes one word of the tree; an Action is one use of it. Everything that `--help`,
// completion and dispatch need is in the tree, which is built when ctl starts and costs
// microseconds.
#ifndef GANTRY_CTL_VERB_H_
#define GANTRY_CTL_VERB_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/client.h"
#include "ctl/flags.h"

namespace gantry::ctl {

struct Verb;

// Where a run of ctl reads and writes, and which daemon it calls. Thread-compatible; Out and Err
// may be called from any thread.
class Context {
 public:
  struct Streams {
    int in = 0;
    int out = 1;
    int err = 2;
  };
  Context(Streams streams, std::map<std::string, std::string> environment);
  ~Context();

  // Text of our own making. What could steer a terminal is escaped if that is where it goes: names,
  // labels and messages come from images, containers and registries. A reader that is gone ends the
  // program as SIGPIPE would.
  void Out(absl::string_view text);
  void Err(absl::string_view text);
  // Bytes as they are: a container's output, and escape sequences of our own around text that is
  // Printable().
  void OutRaw(absl::string_view bytes);
  void ErrRaw(absl::string_view bytes);
  int in_fd() const { return streams_.in; }
  int out_fd() const { return streams_.out; }
  int err_fd() const { return streams_.err; }
  bool OutIsTerminal() const;

  // "" if it is not set.
  std::string Environment(const std::string& name) const;
  const std::map<std::string, std::string>& environment() const { return environment_; }
  void SetEnvironment(const std::string& name, std::string value) {
    environment_[name] = std::move(value);
  }

  // Connects at the first call.
  absl::StatusOr<Client*> client();

  // "Error response from daemon: ..." or "ctl: ..." on the error stream, with names in place of the
  // ids of containers and networks.
  void Complain(const absl::Status& status);

  // The daemon: what --address, --context, GANTRY_ADDRESS, DOCKER_CONTEXT or the current context
  // of docker's configuration says, the first of them that says anything. RunCommandLine() calls
  // it; an error comes with the first use of client() only, so that contexts can be put right.
  void ChooseDaemon(bool address_given);
  absl::StatusOr<std::string> UsableAddress() const;

  std::string address;
  std::string context_name;  // of the context that was chosen, "default" for none
  std::string name_space;
  const Verb* root = nullptr;  // the tree, for help and completion
  // Values of a group's own options (Verb::group_flags), by name.
  std::map<std::string, std::vector<std::string>> group_values;

 private:
  // Of a container or network; "" where there is none, or the daemon does not say within a second.
  std::string NameOf(const std::string& id);

  const Streams streams_;
  std::map<std::string, std::string> environment_;
  std::unique_ptr<Client> client_;
  absl::Status choice_;  // why `address` cannot be used
};

class Action {
 public:
  virtual ~Action() = default;
  virtual void AddFlags(FlagSet& flags) {}
  // The exit status. An error is printed and becomes Verb::error_status, or what
  // WithExitStatus() gave it.
  virtual absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) = 0;
};

// kInvalidArgument: an empty word in place of a name, as an unset variable of a script gives it.
absl::Status CheckName(absl::string_view kind, absl::string_view name);

// An error whose exit status is another one than its verb's.
absl::Status WithExitStatus(absl::Status status, int exit_status);

// Its texts are literals: all verbs are made each time that ctl starts.
struct Verb {
  absl::string_view name;
  std::vector<absl::string_view> aliases = {};
  absl::string_view arguments = {};  // "[OPTIONS] CONTAINER [CONTAINER...]"
  absl::string_view summary = {};
  absl::string_view examples = {};  // whole lines
  int min_args = 0;
  int max_args = -1;      // -1: any
  bool hands_on = false;  // from the first argument on nothing is an option of ours
  // Its arguments: containers, running, stopped, images, networks, volumes, contexts, objects,
  // files.
  absl::string_view completes = {};
  int error_status = 1;
  bool hidden = false;
  std::function<std::unique_ptr<Action>()> make = {};  // empty: only a group
  std::vector<Verb> verbs = {};
  // Of a group: options that all its verbs take, before the verb's name or after it (there an
  // option of the verb itself comes first). Their values go to Context::group_values.
  std::function<void(FlagSet&, Context&)> group_flags = {};
};

// Runs one command line, without the program's own name. Returns the exit status.
int RunCommandLine(const Verb& root, Context& context, const std::vector<std::string>& args);

// The options before a command, as the root's help shows them. They set nothing.
FlagSet GlobalFlags();

// Lines for a shell: the candidates for the last of `words`.
std::vector<std::string> Complete(const Verb& root, Context& context,
                                  const std::vector<std::string>& words);
// The completion script for bash, zsh or fish. kInvalidArgument: another shell.
absl::StatusOr<std::string> CompletionScript(absl::string_view shell);

// Runs `one` for each name, prints what it returns on success (a line each, "" for none) and
// prints every failure. The exit status: 1 if anything failed.
int ForEach(Context& context, const std::vector<std::string>& names,
            const std::function<absl::StatusOr<std::string>(const std::string&)>& one);
// The same with several calls under way at a time, in threads; what is printed keeps the order of
// the names.
int ForEachAtOnce(Context& context, const std::vector<std::string>& names,
                  const std::function<absl::StatusOr<std::string>(const std::string&)>& one);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_VERB_H_
