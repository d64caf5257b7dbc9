#include "supervisor/core/registry_service.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/resolver.h"

namespace gantry::core {

absl::StatusOr<v1::LoginResponse> RegistryService::Login(const CallContext& context,
                                                         const v1::LoginRequest& request) {
  const std::string domain =
      request.auth().server_address().empty() ? "docker.io" : request.auth().server_address();
  RegistryCall call(request.auth(), domain, nullptr, context.cancel);
  if (call.context.credentials == nullptr)
    return absl::InvalidArgumentError("login: neither user name and password nor a token given");
  GANTRY_RETURN_IF_ERROR(parts_.resolver->CheckLogin(domain, call.context).status());
  v1::LoginResponse response;
  response.set_status("Login Succeeded");
  return response;
}

absl::StatusOr<v1::ExplainRegistryResponse> RegistryService::ExplainRegistry(
    const CallContext& context, const v1::ExplainRegistryRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(request.reference()));
  RegistryCall call(request.auth(), reference.domain(), parts_.credentials, context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      distribution::Explanation explanation,
      parts_.resolver->Explain(reference, call.context,
                               request.offline() ? distribution::Resolver::Asking::kNobody
                                                 : distribution::Resolver::Asking::kRegistry));
  v1::ExplainRegistryResponse response;
  response.set_reference(reference.canonical());
  for (const std::string& file : explanation.lookup.looked_at) response.add_files_read(file);
  for (const distribution::RegistryHost& host : explanation.lookup.hosts) {
    v1::ExplainRegistryResponse::Host* out = response.add_hosts();
    out->set_url(host.origin() + host.path);
    if (host.can_pull) out->add_capabilities("pull");
    if (host.can_resolve) out->add_capabilities("resolve");
    if (host.can_push) out->add_capabilities("push");
    out->set_source(explanation.lookup.used.empty() ? "default" : explanation.lookup.used);
    out->set_rule(host.rule);
    out->set_skip_verify(host.tls.skip_verify);
    out->set_ca(absl::StrJoin(host.tls.ca_files, ", "));
    if (!host.tls.client_pairs.empty())
      out->set_client_certificate(host.tls.client_pairs.front().first);
    for (const distribution::Attempt& attempt : explanation.attempts) {
      if (attempt.host != host.origin()) continue;
      v1::ExplainRegistryResponse::Attempt* tried = out->add_attempts();
      const size_t space = attempt.request.find(' ');
      tried->set_method(attempt.request.substr(0, space));
      tried->set_url(absl::StrCat(
          attempt.host, space == std::string::npos ? "" : attempt.request.substr(space + 1)));
      tried->set_status(attempt.status);
      if (attempt.status < 200 || attempt.status >= 300) tried->set_error(attempt.answer);
      tried->set_duration_micros(absl::ToInt64Microseconds(attempt.took));
      out->set_credential(attempt.credential);
    }
  }
  if (explanation.result.ok()) {
    response.mutable_resolved()->set_media_type(explanation.result->media_type);
    response.mutable_resolved()->set_digest(explanation.result->digest.str());
    response.mutable_resolved()->set_size_bytes(explanation.result->size_bytes);
  } else if (!request.offline()) {
    response.set_error(std::string(explanation.result.status().message()));
  }
  return response;
}

}  // namespace gantry::core
