#include "ctl/compose/complete.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "ctl/compose/env_file.h"

namespace gantry::compose {
namespace {

constexpr const char* kNamespaceKeys[] = {"network_mode", "ipc", "pid"};

// env_file below `environment`, names without value from the project's environment.
absl::Status ResolveEnvironment(const std::string& name, Node& service,
                                const CompleteOptions& options) {
  const std::map<std::string, std::string>& outside = *options.environment;
  const auto lookup = [&outside](const std::string& key) -> std::optional<std::string> {
    const auto found = outside.find(key);
    return found == outside.end() ? std::nullopt : std::optional(found->second);
  };
  Node resolved = Node::Map();
  if (const Node* files = service.Find("env_file")) {
    for (const Node& file : files->items) {
      const std::string path = file.TextOf("path");
      absl::StatusOr<std::string> text = options.read(path);
      if (!text.ok()) {
        if (!file.TrueAt("required")) continue;
        return absl::NotFoundError(absl::StrCat(file.at.Text(), ": services.", name, ": env file ",
                                                path, " not found: ", text.status().message()));
      }
      const OnUnset quiet = [](const std::string&) {};
      absl::StatusOr<std::vector<EnvEntry>> entries = file.TextOf("format") == "raw"
                                                          ? ParseRawEnvFile(*text, lookup)
                                                          : ParseEnvFile(*text, lookup, quiet);
      if (!entries.ok()) {
        return absl::Status(
            entries.status().code(),
            absl::StrCat("services.", name, ": env file ", path, ": ", entries.status().message()));
      }
      for (const EnvEntry& entry : *entries) {
        if (entry.value.has_value()) resolved.Set(entry.key, Node::String(*entry.value));
      }
    }
    service.Remove("env_file");
  }
  if (Node* environment = service.Find("environment")) {
    for (auto& [key, value] : environment->entries) {
      if (value.is_null()) {
        if (std::optional<std::string> found = lookup(key)) {
          const Position at = value.at;
          value = Node::String(*found);
          value.at = at;
        }
      }
      resolved.Set(key, value);
    }
  }
  if (!resolved.entries.empty()) service.Set("environment", std::move(resolved));
  return absl::OkStatus();
}

void AddDependency(Node& service, const std::string& on, bool restart) {
  Node* dependencies = service.Find("depends_on");
  if (dependencies == nullptr || dependencies->is_null())
    dependencies = &service.Set("depends_on", Node::Map());
  if (dependencies->Find(on) != nullptr) return;
  Node dependency = Node::Map();
  dependency.Set("condition", Node::String("service_started"));
  if (restart) dependency.Set("restart", Node::Bool(true));
  dependency.Set("required", Node::Bool(true));
  dependency.at = service.at;
  dependencies->Set(on, std::move(dependency));
}

void ImpliedDependencies(Node& service) {
  if (const Node* links = service.Find("links")) {
    const Node copy = *links;
    for (const Node& link : copy.items)
      AddDependency(service, link.text.substr(0, link.text.find(':')), true);
  }
  for (const char* key : kNamespaceKeys) {
    std::string mode = service.TextOf(key);
    absl::string_view other = mode;
    if (absl::ConsumePrefix(&other, "service:")) AddDependency(service, std::string(other), true);
  }
  if (const Node* from = service.Find("volumes_from")) {
    const Node copy = *from;
    for (const Node& item : copy.items) {
      if (!absl::StartsWith(item.text, "container:"))
        AddDependency(service, item.text.substr(0, item.text.find(':')), false);
    }
  }
}

// Labels of the service's label files, below its own. The files' names stay, because docker compose
// hashes them.
absl::Status ReadLabelFiles(const std::string& name, Node& service,
                            const CompleteOptions& options) {
  const Node* files = service.Find("label_file");
  if (files == nullptr || files->is_null()) return absl::OkStatus();
  Node labels = Node::Map();
  for (const Node& file : files->items) {
    const absl::StatusOr<std::string> text = options.read(file.text);
    if (!text.ok()) {
      return absl::NotFoundError(absl::StrCat(file.at.Text(), ": services.", name, ": label file ",
                                              file.text, " not found: ", text.status().message()));
    }
    const Lookup none = [](const std::string&) { return std::optional<std::string>(); };
    const OnUnset quiet = [](const std::string&) {};
    const absl::StatusOr<std::vector<EnvEntry>> entries = ParseEnvFile(*text, none, quiet);
    if (!entries.ok()) {
      return absl::Status(entries.status().code(),
                          absl::StrCat("services.", name, ": label file ", file.text, ": ",
                                       entries.status().message()));
    }
    for (const EnvEntry& entry : *entries)
      labels.Set(entry.key, Node::String(entry.value.value_or("")));
  }
  if (const Node* own = service.Find("labels")) {
    for (const auto& [key, value] : own->entries) labels.Set(key, value);
  }
  service.Set("labels", std::move(labels));
  return absl::OkStatus();
}

// Defaults of a build. Arguments without value take the environment's, or are left out.
void CompleteBuild(Node& build, const CompleteOptions& options) {
  if (Node* arguments = build.Find("args"); arguments != nullptr && options.resolve_environment) {
    Node resolved = Node::Map();
    for (const auto& [key, value] : arguments->entries) {
      const auto found = options.environment->find(key);
      if (!value.is_null()) {
        resolved.Set(key, value);
      } else if (found != options.environment->end()) {
        resolved.Set(key, Node::String(found->second));
      }
    }
    *arguments = std::move(resolved);
  }
  if (!options.normalize) return;
  if (build.TextOf("context").empty()) build.Set("context", Node::String(options.directory));
  if (build.TextOf("dockerfile").empty() && build.TextOf("dockerfile_inline").empty())
    build.Set("dockerfile", Node::String("Dockerfile"));
}

void NameSecretTargets(Node& service) {
  Node* secrets = service.Find("secrets");
  if (secrets == nullptr) return;
  for (Node& secret : secrets->items) {
    if (secret.TextOf("target").empty() && secret.is_map()) {
      secret.Set("target", Node::String(absl::StrCat("/run/secrets/", secret.TextOf("source"))));
    }
  }
}

// The map below `key` of the document, made if it is not there.
Node& Section(Node& document, const char* key) {
  Node* section = document.Find(key);
  if (section != nullptr && section->is_map()) return *section;
  return document.Set(key, Node::Map());
}

}  // namespace

absl::StatusOr<Node> Complete(const std::string& project, Node merged,
                              const CompleteOptions& options) {
  Node& services = Section(merged, "services");
  bool default_network = false;
  for (auto& [name, service] : services.entries) {
    if (service.is_null()) {
      const Position at = service.at;
      service = Node::Map();
      service.at = at;
    }
    if (options.resolve_environment)
      GANTRY_RETURN_IF_ERROR(ResolveEnvironment(name, service, options));
    GANTRY_RETURN_IF_ERROR(ReadLabelFiles(name, service, options));
    if (Node* build = service.Find("build"); build != nullptr && build->is_map())
      CompleteBuild(*build, options);
    if (!options.normalize) continue;
    ImpliedDependencies(service);
    NameSecretTargets(service);
    const Node* networks = service.Find("networks");
    const bool none = networks == nullptr || networks->is_null() || networks->entries.empty();
    if (none && service.TextOf("network_mode").empty() && service.Find("provider") == nullptr) {
      Node connected = Node::Map();
      connected.Set("default", Node::Null());
      service.Set("networks", std::move(connected));
    }
    networks = service.Find("networks");
    default_network |= networks != nullptr && networks->Find("default") != nullptr;
  }
  if (default_network) {
    Node& networks = Section(merged, "networks");
    if (networks.Find("default") == nullptr) networks.Set("default", Node::Null());
  }
  for (const char* kind : {"networks", "volumes", "secrets", "configs"}) {
    Node* resources = merged.Find(kind);
    if (resources == nullptr || !resources->is_map() || !options.normalize) continue;
    for (auto& [key, resource] : resources->entries) {
      if (resource.is_null()) {
        const Position at = resource.at;
        resource = Node::Map();
        resource.at = at;
      }
      if (!resource.TextOf("name").empty()) continue;
      Node named = Node::Map();
      named.at = resource.at;
      named.Set("name",
                Node::String(resource.TrueAt("external") ? key : absl::StrCat(project, "_", key)));
      for (Node::Entry& entry : resource.entries) named.Set(entry.first, std::move(entry.second));
      resource = std::move(named);
    }
  }
  Node out = Node::Map();
  out.Set("name", Node::String(project));
  for (const char* key : {"services", "networks", "volumes", "secrets", "configs", "models"}) {
    if (Node* section = merged.Find(key); section != nullptr && !section->is_null())
      out.Set(key, std::move(*section));
  }
  for (Node::Entry& entry : merged.entries) {
    if (absl::StartsWith(entry.first, "x-")) out.Set(entry.first, std::move(entry.second));
  }
  return out;
}

}  // namespace gantry::compose
