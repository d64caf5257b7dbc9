#include "supervisor/distribution/runnable_image.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;

class Search {
 public:
  Search(content::Store& store, const oci::PlatformMatcher& platforms, WalkBudget& budget)
      : store_(store), platforms_(platforms), budget_(budget) {}

  // The best match that is there. What did not fit is not looked at again, however many
  // indexes name it.
  absl::StatusOr<RunnableImage> At(const Descriptor& target, int depth) {
    if (auto it = in_vain_.find(target.digest); it != in_vain_.end()) return it->second;
    absl::StatusOr<RunnableImage> found = LookAt(target, depth);
    if (absl::IsNotFound(found.status())) in_vain_.emplace(target.digest, found.status());
    return found;
  }

 private:
  absl::StatusOr<RunnableImage> LookAt(const Descriptor& target, int depth) {
    GANTRY_ASSIGN_OR_RETURN(oci::Document document,
                            budget_.Read(store_, target, target.digest.str(), depth));
    if (document.index.has_value()) return InIndex(target, *document.index, depth);
    RunnableImage image;
    image.manifest = target;
    image.config = document.manifest->config;
    image.layers = std::move(document.manifest->layers);
    GANTRY_ASSIGN_OR_RETURN(const std::string config_text,
                            budget_.ReadBytes(store_, image.config.digest, oci::kMaxManifestBytes));
    const std::string what = absl::StrCat("config ", image.config.digest.str());
    GANTRY_ASSIGN_OR_RETURN(oci::ImageConfig config, oci::ParseImageConfig(config_text, what));
    if (!config.platform.os.empty() && !config.platform.architecture.empty() &&
        !platforms_.Matches(config.platform)) {
      return absl::NotFoundError(absl::StrCat("image ", target.digest.str(), " is for ",
                                              oci::FormatPlatform(config.platform), ", not for ",
                                              platforms_.Describe()));
    }
    if (config.diff_ids.size() != image.layers.size()) {
      return absl::InvalidArgumentError(absl::StrCat("manifest ", target.digest.str(), " has ",
                                                     image.layers.size(), " layers, its config ",
                                                     config.diff_ids.size(), " diff ids"));
    }
    image.diff_ids = std::move(config.diff_ids);
    return image;
  }

  absl::StatusOr<RunnableImage> InIndex(const Descriptor& target, const oci::Index& index,
                                        int depth) {
    absl::Status first_error;
    for (const Descriptor& child : oci::SelectManifests(index.manifests, platforms_)) {
      absl::StatusOr<RunnableImage> image = At(child, depth + 1);
      if (image.ok() || !absl::IsNotFound(image.status())) return image;
      if (first_error.ok()) first_error = image.status();
    }
    if (!first_error.ok()) return first_error;
    std::vector<std::string> available;
    for (const Descriptor& child : index.manifests) {
      if (child.platform.has_value() && !oci::IsAttestation(child))
        available.push_back(oci::FormatPlatform(*child.platform));
    }
    return absl::NotFoundError(
        absl::StrCat("no image for platform ", platforms_.Describe(), " in ", target.digest.str(),
                     "; there are: ", available.empty() ? "none" : absl::StrJoin(available, ", ")));
  }

  content::Store& store_;
  const oci::PlatformMatcher& platforms_;
  WalkBudget& budget_;
  std::map<Digest, absl::Status> in_vain_;
};

}  // namespace

absl::StatusOr<RunnableImage> FindRunnable(content::Store& store, const Descriptor& target,
                                           const oci::PlatformMatcher& platforms,
                                           WalkBudget& budget) {
  return Search(store, platforms, budget).At(target, 0);
}

absl::StatusOr<RunnableImage> FindRunnable(content::Store& store, const Descriptor& target,
                                           const oci::PlatformMatcher& platforms,
                                           const CancelToken* cancel) {
  WalkBudget budget(cancel);
  return FindRunnable(store, target, platforms, budget);
}

}  // namespace gantry::distribution
