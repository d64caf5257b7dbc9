#include "supervisor/metadata/container_rows.h"

#include "base/status_macros.h"
#include "supervisor/metadata/key_space.h"

namespace gantry::metadata {

absl::Status PutContainer(Transaction& tx, absl::string_view key, record::v1::Container container) {
  record::v1::Container spec;
  if (container.has_spec()) spec.mutable_spec()->Swap(container.mutable_spec());
  container.clear_spec();
  GANTRY_RETURN_IF_ERROR(tx.Put(Family::kContainerSpecs, key, spec.SerializeAsString()));
  return tx.Put(Family::kContainers, key, container.SerializeAsString());
}

}  // namespace gantry::metadata
