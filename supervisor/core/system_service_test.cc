// What the daemon says of itself and its disk, and what a collection that was asked for removes.
#include "supervisor/core/system_service.h"

#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "proto/gantry/v1/system.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/image_testbed.h"
#include "supervisor/metadata/build_cache_store.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

// Tasks are the container fixture's; records and files are those of a root directory laid out as a
// daemon's.
class SystemServiceTest : public ContainerFixture {
 protected:
  SystemServiceTest() {
    runtime::RuntimeSettings works;
    works.path = dir_.Join("crun");
    works.state_root = dir_.Join("runtime");
    runtime::RuntimeSettings broken;
    broken.path = "/nowhere/at/all";
    probe_ = std::make_unique<runtime::RuntimeProbe>(
        std::map<std::string, runtime::RuntimeSettings>{{"works", works}, {"broken", broken}},
        dir_.path(), "works");
    SystemService::Parts parts;
    parts.stores = &bed_.stores;
    parts.events = &bed_.events;
    parts.subjects = &subjects_;
    parts.tasks = &tasks_->view();
    parts.runtimes = probe_.get();
    parts.gc = bed_.scheduler.get();
    parts.facts.uuid = "uuid-1";
    parts.facts.version = "9.8.7";
    parts.facts.root_directory = bed_.dir.path();
    parts.facts.state_directory = "/run/there";
    parts.facts.address = "/run/there/socket";
    parts.facts.default_runtime = "auto";
    parts.facts.started_at = absl::FromUnixSeconds(1000);
    parts.forward_drops = [this] { return forward_drops_; };
    system_ = std::make_unique<SystemService>(parts);
  }

  v1::DiskUsageResponse Df(bool verbose = false) {
    v1::DiskUsageRequest request;
    request.set_verbose(verbose);
    absl::StatusOr<v1::DiskUsageResponse> usage = system_->DiskUsage(bed_.context, request);
    EXPECT_TRUE(usage.ok()) << usage.status();
    return usage.ok() ? *std::move(usage) : v1::DiskUsageResponse();
  }
  static v1::DiskUsageResponse::Kind Kind(const v1::DiskUsageResponse& usage,
                                          absl::string_view name) {
    for (const v1::DiskUsageResponse::Kind& kind : usage.kinds()) {
      if (kind.name() == name) return kind;
    }
    ADD_FAILURE() << "no kind " << name;
    return {};
  }
  static v1::DiskUsageResponse::Item Item(const v1::DiskUsageResponse::Kind& kind,
                                          absl::string_view id) {
    for (const v1::DiskUsageResponse::Item& item : kind.items()) {
      if (item.id() == id) return item;
    }
    ADD_FAILURE() << "no item " << id;
    return {};
  }

  v1::GcResponse Gc(bool dry_run = false) {
    v1::GcRequest request;
    request.set_dry_run(dry_run);
    absl::StatusOr<v1::GcResponse> response = system_->Gc(bed_.context, request);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *std::move(response) : v1::GcResponse();
  }
  static std::vector<std::string> Removed(const v1::GcResponse& response) {
    std::vector<std::string> removed;
    for (const v1::GcResponse::Removed& one : response.removed())
      removed.push_back(absl::StrCat(one.kind(), " ", one.key()));
    return removed;
  }

  ImageTestbed bed_;
  std::unique_ptr<runtime::RuntimeProbe> probe_;
  std::vector<std::string> forward_drops_;
  std::unique_ptr<SystemService> system_;
};

TEST_F(SystemServiceTest, VersionNamesTheRuntimesThatWork) {
  const v1::VersionResponse version = system_->Version();
  EXPECT_EQ(version.version(), "9.8.7");
  EXPECT_EQ(version.os(), "linux");
  EXPECT_NE(version.kernel_version(), "");
  std::map<std::string, std::string> components;
  for (const auto& component : version.components())
    components[component.name()] = component.version();
  EXPECT_EQ(components.count("broken"), 0u);
  EXPECT_THAT(components["works"], HasSubstr("1.8.1"));
}

