// With real snapshotters: what is unpacked is looked at through their mounts.
#include "supervisor/distribution/unpacker.h"

#include <rocksdb/db.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/file.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"
#include "content-store/fake_store.h"
#include "snapshotter/mount.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;

std::string LayerTar(const std::vector<std::pair<std::string, std::string>>& files) {
  StringSink sink;
  TarWriter writer(sink);
  for (const auto& [path, text] : files) {
    TarEntry entry;
    entry.path = path;
    entry.mode = 0644;
    EXPECT_TRUE(writer.WriteFile(entry, text).ok());
  }
  EXPECT_TRUE(writer.Finish().ok());
  return sink.str();
}

std::string Gzip(absl::string_view bytes) {
  StringSink sink;
  auto compressor = OpenCompressor(sink, Compression::kGzip);
  EXPECT_TRUE((*compressor)->Write(bytes).ok());
  EXPECT_TRUE((*compressor)->Finish().ok());
  return sink.str();
}

// Counts what is prepared.
class CountingSnapshotter : public snapshot::Snapshotter {
 public:
  explicit CountingSnapshotter(snapshot::Snapshotter& below) : below_(below) {}
  absl::StatusOr<snapshot::Info> Stat(absl::string_view key) override { return below_.Stat(key); }
  absl::StatusOr<snapshot::Info> Update(absl::string_view key, const snapshot::Labels& labels,
                                        const std::vector<std::string>& fields) override {
    return below_.Update(key, labels, fields);
  }
  absl::StatusOr<snapshot::Usage> Usage(absl::string_view key) override {
    return below_.Usage(key);
  }
  absl::StatusOr<std::vector<snapshot::Mount>> Mounts(absl::string_view key) override {
    return below_.Mounts(key);
  }
  absl::StatusOr<std::vector<snapshot::Mount>> Prepare(absl::string_view key,
                                                       absl::string_view parent,
                                                       const snapshot::Labels& labels) override {
    ++prepared;
    return below_.Prepare(key, parent, labels);
  }
  absl::StatusOr<std::vector<snapshot::Mount>> View(absl::string_view key, absl::string_view parent,
                                                    const snapshot::Labels& labels) override {
    return below_.View(key, parent, labels);
  }
  absl::Status Commit(absl::string_view name, absl::string_view key,
                      const snapshot::CommitOptions& options) override {
    return below_.Commit(name, key, options);
  }
  absl::Status Share(absl::string_view name, const snapshot::ShareOptions& options) override {
    snapshot::ShareOptions elsewhere = options;
    elsewhere.source = absl::StrCat(share_from, name);
    if (share_from.empty() || (options.layer.empty() && !blobs_are_held))
      return absl::NotFoundError("nothing to share");
    return below_.Share(name, elsewhere);
  }
  absl::Status Remove(absl::string_view key) override { return below_.Remove(key); }
  absl::Status Walk(const std::function<absl::Status(const snapshot::Info&)>& visit) override {
    return below_.Walk(visit);
  }
  absl::Status Cleanup(const CancelToken* cancel) override { return below_.Cleanup(cancel); }
  bool CanRebase() const override { return below_.CanRebase(); }

  std::atomic<int> prepared{0};
  std::string share_from;  // what precedes the names of layers elsewhere; "": there are none
  bool blobs_are_held = true;

 private:
  snapshot::Snapshotter& below_;
};

