// Options of a build that are written as lists of fields, "KEY=VALUE,KEY=VALUE": where caches lie,
// what is said about the image, which agents are given.
//
// Free functions, pure. kInvalidArgument names the flag and what there is instead.
#ifndef GANTRY_CTL_COMMANDS_BUILD_FIELDS_H_
#define GANTRY_CTL_COMMANDS_BUILD_FIELDS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

// A field with a comma in it is in quotes. One without "=" has the value "".
std::map<std::string, std::string> FieldsOf(const std::string& text);

// Compression and media types, of outputs and caches alike; taken out of `fields`.
template <class Message>
absl::Status TakeForm(const std::string& flag, std::map<std::string, std::string>& fields,
                      Message& message);
// "true" or "false"; `missing` where the field is not there. Taken out of `fields`.
absl::StatusOr<bool> TakeSwitch(const std::string& flag, std::map<std::string, std::string>& fields,
                                const std::string& key, bool missing);
// Fields that are left.
absl::Status NoMore(const std::string& flag, const std::map<std::string, std::string>& fields,
                    const std::string& known);

// A value of --cache-from or --cache-to: a reference alone is type=registry. `directory` becomes
// the one that a local cache lies in.
absl::StatusOr<v1::BuildCachePlace> ParseCachePlace(const std::string& text, bool from,
                                                    std::string& directory);

// Values of --provenance, --sbom ("" where they were not given) and --attest.
absl::Status ParseAttestations(const std::string& provenance, const std::string& sbom,
                               const std::vector<std::string>& attest,
                               v1::BuildRequest::Open& open);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_FIELDS_H_