TEST_F(SystemServiceTest, InfoSaysWhyARuntimeCannotBeUsed) {
  const absl::StatusOr<v1::InfoResponse> info = system_->Info(bed_.context);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->id(), "uuid-1");
  EXPECT_EQ(info->server_version(), "9.8.7");
  EXPECT_EQ(info->root_dir(), bed_.dir.path());
  EXPECT_EQ(info->state_dir(), "/run/there");
  EXPECT_EQ(info->address(), "/run/there/socket");
  EXPECT_EQ(info->snapshotter(), "native");
  EXPECT_EQ(info->started_at().seconds(), 1000);
  EXPECT_EQ(info->pid(), getpid());
  EXPECT_EQ(info->default_runtime(), "works");  // what "auto" has come to
  EXPECT_EQ(info->cgroup_driver(), "cgroupfs");
  bool seen = false;
  for (const v1::InfoResponse::Runtime& runtime : info->runtimes()) {
    if (runtime.name() == "works") {
      EXPECT_EQ(runtime.problem(), "");
    }
    if (runtime.name() == "broken") {
      seen = true;
      EXPECT_THAT(runtime.problem(), HasSubstr("/nowhere/at/all"));
      EXPECT_EQ(runtime.version(), "");
    }
  }
  EXPECT_TRUE(seen);
}

TEST_F(SystemServiceTest, InfoCountsContainersOfTheNamespaceByState) {
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c", "d"}) {
    ids.push_back(Make(name));
    bed_.world.Container(ids.back(), "");
  }
  bed_.world.Container("elsewhere", "", {}, "k8s.io");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Start(ids[i]).ok());
  ASSERT_TRUE(lifecycle_->Pause(context_, ids[2]).ok());
  const absl::StatusOr<v1::InfoResponse> info = system_->Info(bed_.context);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->containers(), 4);
  EXPECT_EQ(info->containers_running(), 2);
  EXPECT_EQ(info->containers_paused(), 1);
  EXPECT_EQ(info->containers_stopped(), 1);
  EXPECT_THAT(info->namespaces(), UnorderedElementsAre("default", "k8s.io"));
}

TEST_F(SystemServiceTest, InfoWarnsOfRulesOfOthersThatDropWhatIsForwarded) {
  constexpr char kBegin[] = "nftables chain ip filter FORWARD drops what this host forwards";
  EXPECT_THAT(system_->Info(bed_.context)->warnings(), Not(Contains(HasSubstr(kBegin))));
  forward_drops_ = {"nftables chain ip filter FORWARD"};
  EXPECT_THAT(system_->Info(bed_.context)->warnings(), Contains(StartsWith(kBegin)));
}

TEST_F(SystemServiceTest, InfoCountsAnImageWithTwoNamesOnce) {
  const content::Descriptor one = bed_.Image(R"("author":"one")");
  bed_.Record("docker.io/library/one:1", one);
  bed_.Record("docker.io/library/one:latest", one);
  bed_.Record("docker.io/library/two:1", bed_.Image(R"("author":"two")"));
  EXPECT_EQ(system_->Info(bed_.context)->images(), 2);
}

TEST_F(SystemServiceTest, DiskUsageAddsUpToTheDisk) {
  bed_.Record("docker.io/library/one:1", bed_.Image(R"("author":"one")"));
  bed_.Blob("application/octet-stream", std::string(100000, 'x'));
  const std::string logs = bed_.dir.Join("containers/default/web");
  ASSERT_TRUE(MakeDirectories(logs, 0700).ok());
  ASSERT_TRUE(WriteFile(logs + "/container.log", std::string(50000, 'l')).ok());
  const v1::DiskUsageResponse usage = Df();
  std::vector<std::string> names;
  int64_t sum = 0;
  for (const v1::DiskUsageResponse::Kind& kind : usage.kinds()) {
    names.push_back(kind.name());
    sum += kind.size_bytes();
    EXPECT_LE(kind.reclaimable_bytes(), kind.size_bytes()) << kind.name();
    EXPECT_EQ(kind.items_size(), 0) << kind.name();
  }
  EXPECT_THAT(names, ElementsAre("Images", "Containers", "Local Volumes", "Build Cache", "Ingests",
                                 "Metadata", "Other"));
  EXPECT_EQ(sum, usage.total_bytes());
  EXPECT_GE(Kind(usage, "Images").size_bytes(), 100000);
  EXPECT_GE(Kind(usage, "Containers").size_bytes(), 50000);
  EXPECT_GT(Kind(usage, "Metadata").size_bytes(), 0);
}