class UnpackerTest : public testing::TestWithParam<bool> {
 protected:
  struct Image {
    Descriptor manifest;
    Digest config;
    std::vector<Descriptor> layers;
    std::vector<Digest> diff_ids;
    std::vector<std::string> blobs;
  };

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "unpacking keeps owners and mounts, which needs root";
    rocksdb::Options options;
    options.create_if_missing = true;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(options, directory_.Join("db"), &db).ok());
    db_.reset(db);
    auto index = snapshot::SnapshotIndex::Open(db, db->DefaultColumnFamily(), "s");
    ASSERT_TRUE(index.ok()) << index.status();
    if (GetParam()) {
      auto opened = snapshot::OverlaySnapshotter::Open(
          {.root = directory_.Join("overlay"), .mount_options = {}}, *std::move(index));
      ASSERT_TRUE(opened.ok()) << opened.status();
      real_ = *std::move(opened);
    } else {
      auto opened = snapshot::NativeSnapshotter::Open(directory_.Join("native"), *std::move(index));
      ASSERT_TRUE(opened.ok()) << opened.status();
      real_ = *std::move(opened);
    }
    snapshotter_ = std::make_unique<CountingSnapshotter>(*real_);
  }

  // `stored`: the layers are in the store.
  Image MakeImage(const std::vector<std::string>& tars, bool stored = true) {
    Image image;
    std::string ids;
    for (const std::string& tar : tars) {
      image.blobs.push_back(Gzip(tar));
      image.diff_ids.push_back(Digest::Sha256Of(tar));
      Descriptor d;
      d.media_type = oci::kOciLayerGzip;
      d.digest = Digest::Sha256Of(image.blobs.back());
      d.size_bytes = static_cast<int64_t>(image.blobs.back().size());
      image.layers.push_back(d);
      absl::StrAppend(&ids, ids.empty() ? "" : ",", "\"", image.diff_ids.back().str(), "\"");
      if (stored) Store(image.blobs.back());
    }
    const std::string config = absl::StrCat(
        R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[)", ids,
        "]}}");
    image.config = Store(config);
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config.media_type = oci::kOciConfig;
    manifest.config.digest = image.config;
    manifest.config.size_bytes = static_cast<int64_t>(config.size());
    manifest.layers = image.layers;
    const std::string text = oci::PrintManifest(manifest);
    image.manifest.media_type = oci::kOciManifest;
    image.manifest.digest = Store(text);
    image.manifest.size_bytes = static_cast<int64_t>(text.size());
    return image;
  }
  Digest Store(absl::string_view bytes) {
    auto digest = content::WriteBlob(store_, absl::StrCat("w", next_++), bytes);
    EXPECT_TRUE(digest.ok()) << digest.status();
    return digest.value_or(Digest());
  }
  static std::vector<std::string> ThreeLayers() {
    return {LayerTar({{"etc/a", "one"}, {"etc/b", "one"}}),
            LayerTar({{"etc/.wh.a", ""}, {"etc/c", "two"}}), LayerTar({{"etc/b", "three"}})};
  }
  UnpackTarget Target() {
    return {&store_, snapshotter_.get(), GetParam() ? "overlayfs" : "native", "ns"};
  }
  absl::StatusOr<UnpackResult> Unpack(const Image& image) {
    return unpacker_.UnpackImage(Target(), image.manifest, cancel_, nullptr);
  }

  // Unpacks `image` and leaves its layers as those of another namespace, "else/<chain id>".
  void UnpackElsewhere(const Image& image) {
    ASSERT_TRUE(Unpack(image).ok());
    std::vector<Digest> chain = oci::ChainIds(image.diff_ids);
    std::string parent;
    for (const Digest& chain_id : chain) {
      const std::string name = "else/" + chain_id.str();
      ASSERT_TRUE(real_->Share(name, {.source = chain_id.str(), .parent = parent}).ok());
      parent = name;
    }
    std::reverse(chain.begin(), chain.end());
    for (const Digest& chain_id : chain) ASSERT_TRUE(real_->Remove(chain_id.str()).ok());
    snapshotter_->share_from = "else/";
  }

  // Path -> text below etc/ of a committed snapshot.
  std::map<std::string, std::string> Etc(const Digest& chain_id) {
    std::map<std::string, std::string> files;
    const std::string key = absl::StrCat("look", next_++);
    auto mounts = real_->View(key, chain_id.str(), {});
    EXPECT_TRUE(mounts.ok()) << mounts.status();
    const std::string at = directory_.Join(key);
    EXPECT_TRUE(MakeDirectories(at).ok());
    {
      auto mounted = snapshot::ScopedMount::Create(*mounts, at);
      EXPECT_TRUE(mounted.ok()) << mounted.status();
      for (const char* name : {"a", "b", "c", "d"}) {
        auto text = ReadFile(absl::StrCat(at, "/etc/", name), 1 << 24);
        if (text.ok()) files[name] = *text;
      }
    }
    EXPECT_TRUE(real_->Remove(key).ok());
    return files;
  }
  // How many snapshots there are: committed, and others.
  std::pair<int, int> Count() {
    std::pair<int, int> count;
    EXPECT_TRUE(real_
                    ->Walk([&](const snapshot::Info& info) {
                      ++(info.kind == snapshot::Kind::kCommitted ? count.first : count.second);
                      return absl::OkStatus();
                    })
                    .ok());
    return count;
  }

  TempDir directory_;
  std::unique_ptr<rocksdb::DB> db_;
  std::unique_ptr<snapshot::Snapshotter> real_;
  std::unique_ptr<CountingSnapshotter> snapshotter_;
  content::FakeStore store_;
  CancelToken cancel_;
  Unpacker unpacker_{UnpackerOptions()};
  int next_ = 0;
};

