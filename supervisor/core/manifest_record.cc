#include "supervisor/core/manifest_record.h"

#include "absl/strings/str_cat.h"

namespace gantry::core {
namespace {

constexpr char kExtension[] = "gantry.image-manifest";
constexpr char kType[] = "gantry.v1.ImageManifest";

}  // namespace

void WriteManifest(const content::Descriptor& manifest, const content::Platform& platform,
                   record::v1::Container& record) {
  v1::ImageManifest stored;
  stored.set_media_type(manifest.media_type);
  stored.set_digest(manifest.digest.str());
  stored.set_size_bytes(manifest.size_bytes);
  stored.set_platform(absl::StrCat(platform.os, "/", platform.architecture,
                                   platform.variant.empty() ? "" : "/", platform.variant));
  google::protobuf::Any& extension = (*record.mutable_extensions())[kExtension];
  extension.set_type_url(kType);
  extension.set_value(stored.SerializeAsString());
}

std::optional<v1::ImageManifest> ReadManifest(const record::v1::Container& record) {
  const auto extension = record.extensions().find(kExtension);
  v1::ImageManifest stored;
  if (extension == record.extensions().end() || extension->second.type_url() != kType ||
      !stored.ParseFromString(extension->second.value()))
    return std::nullopt;
  return stored;
}

}  // namespace gantry::core
