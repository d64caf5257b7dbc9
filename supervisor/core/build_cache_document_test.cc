#include "supervisor/core/build_cache_document.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

content::Digest DigestOf(const std::string& text) { return content::Digest::Sha256Of(text); }

content::Descriptor Blob(const std::string& text) {
  content::Descriptor blob;
  blob.media_type = oci::kOciLayerGzip;
  blob.digest = DigestOf(text);
  blob.size_bytes = static_cast<int64_t>(text.size());
  return blob;
}

CacheDocument TwoLayers() {
  CacheDocument document;
  document.layers.push_back({Blob("a"), DigestOf("plain a"), -1, absl::FromUnixSeconds(7)});
  document.layers.push_back({Blob("bb"), DigestOf("plain b"), 0, absl::FromUnixSeconds(8)});
  document.steps.push_back({DigestOf("first").str(), 0, absl::FromUnixSeconds(7)});
  document.steps.push_back({DigestOf("second").str(), 1, absl::FromUnixSeconds(8)});
  return document;
}

TEST(BuildCacheDocumentTest, WhatIsPrintedIsReadAgain) {
  const CacheDocument document = TwoLayers();
  auto read = ParseCacheConfig(PrintCacheConfig(document), {Blob("bb"), Blob("a")});
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->layers.size(), 2u);
  EXPECT_EQ(read->layers[1].blob.digest, DigestOf("bb"));
  EXPECT_EQ(read->layers[1].diff_id, DigestOf("plain b"));
  EXPECT_EQ(read->layers[1].parent, 0);
  EXPECT_EQ(read->layers[0].parent, -1);
  ASSERT_EQ(read->steps.size(), 2u);
  EXPECT_EQ(read->steps[1].key, DigestOf("second").str());
  EXPECT_EQ(read->steps[1].layer, 1);
  EXPECT_EQ(read->steps[1].created, absl::FromUnixSeconds(8));
  EXPECT_EQ(PrintCacheConfig(*read), PrintCacheConfig(document));
}

TEST(BuildCacheDocumentTest, AStepWhoseLayerIsNotThereIsLeftOut) {
  auto read = ParseCacheConfig(PrintCacheConfig(TwoLayers()), {Blob("a")});
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->steps.size(), 1u);
  EXPECT_EQ(read->steps[0].key, DigestOf("first").str());
}

TEST(BuildCacheDocumentTest, MalformedOnesAreRefused) {
  const std::string good = PrintCacheConfig(TwoLayers());
  const std::vector<content::Descriptor> blobs = {Blob("a"), Blob("bb")};
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\"parent\":0", "\"parent\":1"},     // a circle
           {"\"parent\":0", "\"parent\":9999"},  // nowhere
           {"\"diffID\"", "\"other\""},
           {"\"layers\":[{\"annotations\"", "\"layers\":[[],{\"annotations\""},
           {DigestOf("first").str(), "sha256:x"}}) {
    const std::string bad = absl::StrReplaceAll(good, {{from, to}});
    ASSERT_NE(bad, good) << from;
    EXPECT_EQ(ParseCacheConfig(bad, blobs).status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
  EXPECT_FALSE(ParseCacheConfig("[]", blobs).ok());
  EXPECT_FALSE(ParseCacheConfig("{", blobs).ok());
}

TEST(BuildCacheDocumentTest, ResultsThatNameNoLayerAreLeftOut) {
  const std::string text = absl::StrCat(
      R"({"layers":[],"records":[{"digest":")", DigestOf("k").str(),
      R"(","layers":[{"layer":0},{"layer":-1},{"layer":18446744073709551615},{}]},{"digest":")",
      DigestOf("l").str(), R"(","chains":[]}]})");
  auto read = ParseCacheConfig(text, {});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->steps.empty());
}

TEST(BuildCacheDocumentTest, AnImageHoldsRecordsOfItsOwnLayers) {
  oci::Manifest manifest;
  manifest.layers = {Blob("base"), Blob("made")};
  const std::vector<content::Digest> diff_ids = {DigestOf("x"), DigestOf("y")};
  const std::string text = PrintInlineCache({{DigestOf("step").str(), 1, absl::UnixEpoch()},
                                             {DigestOf("foreign").str(), 2, absl::UnixEpoch()}});
  auto read = ParseInlineCache(text, manifest, diff_ids);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->steps.size(), 1u);
  EXPECT_EQ(read->layers[1].parent, 0);
  EXPECT_EQ(read->layers[1].diff_id, DigestOf("y"));
  EXPECT_FALSE(ParseInlineCache(text, manifest, {DigestOf("x")}).ok());
}

}  // namespace
}  // namespace gantry::core
