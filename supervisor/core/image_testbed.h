// Records and stores in a temporary directory with a catalog on them, and images to put there. For
// tests of the classes of images.
//
// Lives in one test; what is made has the namespace "default".
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_TESTBED_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_TESTBED_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/stores.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/gc/world.h"
#include "supervisor/metadata/name_index.h"
#include "supervisor/metadata/namespace_store.h"
#include "supervisor/metadata/sandbox_store.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {

class ImageTestbed {
 public:
  ImageTestbed() {
    // Collects when a call asks for it and not by itself.
    gc::SchedulerOptions schedule;
    schedule.startup_delay = absl::InfiniteDuration();
    schedule.idle_delay = absl::InfiniteDuration();
    schedule.mutation_threshold = 0;
    schedule.pause_threshold = 0;
    scheduler = std::make_unique<gc::Scheduler>(world.collector, schedule,
                                                [this](const absl::StatusOr<gc::Collection>&) {
                                                  absl::MutexLock lock(&mu);
                                                  ++collections;
                                                });
    scheduler->Start();
    ImageCatalog::Parts parts;
    parts.stores = &stores;
    parts.events = &events;
    parts.gc = scheduler.get();
    parts.sync_blobs = [this] {
      ++syncs;
      return on_sync ? on_sync() : absl::OkStatus();
    };
    catalog = std::make_unique<ImageCatalog>(parts);
    context.ns = "default";
  }
  ~ImageTestbed() { scheduler->Stop(); }

  content::Descriptor Blob(absl::string_view media_type, const std::string& bytes,
                           const content::Labels& labels = {}) {
    metadata::ContentNamespace content = world.Content();
    content::Descriptor out;
    out.media_type = std::string(media_type);
    out.digest = content::Digest::Sha256Of(bytes);
    out.size_bytes = static_cast<int64_t>(bytes.size());
    absl::Status written =
        content::WriteBlob(content, absl::StrCat("ref-", out.digest.str()), bytes, {}, labels)
            .status();
    EXPECT_TRUE(written.ok() || absl::IsAlreadyExists(written)) << written;
    return out;
  }

  // An image without layers; `config` is the inner part: R"("created":"...","config":{...})".
  content::Descriptor Image(const std::string& config, const std::string& platform = "amd64") {
    oci::Document document;
    oci::Manifest& manifest = document.manifest.emplace();
    manifest.media_type = oci::kOciManifest;
    manifest.config =
        Blob(oci::kOciConfig, absl::StrCat(R"({"os":"linux","architecture":")", platform, "\"",
                                           config.empty() ? "" : ",", config, "}"));
    content::Descriptor out =
        Blob(oci::kOciManifest, oci::PrintManifest(manifest), oci::ChildLabels(document));
    content::Platform& of = out.platform.emplace();
    of.os = "linux";
    of.architecture = platform;
    return out;
  }

  content::Descriptor Index(const std::vector<content::Descriptor>& manifests) {
    oci::Document document;
    oci::Index& index = document.index.emplace();
    index.media_type = oci::kOciIndex;
    index.manifests = manifests;
    return Blob(oci::kOciIndex, oci::PrintIndex(index), oci::ChildLabels(document));
  }

  // As a client of containerd's API writes it: whatever the name promises.
  void Record(const std::string& name, const content::Descriptor& target,
              const content::Labels& labels = {}) {
    record::v1::Image image;
    image.set_name(name);
    image.mutable_target()->set_digest(target.digest.str());
    image.mutable_target()->set_media_type(target.media_type);
    image.mutable_target()->set_size(target.size_bytes);
    for (const auto& [key, value] : labels) (*image.mutable_labels())[key] = value;
    const absl::Status created = world.images.Create({"default", ""}, image).status();
    EXPECT_TRUE(created.ok()) << created;
  }

  // A container that was made from the image.
  void Container(const std::string& id, const content::Descriptor& image) {
    record::v1::Container container;
    container.set_id(id);
    container.mutable_runtime()->set_name("runc");
    container.mutable_spec()->set_value("{}");
    record::v1::Descriptor target;
    target.set_digest(image.digest.str());
    (*container.mutable_extensions())["gantry.image"].set_value(target.SerializeAsString());
    const absl::Status created =
        world.containers.Create({"default", ""}, {.record = container, .name = "", .state = {}})
            .status();
    EXPECT_TRUE(created.ok()) << created;
  }

  int Collections() {
    absl::MutexLock lock(&mu);
    return collections;
  }
  // Until so many have ended since the start.
  bool WaitForCollections(int at_least) {
    absl::MutexLock lock(&mu);
    const auto enough = [this, at_least]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) { return collections >= at_least; };
    return mu.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(30));
  }

  bool Has(const content::Descriptor& blob) { return world.Content().Stat(blob.digest).ok(); }

  TempDir dir;
  gc::World world{dir.path(), Clock::Real()};
  EventBus events;
  metadata::NamespaceStore namespaces{*world.db, world.snapshotters, Clock::Real()};
  metadata::SandboxStore sandboxes{*world.db, Clock::Real()};
  metadata::NameIndex names{*world.db};
  Stores stores{*world.db,        world.pool,   world.snapshotters, Clock::Real(), world.images,
                world.containers, world.leases, namespaces,         sandboxes,     names,
                "native"};
  absl::Mutex mu;
  int collections ABSL_GUARDED_BY(mu) = 0;
  std::atomic<int> syncs = 0;
  std::function<absl::Status()> on_sync;
  std::unique_ptr<gc::Scheduler> scheduler;
  std::unique_ptr<ImageCatalog> catalog;
  CallContext context;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_TESTBED_H_
