#include "supervisor/oci/manifest.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/json_document.h"

namespace gantry::oci {
namespace {

constexpr char kDigestA[] =
    "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
constexpr char kDigestB[] =
    "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

std::string Descriptor(absl::string_view type, absl::string_view digest) {
  return absl::StrCat(R"({"mediaType":")", type, R"(","digest":")", digest, R"(","size":7})");
}

std::string ManifestText(absl::string_view extra = "") {
  return absl::StrCat(R"({"schemaVersion":2,"config":)", Descriptor(kOciConfig, kDigestA),
                      R"(,"layers":[)", Descriptor(kOciLayerGzip, kDigestB), "]", extra, "}");
}

std::string IndexText(absl::string_view extra = "") {
  return absl::StrCat(
      R"({"schemaVersion":2,"manifests":[{"mediaType":")", kOciManifest, R"(","digest":")",
      kDigestA, R"(","size":9,"platform":{"os":"linux","architecture":"arm","variant":"v6"}}])",
      extra, "}");
}

TEST(ManifestTest, ReadsOciManifestWithoutOwnMediaType) {
  auto manifest = ParseManifest(ManifestText(R"(,"annotations":{"k":"v"})"), "", "m");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->media_type, kOciManifest);
  EXPECT_EQ(manifest->config.digest.str(), kDigestA);
  ASSERT_EQ(manifest->layers.size(), 1u);
  EXPECT_EQ(manifest->layers[0].media_type, kOciLayerGzip);
  EXPECT_EQ(manifest->layers[0].size_bytes, 7);
  EXPECT_EQ(manifest->annotations.at("k"), "v");
}

TEST(ManifestTest, AnImageWithoutLayersIsOne) {
  for (const char* layers : {R"(,"layers":null)", R"(,"layers":[])", ""}) {
    auto manifest = ParseManifest(absl::StrCat(R"({"schemaVersion":2,"config":)",
                                               Descriptor(kOciConfig, kDigestA), layers, "}"),
                                  kOciManifest, "m");
    ASSERT_TRUE(manifest.ok()) << layers << manifest.status();
    EXPECT_TRUE(manifest->layers.empty());
    EXPECT_EQ(manifest->config.digest.str(), kDigestA);
  }
  auto index = ParseIndex(R"({"schemaVersion":2,"manifests":null})", "", "i");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_TRUE(index->manifests.empty());
}

TEST(ManifestTest, ReadsIndexWithPlatforms) {
  auto index = ParseIndex(IndexText(), kOciIndex, "i");
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->manifests.size(), 1u);
  ASSERT_TRUE(index->manifests[0].platform.has_value());
  EXPECT_EQ(index->manifests[0].platform->variant, "v6");
}

TEST(ManifestTest, ReadsDockerTypes) {
  auto document = ParseDocument(
      ManifestText(absl::StrCat(R"(,"mediaType":")", kDockerManifest, "\"")), kDockerManifest, "m");
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(document->manifest->media_type, kDockerManifest);
}

TEST(ManifestTest, RefusesDocumentWithManifestsAndLayers) {
  auto both = ParseDocument(ManifestText(R"(,"manifests":[])"), "", "m");
  EXPECT_EQ(both.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(both.status().message(), "both `manifests`")) << both.status();
}

TEST(ManifestTest, RefusesMemberThatDiffersInCaseOnly) {
  EXPECT_EQ(ParseDocument(ManifestText(R"(,"Manifests":[])"), "", "m").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ManifestTest, RefusesContradictingMediaType) {
  const std::string text = ManifestText(absl::StrCat(R"(,"mediaType":")", kOciIndex, "\""));
  EXPECT_EQ(ParseDocument(text, kOciManifest, "m").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseDocument(ManifestText(), kOciIndex, "m").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseDocument(ManifestText(), "text/html", "m").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ManifestTest, RefusesSchemaOneWithAdvice) {
  for (const char* type : {"", "application/vnd.docker.distribution.manifest.v1+prettyjws"}) {
    auto old = ParseDocument(R"({"schemaVersion":1,"name":"x","fsLayers":[]})", type,
                             "docker.io/library/old:1");
    EXPECT_EQ(old.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StrContains(old.status().message(), "docker.io/library/old:1"))
        << old.status();
    EXPECT_TRUE(absl::StrContains(old.status().message(), "push the image again")) << old.status();
  }
}

TEST(ManifestTest, RefusesOversizedDocument) {
  const std::string text = ManifestText(
      absl::StrCat(R"(,"annotations":{"k":")", std::string(kMaxManifestBytes, 'x'), "\"}"));
  EXPECT_EQ(ParseDocument(text, "", "m").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ManifestTest, RefusesTooManyLayers) {
  std::string layers;
  for (int i = 0; i < 10000; ++i)
    absl::StrAppend(&layers, i == 0 ? "" : ",", Descriptor(kOciLayerGzip, kDigestB));
  auto many =
      ParseDocument(absl::StrCat(R"({"schemaVersion":2,"config":)",
                                 Descriptor(kOciConfig, kDigestA), R"(,"layers":[)", layers, "]}"),
                    "", "m");
  EXPECT_EQ(many.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(many.status().message(), "10000 layers")) << many.status();
}

TEST(ManifestTest, RefusesDeepNesting) {
  const std::string deep = absl::StrCat(std::string(100000, '['), std::string(100000, ']'));
  auto result = ParseDocument(ManifestText(absl::StrCat(R"(,"x":)", deep)), "", "m");
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(result.status().message(), "nested")) << result.status();
}

