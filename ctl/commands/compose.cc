#include "ctl/commands/compose.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/completion.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

std::atomic<bool> interrupted{false};
std::atomic<bool> interrupted_again{false};
struct sigaction former_int, former_term;

void OnSignal(int) {
  if (!interrupted.exchange(true)) return;
  // Who asks a third time does not want to wait for anything.
  if (interrupted_again.exchange(true)) ::_exit(130);
}

std::string CurrentDirectory() {
  char buffer[4096];
  return ::getcwd(buffer, sizeof buffer) == nullptr ? "/" : buffer;
}

std::vector<std::string> Values(const Context& context, const char* name) {
  const auto found = context.group_values.find(name);
  return found == context.group_values.end() ? std::vector<std::string>() : found->second;
}

std::string LastValue(const Context& context, const char* name) {
  const std::vector<std::string> values = Values(context, name);
  return values.empty() ? "" : values.back();
}

std::string Ansi(const Context& context) {
  const std::string given = LastValue(context, "ansi");
  return given.empty() ? context.Environment("COMPOSE_ANSI") : given;
}

}  // namespace

void ProjectFlags::AddFlags(FlagSet& flags, Context& context) {
  const auto add = [&](const char* name, char letter, const char* value, const char* help) {
    return std::ref(
        flags.Custom(name, letter, value, help, [&context, name](absl::string_view text) {
          context.group_values[name].push_back(std::string(text));
          return absl::OkStatus();
        }));
  };
  add("file", 'f', "file", "Compose file; - is the standard input").get().completes = "files";
  add("project-name", 'p', "name", "Name of the project");
  add("profile", 0, "name", "Switch a profile on; * for all").get().completes = "profiles";
  add("env-file", 0, "file", "Variables for the files, instead of .env").get().completes = "files";
  add("project-directory", 0, "path", "Where relative paths start");
  add("progress", 0, "style", "auto, tty, plain or quiet");
  add("ansi", 0, "when", "Control characters: never, always or auto");
  add("compatibility", 0, "", "Names of containers with _ instead of -");
  add("parallel", 0, "int", "Calls at a time; -1 for no bound");
}

compose::LoadOptions ProjectFlags::Options(Context& context,
                                           const std::vector<std::string>& services) const {
  compose::LoadOptions options = overrides_;
  options.files = Values(context, "file");
  options.project_name = LastValue(context, "project-name");
  options.project_directory = LastValue(context, "project-directory");
  options.profiles = Values(context, "profile");
  options.env_files = Values(context, "env-file");
  options.compatibility = LastValue(context, "compatibility") == "true";
  options.services = services;
  options.environment = context.environment();
  options.current_directory = CurrentDirectory();
  options.read = [&context](const std::string& path) -> absl::StatusOr<std::string> {
    if (path == "-") {
      std::string text;
      char buffer[65536];
      ssize_t n = 0;
      while ((n = ::read(context.in_fd(), buffer, sizeof buffer)) > 0 && text.size() < (16u << 20))
        text.append(buffer, static_cast<size_t>(n));
      return text;
    }
    return ReadFile(path, 16 << 20);
  };
  return options;
}

absl::StatusOr<compose::Project> ProjectFlags::Load(
    Context& context, const std::vector<std::string>& services) const {
  compose::LoadOptions options = Options(context, services);
  options.warn = [&context](const std::string& warning) {
    context.Err(absl::StrCat("WARN ", warning, "\n"));
  };
  GANTRY_ASSIGN_OR_RETURN(compose::Project project, compose::LoadProject(options));
  for (const std::string& warning : project.warnings) options.warn(warning);
  return project;
}

