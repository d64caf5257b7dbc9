// A directory for one test.

#ifndef GANTRY_BASE_TEMP_DIR_H_
#define GANTRY_BASE_TEMP_DIR_H_

#include <string>

#include "absl/strings/string_view.h"

namespace gantry {

// Made under $TEST_TMPDIR (else /tmp), removed with everything in it at the end. The
// program ends when it cannot be made.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  // path() + "/" + name.
  std::string Join(absl::string_view name) const;

 private:
  std::string path_;
};

}  // namespace gantry

#endif  // GANTRY_BASE_TEMP_DIR_H_
