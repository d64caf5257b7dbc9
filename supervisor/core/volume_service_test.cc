#include "supervisor/core/volume_service.h"

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/container_fixture.h"
#include "supervisor/core/volume_holds.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class VolumeServiceTest : public ContainerFixture {
 protected:
  VolumeServiceTest() {
    VolumeService::Parts parts;
    parts.store = &store_;
    parts.local = local_.get();
    parts.stores = &stores_;
    parts.clock = &clock_;
    parts.events = &events_;
    service_ = std::make_unique<VolumeService>(parts);
    ContainerRemoval::Parts removal;
    removal.records = records_.get();
    removal.stores = &stores_;
    removal.events = &events_;
    removal.subjects = &subjects_;
    removal.tasks = tasks_.get();
    removal.workers = workers_.get();
    removal.waits = &waits_;
    removal.starts = &starts_;
    removal.volumes = service_.get();
    remover_ = std::make_unique<ContainerRemoval>(removal);
  }

  static v1::CreateVolumeRequest Named(const std::string& name) {
    v1::CreateVolumeRequest request;
    request.set_name(name);
    return request;
  }
  std::string Create(const std::string& name) {
    const auto created = service_->Create(context_, Named(name));
    EXPECT_TRUE(created.ok()) << created.status();
    return created.ok() ? created->volume().name() : "";
  }
  absl::Status RemoveVolume(const std::string& name, bool force = false) {
    v1::RemoveVolumeRequest request;
    request.set_name(name);
    request.set_force(force);
    return service_->Remove(context_, request).status();
  }
  std::vector<std::string> Names(
      const std::vector<std::pair<std::string, std::string>>& filters = {}) {
    v1::ListVolumesRequest request;
    for (const auto& [key, value] : filters) {
      v1::Filter* filter = request.add_filters();
      filter->set_key(key);
      filter->set_value(value);
    }
    std::vector<std::string> names;
    const auto listed = service_->List(context_, request);
    EXPECT_TRUE(listed.ok()) << listed.status();
    if (listed.ok()) {
      for (const v1::Volume& one : listed->volumes()) names.push_back(one.name());
    }
    return names;
  }
  std::vector<std::string> Prune(bool all) {
    v1::PruneVolumesRequest request;
    request.set_all(all);
    const auto pruned = service_->Prune(context_, request);
    EXPECT_TRUE(pruned.ok()) << pruned.status();
    return pruned.ok() ? std::vector<std::string>(pruned->names().begin(), pruned->names().end())
                       : std::vector<std::string>();
  }
  // A container that has the volume; anonymous: as one without a name of its own.
  std::string MakeUser(const std::string& container, const std::string& volume, bool anonymous) {
    v1::ContainerConfig config = Config();
    v1::Mount* mount = config.add_mounts();
    mount->set_type(v1::Mount::VOLUME);
    if (!anonymous) mount->set_source(volume);
    mount->set_volume_name(volume);
    mount->set_target("/data");
    return Make(container, config);
  }
  absl::Status RemoveContainer(const std::string& container, VolumesGo volumes) {
    OperationLock lock;
    absl::StatusOr<LoadedContainer> loaded = records_->LoadLocked(context_, container, lock);
    if (!loaded.ok()) return loaded.status();
    return remover_->RemoveLocked(lock.Within(context_), *loaded, /*force=*/true, volumes);
  }
  bool OnDisk(const std::string& name) {
    return access(local_->DataDirectory({kNs, name}).c_str(), F_OK) == 0;
  }

  metadata::VolumeStore store_{*db_};
  std::unique_ptr<volume::LocalDriver> local_ =
      volume::LocalDriver::Open(dir_.Join("root")).value();
  std::unique_ptr<VolumeService> service_;
  std::unique_ptr<ContainerRemoval> remover_;
};

TEST_F(VolumeServiceTest, AVolumeIsMadeListedInspectedAndRemoved) {
  v1::CreateVolumeRequest request = Named("data");
  (*request.mutable_labels())["tier"] = "db";
  const auto created = service_->Create(context_, request);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->volume().driver(), "local");
  EXPECT_EQ(created->volume().scope(), "local");
  EXPECT_EQ(created->volume().mountpoint(), dir_.Join("root/volumes/data/_data"));
  EXPECT_TRUE(OnDisk("data"));
  EXPECT_THAT(Names(), ElementsAre("data"));
  v1::InspectVolumeRequest inspect;
  inspect.set_name("data");
  const auto inspected = service_->Inspect(context_, inspect);
  ASSERT_TRUE(inspected.ok()) << inspected.status();
  EXPECT_EQ(inspected->volume().labels().at("tier"), "db");
  EXPECT_GT(inspected->volume().created_at().seconds(), 0);
  ASSERT_TRUE(RemoveVolume("data").ok());
  EXPECT_FALSE(OnDisk("data"));
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(service_->Inspect(context_, inspect).status().message(), "get data: no such volume");
}

TEST_F(VolumeServiceTest, MadeTwiceItStaysAsItIs) {
  Create("data");
  v1::CreateVolumeRequest again = Named("data");
  (*again.mutable_labels())["late"] = "1";
  const auto second = service_->Create(context_, again);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->volume().labels().empty());
  again.set_driver("rexray");
  const absl::Status other = service_->Create(context_, again).status();
  EXPECT_TRUE(absl::IsAlreadyExists(other)) << other;
  EXPECT_THAT(other.message(), HasSubstr("driver 'local' already has volume 'data'"));
}

