#include "supervisor/distribution/archive_names.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/distribution/layer_looks.h"

namespace gantry::distribution {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const content::Digest kImage = content::Digest::Sha256Of("image");

TEST(EntryNameTest, IsCleanedAndStaysInTheArchive) {
  EXPECT_EQ(CleanEntryName("a/./b/"), "a/b");
  EXPECT_EQ(CleanEntryName("/a//b"), "a/b");
  EXPECT_EQ(CleanEntryName("a/../b"), "b");
  for (const char* out : {"", "/", ".", "..", "a/../..", "../a"})
    EXPECT_EQ(CleanEntryName(out), "") << out;
}

TEST(EntryNameTest, BlobsNamePromisesItsDigest) {
  EXPECT_EQ(DigestInEntryName(absl::StrCat("blobs/sha256/", kImage.hex())).value(), kImage);
  EXPECT_TRUE(DigestInEntryName("layer/layer.tar").value().empty());
  EXPECT_TRUE(absl::IsInvalidArgument(DigestInEntryName("blobs/sha256/xyz").status()));
}

TEST(ImageNameTest, PromiseOfADigestIsChecked) {
  const std::string right = absl::StrCat("docker.io/library/x@", kImage.str());
  EXPECT_TRUE(CheckNamePromise(right, kImage).ok());
  EXPECT_TRUE(CheckNamePromise("docker.io/library/x:1", kImage).ok());
  EXPECT_TRUE(
      absl::IsInvalidArgument(CheckNamePromise(right, content::Digest::Sha256Of("another image"))));
}

TEST(ImageNameTest, IsCompleted) {
  EXPECT_EQ(CanonicalImageName("x").value(), "docker.io/library/x:latest");
  EXPECT_TRUE(absl::IsInvalidArgument(CanonicalImageName("X Y").status()));
}

TEST(DockerManifestTest, NamesConfigLayersAndTags) {
  const auto entries =
      ParseDockerManifest(R"([{"Config":"c.json","RepoTags":["x:1"],"Layers":["a","b"]},
                              {"Config":"d.json","RepoTags":null}])");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].config, "c.json");
  EXPECT_THAT((*entries)[0].repo_tags, ElementsAre("x:1"));
  EXPECT_THAT((*entries)[0].layers, ElementsAre("a", "b"));
  EXPECT_THAT((*entries)[1].repo_tags, IsEmpty());
}

TEST(DockerManifestTest, OtherShapesAreRefused) {
  for (const char* text :
       {"", "{}", "[1]", R"([{"Layers":[]}])", R"([{"Config":1}])",
        R"([{"Config":"c","Layers":"a"}])", R"([{"Config":"c","RepoTags":[1]}])"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseDockerManifest(text).status())) << text;
  }
}

TEST(DockerManifestTest, NamesWithoutEndAreRefused) {
  std::string tags = "\"x\"";
  for (int i = 0; i < 10000; ++i) tags += ",\"x\"";
  EXPECT_TRUE(absl::IsResourceExhausted(
      ParseDockerManifest(absl::StrCat(R"([{"Config":"c","RepoTags":[)", tags, "]}]")).status()));
}

TEST(LayerLooksTest, FirstBytesTellTheCompression) {
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  EXPECT_EQ(SniffLayer(tar), Looks::kTar);
  EXPECT_EQ(SniffLayer("\x1f\x8b\x08" + std::string(20, '\0')), Looks::kGzip);
  EXPECT_EQ(SniffLayer("\x28\xb5\x2f\xfd" + std::string(20, '\0')), Looks::kZstd);
  EXPECT_EQ(SniffLayer("{\"a\":1}"), Looks::kOther);
  EXPECT_EQ(SniffLayer(""), Looks::kOther);
}

TEST(LayerLooksTest, DockerArchiveCallsZstdGzip) {
  EXPECT_STREQ(DockerLayerType(Looks::kZstd), DockerLayerType(Looks::kGzip));
  EXPECT_STRNE(OciLayerType(Looks::kZstd), OciLayerType(Looks::kGzip));
}

}  // namespace
}  // namespace gantry::distribution
