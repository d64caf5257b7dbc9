#include "supervisor/core/image_catalog.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/image_testbed.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

constexpr char kOne[] = "docker.io/library/one:1";

class ImageCatalogTest : public ::testing::Test {
 protected:
  // The digest of what `image` means, or the error.
  std::string Found(const std::string& image) {
    auto records = bed_.catalog->Find(bed_.context, image);
    return records.ok() ? records->front().target().digest()
                        : std::string(absl::StatusCodeToString(records.status().code()));
  }
  v1::ListImagesResponse List(
      const std::vector<std::pair<std::string, std::string>>& filters = {}) {
    v1::ListImagesRequest request;
    for (const auto& [key, value] : filters) {
      request.add_filters()->set_key(key);
      request.mutable_filters()->rbegin()->set_value(value);
    }
    auto response = bed_.catalog->List(bed_.context, request);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.value_or(v1::ListImagesResponse());
  }
  absl::StatusOr<v1::RemoveImageResponse> Remove(const std::string& image, bool force = false) {
    v1::RemoveImageRequest request;
    request.set_image(image);
    request.set_force(force);
    return bed_.catalog->Remove(bed_.context, request);
  }
  bool Named(const std::string& name) { return bed_.world.images.Get({"default", ""}, name).ok(); }

  ImageTestbed bed_;
};

TEST_F(ImageCatalogTest, AnImageIsFoundByNameIdAndBeginningOfTheId) {
  const content::Descriptor one = bed_.Image(R"("author":"1")");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, one).ok());
  const std::string hex(one.digest.hex());
  for (const std::string& text :
       {std::string("one:1"), std::string(kOne), one.digest.str(), hex, hex.substr(0, 12),
        hex.substr(0, 3), absl::StrCat("one@", one.digest.str())}) {
    EXPECT_EQ(Found(text), one.digest.str()) << text;
  }
  EXPECT_EQ(Found("two:1"), "NOT_FOUND");
  EXPECT_EQ(Found(absl::StrCat("two@", one.digest.str())), "NOT_FOUND");
}

TEST_F(ImageCatalogTest, TheDigestOfTheConfigurationIsAnIdToo) {
  const content::Descriptor one = bed_.Image(R"("author":"1")");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, one).ok());
  const std::string config = R"({"os":"linux","architecture":"amd64","author":"1"})";
  EXPECT_EQ(Found(content::Digest::Sha256Of(config).str()), one.digest.str());
}

TEST_F(ImageCatalogTest, AStoredNameThatBreaksItsPromiseIsNotBelieved) {
  const content::Descriptor good = bed_.Image(R"("author":"good")");
  const content::Descriptor evil = bed_.Image(R"("author":"evil")");
  const std::string hex(good.digest.hex());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/x:1", good).ok());
  bed_.Record(absl::StrCat("docker.io/library/x@", good.digest.str()), evil);
  bed_.Record(good.digest.str(), evil);
  bed_.Record(absl::StrCat("docker.io/library/", good.digest.str()), evil);
  bed_.Record(absl::StrCat("docker.io/library/", hex.substr(0, 12), ":latest"), evil);
  bed_.Record(hex, evil);
  for (const std::string& text :
       {absl::StrCat("x@", good.digest.str()), good.digest.str(), hex, hex.substr(0, 12)}) {
    EXPECT_EQ(Found(text), good.digest.str()) << text;
  }
  const content::Descriptor gone = bed_.Image(R"("author":"gone")");
  bed_.Record(gone.digest.str(), evil);
  EXPECT_EQ(Found(gone.digest.str()), "NOT_FOUND");
}

TEST_F(ImageCatalogTest, NamesThatPromiseSomethingElseAreNotWritten) {
  const content::Descriptor one = bed_.Image(R"("author":"1")");
  const content::Digest other = content::Digest::Sha256Of("other");
  for (const std::string& name :
       {absl::StrCat("docker.io/library/x@", other.str()), other.str(), std::string(other.hex())}) {
    EXPECT_EQ(bed_.catalog->Name(bed_.context, name, one).code(),
              absl::StatusCode::kInvalidArgument)
        << name;
    EXPECT_FALSE(Named(name));
  }
}

TEST_F(ImageCatalogTest, BlobsAreDurableBeforeTheNameIs) {
  const content::Descriptor one = bed_.Image("");
  bed_.on_sync = [&] {
    EXPECT_FALSE(Named(kOne));
    return absl::OkStatus();
  };
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, one).ok());
  EXPECT_EQ(bed_.syncs, 1);
  bed_.on_sync = [] { return absl::ResourceExhaustedError("the disk is full"); };
  EXPECT_EQ(bed_.catalog->Name(bed_.context, "docker.io/library/two:1", one).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(Named("docker.io/library/two:1"));
}

