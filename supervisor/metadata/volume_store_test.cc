#include "supervisor/metadata/volume_store.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"

namespace gantry::metadata {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class VolumeStoreTest : public testing::Test {
 protected:
  static record::v1::Volume Named(const std::string& name) {
    record::v1::Volume record;
    record.set_name(name);
    record.set_driver("local");
    return record;
  }
  std::vector<std::string> Names(const std::string& ns) {
    std::vector<std::string> names;
    const std::vector<StoredVolume> all = store_.List(ns).value();
    for (const StoredVolume& one : all) names.push_back(one.ns + "/" + one.record.name());
    return names;
  }

  TempDir dir_;
  std::unique_ptr<Database> db_ = Database::Open(dir_.path()).value();
  VolumeStore store_{*db_};
  const Scope scope_ = {"default", ""};
};

TEST_F(VolumeStoreTest, NamesAreUniqueInANamespace) {
  ASSERT_TRUE(store_.Create(scope_, Named("data")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(store_.Create(scope_, Named("data")).status()));
  ASSERT_TRUE(store_.Create({"other", ""}, Named("data")).ok());
  ASSERT_TRUE(store_.Create(scope_, Named("alpha")).ok());
  EXPECT_THAT(Names("default"), ElementsAre("default/alpha", "default/data"));
  EXPECT_THAT(Names(""), ElementsAre("default/alpha", "default/data", "other/data"));
}

TEST_F(VolumeStoreTest, WhatIsDeletedIsGone) {
  ASSERT_TRUE(store_.Create(scope_, Named("data")).ok());
  ASSERT_TRUE(store_.Delete(scope_, "data").ok());
  EXPECT_EQ(store_.Find(scope_, "data").status().message(), "get data: no such volume");
  EXPECT_TRUE(absl::IsNotFound(store_.Delete(scope_, "data")));
  EXPECT_THAT(Names(""), IsEmpty());
}

TEST_F(VolumeStoreTest, ARenameKeepsTheRecord) {
  record::v1::Volume record = Named("data");
  (*record.mutable_labels())["tier"] = "db";
  ASSERT_TRUE(store_.Create(scope_, record).ok());
  ASSERT_TRUE(store_.Create(scope_, Named("taken")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(store_.Rename(scope_, "data", "taken")));
  ASSERT_TRUE(store_.Rename(scope_, "data", "other").ok());
  EXPECT_EQ(store_.Find(scope_, "other")->record.labels().at("tier"), "db");
  EXPECT_EQ(store_.Find(scope_, "other")->record.name(), "other");
  EXPECT_TRUE(absl::IsNotFound(store_.Rename(scope_, "data", "again")));
}

TEST_F(VolumeStoreTest, GoingIsNotedAndTakenBack) {
  ASSERT_TRUE(store_.Create(scope_, Named("data")).ok());
  ASSERT_TRUE(store_.SetGoing(scope_, "data", true).ok());
  EXPECT_TRUE(store_.Find(scope_, "data")->record.going());
  ASSERT_TRUE(store_.SetGoing(scope_, "data", false).ok());
  EXPECT_FALSE(store_.Find(scope_, "data")->record.going());
  EXPECT_TRUE(absl::IsNotFound(store_.SetGoing(scope_, "gone", true)));
}

}  // namespace
}  // namespace gantry::metadata