TEST_F(SystemServiceTest, AnImageThatNoContainerUsesIsReclaimable) {
  const content::Descriptor image = bed_.Image(R"("author":"one")");
  bed_.Record("docker.io/library/one:1", image);
  const v1::DiskUsageResponse::Kind images = Kind(Df(), "Images");
  EXPECT_GT(images.size_bytes(), 0);
  EXPECT_EQ(images.reclaimable_bytes(), images.size_bytes());
}

TEST_F(SystemServiceTest, WhatNothingRefersToIsReclaimable) {
  const content::Descriptor image = bed_.Image(R"("author":"one")");
  bed_.Record("docker.io/library/one:1", image);
  const content::Descriptor garbage = bed_.Blob("text/plain", "left behind");
  const v1::DiskUsageResponse usage = Df(/*verbose=*/true);
  const v1::DiskUsageResponse::Kind images = Kind(usage, "Images");
  EXPECT_EQ(images.total(), 1);
  EXPECT_EQ(images.active(), 0);
  EXPECT_EQ(images.reclaimable_bytes(), images.size_bytes());
  EXPECT_EQ(Item(images, garbage.digest.str()).state(), "collectable");
  EXPECT_EQ(Item(images, garbage.digest.str()).references(), 0);
  const v1::DiskUsageResponse::Item manifest = Item(images, image.digest.str());
  EXPECT_EQ(manifest.state(), "");
  EXPECT_EQ(manifest.type(), "blob");
  EXPECT_EQ(manifest.unique_bytes(), image.size_bytes);
  EXPECT_EQ(manifest.shared_bytes(), 0);
  EXPECT_THAT(manifest.owners(), ElementsAre("image default/docker.io/library/one:1"));
}

TEST_F(SystemServiceTest, BytesOfSeveralImagesAreShared) {
  const content::Descriptor image = bed_.Image(R"("author":"one")");
  bed_.Record("docker.io/library/one:1", image);
  bed_.Record("docker.io/library/one:2", image);
  const v1::DiskUsageResponse::Kind images = Kind(Df(/*verbose=*/true), "Images");
  EXPECT_EQ(images.total(), 2);
  const v1::DiskUsageResponse::Item item = Item(images, image.digest.str());
  EXPECT_EQ(item.references(), 2);
  EXPECT_EQ(item.shared_bytes(), image.size_bytes);
  EXPECT_EQ(item.unique_bytes(), 0);
  // The blob is counted once.
  EXPECT_LT(images.size_bytes(), 2 * image.size_bytes);
}

TEST_F(SystemServiceTest, AnImageIsActiveThroughALayerThatAContainerStandsOn) {
  bed_.world.Committed("layer", "");
  const auto with_layer = [&](const std::string& text) {
    return bed_.world.Blob(text, {{"containerd.io/gc.ref.snapshot.native", "layer"}});
  };
  bed_.world.Image("docker.io/library/used:1", with_layer("used"));
  bed_.world.Image("docker.io/library/idle:1", bed_.world.Blob("idle"));
  v1::DiskUsageResponse usage = Df();
  EXPECT_EQ(Kind(usage, "Images").total(), 2);
  EXPECT_EQ(Kind(usage, "Images").active(), 0);

  const std::string id = Make("web");
  ASSERT_TRUE(bed_.world.Snapshots().Prepare(id, "layer", {}).ok());
  bed_.world.Container(id, id);
  usage = Df();
  EXPECT_EQ(Kind(usage, "Images").active(), 1);
  EXPECT_EQ(Kind(usage, "Containers").total(), 1);
  EXPECT_EQ(Kind(usage, "Containers").active(), 0);
  ASSERT_TRUE(Start(id).ok());
  EXPECT_EQ(Kind(Df(), "Containers").active(), 1);
}