TEST_F(ImageCatalogTest, AnImageThatLosesItsNameStaysUntilPruned) {
  const content::Descriptor old = bed_.Image(R"("author":"old")");
  const content::Descriptor fresh = bed_.Image(R"("author":"fresh")");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, old).ok());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, fresh).ok());
  EXPECT_EQ(Found("one:1"), fresh.digest.str());
  EXPECT_EQ(Found(old.digest.str()), old.digest.str());
  EXPECT_EQ(List({{"dangling", "true"}}).images(0).id(), old.digest.str());
  auto pruned = bed_.catalog->Prune(bed_.context, {});
  ASSERT_TRUE(pruned.ok()) << pruned.status();
  EXPECT_EQ(Found(old.digest.str()), "NOT_FOUND");
  EXPECT_FALSE(bed_.Has(old));
  EXPECT_TRUE(bed_.Has(fresh));
}

TEST_F(ImageCatalogTest, ListsAreNewestFirstAndCountContainers) {
  const content::Descriptor old = bed_.Image(R"("created":"1970-01-01T00:00:00Z")");
  const content::Descriptor year_one = bed_.Image(R"("created":"0001-01-01T00:00:00Z")");
  const content::Descriptor recent =
      bed_.Image(R"("created":"2026-01-02T03:04:05.5Z","config":{"Labels":{"tier":"front"}})");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/old:1", old).ok());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/year:1", year_one).ok());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/new:1", recent).ok());
  bed_.Container("c1", recent);
  const v1::ListImagesResponse all = List();
  ASSERT_EQ(all.images_size(), 3);
  EXPECT_EQ(all.images(0).id(), recent.digest.str());
  EXPECT_EQ(all.images(0).containers(), 1);
  EXPECT_EQ(all.images(0).labels().at("tier"), "front");
  EXPECT_EQ(all.images(0).created_at().nanos(), 500000000);
  EXPECT_GT(all.images(0).size_bytes(), 0);
  EXPECT_EQ(all.images(1).id(), old.digest.str());
  EXPECT_TRUE(all.images(1).has_created_at());
  EXPECT_EQ(all.images(1).created_at().seconds(), 0);
  EXPECT_EQ(all.images(2).id(), year_one.digest.str());
  EXPECT_EQ(all.images(2).created_at().seconds(), -62135596800);
  EXPECT_EQ(all.images(2).containers(), 0);
}

TEST_F(ImageCatalogTest, IdsOnlyAreThatAndInTheSameOrder) {
  const content::Descriptor old = bed_.Image(R"("created":"2020-01-01T00:00:00Z")");
  const content::Descriptor recent = bed_.Image(R"("created":"2026-01-01T00:00:00Z")");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/a:1", old).ok());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/b:1", recent).ok());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/c:1", recent).ok());
  v1::ListImagesRequest request;
  request.set_ids_only(true);
  auto ids = bed_.catalog->List(bed_.context, request);
  ASSERT_TRUE(ids.ok()) << ids.status();
  ASSERT_EQ(ids->images_size(), 2);
  EXPECT_EQ(ids->images(0).id(), recent.digest.str());
  EXPECT_EQ(ids->images(1).id(), old.digest.str());
  EXPECT_TRUE(ids->images(0).repo_tags().empty());
  // Known from the first time on: nothing is read again.
  ASSERT_TRUE(bed_.world.files->Delete(recent.digest).ok());
  ids = bed_.catalog->List(bed_.context, request);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(ids->images(0).id(), recent.digest.str());
  request.add_filters()->set_key("reference");
  request.mutable_filters(0)->set_value("a:*");
  EXPECT_EQ(bed_.catalog->List(bed_.context, request)->images_size(), 1);
}

TEST_F(ImageCatalogTest, AReferenceShowsOnlyNamesThatFit) {
  const content::Descriptor one = bed_.Image("");
  for (const char* name : {"docker.io/library/bb:one", "docker.io/library/bb:two",
                           "docker.io/x/y:1", "host:5000/bb:one"})
    ASSERT_TRUE(bed_.catalog->Name(bed_.context, name, one).ok());
  EXPECT_THAT(List({{"reference", "bb:two"}}).images(0).repo_tags(), ElementsAre("bb:two"));
  EXPECT_THAT(List({{"reference", "x/y"}}).images(0).repo_tags(), ElementsAre("x/y:1"));
  EXPECT_THAT(List({{"reference", "x/y"}}).images(0).repo_digests(),
              ElementsAre(absl::StrCat("x/y@", one.digest.str())));
  EXPECT_EQ(List({{"reference", "nothing"}}).images_size(), 0);
  EXPECT_THAT(List().images(0).repo_tags(),
              UnorderedElementsAre("bb:one", "bb:two", "x/y:1", "host:5000/bb:one"));
}

