// Every Store in this room against the conformance suite, and what only the file store promises.
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "content-store/fake_store.h"
#include "content-store/local_store.h"
#include "content-store/store_conformance.h"

namespace gantry::content {
namespace {

std::string NameOf(const testing::TestParamInfo<StoreCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Stores, StoreConformance,
    testing::Values(StoreCase{.name = "Fake",
                              .keeps_labels = true,
                              .make = [](const std::string&) -> std::shared_ptr<Store> {
                                return std::make_shared<FakeStore>();
                              }},
                    StoreCase{.name = "Local",
                              .keeps_labels = false,
                              .make = [](const std::string& directory) -> std::shared_ptr<Store> {
                                return LocalStore::Open(directory + "/content").value();
                              }}),
    NameOf);

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

class LocalStoreTest : public testing::Test {
 protected:
  std::string Root() const { return directory_.Join("content"); }
  std::unique_ptr<LocalStore> OpenStore() {
    absl::StatusOr<std::unique_ptr<LocalStore>> store = LocalStore::Open(Root());
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  std::string BlobPath(const Digest& digest) const {
    return Root() + "/blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
  }
  std::string IngestPath(const std::string& ref) const {
    return Root() + "/ingest/" + std::string(Digest::Sha256Of(ref).hex());
  }
  // As if the machine had been switched off since the note was written.
  void PretendAnotherBoot() {
    std::string state = ReadFile(Root() + "/state", 4096).value();
    const size_t first = state.find(' ');
    const size_t second = state.find(' ', first + 1);
    ASSERT_NE(second, std::string::npos) << state;
    state.replace(first + 1, second - first - 1, "00000000-0000-0000-0000-000000000000");
    ASSERT_TRUE(WriteFile(Root() + "/state", state).ok());
  }
  std::string State() const { return ReadFile(Root() + "/state", 4096).value_or(""); }

  Digest CommitUnsynced(LocalStore& store, const std::string& bytes) {
    std::unique_ptr<Ingest> ingest =
        store.OpenIngest({.ref = bytes, .total_bytes = 0, .expected = {}}).value();
    EXPECT_TRUE(ingest->Append(bytes).ok());
    return ingest->Commit({.expected = {}, .size_bytes = {}, .labels = {}, .sync = false}).value();
  }

  TempDir directory_;
};

TEST_F(LocalStoreTest, BlobIsAReadOnlyFileNamedByItsDigest) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  const Digest digest = WriteBlob(*store, "r", "hello").value();
  struct stat stat;
  ASSERT_EQ(::stat(BlobPath(digest).c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 07777, 0444u);
  EXPECT_EQ(ReadFile(BlobPath(digest), 100).value(), "hello");
  EXPECT_FALSE(Exists(IngestPath("r")));
}

TEST_F(LocalStoreTest, ReaderHandsOutItsFile) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  const Digest digest = WriteBlob(*store, "r", "hello").value();
  const std::unique_ptr<BlobReader> reader = store->Open(digest).value();
  char buffer[8];
  EXPECT_EQ(pread(reader->fd(), buffer, sizeof(buffer), 0), 5);
}

TEST_F(LocalStoreTest, IngestSurvivesARestart) {
  {
    const std::unique_ptr<LocalStore> store = OpenStore();
    std::unique_ptr<Ingest> ingest =
        store->OpenIngest({.ref = "layer", .total_bytes = 11, .expected = {}}).value();
    ASSERT_TRUE(ingest->Append("hello ").ok());
  }
  const std::unique_ptr<LocalStore> store = OpenStore();
  const IngestStatus status = store->StatIngest("layer").value();
  EXPECT_EQ(status.offset_bytes, 6);
  EXPECT_EQ(status.total_bytes, 11);
  std::unique_ptr<Ingest> ingest =
      store->OpenIngest({.ref = "layer", .total_bytes = 11, .expected = {}}).value();
  ASSERT_TRUE(ingest->Append("world").ok());
  EXPECT_EQ(ingest->Commit({}).value(), Digest::Sha256Of("hello world"));
}

TEST_F(LocalStoreTest, BlobsSurviveARestart) {
  Digest digest;
  {
    const std::unique_ptr<LocalStore> store = OpenStore();
    digest = WriteBlob(*store, "r", "hello").value();
  }
  EXPECT_EQ(ReadBlob(*OpenStore(), digest, 100).value(), "hello");
}

TEST_F(LocalStoreTest, OpenSweepsIngestsThatCannotBeResumed) {
  {
    const std::unique_ptr<LocalStore> store = OpenStore();
    (void)store->OpenIngest({.ref = "whole", .total_bytes = 0, .expected = {}}).value();
    (void)store->OpenIngest({.ref = "no data", .total_bytes = 0, .expected = {}}).value();
    (void)store->OpenIngest({.ref = "no ref", .total_bytes = 0, .expected = {}}).value();
    (void)store->OpenIngest({.ref = "damaged ref", .total_bytes = 0, .expected = {}}).value();
  }
  ASSERT_EQ(unlink((IngestPath("no data") + "/data").c_str()), 0);
  ASSERT_EQ(unlink((IngestPath("no ref") + "/ref").c_str()), 0);
  ASSERT_TRUE(WriteFile(IngestPath("damaged ref") + "/ref", "started x").ok());
  ASSERT_TRUE(WriteFile(Root() + "/ingest/stray", "x").ok());
  ASSERT_EQ(mkdir((Root() + "/ingest/empty").c_str(), 0700), 0);

  const std::unique_ptr<LocalStore> store = OpenStore();
  EXPECT_TRUE(Exists(IngestPath("whole")));
  EXPECT_FALSE(Exists(IngestPath("no data")));
  EXPECT_FALSE(Exists(IngestPath("no ref")));
  EXPECT_FALSE(Exists(IngestPath("damaged ref")));
  EXPECT_FALSE(Exists(Root() + "/ingest/stray"));
  EXPECT_FALSE(Exists(Root() + "/ingest/empty"));
  ASSERT_EQ(store->ListIngests().value().size(), 1u);
}

TEST_F(LocalStoreTest, HalfMadeIngestsGoWithoutARestartAndWritersAreLeftAlone) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  for (const char* ref : {"no ref", "no data", "whole"})
    (void)store->OpenIngest({.ref = ref, .total_bytes = 0, .expected = {}}).value();
  std::unique_ptr<Ingest> writer =
      store->OpenIngest({.ref = "busy", .total_bytes = 0, .expected = {}}).value();
  ASSERT_EQ(unlink((IngestPath("no ref") + "/ref").c_str()), 0);
  ASSERT_EQ(unlink((IngestPath("no data") + "/data").c_str()), 0);
  ASSERT_EQ(unlink((IngestPath("busy") + "/ref").c_str()), 0);
  ASSERT_TRUE(store->RemoveHalfMade().ok());
  EXPECT_FALSE(Exists(IngestPath("no ref")));
  EXPECT_FALSE(Exists(IngestPath("no data")));
  EXPECT_TRUE(Exists(IngestPath("whole")));
  EXPECT_TRUE(Exists(IngestPath("busy")));
  EXPECT_TRUE(writer->Append("x").ok());
}

TEST_F(LocalStoreTest, ForeignFilesAmongBlobsAreNotListed) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  ASSERT_TRUE(WriteFile(Root() + "/blobs/sha256/README", "x").ok());
  int visited = 0;
  ASSERT_TRUE(store
                  ->Walk([&](const Info&) {
                    ++visited;
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(visited, 0);
}

TEST_F(LocalStoreTest, VerifyFindsDamage) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  const Digest digest = WriteBlob(*store, "r", "hello").value();
  EXPECT_TRUE(store->Verify(digest).ok());
  ASSERT_TRUE(WriteFile(BlobPath(digest), "hellp").ok());
  EXPECT_EQ(store->Verify(digest).code(), absl::StatusCode::kDataLoss);
}

TEST_F(LocalStoreTest, UnsyncedCommitIsNotedUntilSync) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  const Digest digest = CommitUnsynced(*store, "hello");
  EXPECT_EQ(State().substr(0, 9), "unsynced ");
  EXPECT_EQ(ReadBlob(*store, digest, 100).value(), "hello");
  ASSERT_TRUE(store->Sync().ok());
  EXPECT_EQ(State(), "clean\n");
}

TEST_F(LocalStoreTest, SyncedCommitNeedsNoNote) {
  const std::unique_ptr<LocalStore> store = OpenStore();
  (void)WriteBlob(*store, "r", "hello").value();
  EXPECT_EQ(State(), "");
}

TEST_F(LocalStoreTest, TornBlobIsRemovedAfterAPowerCut) {
  const std::unique_ptr<LocalStore> crashed = OpenStore();
  const Digest torn = CommitUnsynced(*crashed, "torn");
  const Digest whole = CommitUnsynced(*crashed, "whole");
  ASSERT_TRUE(WriteFile(BlobPath(torn), "").ok());
  PretendAnotherBoot();

  const std::unique_ptr<LocalStore> store = OpenStore();
  EXPECT_EQ(store->Stat(torn).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadBlob(*store, whole, 100).value(), "whole");
  EXPECT_EQ(State(), "clean\n");
}

TEST_F(LocalStoreTest, DamagedNoteDistrustsEveryBlob) {
  Digest digest;
  {
    const std::unique_ptr<LocalStore> store = OpenStore();
    digest = WriteBlob(*store, "r", "hello").value();
  }
  ASSERT_TRUE(WriteFile(BlobPath(digest), "").ok());
  ASSERT_TRUE(WriteFile(Root() + "/state", "uns").ok());
  EXPECT_EQ(OpenStore()->Stat(digest).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LocalStoreTest, DaemonCrashWithoutPowerCutKeepsUnsyncedBlobs) {
  const std::unique_ptr<LocalStore> crashed = OpenStore();
  const Digest digest = CommitUnsynced(*crashed, "hello");
  const std::unique_ptr<LocalStore> store = OpenStore();
  EXPECT_EQ(ReadBlob(*store, digest, 100).value(), "hello");
  EXPECT_EQ(State(), "clean\n");
}

TEST_F(LocalStoreTest, KilledAmidItsNoteLeavesNothingBeside) {
  OpenStore();
  for (const char* name : {".state.tmp-a1B2c3", ".state.tmp-zzzzzz"})
    ASSERT_TRUE(WriteFile(Root() + "/" + name, "unsyn").ok());
  ASSERT_TRUE(WriteFile(Root() + "/.statement.tmp-a1B2c3", "somebody else's").ok());
  OpenStore();
  EXPECT_FALSE(Exists(Root() + "/.state.tmp-a1B2c3"));
  EXPECT_FALSE(Exists(Root() + "/.state.tmp-zzzzzz"));
  EXPECT_TRUE(Exists(Root() + "/.statement.tmp-a1B2c3"));
}

TEST_F(LocalStoreTest, FullDiskKeepsTheBytesSoFar) {
  const std::string mounted = directory_.Join("small");
  ASSERT_EQ(mkdir(mounted.c_str(), 0700), 0);
  if (mount("tmpfs", mounted.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "mounting a small file system needs root";
  }
  {
    const std::unique_ptr<LocalStore> store = LocalStore::Open(mounted + "/content").value();
    std::unique_ptr<Ingest> ingest =
        store->OpenIngest({.ref = "big", .total_bytes = 0, .expected = {}}).value();
    const std::string bytes(1 << 20, 'x');
    EXPECT_EQ(ingest->Append(bytes).code(), absl::StatusCode::kResourceExhausted);
    const int64_t kept = ingest->offset();
    EXPECT_GT(kept, 0);
    EXPECT_LT(kept, static_cast<int64_t>(bytes.size()));
    EXPECT_EQ(ingest->current_digest(),
              Digest::Sha256Of(std::string(static_cast<size_t>(kept), 'x')));
    ASSERT_EQ(mount("tmpfs", mounted.c_str(), "tmpfs", MS_REMOUNT, "size=4m"), 0) << errno;
    EXPECT_TRUE(ingest->Append(absl::string_view(bytes).substr(static_cast<size_t>(kept))).ok());
    EXPECT_EQ(ingest->Commit({}).value(), Digest::Sha256Of(bytes));
  }
  ASSERT_EQ(umount2(mounted.c_str(), MNT_DETACH), 0);
}

TEST(FakeStoreTest, LimitActsLikeAFullDisk) {
  FakeStore store;
  store.SetIngestLimit(3);
  std::unique_ptr<Ingest> ingest =
      store.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}}).value();
  EXPECT_EQ(ingest->Append("hello").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ingest->offset(), 3);
  store.SetIngestLimit(-1);
  EXPECT_TRUE(ingest->Append("lo").ok());
  EXPECT_EQ(ingest->Commit({}).value(), Digest::Sha256Of("hello"));
}

}  // namespace
}  // namespace gantry::content
