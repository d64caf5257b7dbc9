#include "supervisor/distribution/archive.h"

#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/compression.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "base/tar/reader.h"
#include "base/tar/writer.h"
#include "base/temp_dir.h"
#include "content-store/fake_store.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using content::Descriptor;
using content::Digest;
using nlohmann::json;

class Tar {
 public:
  Tar& File(absl::string_view path, absl::string_view bytes) {
    TarEntry entry;
    entry.path = std::string(path);
    entry.mode = 0644;
    EXPECT_TRUE(writer_.WriteFile(entry, bytes).ok());
    return *this;
  }
  Tar& Link(TarType type, absl::string_view path, absl::string_view target) {
    TarEntry entry;
    entry.type = type;
    entry.path = std::string(path);
    entry.link_target = std::string(target);
    entry.mode = 0777;
    EXPECT_TRUE(writer_.WriteEntry(entry).ok());
    return *this;
  }
  std::string Finish() {
    EXPECT_TRUE(writer_.Finish().ok());
    return sink_.str();
  }

 private:
  StringSink sink_;
  TarWriter writer_{sink_};
};

std::string Layer(absl::string_view name, absl::string_view content) {
  return Tar().File(name, content).Finish();
}

std::string Compressed(absl::string_view bytes, Compression how) {
  StringSink sink;
  auto compressor = OpenCompressor(sink, how);
  EXPECT_TRUE(compressor.ok());
  EXPECT_TRUE((*compressor)->Write(bytes).ok());
  EXPECT_TRUE((*compressor)->Finish().ok());
  return sink.str();
}

std::string HexOf(absl::string_view bytes) { return std::string(Digest::Sha256Of(bytes).hex()); }
std::string BlobName(absl::string_view bytes) {
  return absl::StrCat("blobs/sha256/", HexOf(bytes));
}

Descriptor Describe(absl::string_view type, absl::string_view bytes) {
  Descriptor d;
  d.media_type = std::string(type);
  d.digest = Digest::Sha256Of(bytes);
  d.size_bytes = static_cast<int64_t>(bytes.size());
  return d;
}

std::string ConfigText(const std::vector<std::string>& plain_layers,
                       absl::string_view arch = "amd64") {
  json ids = json::array();
  for (const std::string& layer : plain_layers) ids.push_back(Digest::Sha256Of(layer).str());
  return json{{"os", "linux"},
              {"architecture", std::string(arch)},
              {"rootfs", {{"type", "layers"}, {"diff_ids", ids}}}}
      .dump();
}

// One image with a gzip layer and a plain one, in its pieces.
struct Sample {
  explicit Sample(absl::string_view mark = "one", absl::string_view arch = "amd64") {
    plain = {Layer("a", absl::StrCat("first ", mark)), Layer("b", absl::StrCat("second ", mark))};
    blobs = {Compressed(plain[0], Compression::kGzip), plain[1]};
    config = ConfigText(plain, arch);
    oci::Manifest m;
    m.media_type = oci::kOciManifest;
    m.config = Describe(oci::kOciConfig, config);
    m.layers = {Describe(oci::kOciLayerGzip, blobs[0]), Describe(oci::kOciLayer, blobs[1])};
    manifest = oci::PrintManifest(m);
    target = Describe(oci::kOciManifest, manifest);
    target.platform = content::Platform{};
    target.platform->os = "linux";
    target.platform->architecture = std::string(arch);
  }
  Tar& AddTo(Tar& tar) const {
    for (const std::string& blob : {blobs[0], blobs[1], config, manifest})
      tar.File(BlobName(blob), blob);
    return tar;
  }
  std::vector<std::string> plain;
  std::vector<std::string> blobs;
  std::string config;
  std::string manifest;
  Descriptor target;
};

std::string IndexText(std::vector<std::pair<Descriptor, std::string>> named) {
  oci::Index index;
  index.media_type = oci::kOciIndex;
  for (auto& [descriptor, name] : named) {
    if (!name.empty()) descriptor.annotations["io.containerd.image.name"] = name;
    index.manifests.push_back(descriptor);
  }
  return oci::PrintIndex(index);
}

std::string OciArchive(const Sample& sample, const std::string& name = "docker.io/library/one:1") {
  Tar tar;
  sample.AddTo(tar).File("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  return tar.File("index.json", IndexText({{sample.target, name}})).Finish();
}

class RecordingSink : public LayerSink {
 public:
  struct Layer {
    Descriptor layer;
    std::string bytes;
    std::optional<Digest> finished;
    Digest diff_id;
  };
  std::unique_ptr<LayerFeed> OpenFeed(const Descriptor& layer, const Digest& diff_id) override {
    layers.push_back(std::make_shared<Layer>(Layer{layer, "", std::nullopt, diff_id}));
    return std::make_unique<Feed>(layers.back());
  }
  std::vector<std::shared_ptr<Layer>> layers;

 private:
  class Feed : public LayerFeed {
   public:
    explicit Feed(std::shared_ptr<Layer> layer) : layer_(std::move(layer)) {}
    void Write(absl::string_view bytes) override {
      layer_->bytes.append(bytes.data(), bytes.size());
    }
    void Finish(const Digest& digest) override { layer_->finished = digest; }

   private:
    std::shared_ptr<Layer> layer_;
  };
};

class ArchiveTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<ImportedImage>> Import(const std::string& bytes) {
    StringSource source(bytes);
    return ImportArchive(source, store_, sink_, options_, cancel_, nullptr);
  }
  // The import fails, says what, and leaves no ingest behind.
  void ExpectRefused(const std::string& bytes, absl::StatusCode code, absl::string_view words) {
    const absl::Status status = Import(bytes).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), words)) << status;
    EXPECT_TRUE(store_.ListIngests()->empty());
  }
  bool Has(absl::string_view bytes) { return store_.Stat(Digest::Sha256Of(bytes)).ok(); }

  content::FakeStore store_;
  LayerSink* sink_ = nullptr;
  ImportOptions options_;
  CancelToken cancel_;
};