TEST_F(ImageCatalogTest, FiltersAreCheckedWithoutAnyImage) {
  v1::ListImagesRequest list;
  list.add_filters()->set_key("bogus");
  EXPECT_EQ(bed_.catalog->List(bed_.context, list).status().code(),
            absl::StatusCode::kInvalidArgument);
  v1::PruneImagesRequest prune;
  prune.add_filters()->set_key("bogus");
  EXPECT_EQ(bed_.catalog->Prune(bed_.context, prune).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ImageCatalogTest, AnImageForOtherMachinesIsShown) {
  const content::Descriptor foreign = bed_.Image(R"("author":"away")", "s390x");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, foreign).ok());
  ASSERT_TRUE(
      bed_.catalog->Name(bed_.context, "docker.io/library/two:1", bed_.Index({foreign})).ok());
  for (const char* name : {"one:1", "two:1"}) {
    v1::InspectImageRequest request;
    request.set_image(name);
    auto details = bed_.catalog->Inspect(bed_.context, request);
    ASSERT_TRUE(details.ok()) << details.status();
    EXPECT_EQ(details->platform(), "linux/s390x");
    EXPECT_THAT(details->config_json(), HasSubstr("away"));
    v1::ImageHistoryRequest history;
    history.set_image(name);
    EXPECT_TRUE(bed_.catalog->History(bed_.context, history).ok());
    EXPECT_EQ(bed_.catalog->Resolve(bed_.context, name).status().code(),
              absl::StatusCode::kFailedPrecondition);
    request.set_platform("linux/arm64");
    EXPECT_FALSE(bed_.catalog->Inspect(bed_.context, request).ok());
  }
}

TEST_F(ImageCatalogTest, ALatin1ConfigurationIsShownAsText) {
  const content::Descriptor one = bed_.Image("\"author\":\"Jos\xe9\"");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, one).ok());
  v1::InspectImageRequest request;
  request.set_image("one:1");
  auto details = bed_.catalog->Inspect(bed_.context, request);
  ASSERT_TRUE(details.ok()) << details.status();
  EXPECT_THAT(details->config_json(), HasSubstr("Jos\xEF\xBF\xBD"));
}

TEST_F(ImageCatalogTest, ARemovalTakesNamesAndThenTheImage) {
  const content::Descriptor one = bed_.Image("");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, one).ok());
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, "docker.io/library/two:1", one).ok());
  EXPECT_EQ(Remove(one.digest.str()).status().code(), absl::StatusCode::kFailedPrecondition);
  auto first = Remove("two:1");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->removals_size(), 1);
  EXPECT_EQ(first->removals(0).untagged(), "two:1");

  bed_.Container("c1", one);
  EXPECT_THAT(std::string(Remove("one:1").status().message()), HasSubstr("container c1"));
  auto last = Remove("one:1", /*force=*/true);
  ASSERT_TRUE(last.ok()) << last.status();
  ASSERT_EQ(last->removals_size(), 2);
  EXPECT_EQ(last->removals(1).deleted(), one.digest.str());
  EXPECT_EQ(Found("one:1"), "NOT_FOUND");
}

TEST_F(ImageCatalogTest, ARemovalDoesNotWaitForACollection) {
  const content::Descriptor image = bed_.Image("");
  bed_.Record(kOne, image);
  bed_.scheduler->Stop();  // now a wait fails
  auto removed = Remove("one:1");
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_TRUE(bed_.Has(image));
  bed_.world.Collect();
  EXPECT_FALSE(bed_.Has(image));
}

TEST_F(ImageCatalogTest, ARemovalBringsACollection) {
  const content::Descriptor image = bed_.Image("");
  bed_.Record(kOne, image);
  ASSERT_TRUE(Remove("one:1").ok());
  EXPECT_TRUE(bed_.WaitForCollections(1));
  EXPECT_FALSE(bed_.Has(image));
}

