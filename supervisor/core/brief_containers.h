// Containers for lists: all that a record says but its spec, which is most of it, is stored apart,
// and is not shown by lists. To read a thousand so costs a fraction of reading them whole.
//
// Thread-safe. Damaged records are there, too, marked as such.
#ifndef GANTRY_SUPERVISOR_CORE_BRIEF_CONTAINERS_H_
#define GANTRY_SUPERVISOR_CORE_BRIEF_CONTAINERS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/core/container_records.h"
#include "supervisor/core/stores.h"

namespace gantry::core {

// Visits those of the namespace, in order of id. `visit` may take things out of what it is shown,
// which is used again for the next.
absl::Status EachBriefly(Stores& stores, const std::string& ns,
                         const std::function<void(LoadedContainer&)>& visit);
// The same with record and state alone: neither name nor configuration nor image, which cost as
// much again.
absl::Status EachRecord(Stores& stores, const std::string& ns,
                        const std::function<void(LoadedContainer&)>& visit);
// The first as a list, for what is looked at more than once.
absl::StatusOr<std::vector<LoadedContainer>> AllBriefly(Stores& stores, const std::string& ns);

// Those of `ids`, which are whole ids, that are still there.
absl::StatusOr<std::vector<LoadedContainer>> SomeBriefly(Stores& stores, const std::string& ns,
                                                         const std::vector<std::string>& ids);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BRIEF_CONTAINERS_H_
