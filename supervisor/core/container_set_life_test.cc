// Changes of containers, with their records, their spec and their running processes.
//
// Needs root: containers are created from an image, and mounts are made in a process's own mount
// namespace.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/field_error.h"
#include "proto/gantry/v1/life.pb.h"
#include "supervisor/core/container_set.h"
#include "supervisor/core/creation_fixture.h"
#include "supervisor/core/own_mounts.h"
#include "supervisor/core/resident_process.h"
#include "supervisor/core/run_volumes.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class ContainerSetLifeTest : public CreationFixture {
 protected:
  static void SetUpTestSuite() { EnterOwnMounts(); }

  void SetUp() override {
    CreationFixture::SetUp();
    if (IsSkipped()) return;
    ContainerSet::Parts parts = {};
    parts.records = records_.get();
    parts.stores = &stores_;
    parts.tasks = tasks_.get();
    parts.lifecycle = maker_.get();
    parts.networks = nullptr;  // no network is changed here
    parts.volumes = given_.get();
    parts.runtimes = runtimes_.get();
    parts.run_volumes = run_volumes_.get();
    set_ = std::make_unique<ContainerSet>(parts);
    image_.entrypoint = {"/bin/entry"};
    image_.env = {"PATH=/bin", "LANG=C"};
    WriteImageAs("docker.io/library/app:1");
    v1::ContainerConfig config = Of("app:1");
    config.add_command("serve");
    config.add_env("COLOUR=blue");
    id_ = MustCreate(config, "web");
  }

  absl::StatusOr<v1::SetContainerResponse> Set(const v1::SetContainerRequest& asked) {
    v1::SetContainerRequest request = asked;
    request.set_container("web");
    return set_->Set(context_, request);
  }
  // "WHAT" for what is in force, "WHAT later" for what waits for the next start.
  std::vector<std::string> Changes(const v1::SetContainerRequest& asked) {
    const absl::StatusOr<v1::SetContainerResponse> response = Set(asked);
    EXPECT_TRUE(response.ok()) << response.status();
    std::vector<std::string> texts;
    if (!response.ok()) return texts;
    for (const v1::SetContainerResponse::Change& one : response->changes()) {
      EXPECT_EQ(one.why().empty(), one.done()) << one.what();
      texts.push_back(one.what() + (one.done() ? "" : " later"));
    }
    return texts;
  }
  // Starts it as a process that has the container's root as its own.
  void Run() {
    process_ = std::make_unique<Resident>(
        stores_.Snapshots("native", {kNs, ""})->Mounts(id_)->at(0).source);
    launcher_.OnLaunch([this](runtime::FakeShim& shim) { shim.SetNextPid(process_->pid()); });
    ASSERT_TRUE(Start(id_).ok());
  }
  std::string Inside(const std::string& path) {
    return ReadFile(absl::StrCat("/proc/", process_->pid(), "/root", path), 1000)
        .value_or("(none)");
  }
  nlohmann::json MountAt(const std::string& target) {
    nlohmann::json found;
    const nlohmann::json spec = Spec(id_);
    for (const nlohmann::json& one : spec["mounts"]) {
      if (one["destination"] == target) found = one;
    }
    return found;
  }
  v1::Mount Bind(const std::string& source, const std::string& target) {
    v1::Mount mount;
    mount.set_type(v1::Mount::BIND);
    mount.set_source(source);
    mount.set_target(target);
    return mount;
  }
  v1::Mount Volume(const std::string& name, const std::string& target) {
    v1::Mount mount;
    mount.set_type(v1::Mount::VOLUME);
    mount.set_source(name);
    mount.set_target(target);
    return mount;
  }
  // A volume whose data is a tmpfs while it is in use.
  void CreateTmpfs(const std::string& name) {
    v1::CreateVolumeRequest request;
    request.set_name(name);
    for (const auto& [key, value] :
         {std::pair("type", "tmpfs"), std::pair("device", "tmpfs"), std::pair("o", "size=1m")})
      (*request.mutable_options())[key] = value;
    const absl::Status created = volumes_->Create(context_, request).status();
    ASSERT_TRUE(created.ok()) << created;
  }
  bool Mounted(const std::string& volume) {
    return absl::StrContains(ReadFile("/proc/self/mountinfo", 4 << 20).value(),
                             absl::StrCat(" ", local_volumes_->DataDirectory({kNs, volume}), " "));
  }
  std::string Source(const std::string& name) {
    const std::string path = dir_.Join(name);
    EXPECT_TRUE(MakeDirectories(path, 0755).ok());
    EXPECT_TRUE(WriteFile(path + "/file", name).ok());
    return path;
  }

  std::unique_ptr<ContainerSet> set_;
  std::unique_ptr<Resident> process_;
  std::string id_;
};

