#include "ctl/verb.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"

#include "base/file.h"
#include "ctl/terminal.h"
#include "ctl/text.h"
#include "ctl/version.h"

namespace gantry::ctl {
namespace {

// docker's: flags it does not know, and anything else wrong with a command line.
constexpr int kFlagStatus = 125;
// Commands that a docker user may type and that ctl does not have: none of ctl's is meant then,
// however similar it is.
bool IsDockersOnly(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "build",    "builder", "buildx", "checkpoint", "compose", "context",
      "manifest", "network", "node",   "plugin",     "search",  "secret",
      "service",  "stack",   "swarm",  "trust"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

constexpr int kUsageStatus = 1;

bool Answers(const Verb& verb, absl::string_view word) {
  return verb.name == word ||
         std::find(verb.aliases.begin(), verb.aliases.end(), word) != verb.aliases.end();
}

const Verb* FindVerb(const Verb& group, absl::string_view word) {
  for (const Verb& verb : group.verbs) {
    if (Answers(verb, word)) return &verb;
  }
  return nullptr;
}

// The way from the root to a verb: "ctl image ls".
std::string Path(const std::vector<const Verb*>& way) {
  std::vector<std::string> names;
  for (const Verb* verb : way) names.push_back(verb->name);
  return absl::StrJoin(names, " ");
}

std::string GroupHelp(const std::vector<const Verb*>& way) {
  const Verb& group = *way.back();
  std::string out =
      absl::StrCat("Usage:  ", Path(way), " COMMAND\n\n", group.summary, "\n\nCommands:\n");
  size_t width = 0;
  for (const Verb& verb : group.verbs) width = std::max(width, verb.name.size());
  for (const Verb& verb : group.verbs) {
    if (verb.hidden || !verb.verbs.empty()) continue;
    absl::StrAppend(&out, "  ", verb.name, std::string(width - verb.name.size() + 2, ' '),
                    verb.summary, "\n");
  }
  bool groups = false;
  for (const Verb& verb : group.verbs) {
    if (verb.hidden || verb.verbs.empty()) continue;
    if (!groups) out += "\nGroups of commands:\n";
    groups = true;
    absl::StrAppend(&out, "  ", verb.name, std::string(width - verb.name.size() + 2, ' '),
                    verb.summary, "\n");
  }
  if (group.group_flags) {
    FlagSet flags;
    Context nowhere({}, {});
    group.group_flags(flags, nowhere);
    absl::StrAppend(&out, "\nOptions, before the command:\n", flags.Help());
  }
  absl::StrAppend(&out, "\n'", Path(way),
                  " COMMAND --help' shows a command's options and examples.\n");
  return out;
}

std::string VerbHelp(const std::vector<const Verb*>& way, const FlagSet& flags) {
  const Verb& verb = *way.back();
  std::string out =
      absl::StrCat("Usage:  ", Path(way), " ", verb.arguments, "\n\n", verb.summary, "\n");
  if (!verb.aliases.empty()) {
    absl::StrAppend(&out, "\nAliases:  ", absl::StrJoin(verb.aliases, ", "), "\n");
  }
  const std::string options = flags.Help();
  if (!options.empty()) absl::StrAppend(&out, "\nOptions:\n", options);
  if (!verb.examples.empty()) absl::StrAppend(&out, "\nExamples:\n", verb.examples);
  return out;
}

void AddGlobalFlags(FlagSet& flags, Context& context, bool* help, bool* version) {
  flags.String(&context.address, "address", 'H', "SOCKET",
               "gantryd's socket (GANTRY_ADDRESS; default /run/gantry/gantry.sock)");
  flags.Alias("host", "address");
  flags.String(&context.name_space, "namespace", 'n', "NAME",
               "Namespace to work in (GANTRY_NAMESPACE; default \"default\")");
  // Flags of docker's that wrappers and aliases pass; they have no effect here.
  const auto ignored = [&](absl::string_view name, char letter, absl::string_view value_name) {
    flags
        .Custom(name, letter, value_name, "Accepted for compatibility with docker",
                [](absl::string_view) { return absl::OkStatus(); })
        .hidden = true;
  };
  ignored("debug", 'D', "");
  ignored("log-level", 'l', "level");
  flags
      .Custom("config", 0, "DIR", "Directory of the client's configuration (DOCKER_CONFIG)",
              [&context](absl::string_view dir) {
                context.SetEnvironment("DOCKER_CONFIG", std::string(dir));
                return absl::OkStatus();
              })
      .completes = "files";
  flags
      .Custom("context", 'c', "name", "Only \"default\", the daemon that --address names",
              [](absl::string_view name) {
                return name == "default" || name.empty()
                           ? absl::OkStatus()
                           : absl::InvalidArgumentError(
                                 "there is only the context \"default\"; "
                                 "--address chooses another daemon");
              })
      .hidden = true;
  flags.Bool(help, "help", 'h', "Show this text");
  flags.Bool(version, "version", 'v', "Show the version of ctl");
}

absl::Status CheckArguments(const Verb& verb, const std::string& path, size_t given) {
  const auto n = static_cast<int>(given);
  if (n >= verb.min_args && (verb.max_args < 0 || n <= verb.max_args)) return absl::OkStatus();
  std::string wanted;
  if (verb.max_args == 0) {
    wanted = "accepts no arguments";
  } else if (verb.min_args == verb.max_args) {
    wanted = absl::StrCat("requires exactly ", verb.min_args, " argument",
                          verb.min_args == 1 ? "" : "s");
  } else if (n < verb.min_args) {
    wanted = absl::StrCat("requires at least ", verb.min_args, " argument",
                          verb.min_args == 1 ? "" : "s");
  } else {
    wanted = absl::StrCat("requires at most ", verb.max_args, " argument",
                          verb.max_args == 1 ? "" : "s");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", path, "\" ", wanted, ".\n\nUsage:  ", path, " ", verb.arguments));
}

}  // namespace

Context::Context(Streams streams, std::map<std::string, std::string> environment)
    : streams_(streams), environment_(std::move(environment)) {}
Context::~Context() = default;

void Context::Out(absl::string_view text) {
  IsTerminal(streams_.out) ? OutRaw(Printable(text)) : OutRaw(text);
}

void Context::Err(absl::string_view text) {
  IsTerminal(streams_.err) ? ErrRaw(Printable(text)) : ErrRaw(text);
}

void Context::OutRaw(absl::string_view text) {
  const absl::Status status = WriteAll(streams_.out, text);
  if (!status.ok()) {
    // The reader is gone: no output can be delivered any more.
    ::signal(SIGPIPE, SIG_DFL);
    ::raise(SIGPIPE);
    ::_exit(1);
  }
}

void Context::ErrRaw(absl::string_view text) { (void)WriteAll(streams_.err, text); }

bool Context::OutIsTerminal() const { return IsTerminal(streams_.out); }

std::string Context::Environment(const std::string& name) const {
  const auto it = environment_.find(name);
  return it == environment_.end() ? "" : it->second;
}

absl::StatusOr<Client*> Context::client() {
  if (client_ == nullptr) {
    auto connected = Client::Connect(address, name_space);
    if (!connected.ok()) return connected.status();
    client_ = *std::move(connected);
  }
  return client_.get();
}

void Context::Complain(const absl::Status& status) {
  if (status.message().empty()) return;
  Err(absl::StrCat(
      IsDaemonError(status) ? "Error response from daemon: " : "ctl: ", status.message(), "\n"));
}

FlagSet GlobalFlags() {
  // What they would set; nobody parses with them.
  static Context* const context = new Context({}, {});
  static bool help = false;
  static bool version = false;
  FlagSet flags;
  AddGlobalFlags(flags, *context, &help, &version);
  return flags;
}

int RunCommandLine(const Verb& root, Context& context, const std::vector<std::string>& args) {
  context.root = &root;
  context.address = context.Environment("GANTRY_ADDRESS");
  if (context.address.empty()) context.address = "/run/gantry/gantry.sock";
  context.name_space = context.Environment("GANTRY_NAMESPACE");
  if (context.name_space.empty()) context.name_space = "default";

  bool help = false;
  bool version = false;
  FlagSet global;
  AddGlobalFlags(global, context, &help, &version);
  std::vector<std::string> rest;
  if (const absl::Status status = global.Parse(args, true, &rest); !status.ok()) {
    context.Complain(status);
    context.Err(absl::StrCat("See '", root.name, " --help'.\n"));
    return kFlagStatus;
  }
  if (version) {
    context.Out(absl::StrCat("ctl version ", kCtlVersion, "\n"));
    return 0;
  }

  // `ctl help image ls` is `ctl image ls --help`.
  if (!rest.empty() && rest[0] == "help") {
    rest.erase(rest.begin());
    rest.push_back("--help");
  }
  std::vector<const Verb*> way = {&root};
  size_t next = 0;
  while (!way.back()->verbs.empty()) {
    const Verb& group = *way.back();
    if (next < rest.size() && (rest[next] == "--help" || rest[next] == "-h")) help = true;
    if (help && next >= rest.size()) break;
    if (next >= rest.size()) break;
    if (rest[next] == "--help" || rest[next] == "-h") {
      ++next;
      continue;
    }
    if (group.group_flags && absl::StartsWith(rest[next], "-")) {
      FlagSet flags;
      group.group_flags(flags, context);
      std::vector<std::string> behind;
      const absl::Status status = flags.Parse(
          std::vector<std::string>(rest.begin() + static_cast<int64_t>(next), rest.end()), true,
          &behind);
      if (!status.ok()) {
        context.Complain(status);
        context.Err(absl::StrCat("See '", Path(way), " --help'.\n"));
        return kFlagStatus;
      }
      next = rest.size() - behind.size();
      continue;
    }
    const Verb* verb = FindVerb(group, rest[next]);
    if (verb == nullptr) {
      if (group.make) break;
      if (way.size() == 1 && IsDockersOnly(rest[next])) {
        context.Err(absl::StrCat("ctl: docker's command '", rest[next],
                                 "' does not exist in ctl\nSee 'ctl --help'.\n"));
        return kUsageStatus;
      }
      std::vector<std::string> names;
      for (const Verb& v : group.verbs) {
        if (v.hidden) continue;
        names.push_back(v.name);
        names.insert(names.end(), v.aliases.begin(), v.aliases.end());
      }
      const std::string near = Nearest(rest[next], names);
      context.Err(absl::StrCat("ctl: '", rest[next], "' is not a ", Path(way), " command",
                               near.empty() ? "" : absl::StrCat("; did you mean ", near, "?"),
                               "\nSee '", Path(way), " --help'.\n"));
      return kUsageStatus;
    }
    way.push_back(verb);
    ++next;
  }
  const Verb& verb = *way.back();
  if (!verb.make) {
    (help || way.size() > 1 ? void(context.Out(GroupHelp(way)))
                            : void(context.Err(GroupHelp(way))));
    return 0;
  }

  const std::unique_ptr<Action> action = verb.make();
  FlagSet flags;
  action->AddFlags(flags);
  for (const Verb* group : way) {
    if (!group->group_flags) continue;
    FlagSet inherited;
    group->group_flags(inherited, context);
    flags.Inherit(inherited);
  }
  // `-h` stays free: it is `--hostname` of run, `--human` elsewhere.
  flags.Bool(&help, "help", flags.FindLetter('h') == nullptr ? 'h' : 0, "Show this text");
  std::vector<std::string> positional;
  const std::vector<std::string> verb_args(rest.begin() + static_cast<int64_t>(next), rest.end());
  absl::Status status = flags.Parse(verb_args, verb.hands_on, &positional);
  if (status.ok() && help) {
    context.Out(VerbHelp(way, flags));
    return 0;
  }
  const int usage_status = status.ok() ? kUsageStatus : kFlagStatus;
  if (status.ok()) status = CheckArguments(verb, Path(way), positional.size());
  if (!status.ok()) {
    context.Complain(status);
    context.Err(absl::StrCat("See '", Path(way), " --help'.\n"));
    return usage_status;
  }

  auto result = action->Run(context, positional);
  if (!result.ok()) {
    context.Complain(result.status());
    return verb.error_status;
  }
  return *result;
}

int ForEach(Context& context, const std::vector<std::string>& names,
            const std::function<absl::StatusOr<std::string>(const std::string&)>& one) {
  int exit_status = 0;
  for (const std::string& name : names) {
    auto result = one(name);
    if (!result.ok()) {
      context.Complain(result.status());
      exit_status = 1;
    } else if (!result->empty()) {
      context.Out(absl::StrCat(*result, "\n"));
    }
  }
  return exit_status;
}

int ForEachAtOnce(Context& context, const std::vector<std::string>& names,
                  const std::function<absl::StatusOr<std::string>(const std::string&)>& one) {
  constexpr size_t kAtOnce = 16;
  if (names.size() < 2) return ForEach(context, names, one);
  absl::Mutex mu;
  std::vector<absl::optional<absl::StatusOr<std::string>>> results(names.size());  // under mu
  size_t next = 0;                                                                 // under mu
  std::vector<std::thread> workers;
  for (size_t i = 0; i < std::min(kAtOnce, names.size()); ++i) {
    workers.emplace_back([&] {
      absl::MutexLock lock(&mu);
      while (next < names.size()) {
        const size_t mine = next++;
        mu.Unlock();
        auto result = one(names[mine]);
        mu.Lock();
        results[mine] = std::move(result);
      }
    });
  }
  int exit_status = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    mu.LockWhen(absl::Condition(
        +[](absl::optional<absl::StatusOr<std::string>>* result) { return result->has_value(); },
        &results[i]));
    const absl::StatusOr<std::string> result = *std::move(results[i]);
    mu.Unlock();
    if (!result.ok()) {
      context.Complain(result.status());
      exit_status = 1;
    } else if (!result->empty()) {
      context.Out(absl::StrCat(*result, "\n"));
    }
  }
  for (std::thread& worker : workers) worker.join();
  return exit_status;
}

}  // namespace gantry::ctl
