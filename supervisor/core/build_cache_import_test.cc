// Build caches that lie elsewhere: what is found in them, fetched from them, and not believed.
//
// Needs root: layers are unpacked.
#include "supervisor/core/build_cache_import.h"

#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"
#include "content-store/fake_store.h"
#include "supervisor/core/blob_origin.h"
#include "supervisor/core/build_cache_document.h"
#include "supervisor/core/creation_fixture.h"
#include "supervisor/core/image_build.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/own_mounts.h"

namespace gantry::core {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Blobs in memory.
class FakeOrigin final : public StreamOrigin {
 public:
  explicit FakeOrigin(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<content::Descriptor> Root(CancelToken*) override {
    if (root_.media_type.empty()) return absl::NotFoundError(name_ + ": there is nothing");
    return root_;
  }
  content::Descriptor Add(const std::string& bytes, absl::string_view media_type) {
    content::Descriptor blob;
    blob.media_type = std::string(media_type);
    blob.digest = content::Digest::Sha256Of(bytes);
    blob.size_bytes = static_cast<int64_t>(bytes.size());
    blobs_[blob.digest.str()] = bytes;
    return blob;
  }
  void Damage(const content::Descriptor& blob, const std::string& bytes) {
    blobs_[blob.digest.str()] = bytes;
  }
  void SetRoot(const content::Descriptor& root) { root_ = root; }
  int opened() const { return opened_; }

 protected:
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(const content::Descriptor& blob,
                                                   CancelToken*) override {
    ++opened_;
    const auto found = blobs_.find(blob.digest.str());
    if (found == blobs_.end()) return absl::NotFoundError("no such blob");
    return std::make_unique<StringSource>(found->second);
  }

 private:
  const std::string name_;
  content::Descriptor root_;
  std::map<std::string, std::string> blobs_;
  int opened_ = 0;
};

TEST(StreamOriginTest, WhatIsFetchedIsVerified) {
  content::FakeStore store;
  FakeOrigin origin("place");
  const content::Descriptor good = origin.Add("bytes", "text/plain");
  ASSERT_TRUE(origin.Fetch(good, store, nullptr).ok());
  ASSERT_TRUE(origin.Fetch(good, store, nullptr).ok());
  EXPECT_EQ(origin.opened(), 1);  // what is there is not fetched again
  const content::Descriptor other = origin.Add("other bytes", "text/plain");
  for (const char* bytes : {"0ther bytes", "other", "other bytes and more"}) {
    origin.Damage(other, bytes);
    const absl::Status refused = origin.Fetch(other, store, nullptr);
    EXPECT_TRUE(absl::IsDataLoss(refused)) << bytes << ": " << refused;
    EXPECT_THAT(std::string(refused.message()), StartsWith("place: ")) << bytes;
    EXPECT_FALSE(store.Stat(other.digest).ok());
  }
  origin.Damage(other, "other bytes");
  EXPECT_TRUE(origin.Fetch(other, store, nullptr).ok());
  content::Descriptor missing = good;
  missing.digest = content::Digest::Sha256Of("missing");
  EXPECT_TRUE(absl::IsNotFound(origin.Fetch(missing, store, nullptr)));
}

TEST(StreamOriginTest, ACancelledFetchLeavesNothing) {
  content::FakeStore store;
  FakeOrigin origin("place");
  const content::Descriptor blob = origin.Add("bytes", "text/plain");
  CancelToken gone;
  gone.Cancel("the client has gone");
  EXPECT_TRUE(absl::IsCancelled(origin.Fetch(blob, store, &gone)));
  EXPECT_TRUE(origin.Fetch(blob, store, nullptr).ok());
}

class BuildCacheImportTest : public CreationFixture {
 protected:
  static void SetUpTestSuite() { EnterOwnMounts(); }
  void SetUp() override {
    CreationFixture::SetUp();
    if (IsSkipped()) return;
    ImageBuild::Parts parts = {};
    parts.stores = &stores_;
    parts.catalog = catalog_.get();
    parts.unpack = unpack_.get();
    parts.assembly = &assembly_;
    parts.records = records_.get();
    parts.containers = maker_.get();
    parts.streams = streams_.get();
    parts.waits = wait_.get();
    parts.puller = &puller_;
    parts.unpacker = &unpacker_;
    parts.state_directory = dir_.Join("state");
    build_ = std::make_unique<ImageBuild>(parts);
    session_ = build_->Begin(context_).value();
    cache_ = std::make_unique<BuildCache>(BuildCache::Parts{&stores_, scheduler_.get()});
    origin_ = std::make_unique<FakeOrigin>("r.example/app:cache");
  }