TEST_F(ArchiveTest, ReadsOciLayout) {
  const Sample sample;
  auto images = Import(OciArchive(sample));
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_EQ(images->size(), 1u);
  EXPECT_EQ((*images)[0].name, "docker.io/library/one:1");
  EXPECT_EQ((*images)[0].target.digest, sample.target.digest);
  EXPECT_TRUE((*images)[0].target.annotations.empty());
  for (const std::string& blob : {sample.blobs[0], sample.blobs[1], sample.config, sample.manifest})
    EXPECT_TRUE(Has(blob));
  EXPECT_EQ(store_.Stat(sample.target.digest)->labels,
            (content::Labels{
                {"containerd.io/gc.ref.content.config", Digest::Sha256Of(sample.config).str()},
                {"containerd.io/gc.ref.content.l.0", Digest::Sha256Of(sample.blobs[0]).str()},
                {"containerd.io/gc.ref.content.l.1", Digest::Sha256Of(sample.blobs[1]).str()}}));
  EXPECT_TRUE(store_.ListIngests()->empty());
}

TEST_F(ArchiveTest, ReadsCompressedArchives) {
  const Sample sample;
  const std::string plain = OciArchive(sample);
  for (Compression how : {Compression::kGzip, Compression::kZstd}) {
    EXPECT_TRUE(Import(Compressed(plain, how)).ok()) << CompressionName(how);
  }
  TempDir dir;
  for (const char* program : {"/usr/bin/xz", "/usr/bin/bzip2", "/bin/bzip2"}) {
    if (access(program, X_OK) != 0) continue;
    ASSERT_TRUE(WriteFile(dir.Join("x"), plain).ok());
    Command command;
    command.argv = {program, "-k", "-c", dir.Join("x")};
    auto result = RunCommand(command);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE(Import(result->out).ok()) << program;
  }
}

TEST_F(ArchiveTest, NamesFollowAnnotationsAndOptions) {
  const Sample sample;
  Descriptor tagged = sample.target;
  tagged.annotations["org.opencontainers.image.ref.name"] = "v1";
  const auto archive = [&](const Descriptor& d) {
    Tar tar;
    return sample.AddTo(tar).File("index.json", IndexText({{d, ""}})).Finish();
  };
  EXPECT_EQ((*Import(archive(tagged)))[0].name, "v1");
  EXPECT_EQ((*Import(archive(sample.target)))[0].name, "");
  options_.base_name = "registry.example/app";
  options_.digest_base_name = "import";
  EXPECT_EQ((*Import(archive(tagged)))[0].name, "registry.example/app:v1");
  EXPECT_EQ((*Import(archive(sample.target)))[0].name,
            absl::StrCat("import@", sample.target.digest.str()));
  options_.with_index = true;
  auto images = Import(archive(tagged));
  ASSERT_EQ(images->size(), 2u);
  EXPECT_FALSE((*images)[0].is_index);
  EXPECT_TRUE((*images)[1].is_index);
  EXPECT_EQ((*images)[1].target.media_type, oci::kOciIndex);
}

TEST_F(ArchiveTest, ReadsDockerArchiveWithSeveralTags) {
  const Sample sample;
  const std::string config_name = absl::StrCat(HexOf(sample.config), ".json");
  const std::string manifest =
      json::array({{{"Config", config_name},
                    {"RepoTags", {"busybox:latest", "registry.example:5000/x/y:2"}},
                    {"Layers", {"l1/layer.tar", "l2.tar"}}}})
          .dump();
  auto images = Import(Tar()
                           .File("l1/VERSION", "1.0")
                           .File("l1/json", "{}")
                           .File("l1/layer.tar", sample.plain[0])
                           .File("l2.tar", sample.plain[1])
                           .File(config_name, sample.config)
                           .File("manifest.json", manifest)
                           .File("repositories", "{}")
                           .Finish());
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_EQ(images->size(), 2u);
  EXPECT_EQ((*images)[0].name, "docker.io/library/busybox:latest");
  EXPECT_EQ((*images)[1].name, "registry.example:5000/x/y:2");
  EXPECT_EQ((*images)[0].target.digest, (*images)[1].target.digest);
  EXPECT_EQ((*images)[0].target.media_type, oci::kDockerManifest);

  auto runnable = FindRunnable(store_, (*images)[0].target, oci::PlatformMatcher::All());
  ASSERT_TRUE(runnable.ok()) << runnable.status();
  EXPECT_EQ(runnable->layers[0].media_type, oci::kDockerLayer);
  EXPECT_EQ(runnable->layers[0].digest, Digest::Sha256Of(sample.plain[0]));
  EXPECT_EQ(runnable->diff_ids[1], Digest::Sha256Of(sample.plain[1]));
  EXPECT_EQ(store_.Stat((*images)[0].target.digest)->labels.size(), 3u);
}

