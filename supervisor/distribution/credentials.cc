#include "supervisor/distribution/credentials.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "supervisor/distribution/reference.h"

namespace gantry::distribution {
namespace {

using nlohmann::json;

constexpr int64_t kMaxConfigBytes = 4 << 20;
constexpr char kHubKey[] = "https://index.docker.io/v1/";

bool IsHub(absl::string_view host) {
  return host == "docker.io" || host == "registry-1.docker.io" || host == "index.docker.io";
}

// The name under which docker and its helpers keep a registry's credential.
std::string ServerKey(absl::string_view host) { return IsHub(host) ? kHubKey : std::string(host); }

// "https://r.example:5000/v1/" -> "r.example:5000"
absl::string_view HostOfKey(absl::string_view key) {
  if (!absl::ConsumePrefix(&key, "https://")) absl::ConsumePrefix(&key, "http://");
  return key.substr(0, key.find('/'));
}

std::string ConfigFile(const DockerConfigCredentials::Options& options) {
  if (!options.config_file.empty()) return options.config_file;
  if (const char* directory = std::getenv("DOCKER_CONFIG");
      directory != nullptr && *directory != 0) {
    return absl::StrCat(directory, "/config.json");
  }
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr || *home == 0 ? "/root" : home, "/.docker/config.json");
}

std::string Text(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::StatusOr<json> ParseConfig(absl::string_view text, absl::string_view where) {
  json config = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (config.is_discarded() || !config.is_object()) {
    return absl::FailedPreconditionError(
        absl::StrCat("credentials ", where, ": not a JSON object; repair or remove the file"));
  }
  return config;
}

absl::StatusOr<json> ReadConfig(const std::string& file) {
  absl::StatusOr<std::string> text = ReadFile(file, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) return json::object();
  if (!text.ok())
    return absl::FailedPreconditionError(
        absl::StrCat("credentials ", file, ": ", text.status().message()));
  if (absl::StripAsciiWhitespace(*text).empty()) return json::object();
  return ParseConfig(*text, file);
}

absl::StatusOr<Credential> FromAuth(const json& auth, absl::string_view where) {
  Credential credential;
  credential.username = Text(auth, "username");
  credential.password = Text(auth, "password");
  credential.identity_token = Text(auth, "identitytoken");
  credential.registry_token = Text(auth, "registrytoken");
  credential.source = std::string(where);
  std::string encoded = Text(auth, "auth");
  if (!encoded.empty()) {
    std::string decoded;
    size_t colon = std::string::npos;
    if (absl::Base64Unescape(encoded, &decoded)) colon = decoded.find(':');
    if (colon == std::string::npos) {
      return absl::FailedPreconditionError(
          absl::StrCat("credentials ", where, ": \"auth\" is not base64 of user:password"));
    }
    credential.username = decoded.substr(0, colon);
    credential.password = decoded.substr(colon + 1);
    while (!credential.password.empty() && credential.password.back() == '\0')
      credential.password.pop_back();
  }
  if (credential.username == "<token>") {
    if (credential.identity_token.empty()) credential.identity_token = credential.password;
    credential.username.clear();
    credential.password.clear();
  }
  return credential;
}

absl::StatusOr<std::optional<Credential>> FindInAuths(const json& config, absl::string_view host,
                                                      absl::string_view file) {
  auto auths = config.find("auths");
  if (auths == config.end() || !auths->is_object()) return std::nullopt;
  const json* best = nullptr;
  std::string best_key;
  // An exact key wins over one that merely names the same host.
  int best_rank = 3;
  for (auto it = auths->begin(); it != auths->end(); ++it) {
    if (!it->is_object()) continue;
    absl::string_view key_host = HostOfKey(it.key());
    int rank = 3;
    if (it.key() == ServerKey(host)) {
      rank = 0;
    } else if (key_host == host) {
      rank = 1;
    } else if (IsHub(host) && IsHub(key_host)) {
      rank = 2;
    }
    if (rank < best_rank) {
      best_rank = rank;
      best = &*it;
      best_key = it.key();
    }
  }
  if (best == nullptr) return std::nullopt;
  GANTRY_ASSIGN_OR_RETURN(Credential credential,
                          FromAuth(*best, absl::StrCat(file, " auths[\"", best_key, "\"]")));
  // A helper that stores the secret elsewhere leaves an empty entry behind.
  if (credential.empty()) return std::nullopt;
  return credential;
}

// Empty: no helper for this host.
std::string HelperFor(const json& config, absl::string_view host) {
  auto helpers = config.find("credHelpers");
  if (helpers != config.end() && helpers->is_object()) {
    for (auto it = helpers->begin(); it != helpers->end(); ++it) {
      absl::string_view key_host = HostOfKey(it.key());
      if (it->is_string() && (key_host == host || (IsHub(host) && IsHub(key_host))))
        return it->get<std::string>();
    }
  }
  return Text(config, "credsStore");
}

absl::StatusOr<CommandResult> RunHelper(const DockerConfigCredentials::Options& options,
                                        const std::string& helper, const std::string& verb,
                                        const std::string& input) {
  // The name comes from a file people write; it names a program, not a path.
  for (char c : helper) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.') {
      return absl::FailedPreconditionError(
          absl::StrCat("credential helper \"", absl::CEscape(helper), "\": not a helper's name"));
    }
  }
  std::string program = absl::StrCat("docker-credential-", helper);
  Command command;
  if (options.helper_path.empty()) {
    command.argv = {program, verb};
  } else {
    std::string found;
    for (absl::string_view directory :
         absl::StrSplit(options.helper_path, ':', absl::SkipEmpty())) {
      std::string path = absl::StrCat(directory, "/", program);
      if (access(path.c_str(), X_OK) == 0) {
        found = path;
        break;
      }
    }
    if (found.empty()) {
      return absl::UnavailableError(
          absl::StrCat("credential helper ", program, ": not found in ", options.helper_path));
    }
    command.argv = {found, verb};
  }
  command.timeout = options.helper_timeout;
  absl::StatusOr<CommandResult> result = RunCommand(command, input, 1 << 20);
  if (!result.ok()) {
    // Not the helper's own words: they may hold what it was given.
    return absl::UnavailableError(
        absl::StrCat("credential helper ", program, " ", verb, ": ",
                     absl::IsNotFound(result.status())           ? "not installed (not in PATH)"
                     : absl::IsDeadlineExceeded(result.status()) ? "no answer in time"
                                                                 : "could not be run"));
  }
  return result;
}

