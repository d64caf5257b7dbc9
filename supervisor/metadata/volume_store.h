// Records of volumes, by namespace and name. Thread-safe.
//
// A record is written when the volume's directory is on disk, and deleted before the directory is.
#ifndef GANTRY_SUPERVISOR_METADATA_VOLUME_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_VOLUME_STORE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

// One volume as it is recorded.
struct StoredVolume {
  std::string ns;
  record::v1::Volume record;
};

class VolumeStore {
 public:
  explicit VolumeStore(Database& db) : db_(db) {}

  // kNotFound: "get NAME: no such volume".
  absl::StatusOr<StoredVolume> Find(const Scope& scope, absl::string_view name);

  // In order of name. Of every namespace when `ns` is empty.
  absl::StatusOr<std::vector<StoredVolume>> List(absl::string_view ns);

  // kAlreadyExists: the namespace has a volume of that name. kInvalidArgument: a label that may not
  // be stored.
  absl::StatusOr<StoredVolume> Create(const Scope& scope, record::v1::Volume record,
                                      Durability durability = Durability::kSynced);

  // Whether it goes at the next start unless a container uses it then. kNotFound.
  absl::Status SetGoing(const Scope& scope, absl::string_view name, bool going);

  // A mount by a driver, noted before the driver is asked. Synced. kNotFound.
  absl::Status AddMount(const Scope& scope, absl::string_view name,
                        const record::v1::VolumeMount& mount);
  // The driver was told to unmount. OK if it is not noted. kNotFound.
  absl::Status RemoveMount(const Scope& scope, absl::string_view name, absl::string_view id);

  // kNotFound; kAlreadyExists: the new name.
  absl::Status Rename(const Scope& scope, absl::string_view name, absl::string_view new_name);

  // kNotFound: as Find().
  absl::Status Delete(const Scope& scope, absl::string_view name);

 private:
  absl::Status Change(const Scope& scope, absl::string_view name, Durability durability,
                      const std::function<void(record::v1::Volume&)>& change);

  Database& db_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_VOLUME_STORE_H_
