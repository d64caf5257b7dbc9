#include "supervisor/core/lease_scope.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/filter.h"

namespace gantry::core {
namespace {

using metadata::LeaseResource;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

class LeaseScopeTest : public ::testing::Test {
 protected:
  LeaseScopeTest()
      : database_(*metadata::Database::Open(directory_.path())), leases_(*database_, clock_) {}

  // A lease as a daemon that died has left it.
  void Left(const std::string& id, const std::string& work, const std::string& ingest) {
    record::v1::Lease lease;
    lease.set_id(id);
    (*lease.mutable_labels())["gantry.io/scope"] = work;
    ASSERT_TRUE(leases_.Create(ns_, lease).ok());
    ASSERT_TRUE(leases_.AddResource(ns_, id, {"ingests", ingest}).ok());
  }
  std::vector<record::v1::Lease> All() {
    std::vector<record::v1::Lease> all;
    EXPECT_TRUE(leases_
                    .List(ns_, metadata::Filter(),
                          [&](const record::v1::Lease& lease) {
                            all.push_back(lease);
                            return absl::OkStatus();
                          })
                    .ok());
    return all;
  }

  const metadata::Scope ns_{"default", ""};
  TempDir directory_;
  FakeClock clock_;
  std::unique_ptr<metadata::Database> database_;
  metadata::LeaseStore leases_;
};

TEST_F(LeaseScopeTest, WhatADeadPullHadIsKeptForTheNextAndGoesWithItsSuccess) {
  Left("first", "pull r/x:1", "layer-a");
  Left("second", "pull r/x:1", "layer-b");
  ASSERT_TRUE(LeaseScope::TakeOver(leases_, clock_, "default", absl::Hours(24)).ok());
  const std::vector<record::v1::Lease> kept = All();
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].labels().at("gantry.io/interrupted"), "pull r/x:1");
  EXPECT_TRUE(kept[0].labels().contains("containerd.io/gc.expire"));
  EXPECT_THAT(*leases_.ListResources(ns_, kept[0].id()),
              UnorderedElementsAre(LeaseResource{"ingests", "layer-a"},
                                   LeaseResource{"ingests", "layer-b"}));
  ASSERT_TRUE(LeaseScope::Forget(leases_, "default", "pull r/x:1").ok());
  EXPECT_TRUE(All().empty());
}

TEST_F(LeaseScopeTest, OtherWorkOfADeadDaemonHoldsNothing) {
  Left("load", "unnamed", "layer-a");
  ASSERT_TRUE(LeaseScope::TakeOver(leases_, clock_, "default", absl::Hours(24)).ok());
  EXPECT_TRUE(All().empty());
}

TEST_F(LeaseScopeTest, ClientsLeasesAndKeptOnesAreLeftAlone) {
  record::v1::Lease theirs;
  theirs.set_id("theirs");
  ASSERT_TRUE(leases_.Create(ns_, theirs).ok());
  Left("first", "pull r/x:1", "layer-a");
  for (int start = 0; start < 2; ++start) {
    ASSERT_TRUE(LeaseScope::TakeOver(leases_, clock_, "default", absl::Hours(24)).ok());
    EXPECT_EQ(All().size(), 2u);
  }
}

TEST_F(LeaseScopeTest, AScopeSaysWhatItIsFor) {
  auto scope = LeaseScope::Create(leases_, clock_, "default", "", "pull r/x:1");
  ASSERT_TRUE(scope.ok()) << scope.status();
  const std::vector<record::v1::Lease> all = All();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].labels().at("gantry.io/scope"), "pull r/x:1");
}

}  // namespace
}  // namespace gantry::core
