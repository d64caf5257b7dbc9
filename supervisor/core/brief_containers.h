// Containers for lists: all that a record says but its spec, which is most of it and which a list
// does not show. To read a thousand so costs a fraction of reading them whole.
//
// Thread-safe. Damaged records are there, too, marked as such.
#ifndef GANTRY_SUPERVISOR_CORE_BRIEF_CONTAINERS_H_
#define GANTRY_SUPERVISOR_CORE_BRIEF_CONTAINERS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "supervisor/core/container_records.h"
#include "supervisor/core/stores.h"

namespace gantry::core {

// Those of the namespace, in order of id.
absl::StatusOr<std::vector<LoadedContainer>> AllBriefly(Stores& stores, const std::string& ns);

// Those of `ids`, which are whole ids, that are still there.
absl::StatusOr<std::vector<LoadedContainer>> SomeBriefly(Stores& stores, const std::string& ns,
                                                         const std::vector<std::string>& ids);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BRIEF_CONTAINERS_H_
