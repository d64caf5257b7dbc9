#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/engine/value_syntax.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/compose.h"
#include "ctl/commands/interactive.h"
#include "ctl/compose/apply.h"
#include "ctl/compose/container_config.h"
#include "ctl/compose/env_file.h"
#include "ctl/compose/plan.h"
#include "ctl/table.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::ctl {
namespace {

using compose::ObservedContainer;

std::string RandomHex(size_t digits) {
  std::random_device random;
  std::string out;
  while (out.size() < digits) absl::StrAppend(&out, absl::Hex(random(), absl::kZeroPad8));
  out.resize(digits);
  return out;
}

using ContainerIds = std::map<std::string, std::string>;  // by service

const std::atomic<bool>& Never() {
  static const std::atomic<bool> never{false};
  return never;
}

class ExecAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&detach_, "detach", 'd', "Run in the background");
    flags.Bool(&privileged_, "privileged", 0, "Every capability");
    flags.Strings(&env_, "env", 'e', "NAME=value", "Environment variable");
    flags.String(&workdir_, "workdir", 'w', "path", "Working directory");
    flags.String(&user_, "user", 'u', "user[:group]", "Name or number");
    flags.Bool(&no_tty_, "no-tty", 'T', "Without a terminal (default with, where there is one)");
    flags.Alias("no-TTY", "no-tty");
    flags.Int(&index_, "index", 0, "Number of the container");
    interactive_ = true;
    flags.Bool(&interactive_, "interactive", 'i', "Keep stdin open (default true)");
    flags.Bool(&tty_, "tty", 't', "Accepted: a terminal is the default");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, {args[0]}));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    compose::Engine engine(*client, Never());
    GANTRY_ASSIGN_OR_RETURN(const ObservedContainer container,
                            ContainerNumbered(engine, project, args[0], index_, /*running=*/true));
    std::vector<std::string> words;
    if (detach_) words.push_back("-d");
    if (privileged_) words.push_back("--privileged");
    for (const std::string& one : env_) words.push_back(absl::StrCat("--env=", one));
    if (!workdir_.empty()) words.push_back(absl::StrCat("--workdir=", workdir_));
    if (!user_.empty()) words.push_back(absl::StrCat("--user=", user_));
    if (!detach_ && interactive_) words.push_back("-i");
    if (!detach_ && !no_tty_ && IsTerminal(context.in_fd()) && context.OutIsTerminal())
      words.push_back("-t");
    words.push_back(container.id);
    words.insert(words.end(), args.begin() + 1, args.end());
    return RunVerbWith(context, ExecVerb(), words);
  }

 private:
  ProjectFlags flags_;
  bool detach_ = false, privileged_ = false, no_tty_ = false, interactive_ = true, tty_ = false;
  std::vector<std::string> env_;
  std::string workdir_, user_;
  int64_t index_ = 0;
};

class RunAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&detach_, "detach", 'd', "Run in the background and print the container's id");
    flags.Bool(&remove_, "rm", 0, "Remove the container when it exits");
    flags.Bool(&no_deps_, "no-deps", 0, "Do not start the services it depends on");
    flags.Bool(&service_ports_, "service-ports", 'P', "Publish the service's ports");
    flags.Strings(&publish_, "publish", 'p', "port", "Publish a port");
    flags.Bool(&use_aliases_, "use-aliases", 0, "With the service's names in its networks");
    flags.String(&name_, "name", 0, "name", "Name of the container");
    flags.Custom("entrypoint", 0, "command", "Instead of the service's",
                 [this](absl::string_view text) {
                   entrypoint_ = std::string(text);
                   return absl::OkStatus();
                 });
    flags.Strings(&env_, "env", 'e', "NAME=value", "Environment variable");
    flags.Strings(&env_files_, "env-from-file", 0, "file", "File of environment variables")
        .completes = "files";
    flags.Strings(&cap_add_, "cap-add", 0, "capability", "Add a capability");
    flags.Strings(&cap_drop_, "cap-drop", 0, "capability", "Drop a capability");
    flags.Strings(&labels_, "label", 'l', "key=value", "Label");
    flags.Strings(&volumes_, "volume", 'v', "mount", "Bind mount or volume");
    flags.String(&user_, "user", 'u', "user[:group]", "Name or number");
    flags.String(&workdir_, "workdir", 'w', "path", "Working directory");
    flags.Bool(&no_tty_, "no-tty", 'T', "Without a terminal");
    flags.Alias("no-TTY", "no-tty");
    interactive_ = true;
    flags.Bool(&interactive_, "interactive", 'i', "Keep stdin open (default true)");
    flags.Bool(&tty_, "tty", 't', "Accepted: a terminal is the default");
    flags.Bool(&build_, "build", 0, "Build the image before");
    flags.String(&pull_, "pull", 0, "when", "always, missing or never");
    flags.Bool(&quiet_, "quiet", 'q', "Do not print the id with -d");
    flags.Bool(&quiet_pull_, "quiet-pull", 0, "Accepted: pulls are quiet");
    flags.Bool(&remove_orphans_, "remove-orphans", 0,
               "Remove containers of services that are gone");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(compose::Project project, flags_.Load(context, {args[0]}));
    if (project.FindService(args[0]) == nullptr)
      return absl::NotFoundError(absl::StrCat("no such service: ", args[0]));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    compose::Engine engine(*client, Never());
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> needed,
                            compose::InDependencyOrder(project, {args[0]}, no_deps_));
    GANTRY_RETURN_IF_ERROR(RunPrograms(context, flags_, project, needed));
    GANTRY_RETURN_IF_ERROR(Prepare(context, engine, project, args[0]));
    if (!no_deps_) GANTRY_RETURN_IF_ERROR(AwaitDependencies(context, engine, project, args[0]));
    compose::Replica replica{args[0], 0, RandomHex(64), ""};
    GANTRY_ASSIGN_OR_RETURN(replica.image_digest,
                            engine.ImageDigest(compose::ImageOf(project, args[0])));
    GANTRY_ASSIGN_OR_RETURN(const ContainerIds ids, Ids(engine, project));
    GANTRY_ASSIGN_OR_RETURN(v1::ContainerConfig config,
                            compose::ContainerConfigOf(project, replica, ids));
    GANTRY_RETURN_IF_ERROR(
        Change(context, project, {args.begin() + 1, args.end()}, args[0], &config));
    const std::string name = name_.empty() ? compose::ContainerNameOf(project, replica) : name_;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<compose::InjectedFile> files,
                            compose::InjectedFilesOf(project, args[0]));
    if (!files.empty()) return WithFiles(context, engine, project, config, name, args[0]);
    return Converse(context, *client, config, name);
  }

 private:
  // Secrets and configs that are no files go in between creation and start.
  absl::StatusOr<int> WithFiles(Context& context, compose::Engine& engine,
                                const compose::Project& project, const v1::ContainerConfig& config,
                                const std::string& name, const std::string& service) {
    GANTRY_ASSIGN_OR_RETURN(const std::string id, engine.CreateFrom(config, name));
    GANTRY_RETURN_IF_ERROR(engine.Inject(project, service, id));
    if (detach_) {
      GANTRY_RETURN_IF_ERROR(engine.Start(id));
      if (!quiet_) context.Out(absl::StrCat(id, "\n"));
      return 0;
    }
    std::vector<std::string> words = {"-a", id};
    if (config.attach_stdin()) words.insert(words.begin(), "-i");
    return RunVerbWith(context, StartVerb(), words);
  }

  // Images, networks, volumes and the services it depends on.
  absl::Status Prepare(Context& context, compose::Engine& engine, const compose::Project& project,
                       const std::string& service) {
    compose::UpOptions options;
    options.services = {service};
    options.no_deps = no_deps_;
    options.build = build_;
    options.pull = pull_ == "missing" || pull_ == "policy" ? "" : pull_;
    options.remove_orphans = remove_orphans_;
    options.ignore_orphans = !remove_orphans_;
    options.no_recreate = true;
    options.scale[service] = 0;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> order,
                            compose::InDependencyOrder(project, {service}, no_deps_));
    GANTRY_ASSIGN_OR_RETURN(const compose::Observed observed, engine.Observe(project, order));
    GANTRY_ASSIGN_OR_RETURN(compose::Plan plan, compose::PlanUp(project, observed, options));
    // Its own containers stay as they are.
    for (compose::Step& step : plan.steps) {
      if (step.kind == compose::Step::Kind::kRemove && step.service == service) {
        step.kind = compose::Step::Kind::kKeep;
        step.reason.clear();
      }
    }
    return ApplyQuietly(context, flags_, engine, project, plan);
  }

  // The plan has no start of the service itself, so that nothing in it waits for what the service
  // waits for.
  absl::Status AwaitDependencies(Context& context, compose::Engine& engine,
                                 const compose::Project& project, const std::string& service) {
    GANTRY_ASSIGN_OR_RETURN(const compose::ProgressBoard::Style style,
                            flags_.ProgressStyle(context));
    const std::unique_ptr<compose::ProgressBoard> board = MakeBoard(context, style, "run");
    const absl::Status status = engine.AwaitDependencies(
        project, service, [&](const std::string& container, const char* word) {
          using Mark = compose::ProgressBoard::Mark;
          board->Update(absl::StrCat("Container ", container), word,
                        absl::string_view(word) == "Waiting" ? Mark::kWorking : Mark::kDone);
        });
    board->Finish();
    return status;
  }

  static absl::StatusOr<ContainerIds> Ids(compose::Engine& engine,
                                          const compose::Project& project) {
    GANTRY_ASSIGN_OR_RETURN(
        const std::vector<ObservedContainer> all,
        ContainersOf(engine, project, {}, /*all=*/true, /*one_offs=*/false, /*reversed=*/false));
    ContainerIds ids;
    for (const ObservedContainer& container : all) ids.emplace(container.service, container.id);
    return ids;
  }

  absl::Status Change(Context& context, const compose::Project& project,
                      const std::vector<std::string>& command, const std::string& service,
                      v1::ContainerConfig* config) {
    if (entrypoint_.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> words,
                              engine::SplitWords(*entrypoint_));
      config->mutable_entrypoint()->clear_values();
      for (const std::string& word : words) config->mutable_entrypoint()->add_values(word);
      config->clear_command();
    }
    if (!command.empty()) {
      config->clear_command();
      for (const std::string& word : command) config->add_command(word);
    }
    // The last of a name counts.
    const auto set = [config](const std::string& assignment) {
      const std::string key = assignment.substr(0, assignment.find('='));
      auto* env = config->mutable_env();
      env->erase(std::remove_if(
                     env->begin(), env->end(),
                     [&](const std::string& one) { return one.substr(0, one.find('=')) == key; }),
                 env->end());
      config->add_env(assignment);
    };
    for (const std::string& path : env_files_) {
      GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 4 << 20));
      const compose::Lookup lookup = [&](const std::string& name) -> std::optional<std::string> {
        const auto found = project.environment.find(name);
        return found == project.environment.end() ? std::nullopt : std::optional(found->second);
      };
      const absl::StatusOr<std::vector<compose::EnvEntry>> entries =
          compose::ParseEnvFile(text, lookup, [](const std::string&) {});
      if (!entries.ok()) {
        return absl::Status(entries.status().code(),
                            absl::StrCat(path, ": ", entries.status().message()));
      }
      for (const compose::EnvEntry& entry : *entries) {
        if (entry.value.has_value()) set(absl::StrCat(entry.key, "=", *entry.value));
      }
    }
    for (const std::string& text : env_) {
      GANTRY_ASSIGN_OR_RETURN(const std::string assignment,
                              engine::ParseEnvironment(text, context.environment()));
      set(assignment);
    }
    for (const std::string& name : cap_add_) config->add_cap_add(name);
    for (const std::string& name : cap_drop_) config->add_cap_drop(name);
    for (const std::string& text : labels_) {
      const auto [key, value] = engine::SplitAssignment(text);
      (*config->mutable_labels())[key] = value;
    }
    for (const std::string& text : volumes_) {
      char directory[4096];
      const char* here = ::getcwd(directory, sizeof directory);
      GANTRY_ASSIGN_OR_RETURN(*config->add_mounts(),
                              engine::ParseVolume(text, here == nullptr ? "/" : here));
    }
    for (const std::string& text : publish_) {
      GANTRY_ASSIGN_OR_RETURN(const std::vector<v1::PortBinding> bindings,
                              engine::ParsePublish(text));
      for (const v1::PortBinding& binding : bindings) *config->add_port_bindings() = binding;
    }
    if (service_ports_) {
      GANTRY_ASSIGN_OR_RETURN(const v1::ContainerConfig usual,
                              compose::ContainerConfigOf(project, {service, 1, "", ""}, {}));
      for (const v1::PortBinding& binding : usual.port_bindings())
        *config->add_port_bindings() = binding;
    }
    if (use_aliases_) {
      for (v1::NetworkAttachment& network : *config->mutable_networks())
        network.add_aliases(service);
    }
    if (!user_.empty()) config->set_user(user_);
    if (!workdir_.empty()) config->set_working_dir(workdir_);
    config->set_auto_remove(remove_);
    const bool terminal = IsTerminal(context.in_fd()) && context.OutIsTerminal();
    config->set_tty(!no_tty_ && !detach_ && terminal);
    config->set_open_stdin(!detach_ && interactive_);
    config->set_attach_stdin(!detach_ && interactive_);
    config->set_stdin_once(!detach_ && interactive_);
    return absl::OkStatus();
  }

  absl::StatusOr<int> Converse(Context& context, Client& client, const v1::ContainerConfig& config,
                               const std::string& name) {
    auto stream = client.OpenDuplex<v1::RunInput, v1::RunOutput>();
    v1::RunInput open;
    open.mutable_open()->set_name(name);
    *open.mutable_open()->mutable_config() = config;
    open.mutable_open()->set_detach(detach_);
    if (config.tty()) {
      if (const auto size = TerminalWindow(context.in_fd())) {
        auto* console = open.mutable_open()->mutable_config()->mutable_console_size();
        console->set_width(size->width);
        console->set_height(size->height);
      }
    }
    stream->Write(open);
    std::string id;
    bool started = false;
    const auto on_message = [&](const v1::RunOutput& output) {
      if (output.has_created()) id = output.created().id();
      if (output.has_started()) started = true;
      return output.has_started();
    };
    if (detach_) {
      v1::RunOutput output;
      while (stream->Read(&output)) on_message(output);
      GANTRY_RETURN_IF_ERROR(stream->Finish());
      if (!quiet_) context.Out(absl::StrCat(id, "\n"));
      return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(const DetachKeys keys, DetachKeysFrom("", context));
    InteractiveOptions options;
    options.forward_stdin = config.attach_stdin();
    options.tty = config.tty();
    const std::string no_exec;
    const InteractiveOutcome outcome = ctl::Converse<v1::RunInput, v1::RunOutput>(
        context, *stream, options, keys, &id, &no_exec, on_message);
    if (!started && !outcome.exit_code && !outcome.status.ok()) {
      context.Complain(outcome.status);
      return id.empty() ? 1 : StartFailureStatus(outcome.status);
    }
    return ExitStatus(context, outcome);
  }

  ProjectFlags flags_;
  bool detach_ = false, remove_ = false, no_deps_ = false, service_ports_ = false,
       use_aliases_ = false, no_tty_ = false, interactive_ = true, tty_ = false, build_ = false,
       quiet_pull_ = false, remove_orphans_ = false, quiet_ = false;
  std::vector<std::string> publish_, env_, env_files_, labels_, volumes_, cap_add_, cap_drop_;
  std::optional<std::string> entrypoint_;
  std::string name_, user_, workdir_, pull_;
};

