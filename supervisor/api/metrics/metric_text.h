// Prometheus' text format, version 0.0.4, written family by family. Thread-compatible.
#ifndef GANTRY_SUPERVISOR_API_METRICS_METRIC_TEXT_H_
#define GANTRY_SUPERVISOR_API_METRICS_METRIC_TEXT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry::api {

class MetricText {
 public:
  using Labels = std::vector<std::pair<absl::string_view, absl::string_view>>;

  // Begins a family; its samples follow. `type` is counter, gauge or histogram.
  void Family(absl::string_view name, absl::string_view type, absl::string_view help);
  // `name` is the family's, or with a histogram's _bucket, _sum or _count behind it.
  void Sample(absl::string_view name, const Labels& labels, double value);
  // A family of one sample without labels.
  void Single(absl::string_view name, absl::string_view type, absl::string_view help, double value);

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_METRICS_METRIC_TEXT_H_
