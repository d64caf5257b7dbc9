// RUN --mount: what is mounted for the length of one command.
//
// Free functions on values, safe to call from any thread. Errors are kInvalidArgument.
// Spec: Dockerfile reference, "RUN --mount".
#ifndef GANTRY_SUPERVISOR_BUILD_RUN_MOUNTS_H_
#define GANTRY_SUPERVISOR_BUILD_RUN_MOUNTS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

#include "supervisor/build/dockerfile_words.h"

namespace gantry::build {

struct RunMount {
  enum class Type { kBind, kCache, kTmpfs, kSecret, kSsh };
  enum class Sharing { kShared, kPrivate, kLocked };
  Type type = Type::kBind;
  std::string target;       // absolute; "" of a secret that is only in the environment
  std::string from;         // bind, cache; not resolved
  std::string source;       // bind, cache: a path below `from`
  std::string id;           // cache, secret, ssh
  std::string environment;  // secret: the variable that holds it; "" for none
  bool read_only = false;
  bool required = false;
  Sharing sharing = Sharing::kShared;
  absl::optional<uint32_t> mode;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t size_bytes = 0;  // tmpfs; 0: no limit

  friend bool operator==(const RunMount&, const RunMount&) = default;
};

// `text` is the flag's value; variables are replaced in every value but that of "from". Targets are
// relative to `working_dir`.
absl::StatusOr<RunMount> ParseRunMount(absl::string_view text, absl::string_view working_dir,
                                       char escape, const Lookup& lookup);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_RUN_MOUNTS_H_