// top, stats, attach, export, commit: ctl's own verb on the containers that services stand for.
class OnContainersAction final : public Action {
 public:
  enum class Kind { kTop, kStats, kAttach, kCp };
  explicit OnContainersAction(Kind kind) : kind_(kind) {}
  void AddFlags(FlagSet& flags) override {
    if (kind_ != Kind::kTop && kind_ != Kind::kStats)
      flags.Int(&index_, "index", 0, "Number of the container");
    if (kind_ == Kind::kStats) {
      flags.Bool(&all_, "all", 'a', "Stopped containers too");
      flags.Bool(&no_stream_, "no-stream", 0, "Once");
      flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
      flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    }
    if (kind_ == Kind::kAttach) {
      flags.String(&detach_keys_, "detach-keys", 0, "keys",
                   "Keys that leave it running (default ctrl-p,ctrl-q)");
      flags.Bool(&no_stdin_, "no-stdin", 0, "Do not attach stdin");
      flags.Bool(&signal_proxy_, "sig-proxy", 0,
                 "Pass signals on, without a terminal (default true)");
    }
    if (kind_ == Kind::kCp) {
      flags.Bool(&all_, "all", 0, "Accepted: to all containers is the default").hidden = true;
      flags.Bool(&archive_, "archive", 'a', "With owners");
      flags.Bool(&follow_, "follow-link", 'L', "Follow links of the source");
    }
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, {}));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    compose::Engine engine(*client, Never());
    switch (kind_) {
      case Kind::kTop:
        return Top(context, engine, project, args);
      case Kind::kStats: {
        GANTRY_ASSIGN_OR_RETURN(
            const std::vector<ObservedContainer> containers,
            ContainersOf(engine, project, args, all_, /*one_offs=*/false, false));
        std::vector<std::string> words;
        if (all_) words.push_back("--all");
        if (no_trunc_) words.push_back("--no-trunc");
        if (no_stream_) words.push_back("--no-stream");
        if (!format_.empty()) words.push_back(absl::StrCat("--format=", format_));
        if (containers.empty()) return 0;
        for (const ObservedContainer& container : containers) words.push_back(container.id);
        return RunVerbWith(context, StatsVerb(), words);
      }
      case Kind::kAttach: {
        GANTRY_ASSIGN_OR_RETURN(const ObservedContainer container,
                                ContainerNumbered(engine, project, args[0], index_, true));
        std::vector<std::string> words;
        if (!detach_keys_.empty()) words.push_back(absl::StrCat("--detach-keys=", detach_keys_));
        if (no_stdin_) words.push_back("--no-stdin");
        if (!signal_proxy_) words.push_back("--sig-proxy=false");
        words.push_back(container.id);
        return RunVerbWith(context, AttachVerb(), words);
      }
      case Kind::kCp:
        return Copy(context, engine, project, args);
    }
    return 0;
  }

 private:
  // One table of the processes of all containers.
  static absl::StatusOr<int> Top(Context& context, compose::Engine& engine,
                                 const compose::Project& project,
                                 const std::vector<std::string>& args) {
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<ObservedContainer> containers,
        ContainersOf(engine, project, args, /*all=*/false, /*one_offs=*/true, false));
    std::sort(containers.begin(), containers.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    std::vector<std::string> titles = {"SERVICE", "#"};
    std::vector<std::map<std::string, std::string>> rows;
    for (const ObservedContainer& container : containers) {
      v1::TopRequest request;
      request.set_container(container.id);
      v1::TopResponse response;
      GANTRY_RETURN_IF_ERROR(engine.client().Call(request, &response));
      for (const std::string& title : response.titles()) {
        if (std::find(titles.begin(), titles.end(), title) == titles.end()) titles.push_back(title);
      }
      for (const v1::StringList& process : response.processes()) {
        auto& row = rows.emplace_back();
        row["SERVICE"] = container.service;
        row["#"] = container.one_off ? "" : absl::StrCat(container.number);
        for (int i = 0; i < std::min(process.values_size(), response.titles_size()); ++i)
          row[response.titles(i)] = process.values(i);
      }
    }
    if (rows.empty()) return 0;
    // Command lines come last, because they are of any length.
    if (const auto command = std::find(titles.begin(), titles.end(), "CMD");
        command != titles.end())
      std::rotate(command, command + 1, titles.end());
    std::string text = absl::StrCat(absl::StrJoin(titles, "\t"), "\n");
    for (auto& row : rows) {
      const auto cell = [&row](std::string* out, const std::string& title) {
        const std::string& value = row[title];
        out->append(value.empty() ? "-" : value);
      };
      absl::StrAppend(&text, absl::StrJoin(titles, "\t", cell), "\n");
    }
    context.Out(AlignColumns(text, /*min_width=*/4, /*padding=*/2));
    return 0;
  }

  // SERVICE:PATH stands for a container's path; "./x:y" is a path here.
  absl::StatusOr<int> Copy(Context& context, compose::Engine& engine,
                           const compose::Project& project, const std::vector<std::string>& args) {
    std::vector<std::string> sides = args;
    std::vector<std::string> words;
    if (archive_) words.push_back("-a");
    if (follow_) words.push_back("-L");
    std::vector<ObservedContainer> targets;
    for (size_t side = 0; side < 2; ++side) {
      const size_t colon = sides[side].find(':');
      if (colon == std::string::npos || sides[side][0] == '.' || sides[side][0] == '/') continue;
      const std::string service = sides[side].substr(0, colon);
      const std::string path = sides[side].substr(colon + 1);
      if (side == 0 || index_ != 0) {
        GANTRY_ASSIGN_OR_RETURN(const ObservedContainer container,
                                ContainerNumbered(engine, project, service, index_, false));
        sides[side] = absl::StrCat(container.id, ":", path);
        continue;
      }
      // To all of them.
      GANTRY_ASSIGN_OR_RETURN(targets, ContainersOf(engine, project, {service}, /*all=*/true,
                                                    /*one_offs=*/false, false));
      if (targets.empty())
        return absl::NotFoundError(absl::StrCat("service \"", service, "\" has no container"));
      sides[side] = path;
    }
    if (targets.empty()) {
      words.insert(words.end(), sides.begin(), sides.end());
      return RunVerbWith(context, CpVerb(), words);
    }
    for (const ObservedContainer& target : targets) {
      std::vector<std::string> one = words;
      one.push_back(sides[0]);
      one.push_back(absl::StrCat(target.id, ":", sides[1]));
      GANTRY_ASSIGN_OR_RETURN(const int status, RunVerbWith(context, CpVerb(), one));
      if (status != 0) return status;
    }
    return 0;
  }

  const Kind kind_;
  ProjectFlags flags_;
  int64_t index_ = 0;
  bool no_stream_ = false, archive_ = false, follow_ = false, all_ = false, no_trunc_ = false,
       no_stdin_ = false, signal_proxy_ = true;
  std::string format_, detach_keys_;
};

