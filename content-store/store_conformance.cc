#include "content-store/store_conformance.h"

#include <stdlib.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/file.h"

namespace gantry::content {
namespace {

using absl::StatusCode;

std::string NewDirectory() {
  std::string path = testing::TempDir() + "/store.XXXXXX";
  return mkdtemp(path.data()) == nullptr ? std::string() : path;
}

Digest Put(Store& store, const std::string& bytes) {
  absl::StatusOr<Digest> digest = WriteBlob(store, "put-" + Digest::Sha256Of(bytes).str(), bytes);
  EXPECT_TRUE(digest.ok()) << digest.status();
  return digest.value_or(Digest());
}

std::unique_ptr<Ingest> OpenRef(Store& store, const std::string& ref) {
  absl::StatusOr<std::unique_ptr<Ingest>> ingest =
      store.OpenIngest({.ref = ref, .total_bytes = 0, .expected = {}});
  EXPECT_TRUE(ingest.ok()) << ingest.status();
  return ingest.ok() ? *std::move(ingest) : nullptr;
}

std::string Contents(Store& store, const Digest& digest) {
  absl::StatusOr<std::string> bytes = ReadBlob(store, digest, 64 << 20);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.value_or("");
}

std::vector<std::string> AllDigests(Store& store) {
  std::vector<std::string> all;
  EXPECT_TRUE(store
                  .Walk([&](const Info& info) {
                    all.push_back(info.digest.str());
                    return absl::OkStatus();
                  })
                  .ok());
  return all;
}

}  // namespace

StoreConformance::StoreConformance()
    : directory_(NewDirectory()), store_(GetParam().make(directory_)) {}

StoreConformance::~StoreConformance() {
  store_.reset();
  if (!directory_.empty()) RemoveTree(directory_).IgnoreError();
}

TEST_P(StoreConformance, CommittedBlobIsReadBack) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_NE(ingest, nullptr);
  ASSERT_TRUE(ingest->Append("hello ").ok());
  ASSERT_TRUE(ingest->Append("world").ok());
  EXPECT_EQ(ingest->offset(), 11);
  const absl::StatusOr<Digest> digest = ingest->Commit({});
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(digest->str(),
            "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");

  const absl::StatusOr<Info> info = store().Stat(*digest);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->size_bytes, 11);
  EXPECT_EQ(info->digest, *digest);
  EXPECT_EQ(Contents(store(), *digest), "hello world");
}

TEST_P(StoreConformance, EmptyBlobIsABlob) {
  const Digest digest = Put(store(), "");
  EXPECT_EQ(digest.str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Contents(store(), digest), "");
}

TEST_P(StoreConformance, NothingIsVisibleBeforeCommit) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello").ok());
  EXPECT_EQ(store().Stat(ingest->current_digest()).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store().Open(ingest->current_digest()).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(AllDigests(store()).empty());
}

TEST_P(StoreConformance, UnknownBlobIsNotFoundEverywhere) {
  const Digest digest = Digest::Sha256Of("nowhere");
  EXPECT_EQ(store().Stat(digest).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store().Open(digest).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store().Delete(digest).code(), StatusCode::kNotFound);
  EXPECT_EQ(store().Update(digest, {}, {}).status().code(), StatusCode::kNotFound);
}

TEST_P(StoreConformance, CommitWithWrongDigestPublishesNothing) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello").ok());
  EXPECT_EQ(ingest->Commit({.expected = Digest::Sha256Of("other"), .size_bytes = {}, .labels = {}})
                .status()
                .code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(AllDigests(store()).empty());
  EXPECT_EQ(ingest->offset(), 5);
  ingest.reset();
  EXPECT_TRUE(store().StatIngest("layer").ok());
}

TEST_P(StoreConformance, CommitWithWrongSizePublishesNothing) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello").ok());
  EXPECT_EQ(ingest->Commit({.expected = {}, .size_bytes = 6, .labels = {}}).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(AllDigests(store()).empty());
  EXPECT_TRUE(ingest->Commit({.expected = {}, .size_bytes = 5, .labels = {}}).ok());
}

TEST_P(StoreConformance, CommitEndsTheIngest) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello").ok());
  ASSERT_TRUE(ingest->Commit({}).ok());
  EXPECT_EQ(store().StatIngest("layer").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ingest->Append("x").code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(ingest->Commit({}).status().code(), StatusCode::kFailedPrecondition);
  std::unique_ptr<Ingest> again = OpenRef(store(), "layer");
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->offset(), 0);
}