std::string FirstLine(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  return absl::CEscape(text.substr(0, std::min(text.find('\n'), size_t{200})));
}

absl::StatusOr<std::optional<Credential>> AskHelper(const DockerConfigCredentials::Options& options,
                                                    const std::string& helper,
                                                    absl::string_view host) {
  GANTRY_ASSIGN_OR_RETURN(CommandResult result, RunHelper(options, helper, "get", ServerKey(host)));
  std::string program = absl::StrCat("docker-credential-", helper);
  if (!result.status.ok()) {
    if (absl::StrContains(result.out, "credentials not found")) return std::nullopt;
    return absl::UnavailableError(absl::StrCat("credential helper ", program,
                                               " get: ", result.status.ToString(), ": ",
                                               FirstLine(result.out)));
  }
  json answer = json::parse(result.out, nullptr, false);
  if (answer.is_discarded() || !answer.is_object()) {
    return absl::UnavailableError(
        absl::StrCat("credential helper ", program, " get: the answer is not a JSON object"));
  }
  Credential credential;
  credential.username = Text(answer, "Username");
  credential.source = program;
  if (credential.username == "<token>") {
    credential.username.clear();
    credential.identity_token = Text(answer, "Secret");
  } else {
    credential.password = Text(answer, "Secret");
  }
  if (credential.empty()) return std::nullopt;
  return credential;
}

// Keeps two logins at once from losing one of them. The lock file stays: removing it would race.
absl::StatusOr<UniqueFd> LockConfig(const std::string& file) {
  size_t slash = file.rfind('/');
  if (slash != std::string::npos && slash > 0)
    GANTRY_RETURN_IF_ERROR(MakeDirectories(file.substr(0, slash), 0700));
  std::string path = absl::StrCat(file, ".lock");
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("credentials ", path, ": open"));
  while (flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return ErrnoToStatus(errno, absl::StrCat("credentials ", path, ": lock"));
  }
  return fd;
}

absl::Status WriteConfig(const std::string& file, const json& config) {
  std::string target = file;
  // People keep this file in a dotfiles repository and link to it; the link stays a link.
  std::unique_ptr<char, decltype(&std::free)> real(realpath(file.c_str(), nullptr), &std::free);
  if (real != nullptr) target = real.get();
  return WriteFileAtomic(target, config.dump(1, '\t', false, json::error_handler_t::replace) + "\n",
                         0600);
}

}  // namespace

absl::StatusOr<std::optional<Credential>> MemoCredentials::Find(absl::string_view host) {
  if (source_ == nullptr) return std::nullopt;
  // Held over the look-up on purpose: parallel requests of one operation shall not start a helper
  // each.
  absl::MutexLock lock(&mutex_);
  auto it = known_.find(host);
  if (it == known_.end()) it = known_.emplace(std::string(host), source_->Find(host)).first;
  return it->second;
}

StaticCredentials::StaticCredentials(std::string host, Credential credential)
    : host_(std::move(host)), credential_(std::move(credential)) {}

absl::StatusOr<std::optional<Credential>> StaticCredentials::Find(absl::string_view host) {
  if (credential_.empty()) return std::nullopt;
  if (host_.empty() || host_ == host || (IsHub(host_) && IsHub(host))) return credential_;
  return std::nullopt;
}

DockerConfigCredentials::DockerConfigCredentials(Options options) : options_(std::move(options)) {}

