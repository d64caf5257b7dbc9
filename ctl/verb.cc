#include "ctl/verb.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"

#include "base/engine/id_names.h"
#include "base/file.h"
#include "ctl/contexts.h"
#include "ctl/global_flags.h"
#include "ctl/terminal.h"
#include "ctl/text.h"
#include "ctl/version.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::ctl {
namespace {

// docker's: flags it does not know, and anything else wrong with a command line.
constexpr int kFlagStatus = 125;
// Commands that a docker user may type and that ctl does not have: none of ctl's is meant then,
// however similar it is.
bool IsDockersOnly(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {"checkpoint", "node",  "secret", "service",
                                                 "stack",      "swarm", "trust"};
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
  for (const Verb* verb : way) names.emplace_back(verb->name);
  return absl::StrJoin(names, " ");
}

// Breaks lines that are wider than `width` between words. What follows stands below the line's last
// column, which two spaces set off, if that leaves room. Examples stay as they are: they are to be
// copied.
std::string Wrapped(absl::string_view text, size_t width) {
  constexpr size_t kLeast = 24;  // columns that a wrapped text needs
  std::string out;
  bool examples = false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line == "Examples:") examples = true;
    size_t hang = line.find_first_not_of(' ');
    const size_t column = line.rfind("  ", width);
    if (column != line.npos && column + 2 > hang) hang = column + 2;
    if (hang == line.npos || hang + kLeast > width) hang = 4;
    size_t indent = 0;  // in front of what is left of the line
    while (!examples && indent + line.size() > width) {
      const size_t cut = line.rfind(' ', width - indent);
      if (cut == line.npos || cut == 0 || (indent == 0 && cut <= hang)) break;
      absl::StrAppend(&out, std::string(indent, ' '), line.substr(0, cut), "\n");
      line.remove_prefix(cut + 1);
      indent = hang;
    }
    out.append(indent, ' ');
    absl::StrAppend(&out, line, "\n");
  }
  out.pop_back();
  return out;
}

// As wide as the terminal that it goes to, 80 columns if it goes elsewhere.
std::string ForScreen(absl::string_view text, int fd) {
  constexpr size_t kColumns = 80;
  const auto window = TerminalWindow(fd);
  return Wrapped(text, window && window->width >= 40 ? window->width : kColumns);
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
  if (way.size() == 1) {
    FlagSet flags;
    Context nowhere({}, {});
    GlobalOptions unused;
    AddGlobalFlags(flags, nowhere, &unused);
    absl::StrAppend(&out, "\nGlobal options, before the command:\n", flags.Help());
  } else if (group.group_flags) {
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

constexpr char kDefaultAddress[] = "/run/gantry/gantry.sock";
constexpr absl::string_view kExitStatusUrl = "ctl/exit-status";

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

absl::Status CheckName(absl::string_view kind, absl::string_view name) {
  if (!name.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("invalid ", kind, " name or ID: value is empty; a variable may be unset"));
}

absl::Status WithExitStatus(absl::Status status, int exit_status) {
  status.SetPayload(kExitStatusUrl, absl::Cord(absl::StrCat(exit_status)));
  return status;
}

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
    auto usable = UsableAddress();
    if (!usable.ok()) return usable.status();
    auto connected = Client::Connect(*usable, name_space);
    if (!connected.ok()) {
      if (context_name == kDefaultContext) return connected.status();
      return absl::Status(connected.status().code(), absl::StrCat("context ", context_name, ": ",
                                                                  connected.status().message()));
    }
    client_ = *std::move(connected);
  }
  return client_.get();
}

