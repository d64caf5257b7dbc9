// Images, and directories in them, as mounts of containers.
//
// Needs root: images are unpacked.
#include "supervisor/core/image_mounts.h"

#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "supervisor/core/creation_fixture.h"
#include "supervisor/core/shown_images.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::SizeIs;
using testing::StartsWith;

class ImageMountsTest : public CreationFixture {
 protected:
  void SetUp() override {
    CreationFixture::SetUp();
    if (IsSkipped()) return;
    mounts_ =
        std::make_unique<ImageMounts>(ImageMounts::Parts{&stores_, catalog_.get(), unpack_.get()});
    WriteImageAs("docker.io/library/models:1");
  }
  absl::StatusOr<ImageMounts::Shown> Show(const std::string& image, const std::string& path) {
    labels_.clear();
    return mounts_->Show(context_, image, path, labels_);
  }
  static v1::ContainerConfig With(const std::string& image, const std::string& target,
                                  const std::string& path = "") {
    v1::ContainerConfig config = Config();
    v1::Mount* mount = config.add_mounts();
    mount->set_type(v1::Mount::IMAGE);
    mount->set_source(image);
    mount->set_target(target);
    mount->set_subpath(path);
    return config;
  }

  std::unique_ptr<ImageMounts> mounts_;
  std::map<std::string, std::string> labels_;
};

TEST_F(ImageMountsTest, AnImageIsShownAsItsFilesWithoutACopy) {
  const absl::StatusOr<ImageMounts::Shown> shown = Show("models:1", "");
  ASSERT_TRUE(shown.ok()) << shown.status();
  EXPECT_EQ(shown->image_id, target_.digest.str());
  EXPECT_TRUE(shown->mount.read_only);
  EXPECT_THAT(ReadFile(shown->mount.source + "/etc/passwd", 1000).value_or("?"),
              StartsWith("root:"));
}

TEST_F(ImageMountsTest, TheRecordsLabelsKeepWhatIsShown) {
  ASSERT_TRUE(Show("models:1", "").ok());
  EXPECT_THAT(labels_, Contains(Key(StartsWith("containerd.io/gc.ref.snapshot.native/"))));
  EXPECT_THAT(labels_, Contains(testing::Pair(StartsWith(kShownImageLabel), target_.digest.str())));
  // Each mount has a snapshot of its own, which goes with the container that it is of.
  const std::map<std::string, std::string> first = labels_;
  ASSERT_TRUE(Show("models:1", "").ok());
  EXPECT_NE(labels_, first);
}

TEST_F(ImageMountsTest, ADirectoryOfTheImageAlone) {
  for (const char* path : {"etc", "/etc/", "./etc/."}) {
    const absl::StatusOr<ImageMounts::Shown> shown = Show("models:1", path);
    ASSERT_TRUE(shown.ok()) << path << ": " << shown.status();
    EXPECT_EQ(access((shown->mount.source + "/passwd").c_str(), F_OK), 0) << path;
  }
}

TEST_F(ImageMountsTest, APathThatCannotBeShownIsNamed) {
  const std::pair<std::string, std::string> bad[] = {{"..", "leads out of the image"},
                                                     {"etc/../../x", "leads out of the image"},
                                                     {"missing", "it has no directory \"missing\""},
                                                     {"etc/passwd", "it has no directory"}};
  for (const auto& [path, reason] : bad) {
    const absl::Status refused = Show("models:1", path).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << path << ": " << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(reason)) << path;
    EXPECT_THAT(std::string(refused.message()), StartsWith("image models:1: ")) << path;
  }
  EXPECT_TRUE(absl::IsNotFound(Show("nowhere:1", "").status()));
}

TEST_F(ImageMountsTest, MountsOfAConfigurationAreAddedAndNoted) {
  v1::ContainerConfig config = With("models:1", "/models", "etc");
  std::vector<oci::MountConfig> mounts;
  oci::MountConfig below;
  below.destination = "/models/cache/deep";
  mounts.push_back(below);
  labels_.clear();
  ASSERT_TRUE(mounts_->AddTo(context_, config, mounts, labels_).ok());
  ASSERT_THAT(mounts, SizeIs(2));
  // The image first: it would hide what is mounted below it.
  EXPECT_EQ(mounts[0].destination, "/models");
  EXPECT_THAT(mounts[0].source, EndsWith("/etc"));
  EXPECT_EQ(mounts[1].destination, "/models/cache/deep");
  EXPECT_EQ(config.mounts(0).image_id(), target_.digest.str());
  EXPECT_TRUE(config.mounts(0).read_only());
  EXPECT_THAT(labels_, SizeIs(2));
}

TEST_F(ImageMountsTest, WithoutImagesNothingChanges) {
  v1::ContainerConfig config = Config();
  std::vector<oci::MountConfig> mounts(2);
  mounts[0].destination = "/a/b/c";
  mounts[1].destination = "/z";
  labels_.clear();
  ASSERT_TRUE(mounts_->AddTo(context_, config, mounts, labels_).ok());
  EXPECT_EQ(mounts[0].destination, "/a/b/c");
  EXPECT_THAT(labels_, IsEmpty());
}

TEST_F(ImageMountsTest, WhatCannotBeShownIsOfTheMountsField) {
  for (v1::ContainerConfig config :
       {With("nowhere:1", "/models"), With("models:1", "/models", "missing")}) {
    std::vector<oci::MountConfig> mounts;
    const absl::Status refused = mounts_->AddTo(context_, config, mounts, labels_);
    EXPECT_EQ(FieldOf(refused), "mount");
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("invalid mount config for type \"image\""));
  }
}

}  // namespace
}  // namespace gantry::core