TEST_F(ContainerSetLifeTest, NothingToChangeIsRefused) {
  const absl::Status refused = Set({}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("nothing is given that is to change"));
  v1::SetContainerRequest request;
  request.set_container("nothing");
  request.set_stop_timeout_seconds(3);
  EXPECT_TRUE(absl::IsNotFound(set_->Set(context_, request).status()));
}

TEST_F(ContainerSetLifeTest, LabelsAreOnRecordAndPublished) {
  const auto updates = events_.Subscribe(
      [](const Event& event) { return event.action == action::kUpdate && !event.low_level; },
      [] {});
  v1::SetContainerRequest request;
  (*request.mutable_labels())["team"] = "blue";
  EXPECT_THAT(Changes(request), ElementsAre("label team"));
  EXPECT_EQ(records_->Load(context_, "web")->record.labels().at("team"), "blue");
  const EventPtr update = updates->Pop();
  ASSERT_NE(update, nullptr);
  EXPECT_EQ(update->id, id_);
  v1::SetContainerRequest remove;
  remove.add_remove_labels("team");
  remove.add_remove_labels("never-there");
  EXPECT_THAT(Changes(remove), ElementsAre("no label team"));
  EXPECT_EQ(records_->Load(context_, "web")->record.labels().count("team"), 0u);
}

TEST_F(ContainerSetLifeTest, TheProcessIsChangedInTheSpec) {
  v1::SetContainerRequest request;
  request.add_env("COLOUR=red");
  request.add_env("SIZE=large");
  request.add_remove_env("LANG");
  request.mutable_command()->add_values("serve");
  request.mutable_command()->add_values("--fast");
  request.set_working_dir("/srv");
  EXPECT_THAT(Changes(request), ElementsAre("variable COLOUR", "variable SIZE", "no variable LANG",
                                            "command", "working directory"));
  const nlohmann::json process = Spec(id_)["process"];
  EXPECT_EQ(process["args"], nlohmann::json({"/bin/entry", "serve", "--fast"}));
  EXPECT_EQ(process["cwd"], "/srv");
  const auto env = process["env"].get<std::vector<std::string>>();
  EXPECT_THAT(env, Contains("COLOUR=red"));
  EXPECT_THAT(env, Contains("SIZE=large"));
  EXPECT_THAT(env, Contains("PATH=/bin"));  // the image's
  EXPECT_THAT(env, Not(Contains("COLOUR=blue")));
  EXPECT_THAT(env, Not(Contains("LANG=C")));
  const v1::ContainerConfig config = records_->Load(context_, "web")->config;
  EXPECT_THAT(config.command(), ElementsAre("serve", "--fast"));
}

TEST_F(ContainerSetLifeTest, WhatARunningProcessKeepsIsSaidToWait) {
  Run();
  v1::SetContainerRequest request;
  request.add_env("COLOUR=red");
  request.set_stop_timeout_seconds(3);
  EXPECT_THAT(Changes(request), ElementsAre("stop timeout", "variable COLOUR later"));
}

TEST_F(ContainerSetLifeTest, WhatIsRefusedChangesNothing) {
  const std::string before = records_->Load(context_, "web")->record.DebugString();
  v1::SetContainerRequest request;
  (*request.mutable_labels())["team"] = "blue";
  request.add_env("no value");
  EXPECT_EQ(FieldOf(Set(request).status()), "env");
  v1::SetContainerRequest missing;
  *missing.add_mounts() = Bind(dir_.Join("nowhere"), "/data");
  EXPECT_FALSE(Set(missing).ok());
  EXPECT_EQ(records_->Load(context_, "web")->record.DebugString(), before);
}

TEST_F(ContainerSetLifeTest, ChangesBeforeAFailureStayAndAreNamed) {
  v1::SetContainerRequest request;
  (*request.mutable_labels())["team"] = "blue";
  request.mutable_restart_policy()->set_name("sometimes");
  const absl::Status refused = Set(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("these changes before it stay: label team"));
  EXPECT_EQ(records_->Load(context_, "web")->record.labels().at("team"), "blue");
}

