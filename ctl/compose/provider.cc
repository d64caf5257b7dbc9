#include "ctl/compose/provider.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "base/engine/value.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"

namespace gantry::compose {
namespace {

constexpr size_t kMaxLineBytes = 1 << 20;
constexpr absl::Duration kMetadataPatience = absl::Seconds(10);

std::string Setting(const Project& project, const char* name) {
  const auto found = project.environment.find(name);
  return found == project.environment.end() ? "" : found->second;
}

bool IsProgram(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

// The plugin docker-NAME, or "".
std::string FindPlugin(const Project& project, const std::string& name) {
  std::string own = Setting(project, "DOCKER_CONFIG");
  if (own.empty()) own = Setting(project, "HOME") + "/.docker";
  for (const std::string& directory :
       {own + "/cli-plugins", std::string("/usr/local/lib/docker/cli-plugins"),
        std::string("/usr/local/libexec/docker/cli-plugins"),
        std::string("/usr/lib/docker/cli-plugins"),
        std::string("/usr/libexec/docker/cli-plugins")}) {
    std::string path = absl::StrCat(directory, "/docker-", name);
    if (IsProgram(path)) return path;
  }
  return "";
}

std::string FindInPath(const Project& project, const std::string& name) {
  for (absl::string_view directory :
       absl::StrSplit(Setting(project, "PATH"), ':', absl::SkipEmpty())) {
    std::string path = absl::StrCat(directory, "/", name);
    if (IsProgram(path)) return path;
  }
  return "";
}

std::vector<std::string> EnvironmentOf(const Project& project) {
  std::vector<std::string> out;
  for (const auto& [name, value] : project.environment)
    out.push_back(absl::StrCat(name, "=", value));
  return out;
}

absl::Status Failed(const Node& at, const std::string& service, absl::string_view why) {
  const std::string place = at.at.Text();
  return absl::FailedPreconditionError(
      absl::StrCat(place.empty() ? "" : place + ": ", "service ", service, ": ", why));
}

// Names that a provider lists in its metadata, with whether they are required; nullopt: it has
// none.
std::optional<std::map<std::string, bool>> Parameters(const Project& project,
                                                      const std::string& program,
                                                      const std::string& action) {
  Command command;
  command.argv = {program, "compose", "metadata"};
  command.env = EnvironmentOf(project);
  command.timeout = kMetadataPatience;
  const absl::StatusOr<CommandResult> result = RunCommand(command);
  if (!result.ok() || !result->status.ok()) return std::nullopt;
  const absl::StatusOr<engine::Value> metadata = engine::Value::FromJson(result->out);
  if (!metadata.ok()) return std::nullopt;
  const engine::Value* of_action = metadata->Find(action);
  const engine::Value* listed = of_action == nullptr ? nullptr : of_action->Find("parameters");
  if (listed == nullptr || !listed->is_list() || listed->list().empty()) return std::nullopt;
  std::map<std::string, bool> names;
  for (const engine::Value& one : listed->list()) {
    const engine::Value* name = one.Find("name");
    if (name == nullptr || !name->is_string()) continue;
    const engine::Value* required = one.Find("required");
    names[name->string()] = required != nullptr && required->Truth();
  }
  return names;
}

// Calls `take` with each line that the program prints, and waits for its end.
absl::StatusOr<ExitStatus> RunLines(const Project& project, std::vector<std::string> argv,
                                    const std::atomic<bool>* cancelled,
                                    const std::function<absl::Status(absl::string_view)>& take) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe2");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Command command;
  command.argv = std::move(argv);
  command.env = EnvironmentOf(project);
  command.cwd = project.directory;
  command.stdout_fd = writer.get();
  command.stderr_fd = STDERR_FILENO;
  GANTRY_ASSIGN_OR_RETURN(Process process, Spawn(command));
  writer.reset();
  std::string pending;
  char buffer[16 << 10];
  while (true) {
    if (cancelled != nullptr && *cancelled) return absl::CancelledError("interrupted");
    pollfd descriptor = {reader.get(), POLLIN, 0};
    const int ready = ::poll(&descriptor, 1, 100);
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t n = ::read(reader.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    pending.append(buffer, static_cast<size_t>(n));
    size_t end = 0;
    while ((end = pending.find('\n')) != std::string::npos) {
      const std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      GANTRY_RETURN_IF_ERROR(take(line));
    }
    if (pending.size() > kMaxLineBytes)
      return absl::ResourceExhaustedError("it prints a line of more than 1 MiB");
  }
  if (!pending.empty()) GANTRY_RETURN_IF_ERROR(take(pending));
  return process.Wait();
}

// Into the environment of what depends on `service`; what the file says itself stays.
void SetForDependants(Project& project, const std::string& service, const std::string& name,
                      const std::string& value) {
  Node* services = project.model.Find("services");
  for (auto& [other, node] : services->entries) {
    const Node* dependencies = node.Find("depends_on");
    if (dependencies == nullptr || dependencies->Find(service) == nullptr) continue;
    Node* environment = node.Find("environment");
    if (environment == nullptr || environment->is_null())
      environment = &node.Set("environment", Node::Map());
    if (environment->Find(name) == nullptr) environment->Set(name, Node::String(value));
  }
}

std::string VariablePrefix(const std::string& service) {
  return absl::StrReplaceAll(absl::AsciiStrToUpper(service), {{"-", "_"}, {".", "_"}});
}

absl::Status RunProvider(Project& project, const std::string& service, const std::string& action,
                         const ProviderOptions& options) {
  const Node provider = *project.FindService(service)->Find("provider");
  const std::string type = provider.TextOf("type");
  if (type.empty()) return Failed(provider, service, "provider.type is missing");
  if (type == "compose") {
    return Failed(provider, service, "'compose' is not a valid provider type");
  }
  std::string program = FindPlugin(project, type);
  if (program.empty()) program = FindInPath(project, type);
  if (program.empty()) {
    return Failed(
        provider, service,
        absl::StrCat("required provider \"", type, "\" is not installed: there is no docker-", type,
                     " among docker's plugins, and no ", type, " in PATH"));
  }
  const auto parameters = Parameters(project, program, action);
  std::vector<std::string> argv = {program, "compose",
                                   absl::StrCat("--project-name=", project.name), action};
  std::set<std::string> given;
  if (const Node* texts = provider.Find("options")) {
    for (const auto& [name, values] : texts->entries) {
      if (parameters.has_value() && parameters->count(name) == 0) continue;
      given.insert(name);
      for (const Node& value : values.items)
        argv.push_back(absl::StrCat("--", name, "=", value.text));
    }
  }
  if (parameters.has_value()) {
    for (const auto& [name, required] : *parameters) {
      if (required && given.count(name) == 0) {
        return Failed(provider, service,
                      absl::StrCat("provider \"", type, "\" needs the option ", name));
      }
    }
  }
  argv.push_back(service);
  std::string error;
  const absl::StatusOr<ExitStatus> ended =
      RunLines(project, argv, options.cancelled, [&](absl::string_view line) -> absl::Status {
        if (line.empty()) return absl::OkStatus();
        GANTRY_ASSIGN_OR_RETURN(const ProviderMessage message, ParseProviderMessage(line));
        switch (message.type) {
          case ProviderMessage::Type::kInfo:
            if (options.info) options.info(service, message.text);
            break;
          case ProviderMessage::Type::kError:
            error = message.text;
            break;
          case ProviderMessage::Type::kSetEnv:
          case ProviderMessage::Type::kRawSetEnv: {
            const size_t equals = message.text.find('=');
            if (equals == std::string::npos || equals == 0)
              return absl::InvalidArgumentError("it sets a variable without a value");
            const std::string name = message.text.substr(0, equals);
            SetForDependants(project, service,
                             message.type == ProviderMessage::Type::kRawSetEnv
                                 ? name
                                 : absl::StrCat(VariablePrefix(service), "_", name),
                             message.text.substr(equals + 1));
            break;
          }
          case ProviderMessage::Type::kDebug:
          case ProviderMessage::Type::kOther:
            break;
        }
        return absl::OkStatus();
      });
  if (absl::IsCancelled(ended.status())) return ended.status();
  if (!ended.ok()) {
    return Failed(provider, service,
                  absl::StrCat("provider \"", type, "\": ", ended.status().message()));
  }
  if (!error.empty() || !ended->ok()) {
    return Failed(
        provider, service,
        absl::StrCat("provider \"", type, "\": ", error.empty() ? ended->ToString() : error));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ProviderMessage> ParseProviderMessage(absl::string_view line) {
  const absl::StatusOr<engine::Value> value = engine::Value::FromJson(line);
  const engine::Value* type = value.ok() ? value->Find("type") : nullptr;
  const engine::Value* text = value.ok() ? value->Find("message") : nullptr;
  if (type == nullptr || !type->is_string() || text == nullptr || !text->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("its output is not a line of JSON with type and message: ",
                     line.substr(0, std::min<size_t>(line.size(), 80))));
  }
  ProviderMessage message;
  message.text = text->string();
  using Type = ProviderMessage::Type;
  static const std::map<std::string, Type> kTypes{{"info", Type::kInfo},
                                                  {"error", Type::kError},
                                                  {"debug", Type::kDebug},
                                                  {"setenv", Type::kSetEnv},
                                                  {"rawsetenv", Type::kRawSetEnv}};
  if (const auto known = kTypes.find(type->string()); known != kTypes.end())
    message.type = known->second;
  return message;
}

bool NeedsPrograms(const Project& project, const std::vector<std::string>& services) {
  return std::any_of(services.begin(), services.end(), [&](const std::string& name) {
    const Node* service = project.FindService(name);
    return service != nullptr &&
           (service->Find("provider") != nullptr || service->Find("models") != nullptr);
  });
}

absl::Status RunProviders(Project& project, const std::vector<std::string>& services,
                          const std::string& action, const ProviderOptions& options) {
  for (const std::string& name : services) {
    const Node* service = project.FindService(name);
    if (service == nullptr || service->Find("provider") == nullptr) continue;
    GANTRY_RETURN_IF_ERROR(RunProvider(project, name, action, options));
  }
  return absl::OkStatus();
}

absl::Status ServeModels(Project& project, const std::vector<std::string>& services,
                         const ProviderOptions& options) {
  // By key, with a service that uses it.
  std::map<std::string, std::string> used;
  for (const std::string& name : services) {
    const Node* service = project.FindService(name);
    const Node* models = service == nullptr ? nullptr : service->Find("models");
    if (models == nullptr) continue;
    for (const auto& [key, node] : models->entries) used.emplace(key, name);
  }
  if (used.empty()) return absl::OkStatus();
  const Node* declared = project.model.Find("models");
  const std::string program = FindPlugin(project, "model");
  if (program.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("service ", used.begin()->second,
                     ": 'models' support requires Docker Model "
                     "plugin: there is no docker-model among docker's plugins"));
  }
  const auto run = [&](const std::string& service, const Node& at,
                       std::vector<std::string> words) -> absl::StatusOr<std::string> {
    words.insert(words.begin(), program);
    std::string out;
    GANTRY_ASSIGN_OR_RETURN(const ExitStatus ended, RunLines(project, words, options.cancelled,
                                                             [&](absl::string_view line) {
                                                               absl::StrAppend(&out, line, "\n");
                                                               return absl::OkStatus();
                                                             }));
    if (ended.ok()) return out;
    return Failed(at, service, absl::StrCat("docker-model ", words[1], ": ", ended.ToString()));
  };
  for (const auto& [key, service] : used) {
    const Node* model = declared == nullptr ? nullptr : declared->Find(key);
    if (model == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("service \"", service, "\" refers to undefined model ", key));
    }
    const std::string name = model->TextOf("model");
    if (options.info) options.info(service, absl::StrCat("fetching model ", name));
    GANTRY_RETURN_IF_ERROR(run(service, *model, {"pull", name}).status());
    std::vector<std::string> configure = {"configure"};
    if (const std::string size = model->TextOf("context_size"); !size.empty())
      configure.push_back(absl::StrCat("--context-size=", size));
    configure.push_back(name);
    if (const Node* flags = model->Find("runtime_flags");
        flags != nullptr && !flags->items.empty()) {
      configure.push_back("--");
      for (const Node& flag : flags->items) configure.push_back(flag.text);
    }
    GANTRY_RETURN_IF_ERROR(run(service, *model, configure).status());
  }
  const Node& first = *declared->Find(used.begin()->first);
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          run(used.begin()->second, first, {"status", "--json"}));
  const absl::StatusOr<engine::Value> status = engine::Value::FromJson(text);
  const engine::Value* endpoint = status.ok() ? status->Find("endpoint") : nullptr;
  if (endpoint == nullptr || !endpoint->is_string()) {
    return Failed(first, used.begin()->second, "docker-model status --json names no endpoint");
  }
  for (const std::string& name : services) {
    Node* all = project.model.Find("services");
    Node* service = all == nullptr ? nullptr : all->Find(name);
    const Node* models = service == nullptr ? nullptr : service->Find("models");
    if (models == nullptr) continue;
    Node environment = Node::Map();
    if (const Node* own = service->Find("environment")) environment = *own;
    for (const auto& [key, node] : models->entries) {
      const std::string prefix = VariablePrefix(key);
      const auto set = [&](const char* chosen, const char* suffix, const std::string& value) {
        std::string variable = node.TextOf(chosen);
        if (variable.empty()) variable = prefix + suffix;
        environment.Set(variable, Node::String(value));
      };
      set("endpoint_var", "_URL", endpoint->string());
      set("model_var", "_MODEL", declared->Find(key)->TextOf("model"));
    }
    service->Set("environment", std::move(environment));
  }
  return absl::OkStatus();
}

}  // namespace gantry::compose
