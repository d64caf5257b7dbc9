// Files of KEY=VALUE lines: `.env`, `--env-file` and a service's `env_file`.
//
//   KEY=value # comment      to the end of the line, interpolated
//   KEY="a\nb ${C}"          several lines, escapes, interpolated
//   KEY='a $b'               several lines, as it is
//   KEY: value   export KEY=value   KEY (takes the environment's value)
//
// Spec: compose-spec "env_file", "Interpolation".
#ifndef GANTRY_CTL_COMPOSE_ENV_FILE_H_
#define GANTRY_CTL_COMPOSE_ENV_FILE_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/compose/interpolation.h"

namespace gantry::compose {

struct EnvEntry {
  std::string key;
  std::optional<std::string> value;  // nullopt: a bare KEY that the environment has no value for
};

// `lookup` is the environment, which wins over keys that the file set before.
// kInvalidArgument: says the line and what is wrong with it.
absl::StatusOr<std::vector<EnvEntry>> ParseEnvFile(absl::string_view text, const Lookup& lookup,
                                                   const OnUnset& on_unset);

// docker's own format ("format: raw"): the text after = as it is, no quotes, no interpolation.
absl::StatusOr<std::vector<EnvEntry>> ParseRawEnvFile(absl::string_view text, const Lookup& lookup);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_ENV_FILE_H_