TEST_P(UnpackerTest, UnpacksLayersIntoAChain) {
  const Image image = MakeImage(ThreeLayers());
  auto result = Unpack(image);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->layers_unpacked, 3);
  const auto chain = oci::ChainIds(image.diff_ids);
  EXPECT_EQ(result->chain_id, chain[2]);
  EXPECT_EQ(real_->Stat(chain[2].str())->parent, chain[1].str());
  EXPECT_EQ(real_->Stat(chain[0].str())->parent, "");
  EXPECT_EQ(Etc(chain[2]), (std::map<std::string, std::string>{{"b", "three"}, {"c", "two"}}));
  EXPECT_EQ(Etc(chain[0]), (std::map<std::string, std::string>{{"a", "one"}, {"b", "one"}}));
  EXPECT_EQ(Count(), std::make_pair(3, 0));
}

TEST_P(UnpackerTest, LabelsConfigAndLayers) {
  const Image image = MakeImage(ThreeLayers());
  auto result = Unpack(image);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::string label = GetParam() ? "containerd.io/gc.ref.snapshot.overlayfs"
                                       : "containerd.io/gc.ref.snapshot.native";
  EXPECT_EQ(store_.Stat(image.config)->labels, (content::Labels{{label, result->chain_id.str()}}));
  EXPECT_EQ(store_.Stat(image.layers[1].digest)->labels,
            (content::Labels{{"containerd.io/uncompressed", image.diff_ids[1].str()}}));
}

TEST_P(UnpackerTest, WhatIsThereIsNotUnpackedAgain) {
  auto tars = ThreeLayers();
  ASSERT_TRUE(Unpack(MakeImage(tars)).ok());
  const int before = snapshotter_->prepared;
  EXPECT_EQ(Unpack(MakeImage(tars))->layers_present, 3);
  EXPECT_EQ(snapshotter_->prepared, before);
  tars[2] = LayerTar({{"etc/d", "other"}});
  auto other = Unpack(MakeImage(tars));
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->layers_present, 2);
  EXPECT_EQ(other->layers_unpacked, 1);
  EXPECT_EQ(Count(), std::make_pair(4, 0));
}

TEST_P(UnpackerTest, LayersThatAreUnpackedElsewhereAreShared) {
  const Image image = MakeImage(ThreeLayers());
  ASSERT_NO_FATAL_FAILURE(UnpackElsewhere(image));
  const int before = snapshotter_->prepared;
  auto result = Unpack(image);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->layers_unpacked, 0);
  EXPECT_EQ(result->layers_present, 3);
  EXPECT_EQ(snapshotter_->prepared, before);
  const auto chain = oci::ChainIds(image.diff_ids);
  EXPECT_EQ(Etc(chain[2]), (std::map<std::string, std::string>{{"b", "three"}, {"c", "two"}}));
  EXPECT_EQ(real_->Stat(chain[2].str())->parent, chain[1].str());
  // As after an unpack: the image keeps them.
  EXPECT_FALSE(store_.Stat(image.config)->labels.empty());
}