TEST_F(ContainerSetLifeTest, LimitsAndPolicyAreSetTogether) {
  v1::SetContainerRequest request;
  request.mutable_resources()->set_memory_bytes(64 << 20);
  request.mutable_restart_policy()->set_name("always");
  EXPECT_THAT(Changes(request), ElementsAre("limits", "restart policy"));
  EXPECT_EQ(records_->Load(context_, "web")->config.restart_policy().name(), "always");
  EXPECT_EQ(Spec(id_)["linux"]["resources"]["memory"]["limit"], 64 << 20);
}

TEST_F(ContainerSetLifeTest, AContainerOfAnotherClientIsThatOnes) {
  record::v1::Container record = records_->Load(context_, id_)->record;
  record.mutable_extensions()->erase("gantry");
  ASSERT_TRUE(stores_.containers.Update({kNs, ""}, record, {"extensions"}).ok());
  v1::SetContainerRequest request;
  request.set_stop_timeout_seconds(3);
  const absl::Status refused = Set(request).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("was made by another client"));
}

TEST_F(ContainerSetLifeTest, MountsOfWhatDoesNotRunAreInTheSpec) {
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data");
  request.mutable_mounts(0)->set_read_only(true);
  v1::Mount* tmpfs = request.add_mounts();
  tmpfs->set_type(v1::Mount::TMPFS);
  tmpfs->set_target("/scratch");
  EXPECT_THAT(Changes(request), ElementsAre("mount /data", "mount /scratch"));
  EXPECT_EQ(MountAt("/data")["source"], dir_.Join("one"));
  EXPECT_EQ(MountAt("/scratch")["type"], "tmpfs");
  EXPECT_EQ(records_->Load(context_, "web")->config.mounts_size(), 2);
  // At the same place: it is replaced.
  v1::SetContainerRequest replace;
  *replace.add_mounts() = Bind(Source("two"), "/data");
  EXPECT_THAT(Changes(replace), ElementsAre("mount /data"));
  EXPECT_EQ(MountAt("/data")["source"], dir_.Join("two"));
  EXPECT_EQ(records_->Load(context_, "web")->config.mounts_size(), 2);
  v1::SetContainerRequest remove;
  remove.add_remove_mounts("/data");
  EXPECT_THAT(Changes(remove), ElementsAre("no mount /data"));
  EXPECT_TRUE(MountAt("/data").is_null());
  EXPECT_EQ(FieldOf(Set(remove).status()), "remove_mounts");
}

TEST_F(ContainerSetLifeTest, MountsOfWhatRunsAreSeenAtOnce) {
  Run();
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data");
  EXPECT_THAT(Changes(request), ElementsAre("mount /data"));
  EXPECT_EQ(Inside("/data/file"), "one");
  v1::SetContainerRequest replace;
  *replace.add_mounts() = Bind(Source("two"), "/data");
  EXPECT_THAT(Changes(replace), ElementsAre("mount /data"));
  EXPECT_EQ(Inside("/data/file"), "two");
  v1::SetContainerRequest remove;
  remove.add_remove_mounts("/data");
  EXPECT_THAT(Changes(remove), ElementsAre("no mount /data"));
  EXPECT_EQ(Inside("/data/file"), "(none)");  // nothing of the first shows through
}

TEST_F(ContainerSetLifeTest, AMountThatWouldHideAnotherIsRefused) {
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data/below");
  ASSERT_THAT(Changes(request), ElementsAre("mount /data/below"));
  v1::SetContainerRequest above;
  *above.add_mounts() = Bind(Source("two"), "/data");
  const absl::Status refused = Set(above).status();
  EXPECT_EQ(FieldOf(refused), "mounts");
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("/data: /data/below is mounted below it, and would be hidden"));
}

TEST_F(ContainerSetLifeTest, AMountIsNotRemovedFromUnderAnother) {
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data");
  *request.add_mounts() = Bind(Source("two"), "/data/below");
  ASSERT_TRUE(Set(request).ok());
  v1::SetContainerRequest under;
  under.add_remove_mounts("/data");
  const absl::Status refused = Set(under).status();
  EXPECT_EQ(FieldOf(refused), "remove_mounts");
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("/data: /data/below is mounted below it: remove it too"));
  EXPECT_FALSE(MountAt("/data").is_null());
  under.add_remove_mounts("/data/below");
  EXPECT_THAT(Changes(under), ElementsAre("no mount /data", "no mount /data/below"));
}