TEST_F(ImageCatalogTest, APruneIsOneCollection) {
  for (int i = 0; i < 20; ++i) {
    const content::Descriptor image = bed_.Image(absl::StrCat(R"("author":")", i, "\""));
    bed_.Record(absl::StrCat("docker.io/library/n:", i), image);
  }
  const content::Descriptor used = bed_.Image(R"("author":"used")");
  bed_.Record("docker.io/library/used:1", used);
  bed_.Container("c1", used);
  const content::Descriptor pinned = bed_.Image(R"("author":"pinned")");
  bed_.Record("docker.io/library/pinned:1", pinned, {{metadata::kPinnedLabel, metadata::kPinned}});
  v1::PruneImagesRequest request;
  request.set_all(true);
  auto pruned = bed_.catalog->Prune(bed_.context, request);
  ASSERT_TRUE(pruned.ok()) << pruned.status();
  EXPECT_EQ(pruned->removals_size(), 40);
  EXPECT_GT(pruned->space_reclaimed_bytes(), 0);
  EXPECT_EQ(bed_.Collections(), 1);
  EXPECT_TRUE(Named("docker.io/library/used:1"));
  EXPECT_TRUE(Named("docker.io/library/pinned:1"));
  EXPECT_FALSE(Named("docker.io/library/n:7"));
}

TEST_F(ImageCatalogTest, ATagIsAName) {
  const content::Descriptor one = bed_.Image("");
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, ImageCatalog::DanglingName(one.digest), one).ok());
  v1::TagImageRequest request;
  request.set_image(one.digest.str());
  request.set_reference("one:2");
  ASSERT_TRUE(bed_.catalog->Tag(bed_.context, request).ok());
  EXPECT_EQ(Found("one:2"), one.digest.str());
  EXPECT_FALSE(Named(ImageCatalog::DanglingName(one.digest)));
  request.set_reference(absl::StrCat("one@", one.digest.str()));
  EXPECT_EQ(bed_.catalog->Tag(bed_.context, request).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ImageCatalogTest, NamesComeAndGoWithEvents) {
  const auto heard =
      bed_.events.Subscribe([](const Event& event) { return !event.low_level; }, nullptr);
  const content::Descriptor one = bed_.Image(R"("config":{"Labels":{"tier":"front"}})");
  const std::string id = one.digest.str();
  ASSERT_TRUE(bed_.catalog->Name(bed_.context, kOne, one).ok());
  v1::TagImageRequest tag;
  tag.set_image("one:1");
  tag.set_reference("one:2");
  ASSERT_TRUE(bed_.catalog->Tag(bed_.context, tag).ok());
  ASSERT_TRUE(Remove("one:1").ok());
  ASSERT_TRUE(Remove("one:2").ok());
  ASSERT_TRUE(bed_.catalog->Prune(bed_.context, {}).ok());
  std::vector<std::string> seen;
  while (const EventPtr event = heard->Pop()) {
    seen.push_back(event->action);
    if (event->action == "prune") {
      EXPECT_EQ(event->attributes.at("reclaimed"), "0");
      continue;
    }
    EXPECT_EQ(event->id, id);
    EXPECT_EQ(event->attributes.at("tier"), "front");
    seen.push_back(event->attributes.at("name"));
  }
  EXPECT_THAT(
      seen, ElementsAre("tag", "one:2", "untag", "one:1", "untag", "one:2", "delete", id, "prune"));
}

TEST_F(ImageCatalogTest, PruneTakesNoOtherFilters) {
  v1::PruneImagesRequest prune;
  v1::Filter& filter = *prune.add_filters();
  filter.set_key("dangling");
  filter.set_value("maybe");
  EXPECT_EQ(bed_.catalog->Prune(bed_.context, prune).status().code(),
            absl::StatusCode::kInvalidArgument);
  filter.set_key("reference");
  EXPECT_EQ(bed_.catalog->Prune(bed_.context, prune).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ImageCatalogTest, WhatTwoImagesHoldIsShared) {
  const content::Descriptor inner = bed_.Image(R"("author":"inner")");
  const content::Descriptor outer = bed_.Index({inner});
  const content::Descriptor alone = bed_.Image(R"("author":"alone")");
  bed_.Record("docker.io/library/inner:1", inner);
  bed_.Record("docker.io/library/outer:1", outer);
  bed_.Record("docker.io/library/alone:1", alone);
  v1::ListImagesRequest request;
  request.set_shared_size(true);
  const auto listed = bed_.catalog->List(bed_.context, request);
  ASSERT_TRUE(listed.ok()) << listed.status();
  for (const v1::ImageSummary& image : listed->images()) {
    ASSERT_TRUE(image.has_shared_size_bytes());
    const int64_t own = image.size_bytes() - image.shared_size_bytes();
    // The index alone is the outer image's own.
    const int64_t expected = image.id() == inner.digest.str()   ? 0
                             : image.id() == outer.digest.str() ? outer.size_bytes
                                                                : image.size_bytes();
    EXPECT_EQ(own, expected) << image.id();
  }
  EXPECT_FALSE(List().images(0).has_shared_size_bytes());
}

}  // namespace
}  // namespace gantry::core
