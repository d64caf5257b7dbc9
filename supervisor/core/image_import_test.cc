// Images from and to streams: tars that become an image, archives of images, and what is left when
// one of them is no good.
//
// Needs root: an image is unpacked before it is named.
#include <unistd.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/tar/entry.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "proto/gantry/v1/images.pb.h"
#include "supervisor/core/creation_fixture.h"
#include "supervisor/core/image_archive.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class ImageImportTest : public CreationFixture {
 protected:
  void SetUp() override {
    CreationFixture::SetUp();
    if (IsSkipped()) return;
    MakeArchive(nullptr);
  }
  void MakeArchive(std::function<absl::Status()> sync_blobs) {
    ImageArchive::Parts parts = {};
    parts.stores = &stores_;
    parts.catalog = catalog_.get();
    parts.assembly = &assembly_;
    parts.unpacker = &unpacker_;
    parts.puller = &puller_;
    parts.sync_blobs = std::move(sync_blobs);
    archive_ = std::make_unique<ImageArchive>(parts);
  }

  static std::string Tar(const std::vector<std::pair<std::string, std::string>>& files) {
    StringSink out;
    TarWriter tar(out);
    for (const auto& [path, bytes] : files) {
      TarEntry entry;
      entry.path = path;
      entry.mode = 0755;
      EXPECT_TRUE(tar.WriteFile(entry, bytes).ok());
    }
    EXPECT_TRUE(tar.Finish().ok());
    return std::move(out).str();
  }
  static v1::ImportRequest::Open Named(const std::string& reference,
                                       const std::vector<std::string>& changes = {}) {
    v1::ImportRequest::Open request;
    request.set_reference(reference);
    for (const std::string& change : changes) request.add_changes(change);
    return request;
  }
  absl::StatusOr<v1::LoadedImage> Import(const v1::ImportRequest::Open& request,
                                         const std::string& bytes) {
    StringSource source(bytes);
    return archive_->Import(context_, request, source, nullptr);
  }
  absl::StatusOr<std::vector<v1::LoadedImage>> Load(const std::string& bytes,
                                                    const v1::LoadRequest::Open& request = {}) {
    StringSource source(bytes);
    return archive_->Load(context_, request, source, nullptr);
  }
  absl::StatusOr<std::string> Save(const std::vector<std::string>& images) {
    v1::SaveRequest request;
    for (const std::string& one : images) request.add_images(one);
    StringSink out;
    const absl::Status saved = archive_->Save(context_, request, out, nullptr);
    if (!saved.ok()) return saved;
    return std::move(out).str();
  }
  static std::string Member(const std::string& archive, const std::string& path) {
    StringSource source(archive);
    TarReader reader(source);
    TarEntry entry;
    while (reader.Next(entry).value()) {
      if (entry.path == path) return reader.ReadAll(1 << 20).value();
    }
    return "(none)";
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    EXPECT_TRUE(stores_.images
                    .List({kNs, ""}, metadata::Filter(),
                          [&](const record::v1::Image& image) {
                            names.push_back(image.name());
                            return absl::OkStatus();
                          })
                    .ok());
    return names;
  }
  // What an image that can be run has at a path.
  std::string FileOf(const std::string& image, const std::string& path) {
    const absl::StatusOr<ResolvedImage> found = catalog_->Resolve(context_, image, "");
    if (!found.ok()) return std::string(found.status().message());
    metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
    const auto mounts = snapshots.View("look", found->chain_ids.back().str(), {});
    if (!mounts.ok()) return std::string(mounts.status().message());
    const std::string bytes =
        ReadFile(mounts->at(0).source + "/" + path, 1 << 20).value_or("(none)");
    EXPECT_TRUE(snapshots.Remove("look").ok());
    return bytes;
  }

  ImageAssembly assembly_;
  std::unique_ptr<ImageArchive> archive_;
};

TEST_F(ImageImportTest, ATarBecomesAnImageThatCanBeRun) {
  v1::ImportRequest::Open request =
      Named("app:1", {"CMD [\"/app\"]", "ENV A=b", "WORKDIR /srv", "EXPOSE 80"});
  request.set_comment("from a backup");
  const absl::StatusOr<v1::LoadedImage> image = Import(request, Tar({{"app", "program"}}));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->reference(), "app:1");
  const absl::StatusOr<ResolvedImage> found = catalog_->Resolve(context_, "app:1", "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->target.digest.str(), image->image_id());
  EXPECT_THAT(found->config.cmd, ElementsAre("/app"));
  EXPECT_THAT(found->config.env, Contains("A=b"));
  EXPECT_EQ(found->config.working_dir, "/srv");
  ASSERT_THAT(found->config.history, SizeIs(1));
  EXPECT_EQ(found->config.history[0].comment, "from a backup");
  EXPECT_EQ(FileOf("app:1", "app"), "program");
}