TEST_P(StoreConformance, SecondCommitOfTheSameBytesSaysSo) {
  Put(store(), "hello");
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "again");
  ASSERT_TRUE(ingest->Append("hello").ok());
  EXPECT_EQ(ingest->Commit({}).status().code(), StatusCode::kAlreadyExists);
  ingest.reset();
  EXPECT_EQ(store().StatIngest("again").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(AllDigests(store()).size(), 1u);
}

TEST_P(StoreConformance, OpeningAnIngestForAKnownBlobSaysSo) {
  const Digest digest = Put(store(), "hello");
  EXPECT_EQ(store().OpenIngest({.ref = "r", .total_bytes = 0, .expected = digest}).status().code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(store().StatIngest("r").status().code(), StatusCode::kNotFound);
}

TEST_P(StoreConformance, IngestResumesWhereItsWriterStopped) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello ").ok());
  ingest.reset();

  ingest = OpenRef(store(), "layer");
  ASSERT_NE(ingest, nullptr);
  EXPECT_EQ(ingest->offset(), 6);
  EXPECT_EQ(ingest->current_digest(), Digest::Sha256Of("hello "));
  ASSERT_TRUE(ingest->Append("world").ok());
  const absl::StatusOr<Digest> digest =
      ingest->Commit({.expected = Digest::Sha256Of("hello world"), .size_bytes = 11, .labels = {}});
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(Contents(store(), *digest), "hello world");
}

TEST_P(StoreConformance, SecondWriterOfARefIsRefused) {
  const std::unique_ptr<Ingest> first = OpenRef(store(), "layer");
  ASSERT_NE(first, nullptr);
  const absl::Status second =
      store().OpenIngest({.ref = "layer", .total_bytes = 0, .expected = {}}).status();
  EXPECT_EQ(second.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(second.message(), "layer locked for ")) << second;
  EXPECT_TRUE(absl::StrContains(second.message(), " (since ")) << second;
  EXPECT_NE(OpenRef(store(), "other"), nullptr);
}

TEST_P(StoreConformance, ManyWritersOfOneRefLetExactlyOneIn) {
  std::atomic<int> opened{0};
  std::atomic<int> refused{0};
  std::atomic<int> arrived{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      absl::StatusOr<std::unique_ptr<Ingest>> ingest =
          store().OpenIngest({.ref = "one", .total_bytes = 0, .expected = {}});
      if (ingest.ok()) ++opened;
      if (absl::IsUnavailable(ingest.status())) ++refused;
      ++arrived;
      while (arrived.load() < 8) std::this_thread::yield();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(opened.load(), 1);
  EXPECT_EQ(refused.load(), 7);
}

TEST_P(StoreConformance, ConcurrentCommitsOfOneBlobPublishItOnce) {
  std::atomic<int> committed{0};
  std::atomic<int> existed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      std::unique_ptr<Ingest> ingest = OpenRef(store(), absl::StrCat("ref-", i));
      if (ingest == nullptr || !ingest->Append(std::string(100000, 'x')).ok()) return;
      const absl::Status status = ingest->Commit({}).status();
      if (status.ok()) ++committed;
      if (absl::IsAlreadyExists(status)) ++existed;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(committed.load(), 1);
  EXPECT_EQ(existed.load(), 7);
  const absl::StatusOr<std::vector<IngestStatus>> left = store().ListIngests();
  ASSERT_TRUE(left.ok());
  EXPECT_TRUE(left->empty());
}

TEST_P(StoreConformance, TruncateStartsOver) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("wrong bytes").ok());
  ASSERT_TRUE(ingest->Truncate(0).ok());
  EXPECT_EQ(ingest->offset(), 0);
  ASSERT_TRUE(ingest->Append("hello").ok());
  const absl::StatusOr<Digest> digest = ingest->Commit({});
  ASSERT_TRUE(digest.ok());
  EXPECT_EQ(*digest, Digest::Sha256Of("hello"));
  EXPECT_EQ(Contents(store(), *digest), "hello");
}

TEST_P(StoreConformance, TruncateKeepsWhatIsBefore) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello, wrong").ok());
  ASSERT_TRUE(ingest->Truncate(5).ok());
  EXPECT_EQ(ingest->current_digest(), Digest::Sha256Of("hello"));
  EXPECT_EQ(ingest->Truncate(6).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(ingest->Truncate(-1).code(), StatusCode::kOutOfRange);
}