TEST(ManifestTest, BracketsInsideStringsAreNotNesting) {
  EXPECT_TRUE(
      ParseDocument(ManifestText(absl::StrCat(R"(,"x":")", std::string(500, '['), R"(\"[")")), "",
                    "m")
          .ok());
}

TEST(ManifestTest, RefusesMalformedParts) {
  for (const std::string& text : {
           std::string(""),
           std::string("{"),
           std::string("[]"),
           std::string("null"),
           std::string("{}"),
           std::string(R"({"schemaVersion":2})"),
           std::string(R"({"schemaVersion":2,"layers":[]})"),
           std::string(R"({"schemaVersion":"2","manifests":[]})"),
           std::string(R"({"schemaVersion":2,"manifests":{}})"),
           std::string(R"({"schemaVersion":2,"manifests":[1]})"),
           IndexText(R"(,"annotations":{"k":1})"),
       }) {
    EXPECT_EQ(ParseDocument(text, "", "m").status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(ManifestTest, RefusesMalformedDescriptors) {
  for (
      const char* text : {
          R"({"mediaType":"a/b","digest":"sha256:../../etc/passwd","size":1})",
          R"({"mediaType":"a/b","digest":"md5:aa","size":1})",
          R"({"mediaType":"a/b","digest":"sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","size":1})",
          R"({"mediaType":"a/b","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":-1})",
          R"({"mediaType":"a/b","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":1e30})",
          R"({"mediaType":"a/b","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})",
          R"({"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":1})",
      }) {
    auto json = ParseJson(text, "d");
    ASSERT_TRUE(json.ok()) << text;
    EXPECT_EQ(DescriptorFromJson(*json, "d").status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(ManifestTest, PrintedDocumentsReadBackAndAreDeterministic) {
  auto manifest = ParseManifest(
      ManifestText(R"(,"annotations":{"b":"2","a":"1"},"artifactType":"x/y")"), "", "m");
  ASSERT_TRUE(manifest.ok());
  const std::string text = PrintManifest(*manifest);
  auto again = ParseManifest(text, kOciManifest, "m");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(PrintManifest(*again), text);
  EXPECT_EQ(again->artifact_type, "x/y");

  auto index = ParseIndex(IndexText(), "", "i");
  ASSERT_TRUE(index.ok());
  auto index_again = ParseIndex(PrintIndex(*index), kOciIndex, "i");
  ASSERT_TRUE(index_again.ok());
  EXPECT_EQ(index_again->manifests[0].platform, index->manifests[0].platform);
}

TEST(ManifestTest, ChildLabelsNameConfigLayersAndManifests) {
  auto manifest = ParseDocument(ManifestText(), "", "m");
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(ChildLabels(*manifest),
            (std::map<std::string, std::string>{{"containerd.io/gc.ref.content.config", kDigestA},
                                                {"containerd.io/gc.ref.content.l.0", kDigestB}}));
  auto index = ParseDocument(IndexText(), "", "i");
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(ChildLabels(*index),
            (std::map<std::string, std::string>{{"containerd.io/gc.ref.content.m.0", kDigestA}}));
}

TEST(ManifestTest, ChainIdsFollowTheSpecification) {
  std::vector<content::Digest> diff_ids;
  for (const char* text : {kDigestA, kDigestB}) diff_ids.push_back(*content::Digest::Parse(text));
  const auto chain = ChainIds(diff_ids);
  ASSERT_EQ(chain.size(), 2u);
  EXPECT_EQ(chain[0].str(), kDigestA);
  // printf 'sha256:aa... sha256:bb...' | sha256sum
  EXPECT_EQ(chain[1].str(),
            "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c");
}

}  // namespace
}  // namespace gantry::oci