TEST_F(SystemServiceTest, WhatAContainerWroteAndLoggedIsTheContainers) {
  const auto mounts = bed_.world.Snapshots().Prepare("web", "", {});
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  bed_.world.Container("web", "web");
  ASSERT_TRUE(WriteFile(mounts->front().source + "/data", std::string(70000, 'd')).ok());
  for (const char* directory : {"containers/default/web", "containers/default/swept-later"})
    ASSERT_TRUE(MakeDirectories(bed_.dir.Join(directory), 0700).ok());
  ASSERT_TRUE(
      WriteFile(bed_.dir.Join("containers/default/web/container.log"), std::string(50000, 'l'))
          .ok());
  ASSERT_TRUE(WriteFile(bed_.dir.Join("containers/default/swept-later/container.log"),
                        std::string(30000, 'l'))
                  .ok());
  const v1::DiskUsageResponse::Kind containers = Kind(Df(/*verbose=*/true), "Containers");
  EXPECT_GE(containers.size_bytes(), 150000);
  ASSERT_EQ(containers.items_size(), 3);
  EXPECT_EQ(containers.items(0).type(), "snapshot");
  EXPECT_GE(containers.items(0).size_bytes(), 70000);
  EXPECT_THAT(containers.items(0).owners(), ElementsAre("container default/web"));
  const v1::DiskUsageResponse::Item files = Item(containers, "default/web");
  EXPECT_EQ(containers.items(1).type(), "files");
  EXPECT_GE(containers.items(1).size_bytes(), 50000);
  EXPECT_LT(containers.items(1).size_bytes(), 80000);
  // What belongs to no record is in the rest.
  EXPECT_EQ(containers.items(2).id(), "containers");
  EXPECT_GE(containers.items(2).size_bytes(), 30000);
  int64_t sum = 0;
  for (const v1::DiskUsageResponse::Item& item : containers.items()) sum += item.size_bytes();
  EXPECT_EQ(sum, containers.size_bytes());
  EXPECT_EQ(files.references(), 1);
}

TEST_F(SystemServiceTest, WhatOnlyTheBuildCacheKeepsIsTheBuildCaches) {
  metadata::BuildCacheStore cache(*bed_.world.db);
  const auto record = [&](const std::string& key, const content::Digest& blob,
                          const std::string& snapshot) {
    record::v1::BuildCacheRecord step;
    step.set_digest(blob.str());
    step.set_snapshotter("native");
    step.set_chain_id(snapshot);
    ASSERT_TRUE(cache.Put({.ns = "default", .lease = ""}, key, step).ok());
  };
  const content::Digest alone = bed_.world.Blob("of a step alone");
  bed_.world.Committed("alone", "");
  record("sha256:1", alone, "alone");
  const content::Digest shared = bed_.world.Blob("of a step and an image");
  bed_.world.Image("docker.io/library/made:1", shared);
  record("sha256:2", shared, "gone");
  const std::string mount = bed_.dir.Join("build-caches/0123");
  ASSERT_TRUE(MakeDirectories(mount, 0700).ok());
  ASSERT_TRUE(WriteFile(mount + ".lock", "").ok());
  // Of one that was pruned the lock stays.
  ASSERT_TRUE(MakeDirectories(bed_.dir.Join("build-contexts"), 0700).ok());
  ASSERT_TRUE(WriteFile(bed_.dir.Join("build-contexts/4567.lock"), "").ok());
  ASSERT_TRUE(WriteFile(mount + "/file", std::string(60000, 'c')).ok());
  const v1::DiskUsageResponse usage = Df(/*verbose=*/true);
  const v1::DiskUsageResponse::Kind kind = Kind(usage, "Build Cache");
  EXPECT_EQ(kind.total(), 3);
  EXPECT_EQ(kind.active(), 0);
  ASSERT_EQ(kind.items_size(), 3);
  EXPECT_EQ(kind.items(0).id(), alone.str());
  EXPECT_THAT(kind.items(0).owners(), ElementsAre("build cache"));
  EXPECT_EQ(kind.items(1).id(), "default/alone");
  EXPECT_EQ(kind.items(2).id(), "build-caches");
  EXPECT_GE(kind.items(2).size_bytes(), 60000);
  EXPECT_EQ(kind.reclaimable_bytes(), kind.size_bytes());
  EXPECT_THAT(Item(Kind(usage, "Images"), shared.str()).owners(),
              ElementsAre("image default/docker.io/library/made:1"));
  int64_t sum = 0;
  for (const v1::DiskUsageResponse::Kind& one : usage.kinds()) sum += one.size_bytes();
  EXPECT_EQ(sum, usage.total_bytes());
}