absl::StatusOr<std::optional<Credential>> DockerConfigCredentials::Find(absl::string_view host) {
  std::string inline_auths = options_.inline_auths;
  if (inline_auths.empty()) {
    const char* value = std::getenv("DOCKER_AUTH_CONFIG");
    if (value != nullptr) inline_auths = value;
  }
  if (!inline_auths.empty()) {
    GANTRY_ASSIGN_OR_RETURN(json config, ParseConfig(inline_auths, "DOCKER_AUTH_CONFIG"));
    GANTRY_ASSIGN_OR_RETURN(std::optional<Credential> found,
                            FindInAuths(config, host, "DOCKER_AUTH_CONFIG"));
    if (found) return found;
  }
  std::string file = ConfigFile(options_);
  GANTRY_ASSIGN_OR_RETURN(json config, ReadConfig(file));
  std::string helper = HelperFor(config, host);
  if (!helper.empty()) return AskHelper(options_, helper, host);
  return FindInAuths(config, host, file);
}

absl::StatusOr<DockerConfigCredentials::StoreOutcome> DockerConfigCredentials::Store(
    absl::string_view host, const Credential& credential) {
  std::string file = ConfigFile(options_);
  GANTRY_ASSIGN_OR_RETURN(UniqueFd lock, LockConfig(file));
  GANTRY_ASSIGN_OR_RETURN(json config, ReadConfig(file));
  std::string key = ServerKey(host);
  std::string helper = HelperFor(config, host);
  if (!config["auths"].is_object()) config["auths"] = json::object();
  if (!helper.empty()) {
    json stored = {
        {"ServerURL", key},
        {"Username", credential.identity_token.empty() ? credential.username : "<token>"},
        {"Secret",
         credential.identity_token.empty() ? credential.password : credential.identity_token}};
    GANTRY_ASSIGN_OR_RETURN(CommandResult result,
                            RunHelper(options_, helper, "store", stored.dump()));
    if (!result.status.ok()) {
      return absl::UnavailableError(absl::StrCat("credential helper docker-credential-", helper,
                                                 " store: ", result.status.ToString()));
    }
    config["auths"][key] = json::object();
    GANTRY_RETURN_IF_ERROR(WriteConfig(file, config));
    return StoreOutcome{absl::StrCat("docker-credential-", helper), false};
  }
  json entry = json::object();
  entry["auth"] = absl::Base64Escape(absl::StrCat(credential.username, ":", credential.password));
  if (!credential.identity_token.empty()) {
    entry["auth"] = absl::Base64Escape(
        absl::StrCat(credential.username.empty() ? "<token>" : credential.username, ":"));
    entry["identitytoken"] = credential.identity_token;
  }
  if (!credential.registry_token.empty()) entry["registrytoken"] = credential.registry_token;
  config["auths"][key] = std::move(entry);
  GANTRY_RETURN_IF_ERROR(WriteConfig(file, config));
  return StoreOutcome{file, true};
}

absl::Status DockerConfigCredentials::Erase(absl::string_view host) {
  std::string file = ConfigFile(options_);
  GANTRY_ASSIGN_OR_RETURN(UniqueFd lock, LockConfig(file));
  GANTRY_ASSIGN_OR_RETURN(json config, ReadConfig(file));
  bool erased = false;
  std::string helper = HelperFor(config, host);
  if (!helper.empty()) {
    GANTRY_ASSIGN_OR_RETURN(CommandResult result,
                            RunHelper(options_, helper, "erase", ServerKey(host)));
    if (result.status.ok()) {
      erased = true;
    } else if (!absl::StrContains(result.out, "credentials not found")) {
      return absl::UnavailableError(absl::StrCat("credential helper docker-credential-", helper,
                                                 " erase: ", result.status.ToString()));
    }
  }
  auto auths = config.find("auths");
  bool changed = false;
  if (auths != config.end() && auths->is_object()) {
    for (auto it = auths->begin(); it != auths->end();) {
      absl::string_view key_host = HostOfKey(it.key());
      if (key_host == host || (IsHub(host) && IsHub(key_host))) {
        it = auths->erase(it);
        erased = changed = true;
      } else {
        ++it;
      }
    }
  }
  if (changed) GANTRY_RETURN_IF_ERROR(WriteConfig(file, config));
  return erased ? absl::OkStatus()
                : absl::NotFoundError(absl::StrCat("credentials for ", host, ": not logged in"));
}

absl::StatusOr<Credential> ParseEncodedCredential(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  std::string decoded;
  if (!absl::WebSafeBase64Unescape(text, &decoded) && !absl::Base64Unescape(text, &decoded)) {
    return absl::InvalidArgumentError("registry credential: not base64");
  }
  json object = json::parse(decoded, nullptr, false);
  if (object.is_object()) {
    absl::StatusOr<Credential> credential = FromAuth(object, "the request");
    if (!credential.ok()) return absl::InvalidArgumentError(credential.status().message());
    return credential;
  }
  size_t colon = decoded.find(':');
  if (colon == std::string::npos)
    return absl::InvalidArgumentError("registry credential: neither JSON nor user:password");
  Credential credential;
  credential.username = decoded.substr(0, colon);
  credential.password = decoded.substr(colon + 1);
  credential.source = "the request";
  return credential;
}

}  // namespace gantry::distribution
