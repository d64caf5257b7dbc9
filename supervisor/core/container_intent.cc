#include "supervisor/core/container_intent.h"

#include "absl/strings/match.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/validate.h"

namespace gantry::core {
namespace {

constexpr char kExtension[] = "gantry";
constexpr char kType[] = "gantry.v1.ContainerConfig";

bool KeepsShownImage(absl::string_view label) {
  return absl::StartsWith(label, "containerd.io/gc.ref.content.image-volume.") ||
         (absl::StartsWith(label, "containerd.io/gc.ref.snapshot.") &&
          absl::StrContains(label, "/image-volume-"));
}

}  // namespace

std::optional<v1::ContainerConfig> ReadIntent(const record::v1::Container& record) {
  std::optional<v1::ContainerConfig> config(std::in_place);
  if (!ReadIntent(record, *config)) config.reset();
  return config;
}

bool ReadIntent(const record::v1::Container& record, v1::ContainerConfig& config) {
  const auto intent = record.extensions().find(kExtension);
  if (intent == record.extensions().end() || intent->second.type_url() != kType ||
      !config.ParseFromString(intent->second.value()))
    return false;
  for (const auto& [key, value] : record.labels()) {
    // What keeps the images that it is shown is the daemon's business (image_mounts.h).
    if (!KeepsShownImage(key)) (*config.mutable_labels())[key] = value;
  }
  return true;
}

bool RecordHolds(absl::string_view name, absl::string_view value) {
  return !value.empty() && name.size() + value.size() <= metadata::kMaxLabelBytes;
}

void WriteIntent(const v1::ContainerConfig& config, record::v1::Container& record) {
  v1::ContainerConfig stored = config;
  stored.clear_labels();
  for (const auto& [name, value] : config.labels()) {
    if (!RecordHolds(name, value)) stored.mutable_labels()->insert({name, value});
  }
  google::protobuf::Any& intent = (*record.mutable_extensions())[kExtension];
  intent.set_type_url(kType);
  intent.set_value(stored.SerializeAsString());
}

}  // namespace gantry::core