TEST_F(ContainerSetLifeTest, OfMountsThatAreRefusedTogetherNoneIsLeftInWhatRuns) {
  Run();
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data/below");
  *request.add_mounts() = Bind(Source("two"), "/data");
  EXPECT_EQ(FieldOf(Set(request).status()), "mounts");
  EXPECT_EQ(Inside("/data/below/file"), "(none)");
  EXPECT_TRUE(records_->Load(context_, "web")->config.mounts().empty());
}

// What a refused call took away has its content again, also what was mounted below it.
TEST_F(ContainerSetLifeTest, MountsThatARefusedCallRemovedComeBack) {
  Run();
  v1::SetContainerRequest first;
  *first.add_mounts() = Bind(Source("one"), "/data");
  *first.add_mounts() = Bind(Source("two"), "/data/below");
  v1::Mount* const tmpfs = first.add_mounts();
  tmpfs->set_type(v1::Mount::TMPFS);
  tmpfs->set_target("/scratch");
  ASSERT_TRUE(MakeDirectories(dir_.Join("one/below"), 0755).ok());
  ASSERT_TRUE(Set(first).ok());
  ASSERT_TRUE(
      WriteFile(absl::StrCat("/proc/", process_->pid(), "/root/scratch/note"), "kept").ok());

  v1::SetContainerRequest request;
  request.add_remove_mounts("/scratch");
  request.add_remove_mounts("/data");
  *request.add_mounts() = Bind(Source("three"), "/other");
  *request.add_mounts() = Bind(dir_.Join("nowhere"), "/last");
  EXPECT_EQ(FieldOf(Set(request).status()), "mount");
  EXPECT_EQ(Inside("/data/file"), "one");
  // Refused while the changes are made: /data/below is still mounted.
  v1::SetContainerRequest hides;
  hides.add_remove_mounts("/scratch");
  hides.add_remove_mounts("/data/below");
  *hides.add_mounts() = Bind(Source("three"), "/deep/inner");
  *hides.add_mounts() = Bind(Source("three"), "/deep");
  EXPECT_EQ(FieldOf(Set(hides).status()), "mounts");
  EXPECT_EQ(Inside("/scratch/note"), "kept");
  EXPECT_EQ(Inside("/data/file"), "one");
  EXPECT_EQ(Inside("/data/below/file"), "two");
  EXPECT_EQ(Inside("/deep/inner/file"), "(none)");
  EXPECT_EQ(records_->Load(context_, "web")->config.mounts_size(), 3);
  EXPECT_FALSE(MountAt("/scratch").is_null());
}

TEST_F(ContainerSetLifeTest, AReplacedMountComesBackToo) {
  Run();
  v1::SetContainerRequest first;
  *first.add_mounts() = Bind(Source("one"), "/data");
  ASSERT_TRUE(Set(first).ok());
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("two"), "/data");
  *request.add_mounts() = Bind(Source("three"), "/deep/inner");
  *request.add_mounts() = Bind(Source("three"), "/deep");
  EXPECT_EQ(FieldOf(Set(request).status()), "mounts");
  EXPECT_EQ(Inside("/data/file"), "one");
}

TEST_F(ContainerSetLifeTest, TargetsAreSpelledAsTheKernelDoes) {
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data/");
  EXPECT_THAT(Changes(request), ElementsAre("mount /data/"));
  v1::SetContainerRequest replace;
  *replace.add_mounts() = Bind(Source("two"), "//data");
  EXPECT_THAT(Changes(replace), ElementsAre("mount //data"));
  ASSERT_EQ(records_->Load(context_, "web")->config.mounts_size(), 1);
  EXPECT_EQ(records_->Load(context_, "web")->config.mounts(0).target(), "/data");
  v1::SetContainerRequest remove;
  remove.add_remove_mounts("/data/.");
  EXPECT_THAT(Changes(remove), ElementsAre("no mount /data/."));
  EXPECT_TRUE(MountAt("/data").is_null());
}

