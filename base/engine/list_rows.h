// Rows of docker's listings: what `--format json` prints, and what tables and templates show.
//
// Keys and types are those of docker's command line, which writes numbers and times as people read
// them. `truncate` shortens ids and commands. Three fields serve templates only: LabelMap, FullID
// and PlatformText.
#ifndef GANTRY_BASE_ENGINE_LIST_ROWS_H_
#define GANTRY_BASE_ENGINE_LIST_ROWS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/engine/value.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::v1 {
class BuildCacheRecord;
class ContainerStats;
class ContainerSummary;
}  // namespace gantry::v1

namespace gantry::engine {

// "0.0.0.0:80->80/tcp, 443/tcp".
std::string PortsText(const v1::ContainerSummary& container);
// "k=v,k2=v2", by key.
template <class Map>
std::string LabelsText(const Map& labels) {
  std::string out;
  const Value sorted = Value::StringMap(labels);
  for (const auto& [key, value] : sorted.object().fields) {
    if (!out.empty()) out += ',';
    out += key + "=" + value.string();
  }
  return out;
}

// A row of `ps`.
Value ContainerRow(const v1::ContainerSummary& container, bool truncate, absl::Time now);
// One sample of `stats`. `asked` is the name that a person typed, or "".
Value StatsRow(const v1::ContainerStats& stats, absl::string_view asked, bool truncate);
// The rows of one image in `images`: one per tag, or one for what has none. With `digests`, digests
// of repositories without a tag have a row, too.
std::vector<Value> ImageRows(const v1::ImageSummary& image, bool digests, bool truncate,
                             absl::Time now);
// A row of `history`; `human`: sizes and times for people.
Value HistoryRow(const v1::ImageHistoryResponse::Entry& entry, bool human, bool truncate,
                 absl::Time now);
// A row of `system df`.
Value DiskUsageRow(const v1::DiskUsageResponse::Kind& kind);
// A row of `builder du`, and of the build cache in `system df -v`. `truncate` shortens the id.
Value BuildCacheRow(const v1::BuildCacheRecord& record, bool truncate, absl::Time now);
// What `system df -v --format json` prints: images, containers, volumes and build cache in detail.
Value DiskUsageDocument(const std::vector<Value>& images, const std::vector<Value>& containers,
                        const std::vector<Value>& volumes, const std::vector<Value>& build_cache);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_LIST_ROWS_H_