void Context::ChooseDaemon(bool address_given) {
  const bool context_given = !context_name.empty();
  std::string wanted = context_name;
  context_name = kDefaultContext;
  if (address_given) {
    if (context_given) {
      choice_ = absl::InvalidArgumentError(
          "conflicting options: cannot specify both --host and --context");
    }
    return;
  }
  const bool by_default = !context_given || wanted == kDefaultContext;
  address = by_default ? Environment("GANTRY_ADDRESS") : "";
  if (!address.empty()) return;
  address = kDefaultAddress;
  const ContextStore store(environment_);
  if (!context_given) wanted = Environment("DOCKER_CONTEXT");
  if (wanted.empty()) {
    auto current = store.Current();
    // A file that does not parse is the business of what stores something there.
    if (current.ok()) wanted = *std::move(current);
  }
  if (wanted.empty() || wanted == kDefaultContext) return;
  context_name = wanted;
  auto record = store.Find(wanted);
  if (!record.ok()) {
    choice_ = record.status();
  } else if (address = record->host(); address.empty()) {
    choice_ = absl::FailedPreconditionError(
        absl::StrCat("context \"", wanted, "\" names no daemon; ctl context update ", wanted,
                     " --docker host=unix:///PATH says which"));
  }
}

absl::StatusOr<std::string> Context::UsableAddress() const {
  if (!choice_.ok()) return choice_;
  return address;
}

void Context::Complain(const absl::Status& status) {
  if (status.message().empty()) return;
  std::string message(status.message());
  if (client_ != nullptr && engine::HoldsId(message)) {
    message = engine::WithNames(message, [this](const std::string& id) { return NameOf(id); });
  }
  Err(absl::StrCat(IsDaemonError(status) ? "Error response from daemon: " : "ctl: ", message,
                   "\n"));
}

std::string Context::NameOf(const std::string& id) {
  constexpr absl::Duration kPatience = absl::Seconds(1);
  v1::InspectContainerRequest container;
  container.set_container(id);
  v1::InspectContainerResponse found;
  if (client_->Call(container, &found, kPatience).ok()) return found.container().summary().name();
  v1::InspectNetworkRequest network;
  network.set_network(id);
  v1::InspectNetworkResponse known;
  if (client_->Call(network, &known, kPatience).ok()) return known.network().name();
  return "";
}

FlagSet GlobalFlags() {
  // What they would set; nobody parses with them.
  static Context* const context = new Context({}, {});
  static GlobalOptions options;
  FlagSet flags;
  AddGlobalFlags(flags, *context, &options);
  return flags;
}

int RunCommandLine(const Verb& root, Context& context, const std::vector<std::string>& args) {
  context.root = &root;
  context.name_space = context.Environment("GANTRY_NAMESPACE");
  if (context.name_space.empty()) context.name_space = "default";

  GlobalOptions options;
  FlagSet global;
  AddGlobalFlags(global, context, &options);
  std::vector<std::string> rest;
  if (const absl::Status status = global.Parse(args, true, &rest); !status.ok()) {
    context.Complain(status);
    context.Err(absl::StrCat("See '", root.name, " --help'.\n"));
    return kFlagStatus;
  }
  context.ChooseDaemon(global.Seen("address"));
  if (const absl::Status status = CheckGlobalOptions(options); !status.ok()) {
    context.Complain(status);
    return kUsageStatus;
  }
  bool help = options.help;
  if (options.version) {
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
      if (absl::StartsWith(rest[next], "-") && way.size() > 1) {
        std::vector<std::string> unused;
        context.Complain(FlagSet().Parse({rest[next]}, true, &unused));
        context.Err(absl::StrCat("See '", Path(way), " --help'.\n"));
        return kFlagStatus;
      }
      if (way.size() == 1 && IsDockersOnly(rest[next])) {
        context.Err(absl::StrCat("ctl: docker's command '", rest[next],
                                 "' does not exist in ctl\nSee 'ctl --help'.\n"));
        return kUsageStatus;
      }
      std::vector<std::string> names;
      for (const Verb& v : group.verbs) {
        if (v.hidden) continue;
        names.emplace_back(v.name);
        for (const absl::string_view alias : v.aliases) names.emplace_back(alias);
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
    help ? context.Out(ForScreen(GroupHelp(way), context.out_fd()))
         : context.Err(ForScreen(GroupHelp(way), context.err_fd()));
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
    context.Out(ForScreen(VerbHelp(way, flags), context.out_fd()));
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
    const auto own = result.status().GetPayload(kExitStatusUrl);
    int exit_status = verb.error_status;
    if (own) (void)absl::SimpleAtoi(std::string(*own), &exit_status);
    return exit_status;
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