// To the byte what containerd 2.4 writes, which makes the digest the same.
TEST_F(ArchiveTest, TheManifestOfADockerArchiveIsContainerds) {
  const std::string layer = Layer("a", "x");
  const std::string config = ConfigText({layer});
  auto images = Import(
      Tar()
          .File("l.tar", layer)
          .File("c.json", config)
          .File("manifest.json",
                json::array({{{"Config", "c.json"}, {"RepoTags", {"x:1"}}, {"Layers", {"l.tar"}}}})
                    .dump())
          .Finish());
  ASSERT_TRUE(images.ok()) << images.status();
  const auto text = content::ReadBlob(store_, (*images)[0].target.digest, 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(
      *text,
      absl::StrCat(
          R"({"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",)",
          R"("config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":")",
          Digest::Sha256Of(config).str(), R"(","size":)", config.size(),
          R"(},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","digest":")",
          Digest::Sha256Of(layer).str(), R"(","size":)", layer.size(), "}]}"));
}

TEST_F(ArchiveTest, FollowsLinkedLayers) {
  const std::string layer = Layer("a", "same");
  const std::string config = ConfigText({layer, layer, layer});
  const std::string manifest =
      json::array({{{"Config", "c.json"},
                    {"RepoTags", {"x:1"}},
                    {"Layers", {"1/layer.tar", "2/layer.tar", "3/layer.tar"}}}})
          .dump();
  auto images = Import(Tar()
                           .File("./1/layer.tar", layer)
                           .Link(TarType::kSymlink, "2/layer.tar", "../1/layer.tar")
                           .Link(TarType::kHardLink, "3/layer.tar", "2/layer.tar")
                           .File("c.json", config)
                           .File("manifest.json", manifest)
                           .Finish());
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ(
      FindRunnable(store_, (*images)[0].target, oci::PlatformMatcher::All())->layers[2].digest,
      Digest::Sha256Of(layer));
}

TEST_F(ArchiveTest, LinksThatLoopOrLeaveAreMissing) {
  const std::string layer = Layer("a", "x");
  for (const auto& [path, target] : std::vector<std::pair<std::string, std::string>>{
           {"l", "l"}, {"l", "../../../etc/passwd"}, {"l", "/etc/passwd"}}) {
    const std::string manifest =
        json::array({{{"Config", "c"}, {"RepoTags", {"x:1"}}, {"Layers", {"l"}}}}).dump();
    ExpectRefused(Tar()
                      .Link(TarType::kSymlink, path, target)
                      .File("c", ConfigText({layer}))
                      .File("manifest.json", manifest)
                      .Finish(),
                  absl::StatusCode::kFailedPrecondition, "image docker.io/library/x:1: l ");
  }
}

TEST_F(ArchiveTest, CompressesPlainLayersWhenAsked) {
  const std::string layer = Layer("a", std::string(100000, 'x'));
  options_.compress = true;
  auto images =
      Import(Tar()
                 .File("l.tar", layer)
                 .File("c", ConfigText({layer}))
                 .File("manifest.json", R"([{"Config":"c","RepoTags":null,"Layers":["l.tar"]}])")
                 .Finish());
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ((*images)[0].name, "");
  auto runnable = FindRunnable(store_, (*images)[0].target, oci::PlatformMatcher::All());
  ASSERT_TRUE(runnable.ok());
  EXPECT_EQ(runnable->layers[0].media_type, oci::kDockerLayerGzip);
  EXPECT_LT(runnable->layers[0].size_bytes, 10000);
  auto bytes = content::ReadBlob(store_, runnable->layers[0].digest, 1 << 20);
  ASSERT_TRUE(bytes.ok());
  StringSource source(*bytes);
  auto plain = OpenDecompressor(source);
  EXPECT_EQ(*ReadAll(**plain, 1 << 20), layer);
}

// As containerd writes it, whose digests these are to be.
TEST_F(ArchiveTest, CompressedLayersOfDockerArchivesAreCalledGzip) {
  const std::vector<std::string> plain = {Layer("a", "x"), Layer("b", "y"), Layer("c", "z")};
  auto images =
      Import(Tar()
                 .File("1.tar", plain[0])
                 .File("2.tar", Compressed(plain[1], Compression::kGzip))
                 .File("3.tar", Compressed(plain[2], Compression::kZstd))
                 .File("c", ConfigText(plain))
                 .File("manifest.json",
                       R"([{"Config":"c","RepoTags":null,"Layers":["1.tar","2.tar","3.tar"]}])")
                 .Finish());
  ASSERT_TRUE(images.ok()) << images.status();
  auto runnable = FindRunnable(store_, (*images)[0].target, oci::PlatformMatcher::All());
  ASSERT_TRUE(runnable.ok()) << runnable.status();
  ASSERT_EQ(runnable->layers.size(), 3u);
  EXPECT_EQ(runnable->layers[0].media_type, oci::kDockerLayer);
  EXPECT_EQ(runnable->layers[1].media_type, oci::kDockerLayerGzip);
  EXPECT_EQ(runnable->layers[2].media_type, oci::kDockerLayerGzip);
}

