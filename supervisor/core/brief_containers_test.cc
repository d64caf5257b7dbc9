#include "supervisor/core/brief_containers.h"

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "content-store/digest.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/manifest_record.h"

namespace gantry::core {
namespace {

class BriefContainersTest : public ContainerFixture {
 protected:
  void Damage(metadata::Family family, const std::string& id) {
    ASSERT_TRUE(db_->Run(
                       [&](metadata::Transaction& tx) {
                         return tx.Put(family, metadata::MakeKey(kNs, id), "\xff\xff\xff");
                       },
                       metadata::Durability::kSynced)
                    .ok());
  }
  void Put(const std::string& id, const std::string& name) {
    metadata::NewContainer fresh;
    fresh.name = name;
    fresh.record.set_id(id);
    fresh.record.mutable_runtime()->set_name("io.containerd.runc.v2");
    fresh.record.mutable_spec()->set_type_url("spec");
    fresh.record.mutable_spec()->set_value(std::string(20000, 's'));
    (*fresh.record.mutable_labels())["a"] = id;
    v1::ContainerConfig config;
    config.set_image("image");
    WriteIntent(config, fresh.record);
    content::Descriptor manifest;
    manifest.media_type = "m";
    manifest.digest = content::Digest::Sha256Of("x");
    manifest.size_bytes = 7;
    content::Platform platform;
    platform.os = "linux";
    platform.architecture = "arm64";
    platform.variant = "v8";
    WriteManifest(manifest, platform, fresh.record);
    ASSERT_TRUE(stores_.containers.Create({kNs, ""}, std::move(fresh)).ok());
  }
};

TEST_F(BriefContainersTest, EverythingIsThereButTheSpec) {
  Put("one", "first");
  Put("two", "");
  for (const auto& found :
       {AllBriefly(stores_, kNs), SomeBriefly(stores_, kNs, {"one", "gone", "two"})}) {
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(found->size(), 2u);
    const LoadedContainer& one = found->front();
    EXPECT_EQ(one.id(), "one");
    EXPECT_EQ(one.name, "first");
    EXPECT_TRUE(one.ours);
    EXPECT_EQ(one.config.image(), "image");
    EXPECT_EQ(one.config.labels().at("a"), "one");
    EXPECT_FALSE(one.record.has_spec());
    EXPECT_TRUE(one.state.has_created_at());
    EXPECT_EQ(ReadManifest(one.record)->platform(), "linux/arm64/v8");
    EXPECT_EQ(ReadManifest(one.record)->size_bytes(), 7);
    EXPECT_EQ(found->back().name, "");
  }
}

TEST_F(BriefContainersTest, ADamagedRecordIsShownAsSuch) {
  Put("one", "first");
  Damage(metadata::Family::kContainers, "one");
  for (const auto& found : {AllBriefly(stores_, kNs), SomeBriefly(stores_, kNs, {"one"})}) {
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(found->size(), 1u);
    EXPECT_TRUE(found->front().damaged);
    EXPECT_EQ(found->front().id(), "one");
    EXPECT_EQ(found->front().name, "first");
  }
}

}  // namespace
}  // namespace gantry::core
