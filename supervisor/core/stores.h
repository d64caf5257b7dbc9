// The records and stores that core's services work on, made once by the daemon and handed around by
// reference.
//
// Holds references only; everything outlives the services. Each member is thread-safe by itself.
#ifndef GANTRY_SUPERVISOR_CORE_STORES_H_
#define GANTRY_SUPERVISOR_CORE_STORES_H_

#include <string>

#include "base/clock.h"
#include "supervisor/metadata/blob_pool.h"
#include "supervisor/metadata/container_store.h"
#include "supervisor/metadata/content_namespace.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/image_store.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/name_index.h"
#include "supervisor/metadata/namespace_store.h"
#include "supervisor/metadata/sandbox_store.h"
#include "supervisor/metadata/snapshot_namespace.h"
#include "supervisor/metadata/snapshotters.h"

namespace gantry::core {

struct Stores {
  metadata::Database& db;
  metadata::BlobPool& blobs;
  metadata::Snapshotters& snapshotters;
  const Clock& clock;
  metadata::ImageStore& images;
  metadata::ContainerStore& containers;
  metadata::LeaseStore& leases;
  metadata::NamespaceStore& namespaces;
  metadata::SandboxStore& sandboxes;
  metadata::NameIndex& names;
  std::string default_snapshotter;  // "overlayfs"

  metadata::ContentNamespace Content(metadata::Scope scope) const {
    return metadata::ContentNamespace(blobs, db, clock, std::move(scope));
  }
  // kInvalidArgument: no such snapshotter. "" is the default one.
  absl::StatusOr<metadata::SnapshotNamespace> Snapshots(absl::string_view name,
                                                        metadata::Scope scope) const {
    return metadata::SnapshotNamespace::Create(
        snapshotters, name.empty() ? default_snapshotter : std::string(name), db, std::move(scope));
  }
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_STORES_H_
