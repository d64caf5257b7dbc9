// Where `-o` writes: a file that appears whole or not at all, or standard output, which must not be
// a terminal.
//
// Thread-compatible.
#ifndef GANTRY_CTL_OUTPUT_FILE_H_
#define GANTRY_CTL_OUTPUT_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry::ctl {

class OutputFile {
 public:
  // `path` "" or "-": `out_fd`, which is borrowed. kInvalidArgument: that is a terminal.
  static absl::StatusOr<OutputFile> Open(const std::string& path, int out_fd);
  OutputFile(OutputFile&& other) noexcept = default;
  // Removes what was not kept.
  ~OutputFile();

  absl::Status Write(absl::string_view data);
  // The content is complete: gives it its name.
  absl::Status Keep();

 private:
  OutputFile() = default;
  std::string path_;
  std::string temporary_;
  UniqueFd file_;
  int fd_ = -1;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_OUTPUT_FILE_H_
