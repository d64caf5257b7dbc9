#include "supervisor/core/record_facts.h"

#include "proto/record/v1/record.pb.h"

namespace gantry::core {

ContainerFacts FactsOfRecord(const record::v1::Container& container) {
  ContainerFacts facts;
  facts.image = container.image();
  facts.snapshot_key = container.snapshot_key();
  facts.runtime = container.runtime().name();
  facts.runtime_options_type_url = container.runtime().options().type_url();
  facts.runtime_options = container.runtime().options().value();
  facts.labels.insert(container.labels().begin(), container.labels().end());
  return facts;
}

Event ImageRecordWritten(absl::string_view action, const record::v1::Image& image) {
  RecordFacts facts;
  facts.labels.insert(image.labels().begin(), image.labels().end());
  return LowLevelEvent(EventKind::kImage, action, image.name(), std::move(facts));
}

Event ImageRecordGone(absl::string_view name) {
  return LowLevelEvent(EventKind::kImage, action::kRemove, name);
}

}  // namespace gantry::core