  // A layer with one file, on top of number `parent` of the document.
  void AddLayer(const std::string& path, int parent) {
    StringSink out;
    TarWriter tar(out);
    TarEntry entry;
    entry.path = path;
    entry.mode = 0644;
    ASSERT_TRUE(tar.WriteFile(entry, "of the cache").ok());
    ASSERT_TRUE(tar.Finish().ok());
    CacheLayer layer;
    layer.blob = origin_->Add(out.str(), "application/vnd.oci.image.layer.v1.tar");
    layer.diff_id = layer.blob.digest;
    layer.parent = parent;
    layer.created = absl::FromUnixSeconds(100);
    document_.layers.push_back(layer);
    const int number = static_cast<int>(document_.layers.size()) - 1;
    document_.steps.push_back({KeyOf(path), number, absl::FromUnixSeconds(100)});
  }
  static std::string KeyOf(const std::string& step) {
    return content::Digest::Sha256Of(step).str();
  }
  // The document as a cache's manifest.
  void Publish() {
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config = origin_->Add(PrintCacheConfig(document_), kCacheConfig);
    for (const CacheLayer& one : document_.layers) manifest.layers.push_back(one.blob);
    origin_->SetRoot(origin_->Add(oci::PrintManifest(manifest), oci::kOciManifest));
  }
  absl::StatusOr<std::unique_ptr<BuildCacheImport>> Load() {
    return BuildCacheImport::Load(*session_, std::move(origin_));
  }
  // What is there after a step; no value where the cache does not have it.
  absl::optional<BuildCache::Hit> Find(BuildCacheImport& from, const BuildRoot& root,
                                       const std::string& step) {
    auto hit = from.Find(*session_, *cache_, root, KeyOf(step), "RUN " + step);
    EXPECT_TRUE(hit.ok()) << hit.status();
    return hit.ok() ? *std::move(hit) : absl::nullopt;
  }
  std::string Seen(const BuildRoot& root, const std::string& path) {
    std::string bytes;
    EXPECT_TRUE(
        session_
            ->Look({&root},
                   [&](const ImageBuild::Session::Trees& trees) {
                     bytes =
                         ReadFile(absl::StrCat("/proc/self/fd/", trees.sources[0], "/", path), 1000)
                             .value_or("(none)");
                     return absl::OkStatus();
                   })
            .ok());
    return bytes;
  }

