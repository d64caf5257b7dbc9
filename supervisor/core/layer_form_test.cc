#include "supervisor/core/layer_form.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/compression.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "content-store/fake_store.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

class LayerFormTest : public ::testing::Test {
 protected:
  // A file of the year 2001 and one of 2033, the latter with an attribute.
  ImageLayer Layer() {
    auto layer = ImageAssembly().LayerFrom(store_, "test", [](ByteSink& out) -> absl::Status {
      TarWriter tar(out);
      TarEntry entry;
      entry.path = "old";
      entry.mode = 0644;
      entry.mtime = {1'000'000'000, 0};
      absl::Status written = tar.WriteFile(entry, std::string(200'000, 'x'));
      if (!written.ok()) return written;
      entry.path = "new";
      entry.mode = 04755;
      entry.uid = 7;
      entry.mtime = {2'000'000'000, 0};
      entry.xattrs["user.a"] = "b";
      written = tar.WriteFile(entry, "short");
      return written.ok() ? tar.Finish() : written;
    });
    EXPECT_TRUE(layer.ok()) << layer.status();
    return *layer;
  }
  std::string Plain(const content::Descriptor& blob) {
    auto bytes = content::ReadBlob(store_, blob.digest, 1 << 20);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    StringSource source(*bytes);
    auto plain = OpenDecompressor(source);
    EXPECT_TRUE(plain.ok());
    auto text = ReadAll(**plain, 1 << 20);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.value_or("");
  }

  content::FakeStore store_;
};

TEST_F(LayerFormTest, AnotherCompressionKeepsTheDiffId) {
  const ImageLayer layer = Layer();
  for (const Compression wanted : {Compression::kZstd, Compression::kNone}) {
    LayerForm form;
    form.compression = wanted;
    auto converted = ConvertLayer(store_, layer, form, nullptr);
    ASSERT_TRUE(converted.ok()) << converted.status();
    EXPECT_EQ(converted->diff_id, layer.diff_id);
    EXPECT_NE(converted->blob.digest, layer.blob.digest);
    EXPECT_EQ(converted->blob.media_type, LayerMediaType(wanted, false));
    EXPECT_EQ(Plain(converted->blob), Plain(layer.blob));
    EXPECT_EQ(CompressionOf(converted->blob.media_type).value(), wanted);
  }
}

TEST_F(LayerFormTest, TheFormThatItHasChangesNothing) {
  const ImageLayer layer = Layer();
  LayerForm form;
  EXPECT_EQ(ConvertLayer(store_, layer, form, nullptr)->blob.digest, layer.blob.digest);
  form.compression = Compression::kGzip;
  EXPECT_EQ(ConvertLayer(store_, layer, form, nullptr)->blob.digest, layer.blob.digest);
}

TEST_F(LayerFormTest, TimesAreLimitedAndNothingElseChanges) {
  const ImageLayer layer = Layer();
  LayerForm form;
  form.newest = absl::FromUnixSeconds(1'500'000'000);
  auto converted = ConvertLayer(store_, layer, form, nullptr);
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_NE(converted->diff_id, layer.diff_id);
  const std::string tar = Plain(converted->blob);
  EXPECT_EQ(content::Digest::Sha256Of(tar), converted->diff_id);
  StringSource source(tar);
  TarReader reader(source);
  TarEntry entry;
  ASSERT_TRUE(reader.Next(entry).value());
  EXPECT_EQ(entry.path, "old");
  EXPECT_EQ(entry.mtime.seconds, 1'000'000'000);
  EXPECT_EQ(reader.ReadAll(1 << 20).value(), std::string(200'000, 'x'));
  ASSERT_TRUE(reader.Next(entry).value());
  EXPECT_EQ(entry.mtime.seconds, 1'500'000'000);
  EXPECT_EQ(entry.mode, 04755u);
  EXPECT_EQ(entry.uid, 7u);
  EXPECT_EQ(entry.xattrs.at("user.a"), "b");
  EXPECT_EQ(reader.ReadAll(100).value(), "short");
  EXPECT_FALSE(reader.Next(entry).value());
}

TEST_F(LayerFormTest, AFormIsMadeOnceAndKeptWithItsLayer) {
  const ImageLayer layer = Layer();
  LayerForm form;
  form.compression = Compression::kZstd;
  form.level = 3;
  const ImageLayer converted = ConvertLayer(store_, layer, form, nullptr).value();
  const auto info = store_.Stat(layer.blob.digest);
  ASSERT_TRUE(info.ok());
  const auto kept = info->labels.find("containerd.io/gc.ref.content.form.zstd.3");
  ASSERT_NE(kept, info->labels.end());
  EXPECT_EQ(kept->second, converted.blob.digest.str());
  // The second time nothing of the layer is read.
  EXPECT_TRUE(store_.Stat(converted.blob.digest).ok());
  EXPECT_EQ(ConvertLayer(store_, layer, form, nullptr)->blob.digest, converted.blob.digest);
  // One that is gone is made again.
  ASSERT_TRUE(store_.Delete(converted.blob.digest).ok());
  EXPECT_EQ(ConvertLayer(store_, layer, form, nullptr)->blob.digest, converted.blob.digest);
}

TEST_F(LayerFormTest, ADamagedLayerIsRefused) {
  ImageLayer layer = Layer();
  layer.diff_id = content::Digest::Sha256Of("something else");
  LayerForm form;
  form.compression = Compression::kZstd;
  EXPECT_EQ(ConvertLayer(store_, layer, form, nullptr).status().code(),
            absl::StatusCode::kDataLoss);
  layer.blob.media_type = "application/json";
  EXPECT_EQ(ConvertLayer(store_, layer, form, nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace gantry::core