TEST_P(UnpackerTest, WhatWasUnpackedForNothingIsDroppedForTheSharedOne) {
  const Image image = MakeImage(ThreeLayers());
  ASSERT_NO_FATAL_FAILURE(UnpackElsewhere(image));
  snapshotter_->blobs_are_held = false;
  auto result = Unpack(image);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->layers_unpacked, 3);
  for (const Digest& chain_id : oci::ChainIds(image.diff_ids)) {
    const auto here = real_->Stat(chain_id.str());
    ASSERT_TRUE(here.ok()) << here.status();
    EXPECT_EQ(here->directory, real_->Stat("else/" + chain_id.str())->directory);
  }
  EXPECT_EQ(Count(), std::make_pair(6, 0));
}

TEST_P(UnpackerTest, OnlyLayersThatWereComparedCanBeShared) {
  const Image image = MakeImage({LayerTar({{"a", "one"}}), LayerTar({{"b", "two"}})});
  const auto chain = oci::ChainIds(image.diff_ids);
  // Of a client that unpacked by itself, or did not.
  ASSERT_TRUE(real_->Prepare("client", "", {}).ok());
  ASSERT_TRUE(real_->Commit(chain[0].str(), "client", {}).ok());
  ASSERT_TRUE(Unpack(image).ok());
  EXPECT_EQ(real_->Stat(chain[0].str())->layer, "");
  // A copy of it is in each directory of the native snapshotter, and in none of the other.
  EXPECT_EQ(real_->Stat(chain[1].str())->layer, GetParam() ? image.layers[1].digest.str() : "");
}

TEST_P(UnpackerTest, OneLayerMayAppearTwice) {
  const std::string layer = LayerTar({{"etc/a", "x"}});
  auto result = Unpack(MakeImage({layer, layer}));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Count(), std::make_pair(2, 0));
}

TEST_P(UnpackerTest, WrongDiffIdStopsAtThatLayer) {
  Image image = MakeImage(ThreeLayers());
  image.diff_ids[1] = Digest::Sha256Of("something else");
  auto session = unpacker_.Start(Target(), cancel_, nullptr);
  const absl::Status status = session->Finish(image.config, image.layers, image.diff_ids).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(status.message(), image.layers[1].digest.str())) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), image.diff_ids[1].str())) << status;
  session.reset();
  EXPECT_EQ(Count(), std::make_pair(1, 0));
  EXPECT_TRUE(store_.Stat(image.config)->labels.empty());
}

TEST_P(UnpackerTest, DamagedAndMissingLayersAreNamed) {
  Image image = MakeImage(ThreeLayers());
  const std::string cut = image.blobs[1].substr(0, image.blobs[1].size() / 2);
  image.layers[1].digest = Store(cut);
  absl::Status status = unpacker_.Start(Target(), cancel_, nullptr)
                            ->Finish({}, image.layers, image.diff_ids)
                            .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), image.layers[1].digest.str())) << status;

  image.layers[1].digest = Digest::Sha256Of("nowhere");
  status = unpacker_.Start(Target(), cancel_, nullptr)
               ->Finish({}, image.layers, image.diff_ids)
               .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), image.layers[1].digest.str())) << status;
  EXPECT_EQ(Count(), std::make_pair(1, 0));
}