template <OnContainersAction::Kind kind>
std::unique_ptr<Action> MakeOn() {
  return std::make_unique<OnContainersAction>(kind);
}

}  // namespace

std::vector<Verb> ComposeProcessVerbs() {
  using Kind = OnContainersAction::Kind;
  return {{.name = "exec",
           .arguments = "[OPTIONS] SERVICE COMMAND [ARG...]",
           .summary = "Run a command in a running container of a service",
           .examples = "  ctl compose exec web sh\n"
                       "  ctl compose exec -T db pg_dump -U app app > dump.sql\n",
           .min_args = 2,
           .hands_on = true,
           .completes = "services",
           .make = [] { return std::make_unique<ExecAction>(); }},
          {.name = "run",
           .arguments = "[OPTIONS] SERVICE [COMMAND] [ARG...]",
           .summary = "Run a command in a new container of a service",
           .examples = "  ctl compose run --rm web ./manage.py migrate\n",
           .min_args = 1,
           .hands_on = true,
           .completes = "services",
           .make = [] { return std::make_unique<RunAction>(); }},
          {.name = "top",
           .arguments = "[SERVICE...]",
           .summary = "List the processes of a project's containers",
           .examples = "  ctl compose top web\n",
           .completes = "services",
           .make = MakeOn<Kind::kTop>},
          {.name = "stats",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Watch what a project's containers use",
           .examples = "  ctl compose stats --no-stream\n",
           .completes = "services",
           .make = MakeOn<Kind::kStats>},
          {.name = "attach",
           .arguments = "[OPTIONS] SERVICE",
           .summary = "Connect to the streams of a service's container",
           .examples = "  ctl compose attach web\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "services",
           .make = MakeOn<Kind::kAttach>},
          {.name = "cp",
           .arguments = "[OPTIONS] SERVICE:PATH PATH | PATH SERVICE:PATH",
           .summary = "Copy files between services and here",
           .examples = "  ctl compose cp web:/etc/hosts .\n",
           .min_args = 2,
           .max_args = 2,
           .completes = "services",
           .make = MakeOn<Kind::kCp>}};
}

}  // namespace gantry::ctl