absl::StatusOr<compose::Project> ProjectFlags::LoadOrName(
    Context& context, const std::vector<std::string>& services) const {
  absl::StatusOr<compose::Project> project = Load(context, services);
  if (project.ok() || !absl::IsNotFound(project.status()) || !Values(context, "file").empty())
    return project;
  GANTRY_ASSIGN_OR_RETURN(const std::string name,
                          compose::ProjectNameWithoutFile(Options(context, services)));
  if (name.empty()) return project;
  compose::Project named;
  named.name = name;
  return named;
}

absl::StatusOr<compose::ProgressBoard::Style> ProjectFlags::ProgressStyle(Context& context) const {
  using Style = compose::ProgressBoard::Style;
  std::string word = LastValue(context, "progress");
  const std::string ansi = Ansi(context);
  if (word.empty()) word = context.Environment("COMPOSE_PROGRESS");
  if (word == "quiet") return Style::kSilent;
  if (word == "plain") return Style::kLines;
  if (word == "tty") return Style::kRedraw;
  if (!word.empty() && word != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("--progress: \"", word, "\": use auto, tty, plain or quiet"));
  }
  const bool terminal = ansi == "always" || (ansi != "never" && IsTerminal(context.err_fd()) &&
                                             context.Environment("TERM") != "dumb");
  return terminal ? Style::kRedraw : Style::kLines;
}

bool ProjectFlags::Colors(Context& context) const {
  const std::string ansi = Ansi(context);
  if (ansi == "never" || ansi == "always") return ansi == "always";
  return context.OutIsTerminal() && context.Environment("NO_COLOR").empty();
}

bool SettingIsOn(const Context& context, const compose::Project& project, const std::string& name) {
  const auto found = project.environment.find(name);
  const std::string value =
      found == project.environment.end() ? context.Environment(name) : found->second;
  return value == "1" || value == "true";
}

int ProjectFlags::parallel(Context& context) const {
  std::string text = LastValue(context, "parallel");
  if (text.empty()) text = context.Environment("COMPOSE_PARALLEL_LIMIT");
  int64_t value = 8;
  if (!absl::SimpleAtoi(text, &value)) value = 8;
  return value <= 0 ? 64 : static_cast<int>(std::min<int64_t>(value, 64));
}

Interrupts::Interrupts() {
  interrupted = false;
  interrupted_again = false;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &former_int);
  sigaction(SIGTERM, &action, &former_term);
}

Interrupts::~Interrupts() {
  sigaction(SIGINT, &former_int, nullptr);
  sigaction(SIGTERM, &former_term, nullptr);
}

const std::atomic<bool>& Interrupts::once() { return interrupted; }
const std::atomic<bool>& Interrupts::twice() { return interrupted_again; }

std::unique_ptr<compose::ProgressBoard> MakeBoard(Context& context,
                                                  compose::ProgressBoard::Style style,
                                                  const std::string& title) {
  const auto window = TerminalWindow(context.err_fd());
  const bool to_stdout = SettingIsOn(context, {}, "COMPOSE_STATUS_STDOUT");
  auto board = std::make_unique<compose::ProgressBoard>(
      style, title,
      [&context, to_stdout](absl::string_view text) {
        to_stdout ? context.OutRaw(text) : context.ErrRaw(text);
      },
      window ? window->width : 80, window ? window->height : 24);
  board->Animate();
  return board;
}

absl::StatusOr<std::vector<compose::ObservedContainer>> ContainersOf(
    compose::Engine& engine, const compose::Project& project,
    const std::vector<std::string>& services, bool all, bool one_offs, bool reversed) {
  const bool has_model = !project.model.entries.empty();
  if (has_model) {
    for (const std::string& service : services) {
      if (project.FindService(service) == nullptr)
        return absl::NotFoundError(absl::StrCat("no such service: ", service));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<v1::ContainerSummary> found,
                          engine.Containers(project.name, services, all));
  std::vector<compose::ObservedContainer> out;
  for (const v1::ContainerSummary& summary : found) {
    compose::ObservedContainer container = compose::Engine::Describe(summary);
    if (container.one_off && !one_offs) continue;
    out.push_back(std::move(container));
  }
  std::map<std::string, size_t> place;
  if (has_model) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> order,
                            compose::InDependencyOrder(project, {}, false));
    for (const std::string& service : order) place.emplace(service, place.size() + 1);
  }
  std::sort(out.begin(), out.end(), [&](const auto& a, const auto& b) {
    const size_t first = place[a.service];
    const size_t second = place[b.service];
    if (first != second) return reversed ? first > second : first < second;
    if (a.service != b.service) return a.service < b.service;
    return a.number < b.number;
  });
  return out;
}

