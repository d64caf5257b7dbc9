#include "supervisor/distribution/image_tree.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "content-store/fake_store.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;
using ::testing::HasSubstr;

class ImageTreeTest : public testing::Test {
 protected:
  Descriptor Put(const std::string& text, const std::string& type) {
    Descriptor out;
    out.media_type = type;
    out.size_bytes = static_cast<int64_t>(text.size());
    out.digest = content::WriteBlob(store_, absl::StrCat("w", next_++), text, {}, {}).value();
    return out;
  }
  // A manifest with one layer. The blobs are stored unless told otherwise.
  Descriptor Image(const std::string& name, bool with_layer = true) {
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config = Put("config of " + name, oci::kOciConfig);
    Descriptor layer;
    layer.media_type = oci::kOciLayer;
    const std::string text = "layer of " + name;
    layer.size_bytes = static_cast<int64_t>(text.size());
    layer.digest = Digest::Sha256Of(text);
    if (with_layer) layer = Put(text, oci::kOciLayer);
    manifest.layers.push_back(layer);
    return Put(oci::PrintManifest(manifest), oci::kOciManifest);
  }

  content::FakeStore store_;
  CancelToken cancel_;
  oci::PlatformMatcher all_ = oci::PlatformMatcher::All();
  ImageTree tree_{store_, all_, true, cancel_};
  int next_ = 0;
};

TEST_F(ImageTreeTest, CompleteImageIsLabelledWithItsChildren) {
  const Descriptor image = Image("web");
  ASSERT_TRUE(tree_.Check(image, "image web").ok());
  EXPECT_EQ(tree_.by_config().at(Digest::Sha256Of("config of web")).digest, image.digest);
  const content::Labels labels = store_.Stat(image.digest)->labels;
  EXPECT_EQ(labels.at("containerd.io/gc.ref.content.config"),
            Digest::Sha256Of("config of web").str());
  EXPECT_EQ(labels.at("containerd.io/gc.ref.content.l.0"), Digest::Sha256Of("layer of web").str());
}

TEST_F(ImageTreeTest, MissingLayerIsNamed) {
  const absl::Status status = tree_.Check(Image("web", /*with_layer=*/false), "image web");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(status.message(), HasSubstr("image web: layer sha256:"));
  EXPECT_THAT(status.message(), HasSubstr("neither in the archive nor in the store"));
}

TEST_F(ImageTreeTest, SizeThatIsNotTheBlobsIsRefused) {
  Descriptor image = Image("web");
  ++image.size_bytes;
  EXPECT_TRUE(absl::IsFailedPrecondition(tree_.Check(image, "image web")));
}

TEST_F(ImageTreeTest, CancelledWalkEnds) {
  const Descriptor image = Image("web");
  cancel_.Cancel();
  EXPECT_TRUE(absl::IsCancelled(tree_.Check(image, "image web")));
}

}  // namespace
}  // namespace gantry::distribution