TEST_F(ArchiveTest, TagsOfManifestJsonCompleteTheIndex) {
  const Sample sample;
  const std::string manifest =
      json::array({{{"Config", BlobName(sample.config)},
                    {"RepoTags", {"one:1", "one:2"}},
                    {"Layers", {BlobName(sample.blobs[0]), BlobName(sample.blobs[1])}}}})
          .dump();
  Tar tar;
  auto images = Import(sample.AddTo(tar)
                           .File("index.json", IndexText({{sample.target, ""}}))
                           .File("manifest.json", manifest)
                           .Finish());
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_EQ(images->size(), 2u);
  EXPECT_EQ((*images)[0].name, "docker.io/library/one:1");
  EXPECT_EQ((*images)[1].name, "docker.io/library/one:2");
  EXPECT_EQ((*images)[1].target.digest, sample.target.digest);
}

TEST_F(ArchiveTest, LayersReachTheSinkWhileTheyArrive) {
  RecordingSink sink;
  sink_ = &sink;
  const Sample sample;
  ASSERT_TRUE(Import(OciArchive(sample)).ok());
  ASSERT_EQ(sink.layers.size(), 2u);
  EXPECT_EQ(sink.layers[0]->bytes, sample.blobs[0]);
  EXPECT_EQ(sink.layers[0]->layer.media_type, oci::kOciLayerGzip);
  EXPECT_EQ(sink.layers[0]->finished, Digest::Sha256Of(sample.blobs[0]));
  EXPECT_EQ(sink.layers[1]->bytes, sample.blobs[1]);
  ASSERT_TRUE(Import(OciArchive(sample)).ok());
  EXPECT_EQ(sink.layers.size(), 2u) << "what is in the store already is not unpacked on the way";
}

TEST_F(ArchiveTest, LayersOfOtherPlatformsAreStoredAndNotFed) {
  RecordingSink sink;
  sink_ = &sink;
  options_.unpack_platforms = oci::PlatformMatcher::Only(*oci::ParsePlatform("linux/amd64"));
  const Sample amd("h", "amd64");
  const Sample arm("o", "arm64");
  oci::Index inner;
  inner.media_type = oci::kOciIndex;
  inner.manifests = {arm.target, amd.target};
  const std::string inner_text = oci::PrintIndex(inner);
  Tar tar;
  tar.File("index.json", IndexText({{Describe(oci::kOciIndex, inner_text), "m:1"}}));
  for (const std::string& text : {inner_text, arm.manifest, amd.manifest, arm.config, amd.config}) {
    tar.File(BlobName(text), text);
  }
  for (const std::string& blob : {arm.blobs[0], arm.blobs[1], amd.blobs[0], amd.blobs[1]}) {
    tar.File(BlobName(blob), blob);
  }
  ASSERT_TRUE(Import(tar.Finish()).ok());
  ASSERT_EQ(sink.layers.size(), 2u);
  EXPECT_EQ(sink.layers[0]->layer.digest, Digest::Sha256Of(amd.blobs[0]));
  EXPECT_EQ(sink.layers[0]->diff_id, Digest::Sha256Of(amd.plain[0]));
  EXPECT_TRUE(Has(arm.blobs[0]));
}

TEST_F(ArchiveTest, RandomDamageIsNeverTakenForSuccessWithoutItsBlobs) {
  const Sample sample;
  const std::string whole = OciArchive(sample);
  std::mt19937 random(20261121);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    content::FakeStore store;
    StringSource source(damaged);
    auto images = ImportArchive(source, store, nullptr, options_, cancel_, nullptr);
    EXPECT_TRUE(store.ListIngests()->empty());
    if (!images.ok()) continue;
    for (const ImportedImage& image : *images) {
      EXPECT_TRUE(FindRunnable(store, image.target, oci::PlatformMatcher::All()).ok())
          << "round " << round;
    }
  }
}

TEST_F(ArchiveTest, DamagedLayerIsNotFinishedAndNotStored) {
  RecordingSink sink;
  sink_ = &sink;
  const Sample sample;
  std::string wrong = sample.blobs[0];
  wrong[wrong.size() - 1] ^= 1;
  ExpectRefused(Tar()
                    .File(BlobName(sample.blobs[0]), wrong)
                    .File("index.json", IndexText({{sample.target, "x:1"}}))
                    .Finish(),
                absl::StatusCode::kDataLoss, BlobName(sample.blobs[0]));
  EXPECT_FALSE(Has(sample.blobs[0]));
  EXPECT_FALSE(Has(wrong));
  ASSERT_EQ(sink.layers.size(), 1u);
  EXPECT_FALSE(sink.layers[0]->finished.has_value());
}

TEST_F(ArchiveTest, EveryTruncationIsRefused) {
  const std::string whole = OciArchive(Sample());
  for (size_t length = 0; length + 1024 < whole.size(); length += 256) {
    content::FakeStore store;
    StringSource source(whole.substr(0, length));
    auto images = ImportArchive(source, store, nullptr, options_, cancel_, nullptr);
    EXPECT_FALSE(images.ok()) << "cut at " << length;
    EXPECT_TRUE(store.ListIngests()->empty()) << "cut at " << length;
  }
  const std::string zipped = Compressed(whole, Compression::kGzip);
  for (size_t length = 20; length < zipped.size(); length += 97) {
    EXPECT_FALSE(Import(zipped.substr(0, length)).ok()) << "cut at " << length;
  }
}