TEST_P(StoreConformance, StatusTellsWhatWasToldAtOpen) {
  const Digest expected = Digest::Sha256Of("hello");
  absl::StatusOr<std::unique_ptr<Ingest>> ingest =
      store().OpenIngest({.ref = "layer", .total_bytes = 5, .expected = expected});
  ASSERT_TRUE(ingest.ok());
  ASSERT_TRUE((*ingest)->Append("he").ok());
  const absl::StatusOr<IngestStatus> status = store().StatIngest("layer");
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->ref, "layer");
  EXPECT_EQ(status->offset_bytes, 2);
  EXPECT_EQ(status->total_bytes, 5);
  EXPECT_EQ(status->expected, expected);
  EXPECT_GE(status->updated_at, status->started_at - absl::Seconds(1));
  EXPECT_EQ((*ingest)->status().ref, "layer");
}

TEST_P(StoreConformance, ResumingWithAnotherTotalIsRefused) {
  ASSERT_TRUE(store().OpenIngest({.ref = "layer", .total_bytes = 5, .expected = {}}).ok());
  EXPECT_EQ(store().OpenIngest({.ref = "layer", .total_bytes = 6, .expected = {}}).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(store().OpenIngest({.ref = "layer", .total_bytes = 5, .expected = {}}).ok());
}

TEST_P(StoreConformance, IngestsAreListed) {
  OpenRef(store(), "b").reset();
  const std::unique_ptr<Ingest> open = OpenRef(store(), "a");
  const absl::StatusOr<std::vector<IngestStatus>> all = store().ListIngests();
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].ref, "a");
  EXPECT_EQ((*all)[1].ref, "b");
}

TEST_P(StoreConformance, AbortDropsTheBytes) {
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello").ok());
  EXPECT_EQ(store().AbortIngest("layer").code(), StatusCode::kUnavailable);
  ingest.reset();
  EXPECT_TRUE(store().AbortIngest("layer").ok());
  EXPECT_EQ(store().AbortIngest("layer").code(), StatusCode::kNotFound);
  EXPECT_EQ(store().StatIngest("layer").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(OpenRef(store(), "layer")->offset(), 0);
}

TEST_P(StoreConformance, RefsMayBeAnythingThatIsNoPath) {
  for (const std::string& ref :
       {std::string("../../../etc/passwd"), std::string("/"), std::string("."), std::string(".."),
        std::string("a\nb"), std::string("-rf"), std::string("\xf0\x9f\x90\xb3"),
        std::string(4096, 'r')}) {
    std::unique_ptr<Ingest> ingest = OpenRef(store(), ref);
    ASSERT_NE(ingest, nullptr) << ref;
    ASSERT_TRUE(ingest->Append("x").ok());
    ingest.reset();
    const absl::StatusOr<IngestStatus> status = store().StatIngest(ref);
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(status->ref, ref);
    EXPECT_TRUE(store().AbortIngest(ref).ok());
  }
}

TEST_P(StoreConformance, BadRefsAreInvalid) {
  for (const std::string& ref : {std::string(), std::string(4097, 'r'), std::string("a\0b", 3)}) {
    EXPECT_EQ(store().OpenIngest({.ref = ref, .total_bytes = 0, .expected = {}}).status().code(),
              StatusCode::kInvalidArgument);
  }
}

TEST_P(StoreConformance, ReadsAtOffsets) {
  const Digest digest = Put(store(), "0123456789");
  absl::StatusOr<std::unique_ptr<BlobReader>> reader = store().Open(digest);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->size_bytes(), 10);
  char buffer[16];
  EXPECT_EQ((*reader)->ReadAt(3, buffer, 4).value_or(99), 4u);
  EXPECT_EQ(std::string(buffer, 4), "3456");
  EXPECT_EQ((*reader)->ReadAt(8, buffer, 16).value_or(99), 2u);
  EXPECT_EQ((*reader)->ReadAt(10, buffer, 16).value_or(99), 0u);
  EXPECT_EQ((*reader)->ReadAt(1000, buffer, 16).value_or(99), 0u);
  EXPECT_EQ((*reader)->ReadAt(-1, buffer, 16).status().code(), StatusCode::kOutOfRange);
}

TEST_P(StoreConformance, ReaderOutlivesDelete) {
  const Digest digest = Put(store(), "hello");
  absl::StatusOr<std::unique_ptr<BlobReader>> reader = store().Open(digest);
  ASSERT_TRUE(reader.ok());
  ASSERT_TRUE(store().Delete(digest).ok());
  EXPECT_EQ(store().Stat(digest).status().code(), StatusCode::kNotFound);
  char buffer[8];
  EXPECT_EQ((*reader)->ReadAt(0, buffer, 8).value_or(99), 5u);
  EXPECT_EQ(std::string(buffer, 5), "hello");
}

