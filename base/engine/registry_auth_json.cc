#include "base/engine/registry_auth_json.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

#include "base/engine/field_reader.h"
#include "proto/gantry/v1/types.pb.h"

namespace gantry::engine {
namespace {

// "https://index.docker.io/v1/" -> "docker.io", "http://host:5000/v2" -> "host:5000".
std::string RegistryHost(absl::string_view address) {
  address = absl::StripPrefix(absl::StripPrefix(address, "https://"), "http://");
  address = address.substr(0, address.find('/'));
  if (address == "index.docker.io" || address == "registry-1.docker.io") return "docker.io";
  return std::string(address);
}

v1::RegistryAuth ReadAuth(FieldReader& in) {
  v1::RegistryAuth auth;
  auth.set_server_address(RegistryHost(in.String("serveraddress")));
  auth.set_username(in.String("username"));
  auth.set_password(in.String("password"));
  auth.set_identity_token(in.String("identitytoken"));
  auth.set_registry_token(in.String("registrytoken"));
  std::string both;
  if (auth.username().empty() && absl::Base64Unescape(in.String("auth"), &both)) {
    const size_t colon = both.find(':');
    if (colon != std::string::npos) {
      auth.set_username(both.substr(0, colon));
      // Some clients end it with zero bytes.
      auth.set_password(std::string(absl::StripSuffix(both.substr(colon + 1), {"\0", 1})));
    }
  }
  return auth;
}

absl::StatusOr<Value> DecodeHeader(absl::string_view header) {
  std::string json;
  // Clients write either alphabet, with or without padding.
  if (!absl::WebSafeBase64Unescape(header, &json) && !absl::Base64Unescape(header, &json))
    return absl::InvalidArgumentError("not base64");
  return Value::FromJson(json);
}

}  // namespace

absl::StatusOr<v1::RegistryAuth> RegistryAuthFromDocument(const Value& body) {
  absl::Status status;
  FieldReader in(body, "", &status);
  v1::RegistryAuth auth = ReadAuth(in);
  if (!status.ok()) return status;
  return auth;
}

v1::RegistryAuth RegistryAuthFromHeader(absl::string_view header) {
  const absl::StatusOr<Value> document = DecodeHeader(header);
  if (!document.ok()) return {};
  absl::Status status;
  FieldReader in(*document, "", &status);
  v1::RegistryAuth auth = ReadAuth(in);
  return status.ok() ? auth : v1::RegistryAuth();
}

std::map<std::string, v1::RegistryAuth> RegistryConfigFromHeader(absl::string_view header) {
  std::map<std::string, v1::RegistryAuth> all;
  const absl::StatusOr<Value> document = DecodeHeader(header);
  if (!document.ok() || !document->is_object()) return all;
  for (const auto& [registry, value] : document->object().fields) {
    absl::Status status;
    FieldReader in(value, registry, &status);
    v1::RegistryAuth auth = ReadAuth(in);
    if (!status.ok()) continue;
    auth.set_server_address(RegistryHost(registry));
    all[auth.server_address()] = std::move(auth);
  }
  return all;
}

}  // namespace gantry::engine