TEST_F(VolumeServiceTest, AVolumeWithoutANameIsAnonymous) {
  const std::string name = Create("");
  EXPECT_EQ(name.size(), 64u);
  EXPECT_THAT(Names({{"label", kAnonymousVolumeLabel}}), ElementsAre(name));
}

TEST_F(VolumeServiceTest, BadNamesDriversAndOptionsLeaveNothing) {
  EXPECT_TRUE(absl::IsInvalidArgument(service_->Create(context_, Named("a")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(service_->Create(context_, Named("../x")).status()));
  v1::CreateVolumeRequest request = Named("data");
  request.set_driver("nowhere");
  EXPECT_TRUE(absl::IsNotFound(service_->Create(context_, request).status()));
  request = Named("data");
  (*request.mutable_options())["colour"] = "blue";
  EXPECT_THAT(service_->Create(context_, request).status().message(),
              HasSubstr("invalid option: \"colour\""));
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_FALSE(OnDisk("data"));
}

TEST_F(VolumeServiceTest, WhatContainersUseIsNotRemoved) {
  Create("data");
  const std::string id = MakeUser("web", "data", /*anonymous=*/false);
  const absl::Status refused = RemoveVolume("data", /*force=*/true);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_EQ(refused.message(), "remove data: volume is in use - [" + id + "]");
  EXPECT_THAT(Names({{"dangling", "true"}}), IsEmpty());
  EXPECT_THAT(Names({{"dangling", "0"}}), ElementsAre("data"));
  EXPECT_THAT(Prune(/*all=*/true), IsEmpty());
  ASSERT_TRUE(RemoveContainer("web", VolumesGo::kYes).ok());
  EXPECT_TRUE(OnDisk("data")) << "a named volume outlives its containers";
  EXPECT_TRUE(RemoveVolume("data").ok());
}

TEST_F(VolumeServiceTest, WhatIsHeldIsNotRemoved) {
  auto held = service_->holds().Hold(context_, Named("data"), /*kept=*/true);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(absl::IsFailedPrecondition(RemoveVolume("data")));
  EXPECT_THAT(Prune(/*all=*/true), IsEmpty());
  held->hold = VolumeHold();
  EXPECT_TRUE(RemoveVolume("data").ok());
}

TEST_F(VolumeServiceTest, ForceIsAboutVolumesThatAreNotThere) {
  EXPECT_EQ(RemoveVolume("gone").message(), "get gone: no such volume");
  EXPECT_TRUE(RemoveVolume("gone", /*force=*/true).ok());
}

TEST_F(VolumeServiceTest, PruneTakesAnonymousOnesAndAllWhenAsked) {
  Create("named");
  const std::string loose = Create("");
  const std::string used = Create("");
  MakeUser("web", used, /*anonymous=*/true);
  EXPECT_THAT(Prune(/*all=*/false), ElementsAre(loose));
  EXPECT_THAT(Prune(/*all=*/true), ElementsAre("named"));
  EXPECT_THAT(Names(), ElementsAre(used));
}

TEST_F(VolumeServiceTest, AnonymousVolumesGoWithTheirLastContainer) {
  const std::string name = Create("");
  MakeUser("one", name, /*anonymous=*/true);
  MakeUser("two", name, /*anonymous=*/true);
  ASSERT_TRUE(RemoveContainer("one", VolumesGo::kYes).ok());
  EXPECT_TRUE(OnDisk(name)) << "another container has it";
  ASSERT_TRUE(RemoveContainer("two", VolumesGo::kNo).ok());
  EXPECT_TRUE(OnDisk(name)) << "nobody asked for that";
  // The note that the first removal made does not outlive the use.
  ASSERT_TRUE(service_->Reconcile().ok());
  EXPECT_TRUE(OnDisk(name));
  MakeUser("three", name, /*anonymous=*/true);
  ASSERT_TRUE(RemoveContainer("three", VolumesGo::kYes).ok());
  EXPECT_FALSE(OnDisk(name));
}

TEST_F(VolumeServiceTest, AVolumeOfAContainerThatNeverCameGoesAtTheNextStart) {
  const auto held = service_->holds().Hold(context_, v1::CreateVolumeRequest(), /*kept=*/true);
  ASSERT_TRUE(held.ok()) << held.status();
  const std::string lost = held->name;
  const auto second = service_->holds().Hold(context_, v1::CreateVolumeRequest(), /*kept=*/true);
  const std::string used = second->name;
  MakeUser("web", used, /*anonymous=*/true);
  // A daemon that died has held nothing.
  VolumeService::Parts parts;
  parts.store = &store_;
  parts.local = local_.get();
  parts.stores = &stores_;
  parts.clock = &clock_;
  VolumeService next(parts);
  ASSERT_TRUE(next.Reconcile().ok());
  EXPECT_THAT(Names(), ElementsAre(used));
  EXPECT_FALSE(OnDisk(lost));
  EXPECT_TRUE(OnDisk(used));
}

TEST_F(VolumeServiceTest, FiltersAreDockers) {
  Create("alpha");
  Create("beta");
  EXPECT_THAT(Names({{"name", "lph"}}), ElementsAre("alpha"));
  EXPECT_THAT(Names({{"driver", "local"}}), ElementsAre("alpha", "beta"));
  EXPECT_THAT(Names({{"driver", "nfs"}}), IsEmpty());
  v1::ListVolumesRequest request;
  v1::Filter* filter = request.add_filters();
  filter->set_key("colour");
  filter->set_value("blue");
  EXPECT_TRUE(absl::IsInvalidArgument(service_->List(context_, request).status()));
}

}  // namespace
}  // namespace gantry::core
