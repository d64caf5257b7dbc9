#include "supervisor/distribution/docker_registry.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::distribution {
namespace {

// bcrypt of kPassword at the lowest cost, so that the test spends its time elsewhere.
constexpr char kPasswordLine[] =
    "ann:$2y$04$abcdefghijklmnopqrstuuaUNpTaGyHErb7YklXKRt/SEtSLxPST6\n";

absl::StatusOr<std::string> Run(std::vector<std::string> argv, const std::string& input = "") {
  Command command;
  command.argv = argv;
  command.timeout = absl::Seconds(20);
  GANTRY_ASSIGN_OR_RETURN(CommandResult result, RunCommand(command, input));
  if (!result.status.ok())
    return absl::InternalError(absl::StrCat(argv[0], " ", argv[1], ": ", result.err));
  return result.out;
}

std::string Base64Url(absl::string_view bytes) {
  std::string out = absl::WebSafeBase64Escape(bytes);
  while (!out.empty() && out.back() == '=') out.pop_back();
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DockerRegistry>> DockerRegistry::Start(bool tls, Auth auth) {
  std::unique_ptr<DockerRegistry> registry(new DockerRegistry());
  registry->tls_ = tls;
  registry->auth_ = auth;
  if (tls || auth == Auth::kToken) GANTRY_RETURN_IF_ERROR(registry->Certificates());
  if (auth == Auth::kToken) {
    registry->token_server_ = std::make_unique<FakeRegistry>();
    DockerRegistry* self = registry.get();
    registry->token_server_->SetHook(
        [self](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
          std::string expected =
              absl::StrCat("Basic ", absl::Base64Escape(absl::StrCat(kUser, ":", kPassword)));
          if (request.header("authorization") != expected) return connection.Answer(401, {}, "{}");
          std::string scopes;
          for (const std::string& scope : request.parameters("scope"))
            absl::StrAppend(&scopes, scope, " ");
          return connection.Answer(
              200, {}, nlohmann::json{{"token", self->Token(scopes)}, {"expires_in", 300}}.dump());
        });
  }
  GANTRY_RETURN_IF_ERROR(registry->Launch());
  return registry;
}

DockerRegistry::~DockerRegistry() = default;

std::string DockerRegistry::host() const { return absl::StrCat("127.0.0.1:", port_); }
std::string DockerRegistry::ca_file() const { return temp_.Join("ca.crt"); }

std::string DockerRegistry::log() const {
  absl::StatusOr<std::string> text = ReadFile(temp_.Join("log"), 64 << 20);
  return text.ok() ? *text : "";
}

absl::Status DockerRegistry::Certificates() {
  std::string directory = temp_.path();
  GANTRY_RETURN_IF_ERROR(
      Run({"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
           "/CN=test ca", "-keyout", directory + "/ca.key", "-out", directory + "/ca.crt"})
          .status());
  GANTRY_RETURN_IF_ERROR(Run({"openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj",
                              "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                              directory + "/server.key", "-out", directory + "/server.csr"})
                             .status());
  return Run({"openssl", "x509", "-req", "-in", directory + "/server.csr", "-CA",
              directory + "/ca.crt", "-CAkey", directory + "/ca.key", "-CAcreateserial", "-days",
              "2", "-copy_extensions", "copy", "-out", directory + "/server.crt"})
      .status();
}

std::string DockerRegistry::token_origin() const { return token_server_->origin(); }

// A JSON web token as the registry's token specification wants it, signed by the CA's key.
std::string DockerRegistry::Token(const std::string& scopes) const {
  nlohmann::json access = nlohmann::json::array();
  for (absl::string_view scope : absl::StrSplit(scopes, ' ', absl::SkipEmpty())) {
    std::vector<std::string> parts = absl::StrSplit(scope, ':');
    if (parts.size() != 3) continue;
    access.push_back({{"type", parts[0]},
                      {"name", parts[1]},
                      {"actions", std::vector<std::string>(absl::StrSplit(parts[2], ','))}});
  }
  int64_t now = absl::ToUnixSeconds(absl::Now());
  absl::StatusOr<std::string> certificate =
      Run({"openssl", "x509", "-in", temp_.Join("ca.crt"), "-outform", "DER"});
  if (!certificate.ok()) return "";
  nlohmann::json header = {
      {"typ", "JWT"}, {"alg", "RS256"}, {"x5c", {absl::Base64Escape(*certificate)}}};
  nlohmann::json claims = {{"iss", "tests"},   {"sub", kUser},    {"aud", "registry"},
                           {"exp", now + 300}, {"nbf", now - 10}, {"iat", now},
                           {"jti", "1"},       {"access", access}};
  std::string text = absl::StrCat(Base64Url(header.dump()), ".", Base64Url(claims.dump()));
  absl::StatusOr<std::string> signature =
      Run({"openssl", "dgst", "-sha256", "-sign", temp_.Join("ca.key")}, text);
  return signature.ok() ? absl::StrCat(text, ".", Base64Url(*signature)) : "";
}

absl::Status DockerRegistry::Launch() {
  nlohmann::json config = {
      {"version", "0.1"},
      {"log", {{"level", "info"}}},
      {"storage",
       {{"filesystem", {{"rootdirectory", temp_.Join("data")}}}, {"delete", {{"enabled", true}}}}},
      {"http", {{"addr", absl::StrCat("127.0.0.1:", port_)}, {"secret", "tests"}}}};
  if (tls_)
    config["http"]["tls"] = {{"certificate", temp_.Join("server.crt")},
                             {"key", temp_.Join("server.key")}};
  if (auth_ == Auth::kBasic) {
    GANTRY_RETURN_IF_ERROR(WriteFile(temp_.Join("htpasswd"), kPasswordLine));
    config["auth"]["htpasswd"] = {{"realm", "tests"}, {"path", temp_.Join("htpasswd")}};
  }
  if (auth_ == Auth::kToken) {
    config["auth"]["token"] = {{"realm", token_server_->origin() + "/token"},
                               {"service", "registry"},
                               {"issuer", "tests"},
                               {"rootcertbundle", temp_.Join("ca.crt")}};
  }
  // JSON is YAML.
  GANTRY_RETURN_IF_ERROR(WriteFile(temp_.Join("config.yml"), config.dump()));
  UniqueFd log(open(temp_.Join("log").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!log.valid()) return ErrnoToStatus(errno, "open log");
  Command command;
  command.argv = {"docker-registry", "serve", temp_.Join("config.yml")};
  command.stdout_fd = log.get();
  command.stderr_fd = log.get();
  GANTRY_ASSIGN_OR_RETURN(process_, Spawn(command));
  absl::Duration deadline = Clock::Real().Monotonic() + absl::Seconds(20);
  while (Clock::Real().Monotonic() < deadline) {
    std::string text = this->log();
    size_t at = text.find("listening on 127.0.0.1:");
    if (at != std::string::npos) {
      absl::string_view digits = absl::string_view(text).substr(at + 23);
      size_t end = digits.find_first_not_of("0123456789");
      if (end != absl::string_view::npos && absl::SimpleAtoi(digits.substr(0, end), &port_))
        return absl::OkStatus();
    }
    // Ends the wait early when it died, otherwise it is the pause between two looks.
    if (process_.Wait(absl::Milliseconds(10)).ok()) break;
  }
  return absl::UnavailableError(absl::StrCat("docker-registry does not listen: ", this->log()));
}

absl::Status DockerRegistry::Restart() {
  GANTRY_RETURN_IF_ERROR(process_.KillGroup(9));
  GANTRY_RETURN_IF_ERROR(process_.Wait(absl::Seconds(10)).status());
  return Launch();
}

}  // namespace gantry::distribution
