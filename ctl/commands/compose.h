// What the verbs of `ctl compose` share: the options before the verb, the project, the engine, and
// what ^C means.
#ifndef GANTRY_CTL_COMMANDS_COMPOSE_H_
#define GANTRY_CTL_COMMANDS_COMPOSE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ctl/compose/engine.h"
#include "ctl/compose/loader.h"
#include "ctl/compose/progress_board.h"
#include "ctl/verb.h"

namespace gantry::ctl {

// The group's options as one run of ctl was given them (Context::group_values).
class ProjectFlags {
 public:
  static void AddFlags(FlagSet& flags, Context& context);

  // The project, its warnings printed. `services` are switched on with their profiles.
  absl::StatusOr<compose::Project> Load(Context& context,
                                        const std::vector<std::string>& services) const;
  // The project where there are files, else only its name: for verbs that work on what is there.
  absl::StatusOr<compose::Project> LoadOrName(Context& context,
                                              const std::vector<std::string>& services) const;
  compose::LoadOptions Options(Context& context, const std::vector<std::string>& services) const;
  compose::LoadOptions* overrides() { return &overrides_; }

  // "auto", "tty", "plain", "quiet"; kInvalidArgument: another word.
  absl::StatusOr<compose::ProgressBoard::Style> ProgressStyle(Context& context) const;
  int parallel(Context& context) const;
  // Whether names before output are coloured: --ansi, COMPOSE_ANSI, NO_COLOR, a terminal.
  bool Colors(Context& context) const;

 private:
  compose::LoadOptions overrides_;  // what `config` changes
};

// Whether a COMPOSE_ variable is on ("1" or "true"), in the environment or the project's .env.
bool SettingIsOn(const Context& context, const compose::Project& project, const std::string& name);

// While this lives, ^C and SIGTERM set a flag instead of ending ctl; a second one sets the other, a
// third one ends ctl.
// One at a time, because signals are the process's.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  static const std::atomic<bool>& once();
  static const std::atomic<bool>& twice();
};

std::unique_ptr<compose::ProgressBoard> MakeBoard(Context& context,
                                                  compose::ProgressBoard::Style style,
                                                  const std::string& title);

// Containers of the project that a verb works on: of the services named, or all; in the order of
// dependencies where `project` has a model, reversed for stops. kNotFound: "no such service: x".
absl::StatusOr<std::vector<compose::ObservedContainer>> ContainersOf(
    compose::Engine& engine, const compose::Project& project,
    const std::vector<std::string>& services, bool all, bool one_offs, bool reversed);

// The container of a service for `exec` and `port`: the one of --index, or of the lowest number.
absl::StatusOr<compose::ObservedContainer> ContainerNumbered(compose::Engine& engine,
                                                             const compose::Project& project,
                                                             const std::string& service,
                                                             int64_t index, bool running);

// Another verb with a command line of its own.
absl::StatusOr<int> RunVerbWith(Context& context, const Verb& verb,
                                const std::vector<std::string>& words);

// "web-1": a container's name without its project, as logs show it.
std::string ShortName(const compose::Project& project, const std::string& container);

// One file each.
Verb ComposeConfigVerb();
Verb ComposeWatchVerb();
std::vector<Verb> ComposeUpVerbs();       // up, create, plan, scale
std::vector<Verb> ComposeImageVerbs();    // build, pull, push, export, commit
std::vector<Verb> ComposeDownVerbs();     // down, stop, restart, kill, rm, pause, unpause
std::vector<Verb> ComposeListVerbs();     // ps, ls, images, port, top, version
std::vector<Verb> ComposeOutputVerbs();   // logs, events, wait
std::vector<Verb> ComposeProcessVerbs();  // exec, run

// Fetches, or builds, the image of a step. The board shows it as one line.
absl::Status PullOne(Context& context, compose::ProgressBoard& board,
                     const compose::Project& project, const compose::Step& step);
absl::Status BuildOne(Context& context, compose::ProgressBoard& board,
                      const compose::Project& project, const compose::Step& step,
                      bool quiet = false);

// Runs the providers among `services` and serves their models (provider.h): before a plan is made.
absl::Status RunPrograms(Context& context, const ProjectFlags& flags, compose::Project& project,
                         const std::vector<std::string>& services);

// Does a plan with the board of `flags`: for `run`, whose own output comes after. `lines`: without
// drawing, because containers print meanwhile.
absl::Status ApplyQuietly(Context& context, const ProjectFlags& flags, compose::Engine& engine,
                          const compose::Project& project, const compose::Plan& plan,
                          bool lines = false);

// Stops containers, each after those before it in the list that depend on it, and after its
// pre_stop commands. ^C does not end it, because it is what follows a ^C.
absl::Status StopContainers(compose::ProgressBoard& board, const compose::Project& project,
                            compose::Engine& engine,
                            const std::vector<compose::ObservedContainer>& containers,
                            std::optional<int> timeout_seconds);

struct FollowOptions {
  bool follow = true;
  bool timestamps = false;
  bool prefix = true;
  bool color = true;
  bool say_exits = false;     // "web-1 exited with code 0"
  bool errors_apart = false;  // what they print on stderr goes to stderr
  // For an `up`: nothing older than the printer, and one that has ended is about to be started.
  bool new_only = false;
  // Goes on when a container that has ended is started again; ends with Stop() or the container.
  bool outlive_exits = false;
  std::string tail, since, until;
};

// Prints the output of containers, a line at a time with the name before it. Each container has a
// thread. Thread-safe.
class OutputPrinter {
 public:
  using OnExit = std::function<void(const compose::ObservedContainer&, int)>;

  // All outlive this. `on_exit` is called once for each container that has ended for good, from any
  // thread; it may be empty.
  OutputPrinter(Context& context, compose::Engine& engine, const compose::Project& project,
                const FollowOptions& options, OnExit on_exit);
  ~OutputPrinter();  // stops and waits

  // One that will be added: names are padded to the longest that is known.
  void Announce(const compose::ObservedContainer& container);
  // Begins with a container, which may not be started yet; nothing for one that is followed
  // already. One that has ended goes on behind what was printed. Not `shown`: only its end is
  // waited for.
  void Add(const compose::ObservedContainer& container, bool shown = true);
  // Waits until all that are shown have ended, or `enough`. The first failure.
  absl::Status Wait(const std::function<bool()>& enough = {});
  // Ends all streams soon.
  void Stop();

 private:
  class Printer;
  const std::unique_ptr<Printer> printer_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_COMPOSE_H_
