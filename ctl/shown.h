// Containers and images in docker's shapes: rows of listings and the documents of `inspect`.
#ifndef GANTRY_CTL_SHOWN_H_
#define GANTRY_CTL_SHOWN_H_

#include <string>

#include "absl/time/time.h"

#include "ctl/value.h"

namespace gantry::v1 {
class ContainerDetails;
class ContainerStats;
class ContainerSummary;
class Event;
class ImageDetails;
class ImageSummary;
}  // namespace gantry::v1

namespace gantry::ctl {

// "running", "exited", ...; `state` is a gantry.v1.ContainerState.
std::string StateWord(int state);
// "Up 3 minutes (healthy)", "Exited (1) 2 hours ago".
std::string StatusText(const v1::ContainerSummary& container, absl::Time now);
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

// An element of `inspect`, as the Engine API writes it.
Value ContainerDocument(const v1::ContainerDetails& container);
Value ImageDocument(const v1::ImageDetails& image);

// An event as JSON, as `docker events --format json`.
Value EventDocument(const v1::Event& event);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_SHOWN_H_
