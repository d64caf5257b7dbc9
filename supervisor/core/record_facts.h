// What the event of a written record says of it.
#ifndef GANTRY_SUPERVISOR_CORE_RECORD_FACTS_H_
#define GANTRY_SUPERVISOR_CORE_RECORD_FACTS_H_

#include "supervisor/core/event.h"

namespace gantry::record::v1 {
class Container;
class Image;
}  // namespace gantry::record::v1

namespace gantry::core {

ContainerFacts FactsOfRecord(const record::v1::Container& container);

// The record of an image was created or updated (`action`), or is gone: low-level events. What
// people see of images (tag, pull, delete) is published beside them.
Event ImageRecordWritten(absl::string_view action, const record::v1::Image& image);
Event ImageRecordGone(absl::string_view name);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RECORD_FACTS_H_