TEST_F(ArchiveTest, MissingPiecesAreNamed) {
  const Sample sample;
  const std::string index = IndexText({{sample.target, "one:1"}});
  ExpectRefused(Tar().File("index.json", index).Finish(), absl::StatusCode::kFailedPrecondition,
                sample.target.digest.str());
  ExpectRefused(Tar()
                    .File(BlobName(sample.manifest), sample.manifest)
                    .File(BlobName(sample.config), sample.config)
                    .File(BlobName(sample.blobs[0]), sample.blobs[0])
                    .File("index.json", index)
                    .Finish(),
                absl::StatusCode::kFailedPrecondition,
                absl::StrCat("image docker.io/library/one:1: layer ",
                             Digest::Sha256Of(sample.blobs[1]).str()));
}

TEST_F(ArchiveTest, WhatTheStoreHasNeedNotBeSent) {
  const Sample sample;
  ASSERT_TRUE(Import(OciArchive(sample)).ok());
  EXPECT_TRUE(
      Import(Tar().File("index.json", IndexText({{sample.target, "two:1"}})).Finish()).ok());
}

TEST_F(ArchiveTest, ForeignLayersAreNamed) {
  oci::Manifest m;
  m.media_type = oci::kDockerManifest;
  const std::string config = ConfigText({});
  m.config = Describe(oci::kDockerConfig, config);
  m.layers = {Describe("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "elsewhere")};
  m.layers[0].urls = {"https://example/layer"};
  const std::string manifest = oci::PrintManifest(m);
  ExpectRefused(
      Tar()
          .File(BlobName(config), config)
          .File(BlobName(manifest), manifest)
          .File("index.json", IndexText({{Describe(oci::kDockerManifest, manifest), "x:1"}}))
          .Finish(),
      absl::StatusCode::kFailedPrecondition, "https://example/layer");
}

TEST_F(ArchiveTest, WrongSizeIsRefused) {
  Sample sample;
  sample.target.size_bytes += 1;
  ExpectRefused(OciArchive(sample), absl::StatusCode::kFailedPrecondition,
                "bytes, but the image says");
}

TEST_F(ArchiveTest, OtherPlatformsMayBeMissing) {
  const Sample host("h", "amd64");
  const Sample other("o", "s390x");
  oci::Index inner;
  inner.media_type = oci::kOciIndex;
  inner.manifests = {other.target, host.target};
  const std::string inner_text = oci::PrintIndex(inner);
  Tar tar;
  const std::string archive =
      host.AddTo(tar)
          .File(BlobName(inner_text), inner_text)
          .File("index.json", IndexText({{Describe(oci::kOciIndex, inner_text), "m:1"}}))
          .Finish();
  auto amd64 = oci::ParsePlatform("linux/amd64");
  options_.platforms = oci::PlatformMatcher::Only(*amd64);
  auto images = Import(archive);
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ((*images)[0].target.media_type, oci::kOciIndex);
  EXPECT_EQ(FindRunnable(store_, (*images)[0].target, options_.platforms)->manifest.digest,
            host.target.digest);

  const auto missing = FindRunnable(store_, (*images)[0].target,
                                    oci::PlatformMatcher::Only(*oci::ParsePlatform("linux/arm64")));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(missing.status().message(), "linux/s390x, linux/amd64"))
      << missing.status();

  options_.platforms = oci::PlatformMatcher::All();
  EXPECT_TRUE(Import(archive).ok());
  Tar incomplete;
  ExpectRefused(host.AddTo(incomplete)
                    .File(BlobName(other.manifest), other.manifest)
                    .File(BlobName(inner_text), inner_text)
                    .File("index.json", IndexText({{Describe(oci::kOciIndex, inner_text), "m:1"}}))
                    .Finish(),
                absl::StatusCode::kFailedPrecondition, "(linux/s390x): config");
}

TEST_F(ArchiveTest, HostileDocumentsAreRefused) {
  const Sample sample;
  const auto with_index = [&](absl::string_view text) {
    Tar tar;
    return sample.AddTo(tar).File("index.json", text).Finish();
  };
  const auto kBad = absl::StatusCode::kInvalidArgument;
  ExpectRefused(with_index("{"), kBad, "index.json");
  ExpectRefused(with_index("[]"), kBad, "index.json");
  ExpectRefused(with_index(R"({"schemaVersion":2,"manifests":[]})"), kBad, "no image");
  ExpectRefused(with_index(R"({"schemaVersion":2,"manifests":[],"layers":[]})"), kBad, "both");
  ExpectRefused(with_index(std::string(200000, '[')), kBad, "nested");
  Descriptor unknown = sample.target;
  unknown.media_type = "application/x-unknown";
  ExpectRefused(with_index(IndexText({{unknown, "x:1"}})), kBad, "application/x-unknown");
  Descriptor old = sample.target;
  old.media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
  ExpectRefused(with_index(IndexText({{old, "x:1"}})), absl::StatusCode::kFailedPrecondition,
                "schema 1");
  Descriptor confused = sample.target;
  confused.media_type = oci::kOciIndex;
  ExpectRefused(with_index(IndexText({{confused, "x:1"}})), kBad, "referred to as");
  ExpectRefused(with_index(IndexText({{sample.target, "UPPER/Case:tag:tag"}})), kBad, "image name");
  ExpectRefused(Tar()
                    .File("index.json", IndexText({{sample.target, "x:1"}}))
                    .File("oci-layout", R"({"imageLayoutVersion":"9"})")
                    .Finish(),
                kBad, "oci-layout");
  ExpectRefused(Tar().File("manifest.json", "{}").Finish(), kBad, "manifest.json");
  ExpectRefused(Tar().File("manifest.json", R"([{"Config":7}])").Finish(), kBad, "manifest.json");
  ExpectRefused(Tar().File("manifest.json", R"([{"Config":"c","Layers":[1]}])").Finish(), kBad,
                "manifest.json");
  ExpectRefused(Tar().File("blobs/sha256/xyz", "1").Finish(), kBad, "blobs/sha256/xyz");
  ExpectRefused(Tar().File("../../index.json", "{}").File("readme", "hi").Finish(), kBad,
                "neither");
  ExpectRefused("", kBad, "");
  ExpectRefused(std::string(4096, 'x'), kBad, "");
  ExpectRefused(with_index(absl::StrCat("{\"x\":\"", std::string(5 << 20, 'y'), "\"}")),
                absl::StatusCode::kResourceExhausted, "index.json");
}

TEST_F(ArchiveTest, ANameThatPromisesAnotherDigestIsRefused) {
  const Sample sample;
  const std::string other = Digest::Sha256Of("another image").str();
  const auto kBad = absl::StatusCode::kInvalidArgument;
  ExpectRefused(OciArchive(sample, absl::StrCat("x@", other)), kBad, "which is another one");
  ExpectRefused(OciArchive(sample, absl::StrCat("x:1@", other)), kBad, "which is another one");
  ExpectRefused(OciArchive(sample, other), kBad, "digest algorithm");
  ExpectRefused(OciArchive(sample, other.substr(7)), kBad, "image ID");

  Descriptor tagged = sample.target;
  tagged.annotations["org.opencontainers.image.ref.name"] = absl::StrCat("x@", other);
  Tar ref_name;
  ExpectRefused(sample.AddTo(ref_name).File("index.json", IndexText({{tagged, ""}})).Finish(), kBad,
                "which is another one");

  const json docker = {{{"Config", BlobName(sample.config)},
                        {"RepoTags", {absl::StrCat("x@", other)}},
                        {"Layers", {BlobName(sample.blobs[0]), BlobName(sample.blobs[1])}}}};
  Tar only_docker;
  ExpectRefused(sample.AddTo(only_docker).File("manifest.json", docker.dump()).Finish(), kBad,
                "which is another one");
  Tar both;
  ExpectRefused(sample.AddTo(both)
                    .File("index.json", IndexText({{sample.target, ""}}))
                    .File("manifest.json", docker.dump())
                    .Finish(),
                kBad, "which is another one");

  auto kept = Import(OciArchive(sample, absl::StrCat("x@", sample.target.digest.str())));
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ((*kept)[0].name, absl::StrCat("docker.io/library/x@", sample.target.digest.str()));
}

TEST_F(ArchiveTest, NamesAreCountedAndGivenOutInLinearTime) {
  const Sample sample;
  const auto with_names = [&](int count) {
    json tags = json::array();
    for (int i = 0; i < count; ++i) tags.push_back(absl::StrCat("x:", i));
    const json docker = {{{"Config", BlobName(sample.config)},
                          {"RepoTags", tags},
                          {"Layers", {BlobName(sample.blobs[0]), BlobName(sample.blobs[1])}}}};
    Tar tar;
    return sample.AddTo(tar)
        .File("index.json", IndexText({{sample.target, ""}}))
        .File("manifest.json", docker.dump())
        .Finish();
  };
  auto images = Import(with_names(10000));
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ(images->size(), 10000u);
  ExpectRefused(with_names(10001), absl::StatusCode::kResourceExhausted, "names of images");
}

TEST_F(ArchiveTest, DamagedDockerPiecesAreRefused) {
  const std::string layer = Layer("a", "x");
  const std::string other = Layer("a", "y");
  const std::string config = ConfigText({layer});
  const auto archive = [&](const std::string& config_name, const std::string& layer_bytes,
                           const std::string& layers) {
    return Tar()
        .File(config_name, config)
        .File("l.tar", layer_bytes)
        .File("manifest.json", absl::StrCat(R"([{"Config":")", config_name,
                                            R"(","RepoTags":["x:1"],"Layers":[)", layers, "]}]"))
        .Finish();
  };
  ExpectRefused(archive("c.json", other, R"("l.tar")"), absl::StatusCode::kDataLoss,
                "l.tar is damaged");
  ExpectRefused(archive(absl::StrCat(std::string(64, 'a'), ".json"), layer, R"("l.tar")"),
                absl::StatusCode::kDataLoss, "is damaged");
  ExpectRefused(archive("c.json", layer, ""), absl::StatusCode::kInvalidArgument, "0 layers");
  EXPECT_TRUE(Import(archive(absl::StrCat(HexOf(config), ".json"), layer, R"("l.tar")")).ok());
}

