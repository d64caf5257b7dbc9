#include "supervisor/core/image_names.h"

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace gantry::core {

bool ReadsAsId(absl::string_view text) {
  for (const char* algorithm : {"sha256:", "sha384:", "sha512:", "blake3:"}) {
    if (absl::StartsWith(text, algorithm)) return true;
  }
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

absl::Status CheckImageName(absl::string_view name, const content::Digest& target) {
  if (ReadsAsId(name))
    return absl::InvalidArgumentError(absl::StrCat("image name ", name, ": it reads as an ID"));
  const size_t at = name.rfind('@');
  if (at == absl::string_view::npos) return absl::OkStatus();
  const absl::StatusOr<content::Digest> promised = content::Digest::Parse(name.substr(at + 1));
  if (!promised.ok() || *promised == target) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("image name ", name, ": the image is ", target.str(), ", which is another one"));
}

}  // namespace gantry::core
