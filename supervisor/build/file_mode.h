// --chmod: octal ("0755") or symbolic ("u=rwX,go=rX") changes of permission bits.
//
// A value, immutable once made.
#ifndef GANTRY_SUPERVISOR_BUILD_FILE_MODE_H_
#define GANTRY_SUPERVISOR_BUILD_FILE_MODE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace gantry::build {

class FileMode {
 public:
  // "" changes nothing. kInvalidArgument: neither octal up to 07777 nor symbolic.
  static absl::StatusOr<FileMode> Parse(absl::string_view text);

  bool empty() const { return !octal_.has_value() && clauses_.empty(); }
  uint32_t Apply(uint32_t mode, bool directory) const;

 private:
  struct Clause {
    uint32_t who = 0;  // 0700, 070, 07
    char operation = '=';
    std::string bits;  // of "rwxXst"
  };
  absl::optional<uint32_t> octal_;
  std::vector<Clause> clauses_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_FILE_MODE_H_