absl::StatusOr<compose::ObservedContainer> ContainerNumbered(compose::Engine& engine,
                                                             const compose::Project& project,
                                                             const std::string& service,
                                                             int64_t index, bool running) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<compose::ObservedContainer> containers,
                          ContainersOf(engine, project, {service}, /*all=*/true,
                                       /*one_offs=*/false, /*reversed=*/false));
  for (const compose::ObservedContainer& container : containers) {
    if (index != 0 && container.number != index) continue;
    if (running && container.state != compose::State::kRunning) continue;
    return container;
  }
  if (running) {
    return absl::FailedPreconditionError(
        absl::StrCat("service \"", service, "\" is not running",
                     index == 0 ? "" : absl::StrCat(" container #", index)));
  }
  return absl::NotFoundError(absl::StrCat("service \"", service, "\" has no container"));
}

absl::StatusOr<int> RunVerbWith(Context& context, const Verb& verb,
                                const std::vector<std::string>& words) {
  const std::unique_ptr<Action> action = verb.make();
  FlagSet flags;
  action->AddFlags(flags);
  std::vector<std::string> positional;
  GANTRY_RETURN_IF_ERROR(flags.Parse(words, verb.hands_on, &positional));
  return action->Run(context, positional);
}

std::string ShortName(const compose::Project& project, const std::string& container) {
  return std::string(absl::StripPrefix(container, absl::StrCat(project.name, project.separator)));
}

namespace {

// Of all services, also those that are off.
std::vector<std::string> NamesForCompletion(Context& context) {
  compose::LoadOptions options = ProjectFlags().Options(context, {});
  options.profiles = {"*"};
  options.check_consistency = false;
  options.resolve_environment = false;
  const absl::StatusOr<compose::Project> project = compose::LoadProject(options);
  return project.ok() ? project->ServiceNames() : std::vector<std::string>();
}

std::vector<std::string> ProfilesForCompletion(Context& context) {
  compose::LoadOptions options = ProjectFlags().Options(context, {});
  options.profiles = {"*"};
  options.check_consistency = false;
  options.resolve_environment = false;
  std::vector<std::string> names;
  const absl::StatusOr<compose::Project> project = compose::LoadProject(options);
  if (!project.ok()) return names;
  for (const std::string& service : project->ServiceNames()) {
    const compose::Node* profiles = project->FindService(service)->Find("profiles");
    if (profiles == nullptr) continue;
    for (const compose::Node& profile : profiles->items) names.push_back(profile.text);
  }
  return names;
}

}  // namespace

Verb ComposeVerb() {
  AddCompletionSource("services", NamesForCompletion);
  AddCompletionSource("profiles", ProfilesForCompletion);
  Verb group;
  group.name = "compose";
  group.summary = "Run several containers as one project, described in a compose file";
  group.group_flags = ProjectFlags::AddFlags;
  for (std::vector<Verb> some : {ComposeUpVerbs(), ComposeImageVerbs(), ComposeDownVerbs(),
                                 ComposeListVerbs(), ComposeOutputVerbs(), ComposeProcessVerbs()}) {
    for (Verb& verb : some) group.verbs.push_back(std::move(verb));
  }
  group.verbs.push_back(ComposeConfigVerb());
  group.verbs.push_back(ComposeWatchVerb());
  return group;
}

}  // namespace gantry::ctl
