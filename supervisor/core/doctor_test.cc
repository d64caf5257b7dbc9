// What the examination of a host says of the daemon's own objects.
#include "supervisor/core/doctor.h"

#include <sys/stat.h>

#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/task_supervision.h"
#include "supervisor/metadata/scope.h"

namespace gantry::core {
namespace {

using testing::HasSubstr;

class DoctorTest : public ContainerFixture {
 protected:
  // Findings by their check. Those about the host that the test runs on are there too.
  std::map<std::string, host::Finding> Examine(runtime::RuntimeProbe* runtimes = nullptr) {
    Doctor::Parts parts;
    parts.stores = &stores_;
    parts.tasks = &tasks_->view();
    parts.runtimes = runtimes == nullptr ? runtimes_.get() : runtimes;
    parts.root_directory = dir_.Join("root");
    parts.state_directory = dir_.Join("state");
    parts.address = dir_.Join("gantry.sock");
    std::map<std::string, host::Finding> found;
    for (host::Finding& one : Doctor(parts).Examine()) found[one.check] = std::move(one);
    return found;
  }
  void Damage(metadata::Family family, const std::string& id) {
    const absl::Status written = db_->Run(
        [&](metadata::Transaction& tx) {
          return tx.Put(family, metadata::MakeKey(kNs, id), "\xff\xff\xff");
        },
        metadata::Durability::kSynced);
    ASSERT_TRUE(written.ok()) << written;
  }
};

TEST_F(DoctorTest, ADaemonInOrderHasNoFindingAboutItsObjects) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Make("created");
  const auto found = Examine();
  for (const char* check :
       {"silent-shims", "stuck-removals", "damaged-records", "leaked-shims", "leaked-mounts",
        "leaked-netns", "leaked-bundles", "leaked-directories"})
    EXPECT_EQ(found.count(check), 0u) << check << ": " << found.at(check).detail;
}

TEST_F(DoctorTest, DamagedRecordsAreNamed) {
  Make("fine");
  const std::string id = Make("web");
  Damage(metadata::Family::kContainers, id);
  const host::Finding finding = Examine().at("damaged-records");
  EXPECT_EQ(finding.severity, host::Severity::kError);
  EXPECT_EQ(finding.detail, absl::StrCat(kNs, "/", id));
}

TEST_F(DoctorTest, ARemovalThatWaitsSaysForWhat) {
  const std::string id = Make("web");
  LoadedContainer loaded = records_->Load(context_, id).value();
  ASSERT_TRUE(records_
                  ->UpdateState(loaded,
                                [](record::v1::ContainerState& state) {
                                  state.set_removal_waits_for("its snapshot is in use");
                                })
                  .ok());
  EXPECT_EQ(Examine().at("stuck-removals").detail,
            absl::StrCat(kNs, "/", id, ": its snapshot is in use"));
}

TEST_F(DoctorTest, AShimThatDoesNotAnswerIsNamedWithTheReason) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  End();
  Shim(id).Freeze();
  Begin();
  runtime::RecoveredTask found;
  found.key = {kNs, id};
  found.verdict = runtime::Verdict::kKeepUnknown;
  found.bundle = bundles_->Load(found.key).value();
  found.shim = launcher_.Adopt(*found.bundle);
  found.reason = "its shim did not answer in time";
  std::vector<runtime::RecoveredTask> all;
  all.push_back(std::move(found));
  ASSERT_EQ(TaskSupervision(*tasks_).Recover(std::move(all)), 1);
  // The examination waits for no shim.
  EXPECT_EQ(Examine().at("silent-shims").detail,
            absl::StrCat(kNs, "/", id, " (its shim did not answer in time)"));
  Shim(id).Unfreeze();
}

TEST_F(DoctorTest, AShimWithoutARecordIsALeftover) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  const int32_t pid = tasks_->view().Get(kNs, id, "")->pid;
  ASSERT_TRUE(stores_.containers.Delete({kNs, ""}, id).ok());
  const auto found = Examine();
  EXPECT_EQ(found.at("leaked-shims").detail, absl::StrCat(kNs, "/", id, ", pid ", pid));
  // Its bundle belongs to that shim.
  EXPECT_EQ(found.count("leaked-bundles"), 0u);
}

TEST_F(DoctorTest, WhatIsBeingMadeIsNoLeftover) {
  for (const char* path :
       {"state/tasks/default/new", "state/netns/default/new", "root/containers/default/new"})
    ASSERT_TRUE(MakeDirectories(dir_.Join(path), 0700).ok());
  const auto found = Examine();
  for (const char* check : {"leaked-bundles", "leaked-netns", "leaked-directories"})
    EXPECT_EQ(found.count(check), 0u) << check;
}

TEST_F(DoctorTest, RuntimesThatCannotBeUsedAreNamedWithTheirProblem) {
  EXPECT_EQ(Examine().count("no-runtime"), 0u);
  runtime::RuntimeSettings missing;
  missing.path = dir_.Join("nowhere/crun");
  runtime::RuntimeProbe none({{"gone", missing}}, dir_.path(), "gone");
  bool told = false;
  for (const auto& [check, finding] : Examine(&none)) {
    if (finding.detail.find("gone: ") == std::string::npos) continue;
    told = true;
    EXPECT_EQ(finding.severity, host::Severity::kError);
    EXPECT_THAT(finding.detail, HasSubstr("nowhere/crun"));
  }
  EXPECT_TRUE(told);
}

}  // namespace
}  // namespace gantry::core
