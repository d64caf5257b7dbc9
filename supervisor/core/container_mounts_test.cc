#include "supervisor/core/container_mounts.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::Mount& Add(v1::ContainerConfig& config, v1::Mount::Type type, const std::string& source,
               const std::string& target) {
  v1::Mount& mount = *config.add_mounts();
  mount.set_type(type);
  mount.set_source(source);
  mount.set_target(target);
  return mount;
}

TEST(CheckMountsTest, RefusesWithDockersWords) {
  using Change = void (*)(v1::Mount&);
  const std::vector<std::pair<Change, const char*>> kCases = {
      {[](auto& m) { m.set_target(""); }, "field Target must not be empty"},
      {[](auto& m) { m.set_target("data"); }, "mount path must be absolute"},
      {[](auto& m) { m.set_target("/.."); }, "destination can't be '/'"},
      {[](auto& m) { m.set_source("x"); }, "volume name is too short"},
      {[](auto& m) { m.set_source("../etc"); }, "includes invalid characters"},
      {[](auto& m) { m.set_propagation("shared"); }, "invalid mode: shared"},
      {[](auto& m) {
         m.set_source("");
         m.set_subpath("a");
       },
       "must not set Subpath when using anonymous volumes"},
      {[](auto& m) {
         m.set_type(v1::Mount::BIND);
         m.set_source("");
       },
       "invalid mount config for type \"bind\": field Source must not be empty"},
      {[](auto& m) { m.set_type(v1::Mount::TMPFS); }, "field Source must not be specified"},
      {[](auto& m) { m.set_type(v1::Mount::TYPE_UNSPECIFIED); }, "mount type unknown"},
      {[](auto& m) { m.set_read_only_non_recursive(true); }, "mount options conflict"}};
  for (const auto& [change, words] : kCases) {
    v1::ContainerConfig config;
    change(Add(config, v1::Mount::VOLUME, "data", "/data"));
    const absl::Status status = CheckMounts(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << words;
    EXPECT_EQ(FieldOf(status), "mount") << words;
    EXPECT_THAT(status.message(), HasSubstr(words));
  }
}

TEST(CheckMountsTest, OnePlaceHasOneMountHoweverItIsSpelled) {
  v1::ContainerConfig config;
  Add(config, v1::Mount::VOLUME, "data", "/a/b");
  Add(config, v1::Mount::TMPFS, "", "/a/./c/../b/");
  EXPECT_THAT(CheckMounts(config).message(), HasSubstr("Duplicate mount point: /a/b"));
}

TEST(AppendMountsTest, OnlyDirectoriesAreRecursivelyReadOnly) {
  const TempDir directory;
  ASSERT_TRUE(WriteFile(directory.Join("file"), "").ok());
  v1::ContainerConfig config;
  for (const std::string& source : {directory.path(), directory.Join("file")}) {
    v1::Mount& mount = Add(config, v1::Mount::BIND, source, "/to" + source);
    mount.set_read_only(true);
    mount.set_read_only_force_recursive(true);
  }
  std::vector<oci::MountConfig> mounts;
  ASSERT_TRUE(AppendMounts(config, {}, mounts).ok());
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_TRUE(mounts[0].recursive_read_only);
  EXPECT_FALSE(mounts[1].recursive_read_only);
  EXPECT_TRUE(mounts[1].read_only);
}

TEST(ParseVolumesFromTest, ModesAreAccessAndLabels) {
  EXPECT_EQ(ParseVolumesFrom("db")->container, "db");
  EXPECT_FALSE(ParseVolumesFrom("db:rw,z")->read_only);
  EXPECT_TRUE(ParseVolumesFrom("db:ro")->read_only);
  for (const char* bad : {"", ":ro", "db:rprivate", "db:nocopy", "db:ro,rw", "db:z,Z", "a:b:c"})
    EXPECT_TRUE(absl::IsInvalidArgument(ParseVolumesFrom(bad).status())) << bad;
}

TEST(InheritMountsTest, OwnMountsWinAndReadOnlyIsKept) {
  v1::ContainerConfig other;
  Add(other, v1::Mount::VOLUME, "data", "/data").set_volume_name("data");
  Add(other, v1::Mount::BIND, "/srv", "/srv").set_read_only(true);
  v1::ContainerConfig config;
  Add(config, v1::Mount::TMPFS, "", "/data");
  InheritMounts(other, "c1", /*read_only=*/false, config);
  ASSERT_EQ(config.mounts_size(), 2);
  EXPECT_EQ(config.mounts(0).type(), v1::Mount::TMPFS);
  EXPECT_EQ(config.mounts(1).target(), "/srv");
  EXPECT_EQ(config.mounts(1).inherited_from(), "c1");
  EXPECT_TRUE(config.mounts(1).read_only()) << "what is read-only there does not become writable";

  // A later container's replaces an earlier one's.
  v1::ContainerConfig third;
  Add(third, v1::Mount::VOLUME, "other", "/srv").set_volume_name("other");
  InheritMounts(third, "c2", /*read_only=*/true, config);
  ASSERT_EQ(config.mounts_size(), 2);
  EXPECT_EQ(config.mounts(1).source(), "other");
  EXPECT_TRUE(config.mounts(1).read_only());
}

TEST(AddImageVolumesTest, WhatIsMountedThereWins) {
  v1::ContainerConfig config;
  Add(config, v1::Mount::BIND, "/srv", "/data");
  ASSERT_TRUE(AddImageVolumes({"/data", "/cache/"}, config).ok());
  ASSERT_EQ(config.mounts_size(), 2);
  EXPECT_EQ(config.mounts(1).type(), v1::Mount::VOLUME);
  EXPECT_EQ(config.mounts(1).target(), "/cache");
  EXPECT_TRUE(config.mounts(1).source().empty());
  for (const char* bad : {"", "data", "/", "/a/.."})
    EXPECT_TRUE(absl::IsInvalidArgument(AddImageVolumes({bad}, config))) << bad;
}

TEST(NormalizeMountsTest, ARequestCannotSayWhatOnlyTheDaemonMay) {
  v1::ContainerConfig config;
  v1::Mount& mount = Add(config, v1::Mount::VOLUME, "", "/a//b/");
  mount.set_volume_name("somebody-elses");
  mount.set_inherited_from("image");
  NormalizeMounts(config);
  EXPECT_EQ(config.mounts(0).target(), "/a/b");
  EXPECT_TRUE(config.mounts(0).volume_name().empty());
  EXPECT_TRUE(config.mounts(0).inherited_from().empty());
}

TEST(AnonymousVolumesTest, AVolumeThatWasNamedIsNotOne) {
  v1::ContainerConfig config;
  Add(config, v1::Mount::VOLUME, "", "/a").set_volume_name("0123");
  Add(config, v1::Mount::VOLUME, "4567", "/b").set_volume_name("4567");
  EXPECT_THAT(AnonymousVolumes(config), ElementsAre("0123"));
}

TEST(AppendMountsTest, WordsOfTheShortFormAreNoOptionsOfAMount) {
  v1::ContainerConfig config;
  v1::Mount& mount = Add(config, v1::Mount::VOLUME, "data", "/data");
  mount.set_volume_name("data");
  for (const char* word : {"Z", "rw", "cached"}) mount.add_options(word);
  mount.set_read_only(true);
  EXPECT_EQ(ModeOf(mount), "ro,Z,cached");
  std::vector<oci::MountConfig> out;
  ASSERT_TRUE(AppendMounts(config, {{"/data", "/root/volumes/data/_data"}}, out).ok());
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].source, "/root/volumes/data/_data");
  EXPECT_TRUE(out[0].options.empty());
  EXPECT_TRUE(out[0].read_only);
  mount.set_read_only(false);
  EXPECT_EQ(ModeOf(mount), "Z,rw,cached");
}

}  // namespace
}  // namespace gantry::core
