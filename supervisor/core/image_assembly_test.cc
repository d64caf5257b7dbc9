#include "supervisor/core/image_assembly.h"

#include <string>

#include "gtest/gtest.h"

#include "base/compression.h"
#include "content-store/fake_store.h"

namespace gantry::core {
namespace {

constexpr char kTar[] = "the bytes of a tar";

class ImageAssemblyTest : public ::testing::Test {
 protected:
  absl::StatusOr<ImageLayer> Layer() {
    return assembly_.LayerFrom(store_, "test", [](ByteSink& out) {
      EXPECT_TRUE(out.Write("the bytes ").ok());
      return out.Write("of a tar");
    });
  }

  content::FakeStore store_;
  ImageAssembly assembly_;
};

TEST_F(ImageAssemblyTest, ALayerIsStoredCompressedWithItsDiffId) {
  auto layer = Layer();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_EQ(layer->diff_id, content::Digest::Sha256Of(kTar));
  EXPECT_EQ(layer->blob.media_type, oci::kOciLayerGzip);
  auto bytes = content::ReadBlob(store_, layer->blob.digest, 1 << 20);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(static_cast<int64_t>(bytes->size()), layer->blob.size_bytes);
  StringSource source(*bytes);
  auto plain = OpenDecompressor(source);
  ASSERT_TRUE(plain.ok());
  std::string text(64, ' ');
  auto n = (*plain)->Read(text.data(), text.size());
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(text.substr(0, *n), kTar);
  // Made twice, it is the same blob.
  auto again = Layer();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->blob.digest, layer->blob.digest);
  EXPECT_TRUE(store_.ListIngests()->empty());
}

TEST_F(ImageAssemblyTest, AWriterThatFailsLeavesNothing) {
  auto layer = assembly_.LayerFrom(store_, "test", [](ByteSink& out) {
    EXPECT_TRUE(out.Write("some").ok());
    return absl::DataLossError("torn");
  });
  EXPECT_EQ(layer.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(store_.ListIngests()->empty());
}

TEST_F(ImageAssemblyTest, TheImageNamesItsParts) {
  auto layer = Layer();
  ASSERT_TRUE(layer.ok());
  oci::ImageConfig config;
  config.platform.os = "linux";
  config.platform.architecture = "amd64";
  config.cmd = {"sh"};
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  oci::History history;
  history.comment = "made by a test";
  ImageAssembly::Stack(*layer, history, absl::FromUnixSeconds(86400), config, manifest);
  auto target = assembly_.WriteImage(store_, config, manifest);
  ASSERT_TRUE(target.ok()) << target.status();
  auto text = content::ReadBlob(store_, target->digest, 1 << 20);
  ASSERT_TRUE(text.ok());
  auto written = oci::ParseManifest(*text, target->media_type, "m");
  ASSERT_TRUE(written.ok()) << written.status();
  ASSERT_EQ(written->layers.size(), 1u);
  EXPECT_EQ(written->layers[0].digest, layer->blob.digest);
  auto config_text = content::ReadBlob(store_, written->config.digest, 1 << 20);
  ASSERT_TRUE(config_text.ok());
  auto read = oci::ParseImageConfig(*config_text, "c");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->diff_ids, std::vector<content::Digest>{layer->diff_id});
  EXPECT_EQ(read->created, "1970-01-02T00:00:00+00:00");
  ASSERT_EQ(read->history.size(), 1u);
  EXPECT_EQ(read->history[0].comment, "made by a test");
  // Garbage collection reaches the parts.
  auto info = store_.Stat(target->digest);
  ASSERT_TRUE(info.ok());
}

TEST_F(ImageAssemblyTest, ADockerManifestKeepsToDockersTypes) {
  auto layer = Layer();
  ASSERT_TRUE(layer.ok());
  oci::ImageConfig config;
  oci::Manifest manifest;
  manifest.media_type = oci::kDockerManifest;
  ImageAssembly::Stack(*layer, {}, absl::UnixEpoch(), config, manifest);
  auto target = assembly_.WriteImage(store_, config, manifest);
  ASSERT_TRUE(target.ok()) << target.status();
  auto written = oci::ParseManifest(*content::ReadBlob(store_, target->digest, 1 << 20),
                                    oci::kDockerManifest, "m");
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->layers[0].media_type, oci::kDockerLayerGzip);
  EXPECT_EQ(written->config.media_type, oci::kDockerConfig);
}

}  // namespace
}  // namespace gantry::core
