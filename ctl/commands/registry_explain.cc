#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "ctl/listing.h"
#include "ctl/registry_config.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

Value Document(const v1::ExplainRegistryResponse& explained) {
  Value out = Value::EmptyObject();
  out.Set("Reference", explained.reference());
  out.Set("FilesRead", Value::StringRange(explained.files_read()));
  Value hosts = Value::EmptyList();
  for (const auto& host : explained.hosts()) {
    Value entry = Value::EmptyObject();
    entry.Set("URL", host.url());
    entry.Set("Capabilities", Value::StringRange(host.capabilities()));
    entry.Set("Source", host.source());
    entry.Set("Rule", host.rule());
    entry.Set("Credential", host.credential());
    entry.Set("SkipVerify", host.skip_verify());
    entry.Set("CA", host.ca());
    entry.Set("ClientCertificate", host.client_certificate());
    Value attempts = Value::EmptyList();
    for (const auto& attempt : host.attempts()) {
      Value one = Value::EmptyObject();
      one.Set("Method", attempt.method());
      one.Set("URL", attempt.url());
      one.Set("Status", attempt.status());
      one.Set("Error", attempt.error());
      one.Set("DurationMicros", attempt.duration_micros());
      attempts.Append(std::move(one));
    }
    entry.Set("Attempts", std::move(attempts));
    hosts.Append(std::move(entry));
  }
  out.Set("Hosts", std::move(hosts));
  Value resolved;
  if (explained.has_resolved()) {
    resolved.Set("MediaType", explained.resolved().media_type());
    resolved.Set("Digest", explained.resolved().digest());
    resolved.Set("Size", explained.resolved().size_bytes());
  }
  out.Set("Resolved", std::move(resolved));
  Value manifest;
  if (explained.has_manifest()) {
    manifest.Set("MediaType", explained.manifest().media_type());
    manifest.Set("Digest", explained.manifest().digest());
    manifest.Set("Size", explained.manifest().size_bytes());
  }
  out.Set("Manifest", std::move(manifest));
  out.Set("Error", explained.error());
  return out;
}

std::string Text(const v1::ExplainRegistryResponse& explained,
                 absl::string_view client_credential) {
  std::string out = absl::StrCat("Reference:   ", explained.reference(), "\n");
  absl::StrAppend(&out, "Files read:  ",
                  explained.files_read().empty()
                      ? "none"
                      : absl::StrJoin(explained.files_read(), "\n             "),
                  "\n");
  int number = 0;
  for (const auto& host : explained.hosts()) {
    absl::StrAppend(&out, "\n", ++number, ". ", host.url(), "  (",
                    absl::StrJoin(host.capabilities(), ", "), ")\n");
    absl::StrAppend(&out, "   rule:        ", host.rule().empty() ? "default" : host.rule(),
                    host.source().empty() ? "" : absl::StrCat("  [", host.source(), "]"), "\n");
    std::string credential = host.credential().empty() ? "none" : host.credential();
    if (credential == "the request" && !client_credential.empty()) {
      credential = std::string(client_credential);
    }
    absl::StrAppend(&out, "   credential:  ", credential, "\n");
    if (!host.ca().empty()) absl::StrAppend(&out, "   ca:          ", host.ca(), "\n");
    if (!host.client_certificate().empty()) {
      absl::StrAppend(&out, "   certificate: ", host.client_certificate(), "\n");
    }
    if (host.skip_verify()) absl::StrAppend(&out, "   tls:         not verified\n");
    for (const auto& attempt : host.attempts()) {
      absl::StrAppend(&out, "   ", attempt.method(), " ", attempt.url(), " -> ",
                      attempt.status() == 0 ? "no answer" : absl::StrCat(attempt.status()),
                      attempt.error().empty() ? "" : absl::StrCat(": ", attempt.error()), "  (",
                      engine::ShortDuration(absl::Microseconds(attempt.duration_micros())), ")\n");
    }
  }
  if (explained.has_resolved()) {
    absl::StrAppend(&out, "\nResolved:    ", explained.resolved().digest(), "\n             ",
                    explained.resolved().media_type(), ", ",
                    engine::HumanSize(explained.resolved().size_bytes()), "\n");
  }
  if (explained.has_manifest()) {
    absl::StrAppend(&out, "Manifest:    ", explained.manifest().digest(), "\n             ",
                    explained.manifest().media_type(), ", ",
                    engine::HumanSize(explained.manifest().size_bytes()), "\n");
  }
  if (!explained.error().empty()) absl::StrAppend(&out, "\nError:       ", explained.error(), "\n");
  return out;
}

class RegistryExplainAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&platform_, "platform", 0, "os/arch",
                 "Platform to choose from an index (default: the daemon's)");
    flags.Bool(&offline_, "offline", 0, "Say what would be asked, without asking a registry");
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ExplainRegistryRequest request;
    request.set_reference(args[0]);
    request.set_platform(platform_);
    request.set_offline(offline_);
    GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, args[0]));
    GANTRY_ASSIGN_OR_RETURN(RegistryConfig config, RegistryConfig::Load(context.environment()));
    GANTRY_ASSIGN_OR_RETURN(Credential credential, config.Find(RegistryOfReference(args[0])));
    v1::ExplainRegistryResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    if (format_.empty()) {
      context.Out(Text(response, credential.source));
    } else {
      GANTRY_ASSIGN_OR_RETURN(std::string text, RenderOne(Document(response), format_));
      context.Out(text);
    }
    return response.error().empty() ? 0 : 1;
  }

 private:
  std::string platform_, format_;
  bool offline_ = false;
};

}  // namespace

Verb RegistryExplainVerb() {
  return {
      .name = "explain",
      .arguments = "[OPTIONS] REFERENCE",
      .summary = "Show which rules, hosts and credentials a pull would use, and what each answers",
      .examples =
          "  ctl registry explain debian:12\n"
          "  ctl registry explain --offline localhost:5000/app\n",
      .min_args = 1,
      .max_args = 1,
      .completes = "images",
      .make = [] { return std::make_unique<RegistryExplainAction>(); }};
}

}  // namespace gantry::ctl