TEST_P(UnpackerTest, CountsMustMatch) {
  Image image = MakeImage(ThreeLayers());
  image.diff_ids.pop_back();
  EXPECT_EQ(unpacker_.Start(Target(), cancel_, nullptr)
                ->Finish({}, image.layers, image.diff_ids)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(UnpackerTest, OthersWaitForTheFirst) {
  const Image image = MakeImage(ThreeLayers());
  auto first = unpacker_.Start(Target(), cancel_, nullptr);
  first->Expect(image.layers, image.diff_ids);
  absl::StatusOr<UnpackResult> second;
  std::thread other([&] { second = Unpack(image); });
  auto result = first->Finish(image.config, image.layers, image.diff_ids);
  other.join();
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(result->layers_unpacked, 3);
  EXPECT_EQ(second->layers_unpacked, 0);
  EXPECT_EQ(snapshotter_->prepared, 3);
}

TEST_P(UnpackerTest, OthersTakeOverWhenTheFirstGivesUp) {
  const Image image = MakeImage(ThreeLayers());
  auto first = unpacker_.Start(Target(), cancel_, nullptr);
  first->Expect(image.layers, image.diff_ids);
  absl::StatusOr<UnpackResult> second;
  std::thread other([&] { second = Unpack(image); });
  first.reset();
  other.join();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->layers_unpacked, 3);
}

TEST_P(UnpackerTest, WaitingEndsWithTheCaller) {
  const Image image = MakeImage(ThreeLayers());
  auto first = unpacker_.Start(Target(), cancel_, nullptr);
  first->Expect(image.layers, image.diff_ids);
  CancelToken mine;
  absl::Status status;
  std::thread other(
      [&] { status = unpacker_.UnpackImage(Target(), image.manifest, mine, nullptr).status(); });
  mine.Cancel("gone");
  other.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  CancelToken deadline(absl::Milliseconds(1));
  EXPECT_EQ(unpacker_.UnpackImage(Target(), image.manifest, deadline, nullptr).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_P(UnpackerTest, ReportsEachLayer) {
  const Image image = MakeImage(ThreeLayers());
  std::map<std::string, int> done;
  std::map<std::string, int> exists;
  const auto progress = [&](const UnpackProgress& p) {
    if (p.state == UnpackProgress::State::kDone) ++done[p.layer.str()];
    if (p.state == UnpackProgress::State::kExists) ++exists[p.layer.str()];
  };
  ASSERT_TRUE(unpacker_.UnpackImage(Target(), image.manifest, cancel_, progress).ok());
  EXPECT_EQ(done.size(), 3u);
  ASSERT_TRUE(unpacker_.UnpackImage(Target(), image.manifest, cancel_, progress).ok());
  EXPECT_EQ(exists.size(), 3u);
}

// Feeding: with a snapshotter that cannot rebase every feed is declined and the layers come from
// the store.
class FeedTest : public UnpackerTest {
 protected:
  void FeedAll(UnpackSession& session, const Image& image, size_t piece) {
    for (size_t i = 0; i < image.layers.size(); ++i) {
      std::unique_ptr<LayerFeed> feed = session.OpenFeed(image.layers[i], image.diff_ids[i]);
      EXPECT_EQ(feed != nullptr, GetParam());
      if (feed == nullptr) continue;
      absl::string_view rest = image.blobs[i];
      while (!rest.empty()) {
        feed->Write(rest.substr(0, piece));
        rest.remove_prefix(std::min(piece, rest.size()));
      }
      feed->Finish(image.layers[i].digest);
    }
  }
};

TEST_P(FeedTest, FedLayersNeedNoStore) {
  const Image image = MakeImage(ThreeLayers(), /*stored=*/!GetParam());
  auto session = unpacker_.Start(Target(), cancel_, nullptr);
  session->Expect(image.layers, image.diff_ids);
  FeedAll(*session, image, 7);
  auto result = session->Finish(image.config, image.layers, image.diff_ids);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->layers_unpacked, 3);
  EXPECT_EQ(Etc(result->chain_id),
            (std::map<std::string, std::string>{{"b", "three"}, {"c", "two"}}));
  EXPECT_EQ(snapshotter_->prepared, 3);
}

TEST_P(FeedTest, WhatDoesNotFitInMemoryComesFromTheStore) {
  std::string noise;
  for (int i = 0; noise.size() < 300000; ++i)
    absl::StrAppend(&noise, Digest::Sha256Of(absl::StrCat(i)).str());
  const Image image = MakeImage({LayerTar({{"etc/a", noise}}), LayerTar({{"etc/b", "small"}})});
  UnpackerOptions options;
  options.feed_buffer_bytes = 10000;
  Unpacker unpacker(options);
  auto session = unpacker.Start(Target(), cancel_, nullptr);
  FeedAll(*session, image, 4096);
  auto result = session->Finish(image.config, image.layers, image.diff_ids);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Etc(result->chain_id).at("a"), noise);
}

TEST_P(FeedTest, AbandonedFeedsLeaveNothing) {
  const Image image = MakeImage(ThreeLayers());
  {
    auto session = unpacker_.Start(Target(), cancel_, nullptr);
    auto feed = session->OpenFeed(image.layers[0], image.diff_ids[0]);
    auto second = session->OpenFeed(image.layers[1], {});
    if (feed != nullptr) feed->Write(image.blobs[0].substr(0, 20));
    second.reset();
    feed.reset();
  }
  EXPECT_EQ(Count(), std::make_pair(0, 0));
  EXPECT_EQ(Unpack(image)->layers_unpacked, 3);
}

TEST_P(FeedTest, FeedThatFailedHalfwayIsReplacedByTheStore) {
  const Image image = MakeImage(ThreeLayers());
  auto session = unpacker_.Start(Target(), cancel_, nullptr);
  if (auto feed = session->OpenFeed(image.layers[0], {}); feed != nullptr) feed->Write("\x1f\x8b");
  auto result = session->Finish(image.config, image.layers, image.diff_ids);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->layers_unpacked, 3);
}

