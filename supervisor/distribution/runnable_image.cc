#include "supervisor/distribution/runnable_image.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "supervisor/distribution/archive_layout.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;

// The best match that is there.
absl::StatusOr<RunnableImage> FindRunnableAt(content::Store& store, const Descriptor& target,
                                             const oci::PlatformMatcher& platforms, int depth) {
  if (depth > kMaxIndexDepth)
    return absl::InvalidArgumentError(absl::StrCat("indexes nested deeper than ", kMaxIndexDepth));
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          content::ReadBlob(store, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(oci::Document document,
                          oci::ParseDocument(text, target.media_type, target.digest.str()));
  if (document.index.has_value()) {
    absl::Status first_error;
    for (const Descriptor& child : oci::SelectManifests(document.index->manifests, platforms)) {
      absl::StatusOr<RunnableImage> image = FindRunnableAt(store, child, platforms, depth + 1);
      if (image.ok() || !absl::IsNotFound(image.status())) return image;
      if (first_error.ok()) first_error = image.status();
    }
    if (!first_error.ok()) return first_error;
    std::vector<std::string> available;
    for (const Descriptor& child : document.index->manifests) {
      if (child.platform.has_value() && !oci::IsAttestation(child))
        available.push_back(oci::FormatPlatform(*child.platform));
    }
    return absl::NotFoundError(
        absl::StrCat("no image for platform ", platforms.Describe(), " in ", target.digest.str(),
                     "; there are: ", available.empty() ? "none" : absl::StrJoin(available, ", ")));
  }
  RunnableImage image;
  image.manifest = target;
  image.config = document.manifest->config;
  image.layers = std::move(document.manifest->layers);
  GANTRY_ASSIGN_OR_RETURN(const std::string config_text,
                          content::ReadBlob(store, image.config.digest, oci::kMaxManifestBytes));
  const std::string what = absl::StrCat("config ", image.config.digest.str());
  GANTRY_ASSIGN_OR_RETURN(oci::ImageConfig config, oci::ParseImageConfig(config_text, what));
  if (!config.platform.os.empty() && !config.platform.architecture.empty() &&
      !platforms.Matches(config.platform)) {
    return absl::NotFoundError(absl::StrCat("image ", target.digest.str(), " is for ",
                                            oci::FormatPlatform(config.platform), ", not for ",
                                            platforms.Describe()));
  }
  if (config.diff_ids.size() != image.layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat("manifest ", target.digest.str(), " has ",
                                                   image.layers.size(), " layers, its config ",
                                                   config.diff_ids.size(), " diff ids"));
  }
  image.diff_ids = std::move(config.diff_ids);
  return image;
}

}  // namespace

absl::StatusOr<RunnableImage> FindRunnable(content::Store& store, const Descriptor& target,
                                           const oci::PlatformMatcher& platforms) {
  return FindRunnableAt(store, target, platforms, 0);
}

}  // namespace gantry::distribution
