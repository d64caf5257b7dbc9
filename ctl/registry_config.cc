#include "ctl/registry_config.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"

namespace gantry::ctl {
namespace {

constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr char kHubKey[] = "https://index.docker.io/v1/";
constexpr absl::Duration kHelperPatience = absl::Seconds(60);

std::string Text(const Value* value) {
  return value != nullptr && value->is_string() ? value->string() : "";
}

absl::StatusOr<CommandResult> CallHelper(const std::string& helper, const std::string& verb,
                                         const std::string& input) {
  gantry::Command command;
  command.argv = {absl::StrCat("docker-credential-", helper), verb};
  command.timeout = kHelperPatience;
  auto result = RunCommand(command, input);
  if (!result.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("credential helper docker-credential-",
                                                      helper, ": ", result.status().message()));
  }
  return result;
}

// The keys under which a registry may be found.
std::vector<std::string> Spellings(const std::string& registry) {
  const std::string key = ConfigKey(registry);
  if (key == kHubKey) return {kHubKey, "docker.io", "index.docker.io", "registry-1.docker.io"};
  return {key,
          absl::StrCat("https://", key),
          absl::StrCat("http://", key),
          absl::StrCat("https://", key, "/"),
          absl::StrCat("https://", key, "/v1/"),
          absl::StrCat("https://", key, "/v2/")};
}

// Copies an object without one field.
Value Without(const Value& object, absl::string_view key) {
  Value out = Value::EmptyObject();
  if (!object.is_object()) return out;
  for (const auto& [name, value] : object.object().fields) {
    if (name != key) out.Set(name, value);
  }
  return out;
}

}  // namespace

std::string RegistryOfReference(absl::string_view reference) {
  const size_t slash = reference.find('/');
  if (slash == reference.npos) return "docker.io";
  const absl::string_view first = reference.substr(0, slash);
  if (first == "localhost" || first.find_first_of(".:") != first.npos) {
    return first == "index.docker.io" ? "docker.io" : std::string(first);
  }
  return "docker.io";
}

std::string ConfigKey(absl::string_view registry) {
  if (registry == kHubKey) return kHubKey;
  if (!absl::ConsumePrefix(&registry, "https://")) absl::ConsumePrefix(&registry, "http://");
  registry = registry.substr(0, registry.find('/'));
  if (registry.empty() || registry == "docker.io" || registry == "index.docker.io" ||
      registry == "registry-1.docker.io") {
    return kHubKey;
  }
  return std::string(registry);
}

absl::StatusOr<RegistryConfig> RegistryConfig::Load(
    const std::map<std::string, std::string>& environment) {
  RegistryConfig config;
  const auto directory = environment.find("DOCKER_CONFIG");
  const auto home = environment.find("HOME");
  config.path_ = directory != environment.end() && !directory->second.empty()
                     ? absl::StrCat(directory->second, "/config.json")
                     : absl::StrCat(home == environment.end() ? "/root" : home->second,
                                    "/.docker/config.json");
  auto text = ReadFile(config.path_, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) return config;
  GANTRY_RETURN_IF_ERROR(text.status());
  if (absl::StripAsciiWhitespace(*text).empty()) return config;
  auto document = Value::FromJson(*text);
  if (!document.ok() || !document->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        config.path_, ": ", document.ok() ? "not a JSON object" : document.status().message()));
  }
  config.document_ = *std::move(document);
  return config;
}

std::string RegistryConfig::HelperFor(const std::string& registry) const {
  if (const Value* helpers = document_.Find("credHelpers")) {
    for (const std::string& key : Spellings(registry)) {
      const std::string helper = Text(helpers->Find(key));
      if (!helper.empty()) return helper;
    }
  }
  return Text(document_.Find("credsStore"));
}

