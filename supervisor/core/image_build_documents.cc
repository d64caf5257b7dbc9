// The documents of what a build makes, and its names.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "supervisor/core/image_build.h"
#include "supervisor/distribution/reference.h"

namespace gantry::core {
namespace {

std::string Ref(absl::string_view kind, const content::Digest& digest) {
  return absl::StrCat(kind, "-", digest.str());
}

}  // namespace

absl::StatusOr<content::Descriptor> ImageBuild::Session::Write(const BuildRoot& root,
                                                               oci::ImageConfig config) {
  config.diff_ids = root.diff_ids;
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target,
                          parts_.assembly->WriteImage(content_, config, root.manifest));
  if (root.diff_ids.empty()) return target;
  // As after unpacking: the image keeps the snapshot that it is run from.
  const std::string label =
      absl::StrCat("containerd.io/gc.ref.snapshot.", parts_.stores->default_snapshotter);
  GANTRY_RETURN_IF_ERROR(content_
                             .Update(content::Digest::Sha256Of(oci::PrintImageConfig(config)),
                                     {{label, root.chain_id()}}, {absl::StrCat("labels.", label)})
                             .status());
  return target;
}

absl::StatusOr<content::Descriptor> ImageBuild::Session::WriteDocument(
    absl::string_view bytes, const std::string& media_type) {
  content::Descriptor blob;
  blob.media_type = media_type;
  blob.digest = content::Digest::Sha256Of(bytes);
  blob.size_bytes = static_cast<int64_t>(bytes.size());
  GANTRY_RETURN_IF_ERROR(
      content::WriteBlob(content_, Ref("document", blob.digest), bytes, blob.digest).status());
  return blob;
}

absl::StatusOr<content::Descriptor> ImageBuild::Session::WriteManifest(
    const oci::Manifest& manifest) {
  const std::string text = oci::PrintManifest(manifest);
  oci::Document document;
  document.manifest = manifest;
  content::Descriptor target;
  target.media_type = manifest.media_type;
  target.digest = content::Digest::Sha256Of(text);
  target.size_bytes = static_cast<int64_t>(text.size());
  GANTRY_RETURN_IF_ERROR(content::WriteBlob(content_, Ref("manifest", target.digest), text,
                                            target.digest, oci::ChildLabels(document))
                             .status());
  return target;
}

absl::StatusOr<content::Descriptor> ImageBuild::Session::WriteIndex(const oci::Index& index) {
  const std::string text = oci::PrintIndex(index);
  oci::Document document;
  document.index = index;
  content::Descriptor target;
  target.media_type = index.media_type;
  target.digest = content::Digest::Sha256Of(text);
  target.size_bytes = static_cast<int64_t>(text.size());
  GANTRY_RETURN_IF_ERROR(content::WriteBlob(content_, Ref("index", target.digest), text,
                                            target.digest, oci::ChildLabels(document))
                             .status());
  return target;
}

absl::Status ImageBuild::Session::Name(const std::vector<std::string>& names,
                                       const content::Descriptor& target) {
  std::vector<std::string> canonical;
  for (const std::string& name : names) {
    GANTRY_ASSIGN_OR_RETURN(const distribution::Reference reference,
                            distribution::Reference::Parse(name));
    canonical.push_back(reference.canonical());
  }
  if (parts_.sync_blobs) GANTRY_RETURN_IF_ERROR(parts_.sync_blobs());
  for (size_t i = 0; i < canonical.size(); ++i) {
    GANTRY_RETURN_IF_ERROR(parts_.catalog->Name(leased_, canonical[i], target));
    parts_.catalog->Announce(leased_, "tag", target, target.digest.str(), names[i]);
  }
  if (canonical.empty())
    return parts_.catalog->Name(leased_, ImageCatalog::DanglingName(target.digest), target);
  return absl::OkStatus();
}

}  // namespace gantry::core
