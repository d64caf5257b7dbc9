// A small daemon's worth of stores in a temporary directory, with short ways to fill it. For tests
// of this room and of core.
#ifndef GANTRY_SUPERVISOR_GC_WORLD_H_
#define GANTRY_SUPERVISOR_GC_WORLD_H_

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/gc/collector.h"
#include "supervisor/metadata/container_store.h"
#include "supervisor/metadata/content_namespace.h"
#include "supervisor/metadata/image_store.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/snapshot_namespace.h"

namespace gantry::gc {

using Labels = std::map<std::string, std::string>;

class World {
 public:
  World(const std::string& directory, const Clock& clock)
      : db(metadata::Database::Open(directory).value()),
        files(content::LocalStore::Open(directory + "/content").value()),
        native(
            snapshot::NativeSnapshotter::Open(
                directory + "/native",
                snapshot::SnapshotIndex::Open(db->rocks(), db->snapshot_family(), "native").value())
                .value()),
        clock(clock) {
    snapshotters.Add("native", *native);
  }

  metadata::ContentNamespace Content(const std::string& ns = "default",
                                     const std::string& lease = "") {
    return metadata::ContentNamespace(pool, *db, clock, metadata::Scope{.ns = ns, .lease = lease});
  }

  metadata::SnapshotNamespace Snapshots(const std::string& ns = "default",
                                        const std::string& lease = "") {
    return metadata::SnapshotNamespace::Create(snapshotters, "native", *db,
                                               metadata::Scope{.ns = ns, .lease = lease})
        .value();
  }

  content::Digest Blob(const std::string& bytes, const Labels& labels = {},
                       const std::string& ns = "default", const std::string& lease = "") {
    metadata::ContentNamespace store = Content(ns, lease);
    auto digest = content::WriteBlob(store, "ref-" + bytes, bytes, {}, labels);
    EXPECT_TRUE(digest.ok()) << digest.status();
    return digest.value_or(content::Digest());
  }

  void Committed(const std::string& name, const std::string& parent, const Labels& labels = {},
                 const std::string& ns = "default", const std::string& lease = "") {
    metadata::SnapshotNamespace snapshots = Snapshots(ns, lease);
    EXPECT_TRUE(snapshots.Prepare("active " + name, parent, {}).ok());
    EXPECT_TRUE(snapshots.Commit(name, "active " + name, {.labels = labels, .parent = ""}).ok());
  }

  // A base layer that other namespaces may share, with a file of 8 KB.
  void Layer(const std::string& name, const content::Digest& blob, const Labels& labels,
             const std::string& ns) {
    metadata::SnapshotNamespace snapshots = Snapshots(ns);
    auto mounts = snapshots.Prepare("active " + name, "", {});
    EXPECT_TRUE(mounts.ok()) << mounts.status();
    EXPECT_TRUE(WriteFile(mounts->front().source + "/file", std::string(8192, 'x')).ok());
    EXPECT_TRUE(snapshots
                    .Commit(name, "active " + name,
                            {.labels = labels, .parent = "", .sync = true, .layer = blob.str()})
                    .ok());
  }

  void Image(const std::string& name, const content::Digest& target, const Labels& labels = {},
             const std::string& ns = "default", const std::string& lease = "") {
    record::v1::Image image;
    image.set_name(name);
    image.mutable_target()->set_digest(target.str());
    image.mutable_target()->set_media_type("application/vnd.oci.image.manifest.v1+json");
    image.mutable_target()->set_size(1);
    for (const auto& [key, value] : labels) (*image.mutable_labels())[key] = value;
    EXPECT_TRUE(images.Create(metadata::Scope{.ns = ns, .lease = lease}, image).ok());
  }

  void Container(const std::string& id, const std::string& snapshot_key, const Labels& labels = {},
                 const std::string& ns = "default") {
    record::v1::Container container;
    container.set_id(id);
    container.mutable_runtime()->set_name("runc");
    container.mutable_spec()->set_value("{}");
    container.set_snapshotter("native");
    container.set_snapshot_key(snapshot_key);
    for (const auto& [key, value] : labels) (*container.mutable_labels())[key] = value;
    EXPECT_TRUE(
        containers.Create(metadata::Scope{.ns = ns}, {.record = container, .name = "", .state = {}})
            .ok());
  }

  void Lease(const std::string& id, const Labels& labels = {}, const std::string& ns = "default") {
    record::v1::Lease lease;
    lease.set_id(id);
    for (const auto& [key, value] : labels) (*lease.mutable_labels())[key] = value;
    EXPECT_TRUE(leases.Create(metadata::Scope{.ns = ns}, lease).ok());
  }

  Collection Collect(bool full_sweep = false) {
    auto collection =
        collector.Collect({.full_sweep = full_sweep, .gate_timeout = absl::Seconds(60)});
    EXPECT_TRUE(collection.ok()) << collection.status();
    if (!collection.ok()) return {};
    for (const absl::Status& leftover : collection->leftovers) ADD_FAILURE() << leftover;
    return *std::move(collection);
  }

  // Names of what a collection removed, in alphabetical order: "content:hello" for blobs whose
  // digest is that of "hello".
  static std::vector<std::string> Names(const std::vector<Node>& nodes) {
    static constexpr const char* kTypes[] = {"content", "snapshot", "image", "container",
                                             "sandbox", "lease",    "ingest"};
    std::vector<std::string> names;
    for (const Node& node : nodes)
      names.push_back(std::string(kTypes[static_cast<int>(node.type)]) + ":" + node.name);
    std::sort(names.begin(), names.end());
    return names;
  }

  static std::string NameOf(const content::Digest& digest) { return "content:" + digest.str(); }

  std::unique_ptr<metadata::Database> db;
  std::unique_ptr<content::LocalStore> files;
  std::unique_ptr<snapshot::NativeSnapshotter> native;
  const Clock& clock;
  metadata::Snapshotters snapshotters;
  metadata::BlobPool pool{*files, *db};
  metadata::ImageStore images{*db, clock};
  metadata::ContainerStore containers{*db, clock};
  metadata::LeaseStore leases{*db, clock};
  Collector collector{*db, pool, snapshotters, clock};
};

}  // namespace gantry::gc

#endif  // GANTRY_SUPERVISOR_GC_WORLD_H_
