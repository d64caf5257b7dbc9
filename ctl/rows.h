// Rows of listings: containers and their statistics.
#ifndef GANTRY_CTL_ROWS_H_
#define GANTRY_CTL_ROWS_H_

#include <string>

#include "absl/time/time.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class ContainerStats;
class ContainerSummary;
}  // namespace gantry::v1

namespace gantry::ctl {

using engine::Value;

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
// One sample of `stats`.
Value StatsRow(const v1::ContainerStats& stats, bool truncate);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_ROWS_H_