TEST_F(ArchiveTest, FullDiskLeavesNoIngest) {
  store_.SetIngestLimit(100);
  ExpectRefused(OciArchive(Sample()), absl::StatusCode::kResourceExhausted, "");
}

TEST_F(ArchiveTest, SizeOfTheWholeIsBounded) {
  options_.max_archive_bytes = 4096;
  ExpectRefused(OciArchive(Sample()), absl::StatusCode::kResourceExhausted, "4096");
}

TEST_F(ArchiveTest, CancelEndsTheImport) {
  cancel_.Cancel("enough");
  ExpectRefused(OciArchive(Sample()), absl::StatusCode::kCancelled, "enough");
}

class ExportTest : public ArchiveTest {
 protected:
  std::string Export(const std::vector<ExportImage>& images) {
    StringSink sink;
    const absl::Status status = ExportArchive(store_, images, export_, sink, cancel_, nullptr);
    EXPECT_TRUE(status.ok()) << status;
    return sink.str();
  }
  static std::map<std::string, std::string> Files(const std::string& archive) {
    std::map<std::string, std::string> files;
    StringSource source(archive);
    TarReader reader(source);
    TarEntry entry;
    while (*reader.Next(entry)) {
      if (entry.type == TarType::kFile) files[entry.path] = *reader.ReadAll(1 << 20);
    }
    return files;
  }
  ExportOptions export_;
};

