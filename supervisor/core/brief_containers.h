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
#include "absl/strings/string_view.h"

#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/stores.h"

namespace gantry::core {

// One as it is stored.
struct StoredContainer {
  absl::string_view id;
  absl::string_view record;  // for ReadBriefly()
  record::v1::ContainerState state;
  bool state_damaged = false;
  std::string name;
};

// Visits those of the namespace, in order of id. `visit` may take things out of what it is shown,
// which is used again for the next.
absl::Status EachStored(Stores& stores, const std::string& ns,
                        const std::function<void(StoredContainer&)>& visit);
// What a stored record says: all of `loaded` but state and name. What was in it before is gone, the
// memory for it is used again.
void ReadBriefly(const metadata::Scope& scope, absl::string_view id, absl::string_view record,
                 LoadedContainer& loaded);

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