TEST_P(StoreConformance, DeletedBlobCanBeWrittenAgain) {
  const Digest digest = Put(store(), "hello");
  ASSERT_TRUE(store().Delete(digest).ok());
  EXPECT_EQ(Put(store(), "hello"), digest);
  EXPECT_EQ(Contents(store(), digest), "hello");
}

TEST_P(StoreConformance, WalkVisitsInDigestOrder) {
  std::vector<std::string> written;
  for (int i = 0; i < 20; ++i) written.push_back(Put(store(), absl::StrCat("blob ", i)).str());
  std::sort(written.begin(), written.end());
  EXPECT_EQ(AllDigests(store()), written);
}

TEST_P(StoreConformance, WalkStopsWhenToldTo) {
  for (int i = 0; i < 3; ++i) Put(store(), absl::StrCat("blob ", i));
  int visited = 0;
  const absl::Status status = store().Walk([&](const Info&) {
    ++visited;
    return absl::CancelledError("enough");
  });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(visited, 1);
}

TEST_P(StoreConformance, WalkVisitorMayUseTheStore) {
  for (int i = 0; i < 3; ++i) Put(store(), absl::StrCat("blob ", i));
  EXPECT_TRUE(store().Walk([&](const Info& info) { return store().Delete(info.digest); }).ok());
  EXPECT_TRUE(AllDigests(store()).empty());
}

TEST_P(StoreConformance, Sha512IsHonoured) {
  const Digest expected = [] {
    Hasher hasher("sha512");
    hasher.Update("hello");
    return hasher.Current();
  }();
  std::unique_ptr<Ingest> ingest =
      OpenRef(store(), "layer");  // hashed with sha256 until commit says otherwise
  ASSERT_TRUE(ingest->Append("hello").ok());
  const absl::StatusOr<Digest> digest =
      ingest->Commit({.expected = expected, .size_bytes = {}, .labels = {}});
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, expected);
  EXPECT_EQ(Contents(store(), expected), "hello");
  EXPECT_EQ(AllDigests(store()), std::vector<std::string>{expected.str()});
}

TEST_P(StoreConformance, ReadBlobRefusesWhatIsTooLarge) {
  const Digest digest = Put(store(), "hello");
  EXPECT_EQ(ReadBlob(store(), digest, 4).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(ReadBlob(store(), digest, 5).ok());
}

TEST_P(StoreConformance, WriteBlobOfWrongBytesLeavesNothing) {
  EXPECT_EQ(WriteBlob(store(), "r", "hello", Digest::Sha256Of("other")).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(AllDigests(store()).empty());
  EXPECT_EQ(store().StatIngest("r").status().code(), StatusCode::kNotFound);
}

TEST_P(StoreConformance, WriteBlobTwiceIsSuccess) {
  const Digest digest = Put(store(), "hello");
  EXPECT_EQ(Put(store(), "hello"), digest);
}

TEST_P(StoreConformance, LabelsGivenAtCommitAreKept) {
  if (!GetParam().keeps_labels) GTEST_SKIP() << "this store keeps no labels";
  std::unique_ptr<Ingest> ingest = OpenRef(store(), "layer");
  ASSERT_TRUE(ingest->Append("hello").ok());
  const absl::StatusOr<Digest> digest =
      ingest->Commit({.expected = {}, .size_bytes = {}, .labels = {{"a", "1"}}});
  ASSERT_TRUE(digest.ok());
  const absl::StatusOr<Info> info = store().Stat(*digest);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->labels, (Labels{{"a", "1"}}));
}

TEST_P(StoreConformance, UpdateSetsReplacesAndRemovesLabels) {
  if (!GetParam().keeps_labels) GTEST_SKIP() << "this store keeps no labels";
  const Digest digest = Put(store(), "hello");
  ASSERT_TRUE(store().Update(digest, {{"a", "1"}, {"b", "2"}}, {}).ok());
  absl::StatusOr<Info> info = store().Update(digest, {{"b", "3"}, {"ignored", "x"}}, {"labels.b"});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->labels, (Labels{{"a", "1"}, {"b", "3"}}));
  info = store().Update(digest, {{"a", ""}}, {"labels.a"});
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->labels, (Labels{{"b", "3"}}));
  info = store().Update(digest, {{"c", "4"}}, {"labels"});
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->labels, (Labels{{"c", "4"}}));
  EXPECT_EQ(store().Stat(digest)->labels, (Labels{{"c", "4"}}));
}

TEST_P(StoreConformance, UpdateOfAnotherFieldIsInvalid) {
  if (!GetParam().keeps_labels) GTEST_SKIP() << "this store keeps no labels";
  const Digest digest = Put(store(), "hello");
  EXPECT_EQ(store().Update(digest, {}, {"size"}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace gantry::content