TEST_F(SystemServiceTest, AnUnfinishedTransferIsAnIngest) {
  metadata::ContentNamespace content = bed_.world.Content();
  content::IngestOptions options;
  options.ref = "half";
  absl::StatusOr<std::unique_ptr<content::Ingest>> ingest = content.OpenIngest(options);
  ASSERT_TRUE(ingest.ok()) << ingest.status();
  ASSERT_TRUE((*ingest)->Append("half of it").ok());
  const v1::DiskUsageResponse::Kind ingests = Kind(Df(/*verbose=*/true), "Ingests");
  EXPECT_EQ(ingests.total(), 1);
  ASSERT_EQ(ingests.items_size(), 1);
  EXPECT_EQ(ingests.items(0).id(), "default/half");
  EXPECT_EQ(ingests.size_bytes(), 10);
}

TEST_F(SystemServiceTest, DiskUsageIsOfAllNamespaces) {
  const content::Digest theirs = bed_.world.Blob("theirs", {}, "k8s.io");
  bed_.world.Image("docker.io/library/pod:1", theirs, {}, "k8s.io");
  bed_.world.Container("pod", "", {}, "k8s.io");
  const v1::DiskUsageResponse usage = Df(/*verbose=*/true);
  EXPECT_EQ(Kind(usage, "Images").total(), 1);
  EXPECT_EQ(Kind(usage, "Containers").total(), 1);
  EXPECT_THAT(Item(Kind(usage, "Images"), theirs.str()).owners(),
              ElementsAre("image k8s.io/docker.io/library/pod:1"));
}

TEST_F(SystemServiceTest, ACollectionRemovesWhatTheDryRunSaid) {
  const content::Descriptor kept = bed_.Image(R"("author":"one")");
  bed_.Record("docker.io/library/one:1", kept);
  const content::Descriptor garbage = bed_.Blob("text/plain", "left behind");
  bed_.world.Committed("old", "");
  const int before = bed_.Collections();

  const v1::GcResponse dry = Gc(/*dry_run=*/true);
  EXPECT_THAT(Removed(dry),
              UnorderedElementsAre("content " + garbage.digest.str(), "snapshot default/old"));
  EXPECT_GE(dry.space_reclaimed_bytes(), garbage.size_bytes);
  EXPECT_EQ(bed_.Collections(), before);
  EXPECT_TRUE(bed_.Has(garbage));

  const v1::GcResponse real = Gc();
  EXPECT_EQ(Removed(real), Removed(dry));
  EXPECT_EQ(real.space_reclaimed_bytes(), dry.space_reclaimed_bytes());
  EXPECT_FALSE(bed_.Has(garbage));
  EXPECT_TRUE(absl::IsNotFound(bed_.world.Snapshots().Stat("old").status()));
  EXPECT_TRUE(bed_.Has(kept));

  const v1::GcResponse again = Gc();
  EXPECT_THAT(Removed(again), IsEmpty());
  EXPECT_EQ(again.space_reclaimed_bytes(), 0);
}

TEST_F(SystemServiceTest, ACollectionLeavesWhatALeaseOrAContainerHolds) {
  bed_.world.Lease("work");
  const content::Digest leased = bed_.world.Blob("leased", {}, "default", "work");
  bed_.world.Committed("base", "");
  ASSERT_TRUE(bed_.world.Snapshots().Prepare("web", "base", {}).ok());
  bed_.world.Container("web", "web");
  EXPECT_THAT(Removed(Gc()), IsEmpty());
  EXPECT_TRUE(bed_.world.Content().Stat(leased).ok());
  EXPECT_TRUE(bed_.world.Snapshots().Stat("base").ok());
  ASSERT_TRUE(bed_.world.containers.Delete({"default", ""}, "web").ok());
  EXPECT_THAT(Removed(Gc()), UnorderedElementsAre("snapshot default/base", "snapshot default/web"));
}

TEST_F(SystemServiceTest, ACollectionThatCannotRunIsAnError) {
  bed_.scheduler->Stop();
  const absl::Status status = system_->Gc(bed_.context, {}).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

}  // namespace
}  // namespace gantry::core