TEST_F(ExportTest, RoundTripKeepsEveryByte) {
  const Sample one("one");
  const Sample two("two");
  ASSERT_TRUE(Import(OciArchive(one, "one:1")).ok());
  ASSERT_TRUE(Import(OciArchive(two, "two:1")).ok());
  const std::vector<ExportImage> images = {
      {one.target, {"docker.io/library/one:1", "docker.io/library/one:latest"}},
      {two.target, {"docker.io/library/two:1"}}};
  const std::string archive = Export(images);
  EXPECT_EQ(Export(images), archive) << "the same images give the same bytes";

  const auto files = Files(archive);
  EXPECT_EQ(files.at("oci-layout"), R"({"imageLayoutVersion":"1.0.0"})");
  for (const Sample* sample : {&one, &two}) {
    for (const std::string& blob :
         {sample->blobs[0], sample->blobs[1], sample->config, sample->manifest}) {
      EXPECT_EQ(files.at(BlobName(blob)), blob);
    }
  }
  const json manifest = json::parse(files.at("manifest.json"));
  ASSERT_EQ(manifest.size(), 2u);
  EXPECT_EQ(manifest[0]["RepoTags"], (json{"one:1", "one:latest"}));
  EXPECT_EQ(manifest[0]["Config"], BlobName(one.config));
  EXPECT_EQ(json::parse(files.at("repositories"))["one"]["latest"], HexOf(one.blobs[1]));

  content::FakeStore elsewhere;
  StringSource source(archive);
  auto again = ImportArchive(source, elsewhere, nullptr, options_, cancel_, nullptr);
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(again->size(), 3u);
  EXPECT_EQ((*again)[1].name, "docker.io/library/one:latest");
  EXPECT_EQ((*again)[1].target.digest, one.target.digest);
  EXPECT_EQ((*again)[2].target.digest, two.target.digest);
}

TEST_F(ExportTest, SharedLayersAreWrittenOnce) {
  const Sample one("one");
  ASSERT_TRUE(Import(OciArchive(one)).ok());
  const std::string archive =
      Export({{one.target, {"docker.io/library/a:1"}}, {one.target, {"docker.io/library/b:1"}}});
  int count = 0;
  StringSource source(archive);
  TarReader reader(source);
  TarEntry entry;
  while (*reader.Next(entry)) count += entry.path == BlobName(one.blobs[0]) ? 1 : 0;
  EXPECT_EQ(count, 1);
  EXPECT_EQ(json::parse(Files(archive).at("manifest.json"))[0]["RepoTags"], (json{"a:1", "b:1"}));
}

