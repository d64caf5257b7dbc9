// What a container was asked to be, as gantry.v1 puts it, kept in its record beside the spec that
// was made of it.
//
// Labels are not part of it: they are the record's own, which every door reads and writes. The
// configuration that is read here has the record's labels of the moment. Only labels that the
// record cannot hold are stored with the intent: containerd has none without a value or of more
// than 4096 bytes, docker has.
//
// Containers of other clients of the containerd API have none. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_INTENT_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_INTENT_H_

#include <optional>

#include "absl/strings/string_view.h"

namespace gantry::v1 {
class ContainerConfig;
}  // namespace gantry::v1
namespace gantry::record::v1 {
class Container;
}  // namespace gantry::record::v1

namespace gantry::core {

// Beside it in the record: the descriptor of the image it was made from.
inline constexpr char kImageExtension[] = "gantry.image";

std::optional<v1::ContainerConfig> ReadIntent(const record::v1::Container& record);
// The same into `config`, whose memory is used again. False: it has none, and `config` holds
// anything.
bool ReadIntent(const record::v1::Container& record, v1::ContainerConfig& config);
// Whether the label can be one of the record's.
bool RecordHolds(absl::string_view name, absl::string_view value);
// Does not touch the labels of the record.
void WriteIntent(const v1::ContainerConfig& config, record::v1::Container& record);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_INTENT_H_
