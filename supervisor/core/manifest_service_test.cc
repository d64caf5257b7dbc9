// Manifests read from a registry and indexes put together there.
#include "supervisor/core/manifest_service.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/manifests.pb.h"
#include "supervisor/core/image_testbed.h"
#include "supervisor/distribution/registry_testbed.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

class ManifestServiceTest : public ::testing::Test {
 protected:
  std::string Full(const std::string& name) { return absl::StrCat(registry_.host(), "/", name); }

  v1::PushIndexRequest IndexOf(const std::string& name,
                               const std::vector<content::Descriptor>& manifests) {
    oci::Index index;
    index.media_type = oci::kDockerIndex;
    index.manifests = manifests;
    v1::PushIndexRequest request;
    request.set_reference(Full(name));
    request.set_media_type(index.media_type);
    request.set_document(oci::PrintIndex(index));
    return request;
  }

  ImageTestbed bed_;
  distribution::FakeRegistry registry_;
  distribution::RegistryTestbed far_;
  ManifestService service_{{&bed_.stores, far_.resolver.get(), far_.puller.get(), far_.pusher.get(),
                            nullptr, far_.hosts.get()}};
};

TEST_F(ManifestServiceTest, ReadsAnImagesManifestAndItsPlatform) {
  const content::Descriptor image = registry_.AddImage("app", "1", {"layer"}, "arm64");
  v1::ReadManifestRequest request;
  request.set_reference(Full("app:1"));
  const auto read = service_.Read(bed_.context, request);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->reference(), Full("app:1"));
  EXPECT_EQ(read->manifest().digest(), image.digest.str());
  EXPECT_EQ(read->document(), registry_.Manifest("app", "1"));
  EXPECT_EQ(read->platform().architecture(), "arm64");
  EXPECT_EQ(read->platform().os(), "linux");
}

TEST_F(ManifestServiceTest, AnIndexHasNoPlatformOfItsOwn) {
  registry_.AddIndex("app", "all", {registry_.AddImage("app", "", {"layer"})});
  v1::ReadManifestRequest request;
  request.set_reference(Full("app:all"));
  const auto read = service_.Read(bed_.context, request);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->has_platform());
}

TEST_F(ManifestServiceTest, WhatIsNotThereIsNotFound) {
  v1::ReadManifestRequest request;
  request.set_reference(Full("none:1"));
  EXPECT_EQ(service_.Read(bed_.context, request).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ManifestServiceTest, AnIndexTakesImagesOfOtherRepositoriesAlong) {
  const content::Descriptor one = registry_.AddImage("one", "1", {"a"}, "amd64");
  const content::Descriptor two = registry_.AddImage("two", "1", {"b"}, "arm64");
  v1::PushIndexRequest request = IndexOf("both:1", {one, two});
  request.add_sources(Full(absl::StrCat("one@", one.digest.str())));
  request.add_sources(Full(absl::StrCat("two@", two.digest.str())));
  const auto pushed = service_.PushIndex(bed_.context, request, nullptr);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  ASSERT_EQ(pushed->size(), 3u);
  EXPECT_EQ((*pushed)[0].digest(), one.digest.str());
  EXPECT_EQ((*pushed)[2].reference(), Full("both:1"));
  EXPECT_EQ(registry_.Manifest("both", "1"), request.document());
  EXPECT_EQ(registry_.Manifest("both", two.digest.str()), registry_.Manifest("two", "1"));
  EXPECT_TRUE(registry_.HasBlob("both", content::Digest::Sha256Of("b")));
}

TEST_F(ManifestServiceTest, BlobsAreCopiedWhereTheRegistryMountsNothing) {
  const content::Descriptor one = registry_.AddImage("one", "1", {"a"});
  registry_.SetHook([](const distribution::FakeRegistry::Request& request,
                       distribution::FakeRegistry::Connection& connection) {
    if (request.method != "POST" || request.parameter("mount").empty()) return false;
    connection.Answer(405, {}, "");
    return true;
  });
  v1::PushIndexRequest request = IndexOf("copy:1", {one});
  request.add_sources(Full(absl::StrCat("one@", one.digest.str())));
  const auto pushed = service_.PushIndex(bed_.context, request, nullptr);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  content::Descriptor layer;
  layer.digest = content::Digest::Sha256Of("a");
  EXPECT_TRUE(registry_.HasBlob("copy", layer.digest));
  EXPECT_FALSE(bed_.Has(layer));
}

TEST_F(ManifestServiceTest, SourcesOfAnotherRegistryAreRefused) {
  const content::Descriptor one = registry_.AddImage("one", "1", {"a"});
  v1::PushIndexRequest request = IndexOf("both:1", {one});
  request.add_sources(absl::StrCat("elsewhere.example/one@", one.digest.str()));
  const absl::Status refused = service_.PushIndex(bed_.context, request, nullptr).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "elsewhere.example")) << refused;
  EXPECT_EQ(registry_.Manifest("both", "1"), "");
}

TEST_F(ManifestServiceTest, AManifestWithoutASourceIsRefused) {
  const content::Descriptor one = registry_.AddImage("one", "1", {"a"});
  const absl::Status refused =
      service_.PushIndex(bed_.context, IndexOf("both:1", {one}), nullptr).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
}

TEST_F(ManifestServiceTest, ABrokenSourceLeavesNoIndex) {
  const content::Descriptor one = registry_.AddImage("one", "1", {"a"});
  registry_.RemoveBlob("one", content::Digest::Sha256Of("a"));
  v1::PushIndexRequest request = IndexOf("both:1", {one});
  request.add_sources(Full(absl::StrCat("one@", one.digest.str())));
  EXPECT_FALSE(service_.PushIndex(bed_.context, request, nullptr).ok());
  EXPECT_EQ(registry_.Manifest("both", "1"), "");
}

}  // namespace
}  // namespace gantry::core
