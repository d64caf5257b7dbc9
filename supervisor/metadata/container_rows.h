// The two rows of a container: its record without the spec, and the spec, each a
// record::v1::Container, so that one behind the other they are the whole message.
//
// For ContainerStore and the migrations.
#ifndef GANTRY_SUPERVISOR_METADATA_CONTAINER_ROWS_H_
#define GANTRY_SUPERVISOR_METADATA_CONTAINER_ROWS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"

namespace gantry::metadata {

// Writes both rows. `key` is that of Family::kContainers.
absl::Status PutContainer(Transaction& tx, absl::string_view key, record::v1::Container container);

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_CONTAINER_ROWS_H_