  ImageAssembly assembly_;
  std::unique_ptr<ImageBuild> build_;
  std::unique_ptr<ImageBuild::Session> session_;
  std::unique_ptr<BuildCache> cache_;
  std::unique_ptr<FakeOrigin> origin_;
  CacheDocument document_;
};

TEST_F(BuildCacheImportTest, StepsAreTakenOverWithTheirFiles) {
  AddLayer("first", -1);
  AddLayer("second", 0);
  Publish();
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ((*imported)->steps(), 2u);
  EXPECT_EQ((*imported)->name(), "r.example/app:cache");
  const absl::optional<BuildCache::Hit> one = Find(**imported, BuildRoot(), "first");
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(one->made_at, absl::FromUnixSeconds(100));
  const absl::optional<BuildCache::Hit> two = Find(**imported, one->root, "second");
  ASSERT_TRUE(two.has_value());
  EXPECT_EQ(two->root.diff_ids.size(), 2u);
  EXPECT_EQ(Seen(two->root, "second"), "of the cache");
  EXPECT_EQ(Seen(two->root, "first"), "of the cache");
  EXPECT_FALSE(Find(**imported, one->root, "unknown").has_value());
}

TEST_F(BuildCacheImportTest, ALayerIsNotPutOnOtherFilesThanItWasMadeOn) {
  AddLayer("first", -1);
  AddLayer("second", 0);
  Publish();
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_FALSE(Find(**imported, BuildRoot(), "second").has_value());
  BuildRoot other;
  other.diff_ids.push_back(content::Digest::Sha256Of("other"));
  EXPECT_FALSE(Find(**imported, other, "second").has_value());
}

// Whoever can write the cache's place must not decide what other builds on this machine run.
TEST_F(BuildCacheImportTest, WhatComesFromElsewhereIsNotAnotherBuildsResult) {
  AddLayer("first", -1);
  Publish();
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  ASSERT_TRUE(Find(**imported, BuildRoot(), "first").has_value());
  const auto own = cache_->Find(*session_, BuildRoot(), KeyOf("first"));
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_FALSE(own->has_value());
}

TEST_F(BuildCacheImportTest, WhatWasFetchedOnceIsRecorded) {
  AddLayer("first", -1);
  Publish();
  FakeOrigin* const origin = origin_.get();
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  ASSERT_TRUE(Find(**imported, BuildRoot(), "first").has_value());
  const int opened = origin->opened();
  ASSERT_TRUE(Find(**imported, BuildRoot(), "first").has_value());
  EXPECT_EQ(origin->opened(), opened);
}

TEST_F(BuildCacheImportTest, ADamagedLayerIsNoResult) {
  AddLayer("first", -1);
  Publish();
  origin_->Damage(document_.layers[0].blob, "something else");
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  const auto hit = (*imported)->Find(*session_, *cache_, BuildRoot(), KeyOf("first"), "RUN first");
  EXPECT_TRUE(absl::IsDataLoss(hit.status())) << hit.status();
}

TEST_F(BuildCacheImportTest, AnImageMayHoldItsOwnCache) {
  AddLayer("first", -1);
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  manifest.layers = {document_.layers[0].blob};
  const std::string records =
      absl::Base64Escape(PrintInlineCache({{KeyOf("first"), 0, absl::FromUnixSeconds(100)}}));
  manifest.config = origin_->Add(
      absl::StrCat(
          R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[")",
          document_.layers[0].diff_id.str(), R"("]},")", kInlineCache, R"(":")", records, "\"}"),
      oci::kOciConfig);
  origin_->SetRoot(origin_->Add(oci::PrintManifest(manifest), oci::kOciManifest));
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_TRUE(Find(**imported, BuildRoot(), "first").has_value());
}

TEST_F(BuildCacheImportTest, APlaceWithoutACacheIsSaid) {
  EXPECT_TRUE(absl::IsNotFound(Load().status()));
  origin_ = std::make_unique<FakeOrigin>("r.example/app:1");
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  manifest.config = origin_->Add(R"({"os":"linux","architecture":"amd64"})", oci::kOciConfig);
  origin_->SetRoot(origin_->Add(oci::PrintManifest(manifest), oci::kOciManifest));
  const absl::Status none = Load().status();
  EXPECT_TRUE(absl::IsNotFound(none));
  EXPECT_EQ(none.message(), "r.example/app:1: there is no build cache in it");
  origin_ = std::make_unique<FakeOrigin>("r.example/app:2");
  origin_->SetRoot(origin_->Add("{", oci::kOciManifest));
  EXPECT_TRUE(absl::IsInvalidArgument(Load().status()));
}

TEST_F(BuildCacheImportTest, OfAnIndexEachImagesCacheIsRead) {
  AddLayer("first", -1);
  oci::Index index;
  index.media_type = oci::kOciIndex;
  oci::Manifest cache;
  cache.media_type = oci::kOciManifest;
  cache.config = origin_->Add(PrintCacheConfig(document_), kCacheConfig);
  cache.layers = {document_.layers[0].blob};
  oci::Manifest plain;
  plain.media_type = oci::kOciManifest;
  plain.config = origin_->Add(R"({"os":"linux","architecture":"amd64"})", oci::kOciConfig);
  index.manifests = {origin_->Add(oci::PrintManifest(plain), oci::kOciManifest),
                     origin_->Add(oci::PrintManifest(cache), oci::kOciManifest)};
  origin_->SetRoot(origin_->Add(oci::PrintIndex(index), oci::kOciIndex));
  const auto imported = Load();
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ((*imported)->steps(), 1u);
  EXPECT_TRUE(Find(**imported, BuildRoot(), "first").has_value());
}

}  // namespace
}  // namespace gantry::core