absl::StatusOr<Credential> RegistryConfig::Find(const std::string& registry) const {
  Credential credential;
  if (const std::string helper = HelperFor(registry); !helper.empty()) {
    GANTRY_ASSIGN_OR_RETURN(CommandResult result, CallHelper(helper, "get", ConfigKey(registry)));
    if (!result.status.ok()) {
      // Helpers report a missing entry by a message, not by an exit code.
      if (absl::StrContains(result.out, "not found") ||
          absl::StrContains(result.err, "not found")) {
        return credential;
      }
      return absl::FailedPreconditionError(absl::StrCat(
          "credential helper docker-credential-", helper, ": ",
          absl::StripAsciiWhitespace(result.out), " ", absl::StripAsciiWhitespace(result.err)));
    }
    auto answer = Value::FromJson(result.out);
    if (!answer.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("credential helper docker-credential-", helper, ": answer is not JSON"));
    }
    credential.source = absl::StrCat("docker-credential-", helper);
    const std::string username = Text(answer->Find("Username"));
    const std::string secret = Text(answer->Find("Secret"));
    if (username == "<token>") {
      credential.identity_token = secret;
    } else {
      credential.username = username;
      credential.password = secret;
    }
    return credential;
  }

  const Value* auths = document_.Find("auths");
  if (auths == nullptr) return credential;
  for (const std::string& key : Spellings(registry)) {
    const Value* entry = auths->Find(key);
    if (entry == nullptr || !entry->is_object()) continue;
    credential.source = absl::StrCat(path_, ", auths[\"", key, "\"]");
    credential.username = Text(entry->Find("username"));
    credential.password = Text(entry->Find("password"));
    credential.identity_token = Text(entry->Find("identitytoken"));
    credential.registry_token = Text(entry->Find("registrytoken"));
    const std::string encoded = Text(entry->Find("auth"));
    std::string pair;
    if (!encoded.empty()) {
      if (!absl::Base64Unescape(encoded, &pair) || !absl::StrContains(pair, ":")) {
        return absl::InvalidArgumentError(
            absl::StrCat(path_, ": auths[\"", key, "\"].auth is not base64 of user:password"));
      }
      const size_t colon = pair.find(':');
      credential.username = pair.substr(0, colon);
      credential.password = pair.substr(colon + 1);
      // Docker's files may be padded with NUL bytes.
      while (!credential.password.empty() && credential.password.back() == '\0') {
        credential.password.pop_back();
      }
    }
    return credential;
  }
  return credential;
}

absl::StatusOr<std::string> RegistryConfig::Store(const std::string& registry,
                                                  const Credential& credential) {
  const std::string key = ConfigKey(registry);
  Value auths =
      document_.Find("auths") != nullptr ? *document_.Find("auths") : Value::EmptyObject();
  const std::string helper = HelperFor(registry);
  if (!helper.empty()) {
    Value stored = Value::EmptyObject();
    stored.Set("ServerURL", key);
    stored.Set("Username",
               credential.identity_token.empty() ? credential.username : std::string("<token>"));
    stored.Set("Secret",
               credential.identity_token.empty() ? credential.password : credential.identity_token);
    GANTRY_ASSIGN_OR_RETURN(CommandResult result, CallHelper(helper, "store", stored.ToJson()));
    if (!result.status.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("credential helper docker-credential-", helper,
                       " did not store: ", absl::StripAsciiWhitespace(result.err)));
    }
    auths.Set(key, Value::EmptyObject());
    document_.Set("auths", std::move(auths));
    GANTRY_RETURN_IF_ERROR(Save());
    return absl::StrCat("docker-credential-", helper);
  }
  Value entry = Value::EmptyObject();
  entry.Set("auth", absl::Base64Escape(absl::StrCat(
                        credential.username, ":",
                        credential.identity_token.empty() ? credential.password : std::string())));
  if (!credential.identity_token.empty()) entry.Set("identitytoken", credential.identity_token);
  auths.Set(key, std::move(entry));
  document_.Set("auths", std::move(auths));
  GANTRY_RETURN_IF_ERROR(Save());
  return path_;
}

absl::StatusOr<bool> RegistryConfig::Erase(const std::string& registry) {
  bool erased = false;
  if (const std::string helper = HelperFor(registry); !helper.empty()) {
    GANTRY_ASSIGN_OR_RETURN(CommandResult result, CallHelper(helper, "erase", ConfigKey(registry)));
    erased = result.status.ok();
  }
  if (const Value* auths = document_.Find("auths")) {
    Value rest = *auths;
    for (const std::string& key : Spellings(registry)) {
      if (rest.Find(key) != nullptr) erased = true;
      rest = Without(rest, key);
    }
    document_.Set("auths", std::move(rest));
    if (erased) GANTRY_RETURN_IF_ERROR(Save());
  }
  return erased;
}

std::vector<std::string> RegistryConfig::Registries() const {
  std::vector<std::string> names;
  const Value* auths = document_.Find("auths");
  if (auths == nullptr || !auths->is_object()) return names;
  for (const auto& [key, value] : auths->object().fields) {
    const std::string plain = ConfigKey(key);
    std::string name = plain == kHubKey ? "docker.io" : plain;
    if (std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(std::move(name));
  }
  return names;
}

absl::Status RegistryConfig::Save() const {
  const std::string directory = path_.substr(0, path_.rfind('/'));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  return WriteFileAtomic(path_, absl::StrCat(document_.ToPrettyJson(8), "\n"), 0600);
}

}  // namespace gantry::ctl