TEST_F(ImageImportTest, ACompressedTarIsTheSameImage) {
  ASSERT_TRUE(Import(Named("plain:1"), Tar({{"app", "program"}})).ok());
  StringSink out;
  const auto compressor = OpenCompressor(out, Compression::kZstd).value();
  ASSERT_TRUE(compressor->Write(Tar({{"app", "program"}})).ok());
  ASSERT_TRUE(compressor->Finish().ok());
  ASSERT_TRUE(Import(Named("packed:1"), out.str()).ok());
  EXPECT_EQ(catalog_->Resolve(context_, "packed:1", "")->config.diff_ids,
            catalog_->Resolve(context_, "plain:1", "")->config.diff_ids);
}

TEST_F(ImageImportTest, WithoutANameItHasItsId) {
  const absl::StatusOr<v1::LoadedImage> image = Import(Named(""), Tar({{"app", "x"}}));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->reference(), "");
  EXPECT_TRUE(catalog_->Resolve(context_, image->image_id(), "").ok());
}

TEST_F(ImageImportTest, ThePlatformIsTheOneAskedFor) {
  v1::ImportRequest::Open request = Named("arm:1");
  request.set_platform("linux/arm64/v8");
  ASSERT_TRUE(Import(request, Tar({{"app", "x"}})).ok());
  const absl::StatusOr<ResolvedImage> found =
      catalog_->Resolve(context_, "arm:1", "linux/arm64/v8");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->config.platform.architecture, "arm64");
}

TEST_F(ImageImportTest, WhatCannotBeAnImageLeavesNothing) {
  std::string cut = Tar({{"a", std::string(4000, 'x')}});
  cut.resize(2000);
  const std::pair<v1::ImportRequest::Open, std::string> bad[] = {
      {Named("App:1"), Tar({{"a", "x"}})},
      {Named("app:1", {"FROM scratch"}), Tar({{"a", "x"}})},
      {Named("app:1", {"CMD"}), Tar({{"a", "x"}})},
      {Named("app:1"), std::string(5000, 'x')},
      {Named("app:1"), cut}};
  for (const auto& [request, bytes] : bad) {
    const absl::Status refused = Import(request, bytes).status();
    EXPECT_FALSE(refused.ok());
    EXPECT_TRUE(absl::IsInvalidArgument(refused) || absl::IsDataLoss(refused)) << refused;
    EXPECT_THAT(Names(), IsEmpty());
    EXPECT_THAT(Traces(), IsEmpty());
  }
}

// Something that the layers' reader refuses, though it is a tar.
TEST_F(ImageImportTest, AHostileTarNeverBecomesAnImage) {
  StringSink out;
  TarWriter tar(out);
  TarEntry link;
  link.type = TarType::kHardLink;
  link.path = "shadow";
  link.link_target = "../../../../etc/shadow";
  ASSERT_TRUE(tar.WriteEntry(link).ok());
  ASSERT_TRUE(tar.Finish().ok());
  EXPECT_FALSE(Import(Named("app:1"), out.str()).ok());
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(ImageImportTest, ACancelledImportLeavesNothing) {
  CancelToken gone;
  gone.Cancel("the client has gone");
  context_.cancel = &gone;
  EXPECT_TRUE(absl::IsCancelled(Import(Named("app:1"), Tar({{"a", "x"}})).status()));
  EXPECT_TRUE(absl::IsCancelled(Load(Tar({{"a", "x"}})).status()));
  context_.cancel = nullptr;
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(Traces(), IsEmpty());
}

TEST_F(ImageImportTest, ProgressCountsTheBytesOfTheTar) {
  v1::ImportRequest::Open request = Named("app:1");
  request.set_total_bytes(5000);
  StringSource source(Tar({{"a", std::string(3000, 'x')}}));
  std::vector<v1::Progress> steps;
  ASSERT_TRUE(archive_
                  ->Import(context_, request, source,
                           [&](const v1::Progress& step) {
                             if (step.id() == "import") steps.push_back(step);
                           })
                  .ok());
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.back().state(), v1::Progress::READING);
  EXPECT_GE(steps.back().current_bytes(), 3000);
  EXPECT_EQ(steps.back().total_bytes(), 5000);
}

