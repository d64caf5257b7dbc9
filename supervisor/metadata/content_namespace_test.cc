#include "supervisor/metadata/content_namespace.h"

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "content-store/fake_store.h"
#include "content-store/local_store.h"
#include "content-store/store_conformance.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/namespace_store.h"

namespace gantry::metadata {
namespace {

using content::Digest;
using content::Ingest;
using content::StoreCase;
using content::StoreConformance;

// One namespace over a file store.
struct OverFiles {
  explicit OverFiles(const std::string& directory)
      : db(Database::Open(directory).value()),
        files(content::LocalStore::Open(directory + "/content").value()) {}

  std::unique_ptr<Database> db;
  std::unique_ptr<content::LocalStore> files;
  BlobPool pool{*files, *db};
  ContentNamespace ns{pool, *db, Clock::Real(), Scope{.ns = "default"}};
};

INSTANTIATE_TEST_SUITE_P(ContentNamespace, StoreConformance,
                         testing::Values(StoreCase{.name = "Namespace",
                                                   .keeps_labels = true,
                                                   .make =
                                                       [](const std::string& directory) {
                                                         auto all =
                                                             std::make_shared<OverFiles>(directory);
                                                         return std::shared_ptr<content::Store>(
                                                             all, &all->ns);
                                                       }}),
                         [](const auto& info) { return info.param.name; });

class ContentNamespaceTest : public testing::Test {
 protected:
  ContentNamespace In(const std::string& ns, const std::string& lease = "",
                      BlobSharing sharing = BlobSharing::kShared) {
    return ContentNamespace(pool_, *db_, clock_, Scope{.ns = ns, .lease = lease}, sharing);
  }

  void MakeLease(const std::string& ns, const std::string& id) {
    record::v1::Lease lease;
    lease.set_id(id);
    ASSERT_TRUE(leases_.Create(Scope{.ns = ns}, lease).ok());
  }

  std::string Leased(const std::string& ns, const std::string& id) {
    auto resources = leases_.ListResources(Scope{.ns = ns}, id);
    EXPECT_TRUE(resources.ok()) << resources.status();
    std::string text;
    for (const LeaseResource& resource : *resources)
      text += resource.type + ":" + resource.id + " ";
    return text;
  }

  TempDir dir_;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  std::unique_ptr<Database> db_ = Database::Open(dir_.path()).value();
  content::FakeStore files_;
  BlobPool pool_{files_, *db_};
  LeaseStore leases_{*db_, clock_};
  const Digest hello_ = Digest::Sha256Of("hello");
};

TEST_F(ContentNamespaceTest, ABlobIsVisibleOnlyWhereItWasCommitted) {
  ContentNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  EXPECT_TRUE(a.Stat(hello_).ok());
  EXPECT_TRUE(absl::IsNotFound(b.Stat(hello_).status()));
  EXPECT_TRUE(absl::IsNotFound(b.Open(hello_).status()));
  EXPECT_TRUE(absl::IsNotFound(b.Delete(hello_)));
  EXPECT_TRUE(absl::IsNotFound(b.Update(hello_, {{"l", "1"}}, {}).status()));
}

TEST_F(ContentNamespaceTest, ABlobOfAnotherNamespaceIsAdoptedWithoutSendingIt) {
  ContentNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello", {}, {{"of", "a"}}).ok());
  auto ingest = b.OpenIngest({.ref = "r", .total_bytes = 5, .expected = hello_});
  ASSERT_TRUE(ingest.ok()) << ingest.status();
  EXPECT_EQ((*ingest)->offset(), 5);
  EXPECT_EQ((*ingest)->status().total_bytes, 5);
  EXPECT_TRUE(absl::IsNotFound(b.Stat(hello_).status()));
  auto digest = (*ingest)->Commit({.expected = hello_, .size_bytes = 5, .labels = {{"of", "b"}}});
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(b.Stat(hello_)->labels, (content::Labels{{"of", "b"}}));
  EXPECT_EQ(a.Stat(hello_)->labels, (content::Labels{{"of", "a"}}));
  EXPECT_EQ(*content::ReadBlob(b, hello_, 100), "hello");
}

TEST_F(ContentNamespaceTest, AnAdoptedBlobOfTheWrongSizeIsRefused) {
  ContentNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  auto ingest = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = hello_});
  ASSERT_TRUE(ingest.ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(
      (*ingest)->Commit({.expected = {}, .size_bytes = 6, .labels = {}}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      (*ingest)
          ->Commit({.expected = Digest::Sha256Of("other"), .size_bytes = {}, .labels = {}})
          .status()));
  EXPECT_TRUE(absl::IsNotFound(b.Stat(hello_).status()));
}

TEST_F(ContentNamespaceTest, AWriterThatStartsOverOnAnAdoptedBlobSendsItsOwnBytes) {
  ContentNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  auto ingest = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = hello_});
  ASSERT_TRUE(ingest.ok());
  ASSERT_TRUE((*ingest)->Truncate(2).ok());
  EXPECT_EQ((*ingest)->offset(), 2);
  ASSERT_TRUE((*ingest)->Append("llo").ok());
  EXPECT_EQ((*ingest)->current_digest(), hello_);
  EXPECT_TRUE((*ingest)->Commit({.expected = hello_, .size_bytes = {}, .labels = {}}).ok());
  EXPECT_TRUE(b.Stat(hello_).ok());
}

