#include "base/engine/volume_json.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"

namespace gantry::engine {
namespace {

// docker leaves the fractions of a second out of a volume's time.
std::string CreatedAt(const v1::Volume& volume) {
  const absl::Time at = FromProto(volume.has_created_at(), volume.created_at());
  if (at == absl::InfinitePast()) return "0001-01-01T00:00:00Z";
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", at, absl::UTCTimeZone());
}

Value MapOrNull(const google::protobuf::Map<std::string, std::string>& map) {
  return map.empty() ? Value() : Value::StringMap(map);
}

}  // namespace

Value VolumeDocument(const v1::Volume& volume) {
  Value document = Value::EmptyObject();
  document.Set("CreatedAt", CreatedAt(volume));
  document.Set("Driver", volume.driver());
  document.Set("Labels", MapOrNull(volume.labels()));
  document.Set("Mountpoint", volume.mountpoint());
  document.Set("Name", volume.name());
  document.Set("Options", MapOrNull(volume.options()));
  document.Set("Scope", volume.scope());
  if (!volume.status().empty()) document.Set("Status", Value::StringMap(volume.status()));
  if (volume.size_bytes() >= 0) {
    Value usage = Value::EmptyObject();
    usage.Set("RefCount", volume.container_ids_size());
    usage.Set("Size", volume.size_bytes());
    document.Set("UsageData", std::move(usage));
  }
  return document;
}

Value VolumeRow(const v1::Volume& volume) {
  std::string labels;
  const Value sorted = Value::StringMap(volume.labels());
  for (const auto& [key, value] : sorted.object().fields)
    absl::StrAppend(&labels, labels.empty() ? "" : ",", key, "=", value.string());
  const bool measured = volume.size_bytes() >= 0;
  Value row = Value::EmptyObject();
  row.Set("Availability", "N/A");
  row.Set("Driver", volume.driver());
  row.Set("Group", "N/A");
  row.Set("LabelMap", sorted);  // not shown in JSON
  row.Set("Labels", labels);
  row.Set("Links", measured ? absl::StrCat(volume.container_ids_size()) : "N/A");
  row.Set("Mountpoint", volume.mountpoint());
  row.Set("Name", volume.name());
  row.Set("Scope", volume.scope());
  row.Set("Size", measured ? HumanSize(volume.size_bytes()) : "N/A");
  row.Set("Status", "N/A");
  return row;
}

}  // namespace gantry::engine
