#include "ctl/global_flags.h"

#include "absl/strings/str_cat.h"

namespace gantry::ctl {

void AddGlobalFlags(FlagSet& flags, Context& context, GlobalOptions* options) {
  flags
      .String(&context.address, "address", 'H', "SOCKET",
              "gantryd's socket, or ssh://[USER@]HOST (GANTRY_ADDRESS; default "
              "/run/gantry/gantry.sock)")
      .completes = "files";
  flags.Alias("host", "address");
  flags
      .String(&context.context_name, "context", 'c', "NAME",
              "Context that names the daemon (DOCKER_CONTEXT; `ctl context use` sets the default)")
      .completes = "contexts";
  flags
      .String(&context.name_space, "namespace", 'n', "NAME",
              "Namespace to work in (GANTRY_NAMESPACE; default \"default\")")
      .completes = "namespaces";
  flags
      .Custom("config", 0, "DIR", "Directory of the client's configuration (DOCKER_CONFIG)",
              [&context](absl::string_view dir) {
                context.SetEnvironment("DOCKER_CONFIG", std::string(dir));
                return absl::OkStatus();
              })
      .completes = "files";
  flags.Bool(&options->debug, "debug", 'D', "As in docker; ctl has nothing more to say");
  flags.String(&options->log_level, "log-level", 'l', "LEVEL",
               "As in docker: debug, info, warn, error, fatal");
  flags.Bool(&options->help, "help", 'h', "Show this text");
  flags.Bool(&options->version, "version", 'v', "Show the version of ctl");
  // Known, so that the answer says what to do instead.
  flags.Bool(&options->tls, "tls", 0, "Use TLS").hidden = true;
  flags.Bool(&options->tls_verify, "tlsverify", 0, "Use TLS").hidden = true;
  flags.String(&options->tls_ca, "tlscacert", 0, "file", "").hidden = true;
  flags.String(&options->tls_cert, "tlscert", 0, "file", "").hidden = true;
  flags.String(&options->tls_key, "tlskey", 0, "file", "").hidden = true;
}

absl::Status CheckGlobalOptions(const GlobalOptions& options) {
  if (options.tls || options.tls_verify) {
    return absl::InvalidArgumentError(
        "--tls, --tlsverify: ctl reaches its daemon by a unix socket or over ssh, which need no "
        "TLS; write --address ssh://[USER@]HOST for another machine");
  }
  for (const char* level :
       {"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}) {
    if (options.log_level == level) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--log-level: \"", options.log_level,
                   "\" is not valid; use debug, info, warn, error or fatal"));
}

}  // namespace gantry::ctl