TEST_F(ImageImportTest, WhatIsSavedIsLoadedAsItWas) {
  ASSERT_TRUE(Import(Named("app:1", {"CMD [\"/app\"]"}), Tar({{"app", "program"}})).ok());
  ASSERT_TRUE(Import(Named("other:2"), Tar({{"b", "y"}})).ok());
  const absl::StatusOr<std::string> saved = Save({"app:1", "other:2"});
  ASSERT_TRUE(saved.ok()) << saved.status();
  const std::string id = catalog_->Resolve(context_, "app:1", "")->target.digest.str();
  for (const char* image : {"app:1", "other:2"}) {
    v1::RemoveImageRequest remove;
    remove.set_image(image);
    ASSERT_TRUE(catalog_->Remove(context_, remove).ok());
  }
  ASSERT_TRUE(collector_.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  const absl::StatusOr<std::vector<v1::LoadedImage>> loaded = Load(*saved);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(*loaded, SizeIs(2));
  EXPECT_EQ(catalog_->Resolve(context_, "app:1", "")->target.digest.str(), id);
  EXPECT_EQ(FileOf("app:1", "app"), "program");
  EXPECT_EQ(FileOf("other:2", "b"), "y");
}

TEST_F(ImageImportTest, AnImageNamedTwiceIsSavedOnceWithBothNames) {
  ASSERT_TRUE(Import(Named("app:1"), Tar({{"app", "x"}})).ok());
  const content::Descriptor target = catalog_->Resolve(context_, "app:1", "")->target;
  ASSERT_TRUE(catalog_->Name(context_, "docker.io/library/app:2", target).ok());
  const absl::StatusOr<std::string> saved = Save({"app:1", "app:2", "app:1"});
  ASSERT_TRUE(saved.ok()) << saved.status();
  const nlohmann::json manifest = nlohmann::json::parse(Member(*saved, "manifest.json"));
  ASSERT_EQ(manifest.size(), 1u);
  EXPECT_THAT(manifest[0]["RepoTags"].get<std::vector<std::string>>(),
              UnorderedElementsAre("app:1", "app:2"));
}

TEST_F(ImageImportTest, NothingToSaveAndWhatIsNotHereAreNamed) {
  EXPECT_TRUE(absl::IsInvalidArgument(Save({}).status()));
  ASSERT_TRUE(Import(Named("app:1"), Tar({{"app", "x"}})).ok());
  const absl::Status refused = Save({"app:1", "nothing:1"}).status();
  EXPECT_TRUE(absl::IsNotFound(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("nothing"));
}

TEST_F(ImageImportTest, AnArchiveThatIsCutShortNamesNothing) {
  // What does not compress, so that the middle of the archive is the middle of the layer.
  std::string content(100000, '\0');
  std::minstd_rand bytes(1);
  for (char& byte : content) byte = static_cast<char>(bytes() >> 16);
  ASSERT_TRUE(Import(Named("app:1"), Tar({{"app", content}})).ok());
  std::string saved = Save({"app:1"}).value();
  v1::RemoveImageRequest remove;
  remove.set_image("app:1");
  ASSERT_TRUE(catalog_->Remove(context_, remove).ok());
  saved.resize(saved.size() / 2);
  EXPECT_FALSE(Load(saved).ok());
  EXPECT_FALSE(Load("no archive").ok());
  EXPECT_FALSE(Load("").ok());
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(Traces(), IsEmpty());
}

TEST_F(ImageImportTest, OfAnArchiveOnlyThePlatformsAskedFor) {
  v1::ImportRequest::Open request = Named("arm:1");
  request.set_platform("linux/arm64");
  ASSERT_TRUE(Import(request, Tar({{"app", "x"}})).ok());
  const std::string saved = Save({"arm:1"}).value();
  v1::LoadRequest::Open load;
  load.add_platforms("no-platform/at/all/x");
  EXPECT_TRUE(absl::IsInvalidArgument(Load(saved, load).status()));
  // One for other machines only is taken in all the same.
  v1::RemoveImageRequest remove;
  remove.set_image("arm:1");
  ASSERT_TRUE(catalog_->Remove(context_, remove).ok());
  EXPECT_TRUE(Load(saved).ok());
  EXPECT_THAT(Names(), ElementsAre("docker.io/library/arm:1"));
}

TEST_F(ImageImportTest, BlobsAreDurableBeforeTheNameIs) {
  ASSERT_TRUE(Import(Named("app:1"), Tar({{"app", "x"}})).ok());
  const std::string saved = Save({"app:1"}).value();
  v1::RemoveImageRequest remove;
  remove.set_image("app:1");
  ASSERT_TRUE(catalog_->Remove(context_, remove).ok());
  MakeArchive([&]() -> absl::Status {
    EXPECT_THAT(Names(), IsEmpty());
    return absl::UnavailableError("the disk does not answer");
  });
  EXPECT_TRUE(absl::IsUnavailable(Load(saved).status()));
  EXPECT_THAT(Names(), IsEmpty());
}

}  // namespace
}  // namespace gantry::core
