#include <termios.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/byte_stream.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/registry_config.h"
#include "ctl/terminal.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

// One line of the terminal, without echo if it is a secret.
absl::StatusOr<std::string> Ask(Context& context, absl::string_view prompt, bool secret) {
  if (!IsTerminal(context.in_fd())) {
    return absl::InvalidArgumentError(
        "cannot ask without a terminal; give -u NAME and --password-stdin");
  }
  context.Err(prompt);
  termios shown = {};
  ::tcgetattr(context.in_fd(), &shown);
  if (secret) {
    termios hidden = shown;
    hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(context.in_fd(), TCSAFLUSH, &hidden);
  }
  std::string line;
  char c = 0;
  while (::read(context.in_fd(), &c, 1) == 1 && c != '\n') line.push_back(c);
  if (secret) {
    ::tcsetattr(context.in_fd(), TCSAFLUSH, &shown);
    context.Err("\n");
  }
  return line;
}

class LoginAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&username_, "username", 'u', "name", "User name");
    flags.String(&password_, "password", 'p', "text", "Password; others may see it in ps");
    flags.Bool(&password_stdin_, "password-stdin", 0, "Read the password from stdin");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const std::string registry = args.empty() ? "docker.io" : args[0];
    GANTRY_ASSIGN_OR_RETURN(RegistryConfig config, RegistryConfig::Load(context.environment()));
    if (password_stdin_) {
      if (!password_.empty()) {
        return absl::InvalidArgumentError("--password and --password-stdin cannot be combined");
      }
      if (username_.empty()) {
        return absl::InvalidArgumentError("--password-stdin needs --username");
      }
      FdSource source(context.in_fd());
      GANTRY_ASSIGN_OR_RETURN(password_, ReadAll(source, 1 << 20));
      absl::string_view text = password_;
      absl::ConsumeSuffix(&text, "\n");
      absl::ConsumeSuffix(&text, "\r");
      password_ = std::string(text);
    } else if (!password_.empty()) {
      context.Err("WARNING: --password on the command line is insecure; use --password-stdin\n");
    }
    Credential credential;
    if (username_.empty() && password_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(credential, config.Find(registry));
      if (!credential.empty()) {
        context.Err(
            absl::StrCat("Authenticating with existing credentials (", credential.source, ")\n"));
      }
    }
    if (credential.empty()) {
      if (username_.empty()) {
        GANTRY_ASSIGN_OR_RETURN(username_, Ask(context, "Username: ", false));
      }
      if (password_.empty()) {
        GANTRY_ASSIGN_OR_RETURN(password_, Ask(context, "Password: ", true));
      }
      credential.username = username_;
      credential.password = password_;
    }

    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::LoginRequest request;
    v1::RegistryAuth* auth = request.mutable_auth();
    auth->set_server_address(registry);
    auth->set_username(credential.username);
    auth->set_password(credential.password);
    auth->set_identity_token(credential.identity_token);
    v1::LoginResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    if (!response.identity_token().empty()) {
      credential.identity_token = response.identity_token();
      credential.password.clear();
    }
    GANTRY_ASSIGN_OR_RETURN(std::string where, config.Store(registry, credential));
    if (where == config.path()) {
      context.Err(absl::StrCat("WARNING: the password is stored unencrypted in ", where,
                               "; a credential helper would keep it better\n"));
    }
    context.Out(
        absl::StrCat(response.status().empty() ? "Login Succeeded" : response.status(), "\n"));
    return 0;
  }

 private:
  std::string username_, password_;
  bool password_stdin_ = false;
};

}  // namespace

Verb LoginVerb() {
  return {.name = "login",
          .arguments = "[OPTIONS] [SERVER]",
          .summary = "Log in to a registry",
          .examples =
              "  ctl login localhost:5000\n"
              "  pass show registry | ctl login -u me --password-stdin registry.example.com\n",
          .max_args = 1,
          .completes = "registries",
          .make = [] { return std::make_unique<LoginAction>(); }};
}

}  // namespace gantry::ctl