TEST_P(FeedTest, LayerWhoseFeedFailedCanBeFedAgain) {
  const Image image = MakeImage(ThreeLayers(), /*stored=*/!GetParam());
  auto session = unpacker_.Start(Target(), cancel_, nullptr);
  session->Expect(image.layers, image.diff_ids);
  if (auto feed = session->OpenFeed(image.layers[0], image.diff_ids[0]); feed != nullptr) {
    EXPECT_EQ(session->OpenFeed(image.layers[0], image.diff_ids[0]), nullptr) << "one at a time";
    feed->Write("\x1f\x8b");
  }
  FeedAll(*session, image, 100);
  auto result = session->Finish(image.config, image.layers, image.diff_ids);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Etc(result->chain_id),
            (std::map<std::string, std::string>{{"b", "three"}, {"c", "two"}}));
}

TEST_P(FeedTest, PresentLayersAreNotWanted) {
  const Image image = MakeImage(ThreeLayers());
  ASSERT_TRUE(Unpack(image).ok());
  auto session = unpacker_.Start(Target(), cancel_, nullptr);
  session->Expect(image.layers, image.diff_ids);
  EXPECT_EQ(session->OpenFeed(image.layers[0], image.diff_ids[0]), nullptr);
  Descriptor other;
  other.media_type = "application/vnd.in-toto+json";
  EXPECT_EQ(session->OpenFeed(other, {}), nullptr);
}

TEST_P(FeedTest, LayersWhoseImageIsUnknownYetCanBeFed) {
  const Image image = MakeImage(ThreeLayers(), /*stored=*/!GetParam());
  auto session = unpacker_.Start(Target(), cancel_, nullptr);
  for (int i = 2; i >= 0; --i) {
    Descriptor anonymous;
    anonymous.media_type = oci::kOciLayerGzip;
    auto feed = session->OpenFeed(anonymous, {});
    if (feed == nullptr) continue;
    feed->Write(image.blobs[i]);
    feed->Finish(image.layers[i].digest);
  }
  auto result = session->Finish(image.config, image.layers, image.diff_ids);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Etc(result->chain_id),
            (std::map<std::string, std::string>{{"b", "three"}, {"c", "two"}}));
}

const auto kName = [](const testing::TestParamInfo<bool>& info) {
  return info.param ? "Overlay" : "Native";
};
INSTANTIATE_TEST_SUITE_P(Snapshotters, UnpackerTest, testing::Bool(), kName);
INSTANTIATE_TEST_SUITE_P(Snapshotters, FeedTest, testing::Bool(), kName);

}  // namespace
}  // namespace gantry::distribution
