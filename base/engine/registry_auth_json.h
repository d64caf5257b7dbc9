// Credentials for registries as docker's clients send them.
//
// What is read here is a secret: it is never logged and is in no message of an error.
#ifndef GANTRY_BASE_ENGINE_REGISTRY_AUTH_JSON_H_
#define GANTRY_BASE_ENGINE_REGISTRY_AUTH_JSON_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class RegistryAuth;
}

namespace gantry::engine {

// The body of POST /auth: {"username":...,"password":...,"serveraddress":...}. "auth" is base64 of
// "user:password" and serves where there is no user name. kInvalidArgument: another shape.
absl::StatusOr<v1::RegistryAuth> RegistryAuthFromDocument(const Value& body);

// The header X-Registry-Auth: the same as base64url, padded or not. docker takes no notice of one
// that it cannot read, nor does this: it is empty then.
v1::RegistryAuth RegistryAuthFromHeader(absl::string_view header);

// The header X-Registry-Config: base64url of an object of these, by the registry's address. An
// entry that cannot be read is left out.
std::map<std::string, v1::RegistryAuth> RegistryConfigFromHeader(absl::string_view header);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_REGISTRY_AUTH_JSON_H_
