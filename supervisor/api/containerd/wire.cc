#include "supervisor/api/containerd/wire.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::api::containerd_api {

void SetTime(absl::Time time, google::protobuf::Timestamp* out) {
  if (time == absl::InfinitePast()) {
    out->set_seconds(metadata::kGoZeroSeconds);
    out->set_nanos(0);
    return;
  }
  *out = metadata::StampOf(time);
}

snapshot::Mount MountFrom(const containerd::types::Mount& mount) {
  snapshot::Mount out;
  out.type = mount.type();
  out.source = mount.source();
  out.target = mount.target();
  out.options.assign(mount.options().begin(), mount.options().end());
  return out;
}

std::vector<snapshot::Mount> MountsFrom(const WireMounts& mounts) {
  std::vector<snapshot::Mount> out;
  for (const containerd::types::Mount& mount : mounts) out.push_back(MountFrom(mount));
  return out;
}

void SetMounts(const std::vector<snapshot::Mount>& mounts, WireMounts* out) {
  for (const snapshot::Mount& mount : mounts) {
    containerd::types::Mount* wire = out->Add();
    wire->set_type(mount.type);
    wire->set_source(mount.source);
    wire->set_target(mount.target);
    for (const std::string& option : mount.options) wire->add_options(option);
  }
}

absl::StatusOr<content::Descriptor> DescriptorFrom(
    const containerd::types::Descriptor& descriptor) {
  content::Descriptor out;
  out.media_type = descriptor.media_type();
  GANTRY_ASSIGN_OR_RETURN(out.digest, content::Digest::Parse(descriptor.digest()));
  if (descriptor.size() < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("descriptor ", descriptor.digest(), ": negative size"));
  out.size_bytes = descriptor.size();
  out.annotations = {descriptor.annotations().begin(), descriptor.annotations().end()};
  return out;
}

void SetDescriptor(const content::Descriptor& descriptor, containerd::types::Descriptor* out) {
  out->set_media_type(descriptor.media_type);
  out->set_digest(descriptor.digest.str());
  out->set_size(descriptor.size_bytes);
  for (const auto& [key, value] : descriptor.annotations)
    (*out->mutable_annotations())[key] = value;
}

content::Platform PlatformFrom(const containerd::types::Platform& platform) {
  content::Platform out;
  out.os = platform.os();
  out.architecture = platform.architecture();
  out.variant = platform.variant();
  out.os_version = platform.os_version();
  out.os_features.assign(platform.os_features().begin(), platform.os_features().end());
  return out;
}

void SetPlatform(const content::Platform& platform, containerd::types::Platform* out) {
  out->set_os(platform.os);
  out->set_architecture(platform.architecture);
  out->set_variant(platform.variant);
  out->set_os_version(platform.os_version);
  for (const std::string& feature : platform.os_features) out->add_os_features(feature);
}

google::protobuf::Any AnyOf(const google::protobuf::MessageLite& message) {
  google::protobuf::Any any;
  any.set_type_url(message.GetTypeName());
  any.set_value(message.SerializeAsString());
  return any;
}

absl::string_view TypeName(const google::protobuf::Any& any) {
  const absl::string_view url = any.type_url();
  const size_t slash = url.rfind('/');
  return slash == absl::string_view::npos ? url : url.substr(slash + 1);
}

}  // namespace gantry::api::containerd_api
