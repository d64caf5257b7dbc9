#include "supervisor/api/docker/image_names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/field_reader.h"
#include "base/engine/value.h"

namespace gantry::api::docker {

std::string NameWithTag(absl::string_view name, absl::string_view tag) {
  if (tag.empty()) return std::string(name);
  return absl::StrCat(name, absl::StrContains(tag, ':') ? "@" : ":", tag);
}

absl::StatusOr<std::string> PlatformOf(absl::string_view text) {
  if (!absl::StartsWith(text, "{")) return std::string(text);
  const absl::StatusOr<engine::Value> document = engine::Value::FromJson(text);
  if (!document.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("failed to parse platform: ", document.status().message()));
  absl::Status status;
  engine::FieldReader in(*document, "platform", &status);
  const std::string os = in.String("os");
  const std::string architecture = in.String("architecture");
  const std::string variant = in.String("variant");
  if (!status.ok()) return status;
  if (os.empty() && architecture.empty() && variant.empty()) return std::string();
  if (os.empty() || architecture.empty())
    return absl::InvalidArgumentError(
        "invalid platform: both OS and Architecture must be provided");
  return absl::StrCat(os, "/", architecture, variant.empty() ? "" : "/", variant);
}

absl::Status ImageError(const absl::Status& status, absl::string_view name) {
  if (!absl::IsNotFound(status)) return status;
  return absl::NotFoundError(absl::StrCat("No such image: ", name));
}

absl::Status PullError(const absl::Status& status, absl::string_view name) {
  if (absl::IsPermissionDenied(status) || absl::IsUnauthenticated(status)) {
    // docker's 404: a registry does not say whether there is what it does not show.
    return absl::NotFoundError(absl::StrCat("pull access denied for ", name,
                                            ", repository does not exist or may require 'docker "
                                            "login': ",
                                            status.message()));
  }
  // Clients know a missing image by "repository does not exist".
  if (absl::IsNotFound(status)) {
    return absl::NotFoundError(absl::StrCat("manifest for ", name,
                                            " not found: the repository does not exist or "
                                            "has no such tag or digest: ",
                                            status.message()));
  }
  return status;
}

}  // namespace gantry::api::docker