TEST_F(ContentNamespaceTest, IsolatedNamespacesTakeOverShareableBlobsOnly) {
  ContentNamespace a = In("a"), b = In("b", "", BlobSharing::kIsolated);
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  auto own = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = hello_});
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ((*own)->offset(), 0);
  own->reset();
  ASSERT_TRUE(b.AbortIngest("r").ok());

  Snapshotters none;
  NamespaceStore namespaces(*db_, none, clock_);
  record::v1::Namespace update;
  update.set_name("a");
  (*update.mutable_labels())["containerd.io/namespace.shareable"] = "true";
  ASSERT_TRUE(namespaces.Update(update, {"labels.containerd.io/namespace.shareable"}).ok());
  auto adopted = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = hello_});
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_EQ((*adopted)->offset(), 5);
}

TEST_F(ContentNamespaceTest, RefsAreTheNamespacesOwn) {
  ContentNamespace a = In("a"), b = In("b");
  auto in_a = a.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}});
  auto in_b = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}});
  ASSERT_TRUE(in_a.ok());
  ASSERT_TRUE(in_b.ok()) << in_b.status();
  ASSERT_TRUE((*in_a)->Append("only a").ok());
  EXPECT_EQ(a.StatIngest("r")->offset_bytes, 6);
  EXPECT_EQ(b.StatIngest("r")->offset_bytes, 0);
  EXPECT_EQ(a.ListIngests()->size(), 1u);
}

TEST_F(ContentNamespaceTest, TheLeaseFollowsAnIngestToItsBlob) {
  MakeLease("a", "l");
  ContentNamespace leased = In("a", "l");
  auto ingest = leased.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}});
  ASSERT_TRUE(ingest.ok());
  EXPECT_EQ(Leased("a", "l"), "ingests:r ");
  ASSERT_TRUE((*ingest)->Append("hello").ok());
  ASSERT_TRUE((*ingest)->Commit({.expected = {}, .size_bytes = {}, .labels = {}}).ok());
  EXPECT_EQ(Leased("a", "l"), "content:" + hello_.str() + " ");
  ASSERT_TRUE(leased.Delete(hello_).ok());
  EXPECT_EQ(Leased("a", "l"), "");
}

TEST_F(ContentNamespaceTest, FindingABlobPresentLeasesIt) {
  ContentNamespace plain = In("a");
  ASSERT_TRUE(content::WriteBlob(plain, "r", "hello").ok());
  MakeLease("a", "l");
  ContentNamespace leased = In("a", "l");
  EXPECT_TRUE(absl::IsAlreadyExists(
      leased.OpenIngest({.ref = "r2", .total_bytes = 0, .expected = hello_}).status()));
  EXPECT_EQ(Leased("a", "l"), "content:" + hello_.str() + " ");
}

TEST_F(ContentNamespaceTest, CommittingWhatIsThereAlreadyLeasesItAndEndsTheIngest) {
  ContentNamespace plain = In("a");
  MakeLease("a", "l");
  ContentNamespace leased = In("a", "l");
  auto ingest = leased.OpenIngest({.ref = "r2", .total_bytes = 0, .expected = {}});
  ASSERT_TRUE(ingest.ok());
  ASSERT_TRUE((*ingest)->Append("hello").ok());
  ASSERT_TRUE(content::WriteBlob(plain, "r", "hello").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(
      (*ingest)->Commit({.expected = {}, .size_bytes = {}, .labels = {}}).status()));
  EXPECT_EQ(Leased("a", "l"), "content:" + hello_.str() + " ");
  EXPECT_TRUE(absl::IsNotFound(leased.StatIngest("r2").status()));
}

TEST_F(ContentNamespaceTest, AnUnknownLeaseIsNotFoundAndNothingIsMade) {
  ContentNamespace leased = In("a", "missing");
  EXPECT_TRUE(
      absl::IsNotFound(leased.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}}).status()));
  EXPECT_TRUE(In("a").ListIngests()->empty());
  ASSERT_TRUE(pool_.SweepIngests().ok());
  EXPECT_TRUE(files_.ListIngests()->empty());
}

