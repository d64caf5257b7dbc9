#include "supervisor/core/container_intent.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"

namespace gantry::core {
namespace {

constexpr char kExtension[] = "gantry";
constexpr char kType[] = "gantry.v1.ContainerConfig";

}  // namespace

std::optional<v1::ContainerConfig> ReadIntent(const record::v1::Container& record) {
  auto intent = record.extensions().find(kExtension);
  if (intent == record.extensions().end() || intent->second.type_url() != kType)
    return std::nullopt;
  v1::ContainerConfig config;
  if (!config.ParseFromString(intent->second.value())) return std::nullopt;
  *config.mutable_labels() = record.labels();
  return config;
}

void WriteIntent(const v1::ContainerConfig& config, record::v1::Container& record) {
  v1::ContainerConfig stored = config;
  stored.clear_labels();
  google::protobuf::Any& intent = (*record.mutable_extensions())[kExtension];
  intent.set_type_url(kType);
  intent.set_value(stored.SerializeAsString());
}

}  // namespace gantry::core
