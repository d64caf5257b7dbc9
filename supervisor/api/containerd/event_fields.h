// What the filter language sees of an event: namespace, topic, event.<field of the payload>.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_EVENT_FIELDS_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_EVENT_FIELDS_H_

#include <memory>

#include "google/protobuf/message.h"

#include "supervisor/core/event.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {

// The text fields of a payload are seen by their names, `event.runtime.name`, `event.labels.<key>`;
// a payload of an unknown type has none. Decodes a payload when a filter first asks for it. The
// function refers to `event`: use it while that lives, from one thread.
metadata::Filter::Fields FieldsOf(const core::Event& event);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_EVENT_FIELDS_H_