TEST_F(ContentNamespaceTest, AMissingOrMalformedNamespaceIsRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(In("").Stat(hello_).status()));
  EXPECT_NE(In("").Stat(hello_).status().message().find("namespace is required"),
            absl::string_view::npos);
  EXPECT_TRUE(absl::IsInvalidArgument(In("../a").Stat(hello_).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      In("a/b").OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}}).status()));
}

TEST_F(ContentNamespaceTest, OversizedLabelsAreRefusedAndTheIngestStays) {
  ContentNamespace a = In("a");
  auto ingest = a.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}});
  ASSERT_TRUE((*ingest)->Append("hello").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      (*ingest)
          ->Commit({.expected = {}, .size_bytes = {}, .labels = {{"k", std::string(5000, 'v')}}})
          .status()));
  EXPECT_TRUE(
      (*ingest)
          ->Commit({.expected = {}, .size_bytes = {}, .labels = {{"k", "v"}, {"empty", ""}}})
          .ok());
  EXPECT_EQ(a.Stat(hello_)->labels, (content::Labels{{"k", "v"}}));
}

TEST_F(ContentNamespaceTest, UpdateKeepsCreatedAndSetsUpdated) {
  ContentNamespace a = In("a");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  const absl::Time created = clock_.Now();
  clock_.Advance(absl::Hours(1));
  auto info = a.Update(hello_, {{"k", "v"}}, {"labels.k"});
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->created_at, created);
  EXPECT_EQ(info->updated_at, created + absl::Hours(1));
  EXPECT_EQ(info->size_bytes, 5);
}

TEST_F(ContentNamespaceTest, TheFileGoesWithTheLastRecordAndNotWhileSomebodyAdoptsIt) {
  ContentNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  auto adopting = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = hello_});
  ASSERT_TRUE(adopting.ok());
  ASSERT_TRUE(a.Delete(hello_).ok());
  EXPECT_TRUE(pool_.Sweep(/*everything=*/true)->empty());
  ASSERT_TRUE((*adopting)->Commit({.expected = hello_, .size_bytes = {}, .labels = {}}).ok());
  adopting->reset();
  EXPECT_TRUE(pool_.Sweep(false)->empty());
  EXPECT_EQ(*content::ReadBlob(b, hello_, 100), "hello");
  ASSERT_TRUE(b.Delete(hello_).ok());
  auto swept = pool_.Sweep(false);
  ASSERT_TRUE(swept.ok());
  ASSERT_EQ(swept->size(), 1u);
  EXPECT_EQ((*swept)[0], std::make_pair(hello_, int64_t{5}));
  EXPECT_TRUE(absl::IsNotFound(files_.Stat(hello_).status()));
}

TEST_F(ContentNamespaceTest, AGivenUpAdoptionLeavesNothingBehind) {
  ContentNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  auto adopting = b.OpenIngest({.ref = "r", .total_bytes = 0, .expected = hello_});
  ASSERT_TRUE(a.Delete(hello_).ok());
  ASSERT_TRUE(pool_.Sweep(false)->empty());
  adopting->reset();
  EXPECT_EQ(pool_.Sweep(false)->size(), 1u);
}

TEST_F(ContentNamespaceTest, BytesWithoutRecordAreSweptUnlessTheyHaveAWriter) {
  auto orphan = files_.OpenIngest({.ref = "a/orphan", .total_bytes = 0, .expected = {}});
  ASSERT_TRUE(orphan.ok());
  EXPECT_EQ(*pool_.SweepIngests(), 0);
  orphan->reset();
  ContentNamespace a = In("a");
  ASSERT_TRUE(a.OpenIngest({.ref = "kept", .total_bytes = 0, .expected = {}}).ok());
  ASSERT_TRUE(a.OpenIngest({.ref = std::string(4096, 'r'), .total_bytes = 0, .expected = {}}).ok());
  EXPECT_EQ(*pool_.SweepIngests(), 1);
  EXPECT_TRUE(a.StatIngest("kept").ok());
  EXPECT_TRUE(a.StatIngest(std::string(4096, 'r')).ok());
}

TEST_F(ContentNamespaceTest, RecordsWhoseFileAPowerCutTookAreForgotten) {
  ContentNamespace a = In("a");
  ASSERT_TRUE(content::WriteBlob(a, "r", "hello").ok());
  ASSERT_TRUE(content::WriteBlob(a, "r", "world").ok());
  ASSERT_TRUE(files_.Delete(hello_).ok());
  auto dropped = pool_.DropRecordsWithoutFile();
  ASSERT_TRUE(dropped.ok());
  EXPECT_EQ(*dropped, std::vector<std::string>{"a/" + hello_.str()});
  EXPECT_TRUE(absl::IsNotFound(a.Stat(hello_).status()));
  EXPECT_TRUE(a.Stat(Digest::Sha256Of("world")).ok());
}

}  // namespace
}  // namespace gantry::metadata