// Its options are a mount of their own, which the container's start would have made.
TEST_F(ContainerSetLifeTest, AVolumeWithOptionsIsMountedForAsLongAsItIsUsed) {
  CreateTmpfs("memory");
  Run();
  v1::SetContainerRequest request;
  *request.add_mounts() = Volume("memory", "/fast");
  ASSERT_THAT(Changes(request), ElementsAre("mount /fast"));
  EXPECT_TRUE(Mounted("memory"));
  ASSERT_TRUE(WriteFile(absl::StrCat("/proc/", process_->pid(), "/root/fast/note"), "shared").ok());
  EXPECT_EQ(ReadFile(local_volumes_->DataDirectory({kNs, "memory"}) + "/note", 100).value_or("?"),
            "shared");
  v1::SetContainerRequest again;
  *again.add_mounts() = Volume("memory", "/also");
  ASSERT_TRUE(Set(again).ok());
  EXPECT_EQ(Inside("/also/note"), "shared");
  v1::SetContainerRequest one;
  one.add_remove_mounts("/fast");
  ASSERT_TRUE(Set(one).ok());
  EXPECT_TRUE(Mounted("memory"));
  v1::SetContainerRequest other;
  other.add_remove_mounts("/also");
  ASSERT_TRUE(Set(other).ok());
  EXPECT_FALSE(Mounted("memory"));
}

TEST_F(ContainerSetLifeTest, AVolumeOfARefusedCallIsNotLeftMounted) {
  CreateTmpfs("memory");
  Run();
  v1::SetContainerRequest request;
  *request.add_mounts() = Volume("memory", "/fast/inner");
  *request.add_mounts() = Bind(Source("one"), "/fast");
  EXPECT_EQ(FieldOf(Set(request).status()), "mounts");
  EXPECT_FALSE(Mounted("memory"));
  EXPECT_EQ(Inside("/fast/inner/note"), "(none)");
}

// A part of a volume is found at a place with the number of its mount.
TEST_F(ContainerSetLifeTest, PartsOfVolumesAreFoundWhenMountsBeforeThemGo) {
  v1::ContainerConfig config = Of("app:1");
  *config.add_mounts() = Bind(Source("one"), "/data");
  v1::Mount part = Volume("site", "/www");
  part.set_subpath("html");
  *config.add_mounts() = part;
  const std::string id = MustCreate(config, "parts");
  v1::SetContainerRequest request;
  request.set_container("parts");
  request.add_remove_mounts("/data");
  ASSERT_TRUE(set_->Set(context_, request).ok());
  const nlohmann::json spec = Spec(id);
  std::string source;
  for (const nlohmann::json& one : spec["mounts"]) {
    if (one["destination"] == "/www") source = one["source"];
  }
  EXPECT_EQ(source, run_volumes_->Place(id, 0));
}

TEST_F(ContainerSetLifeTest, APartOfAVolumeIsAddedWithItsPlace) {
  v1::SetContainerRequest request;
  *request.add_mounts() = Bind(Source("one"), "/data");
  v1::Mount part = Volume("site", "/www");
  part.set_subpath("html");
  *request.add_mounts() = part;
  EXPECT_THAT(Changes(request), ElementsAre("mount /data", "mount /www"));
  EXPECT_EQ(MountAt("/www")["source"], run_volumes_->Place(id_, 1));
  EXPECT_EQ(records_->Load(context_, "web")->config.mounts(1).subpath(), "html");
}

TEST_F(ContainerSetLifeTest, AVolumeThatIsAddedIsUsedByTheContainer) {
  v1::SetContainerRequest request;
  v1::Mount* mount = request.add_mounts();
  mount->set_type(v1::Mount::VOLUME);
  mount->set_source("data");
  mount->set_target("/data");
  EXPECT_THAT(Changes(request), ElementsAre("mount /data"));
  EXPECT_EQ(records_->Load(context_, "web")->config.mounts(0).volume_name(), "data");
  v1::RemoveVolumeRequest remove;
  remove.set_name("data");
  EXPECT_TRUE(absl::IsFailedPrecondition(volumes_->Remove(context_, remove).status()));
  EXPECT_EQ(MountAt("/data")["source"], local_volumes_->DataDirectory({kNs, "data"}));
}

TEST_F(ContainerSetLifeTest, MountsThatNeedMoreThanASetAreRefused) {
  const auto refusal = [&](const v1::Mount& mount) {
    v1::SetContainerRequest request;
    *request.add_mounts() = mount;
    return Set(request).status();
  };
  v1::Mount shared = Bind(Source("one"), "/data");
  shared.set_propagation("rshared");
  EXPECT_EQ(FieldOf(refusal(shared)), "mounts");
  v1::Mount image;
  image.set_type(v1::Mount::IMAGE);
  image.set_source("app:1");
  image.set_target("/data");
  EXPECT_EQ(FieldOf(refusal(image)), "mounts");
  EXPECT_THAT(records_->Load(context_, "web")->config.mounts(), IsEmpty());
}

}  // namespace
}  // namespace gantry::core