TEST_F(ExportTest, PlatformsReduceTheIndex) {
  const Sample amd("h", "amd64");
  const Sample arm("o", "arm64");
  oci::Index inner;
  inner.media_type = oci::kOciIndex;
  inner.manifests = {arm.target, amd.target};
  const std::string inner_text = oci::PrintIndex(inner);
  Tar tar;
  arm.AddTo(amd.AddTo(tar)).File(BlobName(inner_text), inner_text);
  ASSERT_TRUE(
      Import(tar.File("index.json", IndexText({{Describe(oci::kOciIndex, inner_text), "m:1"}}))
                 .Finish())
          .ok());
  const ExportImage image{Describe(oci::kOciIndex, inner_text), {"docker.io/library/m:1"}};

  const auto all = Files(Export({image}));
  EXPECT_EQ(all.count(BlobName(arm.blobs[0])), 1u);
  EXPECT_EQ(all.count(BlobName(amd.blobs[0])), 1u);
  EXPECT_EQ(all.count(BlobName(inner_text)), 1u);

  export_.platforms = oci::PlatformMatcher::Only(*oci::ParsePlatform("linux/arm64"));
  const auto one = Files(Export({image}));
  EXPECT_EQ(one.count(BlobName(arm.blobs[0])), 1u);
  EXPECT_EQ(one.count(BlobName(amd.blobs[0])), 0u);
  EXPECT_EQ(json::parse(one.at("index.json"))["manifests"][0]["digest"], arm.target.digest.str());

  export_.platforms = oci::PlatformMatcher::Only(*oci::ParsePlatform("linux/s390x"));
  StringSink sink;
  EXPECT_EQ(ExportArchive(store_, {image}, export_, sink, cancel_, nullptr).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(sink.str(), "");
}

TEST_F(ExportTest, ANameWithDigestIsNotGivenToAnotherImage) {
  const Sample amd("h", "amd64");
  const Sample arm("o", "arm64");
  oci::Index inner;
  inner.media_type = oci::kOciIndex;
  inner.manifests = {arm.target, amd.target};
  const std::string inner_text = oci::PrintIndex(inner);
  const Descriptor index = Describe(oci::kOciIndex, inner_text);
  Tar tar;
  arm.AddTo(amd.AddTo(tar)).File(BlobName(inner_text), inner_text);
  ASSERT_TRUE(Import(tar.File("index.json", IndexText({{index, "m:1"}})).Finish()).ok());
  const ExportImage image{index,
                          {absl::StrCat("docker.io/library/m@", index.digest.str()),
                           absl::StrCat("docker.io/library/m:2@", index.digest.str())}};

  const auto names = [&] {
    std::vector<std::string> names;
    const json written = json::parse(Files(Export({image})).at("index.json"));
    for (const json& entry : written["manifests"])
      names.push_back(entry["annotations"].value("io.containerd.image.name", ""));
    return names;
  };
  EXPECT_EQ(names(), image.names);
  export_.platforms = oci::PlatformMatcher::Only(*oci::ParsePlatform("linux/arm64"));
  EXPECT_EQ(names(), (std::vector<std::string>{"docker.io/library/m:2"}));
}

// Each index names the two below it many times: a walk that follows every entry takes longer than
// the universe.
class FanOutTest : public ExportTest {
 protected:
  // `leaf` is a manifest type that is not in the store, or one that is.
  Descriptor FanOut(const Descriptor& leaf, int levels, int width) {
    Descriptor below = leaf;
    for (int level = 0; level < levels; ++level) {
      oci::Index index;
      index.media_type = oci::kOciIndex;
      index.annotations["level"] = absl::StrCat(level);
      index.manifests.assign(static_cast<size_t>(width), below);
      const std::string text = oci::PrintIndex(index);
      below = Describe(oci::kOciIndex, text);
      EXPECT_TRUE(content::WriteBlob(store_, absl::StrCat("index-", level), text, {}).ok());
    }
    return below;
  }
};

TEST_F(FanOutTest, ASearchLooksAtEachDocumentOnce) {
  const Descriptor missing = Describe(oci::kOciManifest, "not here");
  EXPECT_EQ(
      FindRunnable(store_, FanOut(missing, 8, 300), oci::PlatformMatcher::All()).status().code(),
      absl::StatusCode::kNotFound);
}

TEST_F(FanOutTest, AnExportWritesEachDocumentOnce) {
  const Sample sample;
  ASSERT_TRUE(Import(OciArchive(sample)).ok());
  Descriptor leaf = sample.target;
  leaf.platform.reset();
  const Descriptor top = FanOut(leaf, 8, 300);
  const auto files = Files(Export({{top, {"docker.io/library/many:1"}}}));
  EXPECT_EQ(files.count(BlobName(sample.manifest)), 1u);
}

TEST_F(FanOutTest, NestingIsBounded) {
  const Sample sample;
  ASSERT_TRUE(Import(OciArchive(sample)).ok());
  EXPECT_EQ(FindRunnable(store_, FanOut(sample.target, 10, 2), oci::PlatformMatcher::All())
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(FanOutTest, ACallerThatGaveUpEndsTheWalk) {
  const Sample sample;
  ASSERT_TRUE(Import(OciArchive(sample)).ok());
  cancel_.Cancel();
  EXPECT_EQ(
      FindRunnable(store_, sample.target, oci::PlatformMatcher::All(), &cancel_).status().code(),
      absl::StatusCode::kCancelled);
}

TEST_F(ExportTest, MissingBlobIsNamedAndNothingWritten) {
  const Sample one("one");
  ASSERT_TRUE(Import(OciArchive(one)).ok());
  ASSERT_TRUE(store_.Delete(Digest::Sha256Of(one.blobs[1])).ok());
  StringSink sink;
  const absl::Status status =
      ExportArchive(store_, {{one.target, {"x:1"}}}, export_, sink, cancel_, nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), Digest::Sha256Of(one.blobs[1]).str())) << status;
  EXPECT_EQ(sink.str(), "");
}

TEST_F(ArchiveTest, ReadsWhatBusyboxTarWrites) {
  const char* busybox = access("/bin/busybox", X_OK) == 0 ? "/bin/busybox" : "/usr/bin/busybox";
  if (access(busybox, X_OK) != 0) GTEST_SKIP() << "busybox is not installed";
  TempDir dir;
  const auto run = [&](std::vector<std::string> argv) {
    Command command;
    command.argv = std::move(argv);
    auto result = RunCommand(command);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->status.ok()) << result->err;
  };
  ASSERT_EQ(mkdir(dir.Join("root").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(dir.Join("save").c_str(), 0755), 0);
  ASSERT_TRUE(WriteFile(dir.Join("root/busybox"), *ReadFile(busybox, 16 << 20), 0755).ok());
  ASSERT_EQ(link(dir.Join("root/busybox").c_str(), dir.Join("root/sh").c_str()), 0);
  run({busybox, "tar", "-C", dir.Join("root"), "-cf", dir.Join("save/layer.tar"), "."});
  const std::string layer = *ReadFile(dir.Join("save/layer.tar"), 64 << 20);
  ASSERT_TRUE(WriteFile(dir.Join("save/config.json"), ConfigText({layer})).ok());
  ASSERT_TRUE(WriteFile(dir.Join("save/manifest.json"),
                        R"([{"Config":"config.json","RepoTags":["bb:1"],"Layers":["layer.tar"]}])")
                  .ok());
  run({busybox, "tar", "-C", dir.Join("save"), "-czf", dir.Join("image.tar.gz"), "."});

  auto images = Import(*ReadFile(dir.Join("image.tar.gz"), 64 << 20));
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_EQ((*images)[0].name, "docker.io/library/bb:1");
  EXPECT_TRUE(Has(layer));
}

}  // namespace
}  // namespace gantry::distribution
