#include "supervisor/distribution/puller.h"

#include <thread>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "supervisor/distribution/registry_testbed.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// Records what a layer's feed was given.
class RecordingSink : public LayerSink {
 public:
  struct Seen {
    std::string bytes;
    bool finished = false;
    content::Digest diff_id;
  };

  std::unique_ptr<LayerFeed> OpenFeed(const content::Descriptor& layer,
                                      const content::Digest& diff_id) override {
    absl::MutexLock lock(&mutex);
    Seen& seen = layers[layer.digest];
    seen.diff_id = diff_id;
    return std::make_unique<Feed>(*this, seen);
  }

  absl::Mutex mutex;
  std::map<content::Digest, Seen> layers;

 private:
  class Feed : public LayerFeed {
   public:
    Feed(RecordingSink& sink, Seen& seen) : sink_(sink), seen_(seen) {}
    ~Feed() override {
      absl::MutexLock lock(&sink_.mutex);
      if (!seen_.finished) seen_.bytes.clear();
    }
    void Write(absl::string_view bytes) override {
      absl::MutexLock lock(&sink_.mutex);
      seen_.bytes.append(bytes.data(), bytes.size());
    }
    void Finish(const content::Digest&) override {
      absl::MutexLock lock(&sink_.mutex);
      seen_.finished = true;
    }

   private:
    RecordingSink& sink_;
    Seen& seen_;
  };
};

TEST(PullerTest, AnImageArrivesWholeWithItsExactBytes) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string first = Noise(700000, 1), second = Noise(30, 2);
  content::Descriptor manifest = registry.AddImage("app", "v1", {first, second});
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->target.digest, manifest.digest);
  EXPECT_EQ(image->blobs.size(), 4u);
  EXPECT_EQ(*content::ReadBlob(bed.store, manifest.digest, 1 << 20),
            registry.Manifest("app", "v1"));
  EXPECT_EQ(*content::ReadBlob(bed.store, content::Digest::Sha256Of(first), 1 << 20), first);
  EXPECT_EQ(*content::ReadBlob(bed.store, content::Digest::Sha256Of(second), 1 << 20), second);
  EXPECT_TRUE(bed.store.ListIngests()->empty());
}

TEST(PullerTest, TheManifestIsLabelledWithItsChildren) {
  RegistryTestbed bed;
  FakeRegistry registry;
  content::Descriptor manifest = registry.AddImage("team/app", "v1", {"layer"});
  ASSERT_TRUE(bed.Pull(registry, "team/app:v1").ok());
  content::Labels labels = bed.store.Stat(manifest.digest)->labels;
  EXPECT_EQ(labels["containerd.io/gc.ref.content.l.0"], content::Digest::Sha256Of("layer").str());
  EXPECT_EQ(labels.count("containerd.io/gc.ref.content.config"), 1u);
  EXPECT_EQ(bed.store.Stat(content::Digest::Sha256Of("layer"))
                ->labels["containerd.io/distribution.source." + registry.host()],
            "team/app");
}

TEST(PullerTest, WhatIsPresentIsNotFetchedAgain) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"base", "one"});
  registry.AddImage("app", "v2", {"base", "two"});
  ASSERT_TRUE(bed.Pull(registry, "app:v1").ok());
  registry.ClearLog();
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v2");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(registry.CountRequests("GET", content::Digest::Sha256Of("base").str()), 0);
  EXPECT_EQ(registry.CountRequests("GET", content::Digest::Sha256Of("two").str()), 1);
  EXPECT_EQ(image->present_bytes, 4);
}

TEST(PullerTest, LayersAreFedWhileTheyArriveWithTheirDiffIds) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(1 << 20, 3);
  registry.AddImage("app", "v1", {layer, "small"});
  RecordingSink sink;
  bed.pull.sink = &sink;
  int asked = 0;
  bed.pull.on_image = [&](const ImagePlan& plan) {
    ++asked;
    EXPECT_EQ(plan.layers.size(), 2u);
    EXPECT_EQ(plan.diff_ids.size(), 2u);
    return absl::OkStatus();
  };
  ASSERT_TRUE(bed.Pull(registry, "app:v1").ok());
  EXPECT_EQ(asked, 1);
  RecordingSink::Seen& seen = sink.layers[content::Digest::Sha256Of(layer)];
  EXPECT_TRUE(seen.finished);
  EXPECT_EQ(seen.bytes, layer);
  EXPECT_EQ(seen.diff_id, content::Digest::Sha256Of(layer));
  EXPECT_EQ(sink.layers.size(), 2u);
}

TEST(PullerTest, ABrokenDownloadGoesOnWhereItStopped) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(3 << 20, 4);
  registry.AddImage("app", "v1", {layer});
  registry.BreakBlobs(1 << 20, 3);  // the config is smaller and passes
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_LE(registry.blob_bytes_sent(), static_cast<int64_t>(layer.size()) + 4096);
  EXPECT_EQ(*content::ReadBlob(bed.store, content::Digest::Sha256Of(layer), 8 << 20), layer);
}

TEST(PullerTest, AnotherPullGoesOnWhereAFailedOneStopped) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(3 << 20, 5);
  registry.AddImage("app", "v1", {layer});
  bed.options.max_attempts = 1;
  bed.Rebuild();
  registry.BreakBlobs(2 << 20, 2);
  ASSERT_FALSE(bed.Pull(registry, "app:v1").ok());
  EXPECT_FALSE(bed.Has(content::Digest::Sha256Of(layer)));
  registry.BreakBlobs(0, 0);
  bed.Rebuild();
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_LE(registry.blob_bytes_sent(), static_cast<int64_t>(layer.size()) + 4096);
}

TEST(PullerTest, AServerWithoutRangesIsReadFromTheStartAndSkipped) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(2 << 20, 6);
  registry.AddImage("app", "v1", {layer});
  registry.SetRanges(false);
  registry.BreakBlobs(1 << 20, 2);
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(*content::ReadBlob(bed.store, content::Digest::Sha256Of(layer), 8 << 20), layer);
}

TEST(PullerTest, DamagedBytesOfAnEarlierPullAreThrownAway) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(1 << 20, 7);
  registry.AddImage("app", "v1", {layer});
  content::Digest digest = content::Digest::Sha256Of(layer);
  {
    std::unique_ptr<content::Ingest> ingest =
        *bed.store.OpenIngest({"layer-" + digest.str(), 1 << 20, digest});
    ASSERT_TRUE(ingest->Append("not the layer's bytes").ok());
  }
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(*content::ReadBlob(bed.store, digest, 8 << 20), layer);
}

TEST(PullerTest, ManyCallersShareOneDownload) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(1 << 20, 8);
  registry.AddImage("app", "v1", {layer});
  registry.SetRate(8 << 20);
  std::vector<std::thread> callers;
  std::atomic<int> succeeded{0};
  for (int i = 0; i < 6; ++i) {
    callers.emplace_back([&] { succeeded += bed.Pull(registry, "app:v1").ok(); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(succeeded, 6);
  EXPECT_EQ(registry.CountRequests("GET", content::Digest::Sha256Of(layer).str()), 1);
}

TEST(PullerTest, WhoWaitsTakesOverFromACancelledPull) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(1 << 20, 9);
  registry.AddImage("app", "v1", {layer});
  std::string layer_path = content::Digest::Sha256Of(layer).str();
  absl::Notification begun, second_waits;
  registry.SetRate(512 << 10);
  CancelToken first_token;
  absl::StatusOr<PulledImage> first = absl::UnknownError("");
  std::thread first_caller([&] {
    PullOptions options = bed.pull;
    options.progress = [&](const Progress& progress) {
      if (progress.ref == layer_path && progress.offset_bytes > 0 && !begun.HasBeenNotified())
        begun.Notify();
    };
    CallContext context;
    context.cancel = &first_token;
    first = bed.puller->Pull(bed.Ref(registry, "app:v1"), bed.store, options, context);
  });
  begun.WaitForNotification();
  absl::StatusOr<PulledImage> second = absl::UnknownError("");
  std::thread second_caller([&] {
    PullOptions options = bed.pull;
    options.progress = [&](const Progress& progress) {
      if (absl::StrContains(progress.detail, "another pull") && !second_waits.HasBeenNotified())
        second_waits.Notify();
    };
    second = bed.puller->Pull(bed.Ref(registry, "app:v1"), bed.store, options, {});
  });
  second_waits.WaitForNotification();
  registry.SetRate(0);
  first_token.Cancel("changed my mind");
  first_caller.join();
  second_caller.join();
  EXPECT_EQ(first.status().code(), absl::StatusCode::kCancelled) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(bed.Has(content::Digest::Sha256Of(layer)));
}

TEST(PullerTest, WhoMayPullIsNotRefusedBecauseAnotherWas) {
  RegistryTestbed bed;
  FakeRegistry::Options basic;
  basic.auth = FakeRegistry::Auth::kBasic;
  basic.users = {{"ann", "secret"}};
  FakeRegistry registry(basic);
  content::Descriptor image = registry.AddImage("app", "v1", {"layer"});
  // The stranger knows the digest and gets as far as asking for the manifest, where it is held
  // until the other one waits.
  absl::Notification stranger_asks, ann_waits;
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection&) {
    if (request.header("authorization").empty() && request.method == "GET" &&
        !stranger_asks.HasBeenNotified()) {
      stranger_asks.Notify();
      ann_waits.WaitForNotificationWithTimeout(absl::Seconds(10));
    }
    return false;
  });
  Resolved resolved;
  resolved.descriptor = image;
  absl::Status stranger;
  std::thread stranger_caller([&] {
    stranger =
        bed.puller->PullResolved(bed.Ref(registry, "app:v1"), resolved, bed.store, bed.pull, {})
            .status();
  });
  stranger_asks.WaitForNotification();
  StaticCredentials credentials(registry.host(), {"ann", "secret", "", "", "test"});
  CallContext context;
  context.credentials = &credentials;
  absl::Status ann;
  std::thread ann_caller([&] {
    ann = bed.puller
              ->PullResolved(bed.Ref(registry, "app:v1"), resolved, bed.store, bed.pull, context)
              .status();
  });
  ann_waits.Notify();
  stranger_caller.join();
  ann_caller.join();
  EXPECT_EQ(stranger.code(), absl::StatusCode::kUnauthenticated) << stranger;
  EXPECT_TRUE(ann.ok()) << ann;
}

TEST(PullerTest, TheBestPlatformOfAnIndexIsFetchedAndNoOther) {
  RegistryTestbed bed;
  FakeRegistry registry;
  content::Descriptor arm = registry.AddImage("app", "", {"arm layer"}, "arm64");
  content::Descriptor amd = registry.AddImage("app", "", {"amd layer"}, "amd64");
  content::Descriptor index = registry.AddIndex("app", "v1", {arm, amd});
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->target.digest, index.digest);
  ASSERT_EQ(image->manifests.size(), 1u);
  EXPECT_EQ(image->manifests[0].digest, amd.digest);
  EXPECT_TRUE(bed.Has(content::Digest::Sha256Of("amd layer")));
  EXPECT_FALSE(bed.Has(content::Digest::Sha256Of("arm layer")));
}

TEST(PullerTest, AllPlatformsAreFetchedOnRequest) {
  RegistryTestbed bed;
  FakeRegistry registry;
  content::Descriptor arm = registry.AddImage("app", "", {"arm layer"}, "arm64");
  content::Descriptor amd = registry.AddImage("app", "", {"amd layer"}, "amd64");
  registry.AddIndex("app", "v1", {arm, amd});
  bed.pull.all_platforms = true;
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(bed.Has(content::Digest::Sha256Of("amd layer")));
  EXPECT_TRUE(bed.Has(content::Digest::Sha256Of("arm layer")));
  EXPECT_EQ(image->manifests[0].digest, amd.digest);
}

TEST(PullerTest, AMissingPlatformIsNamedWithThoseThereAre) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddIndex("app", "v1", {registry.AddImage("app", "", {"x"}, "riscv64")});
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  EXPECT_EQ(image.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(image.status().message()), HasSubstr("linux/riscv64"));
}

TEST(PullerTest, AnImageWithoutIndexForAnotherPlatformIsRefusedWhenOneWasAskedFor) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"x"}, "s390x");
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  EXPECT_EQ(image.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(image.status().message()), HasSubstr("s390x"));
}

TEST(PullerTest, AttestationsAreLeftOutUnlessWanted) {
  for (bool wanted : {false, true}) {
    RegistryTestbed bed;
    FakeRegistry registry;
    content::Descriptor image = registry.AddImage("app", "", {"layer"});
    content::Descriptor proof = registry.AddImage("app", "", {"in-toto"}, "unknown");
    proof.platform = content::Platform{"unknown", "unknown", "", "", {}};
    proof.annotations = {{"vnd.docker.reference.type", "attestation-manifest"},
                         {"vnd.docker.reference.digest", image.digest.str()}};
    registry.AddIndex("app", "v1", {image, proof});
    bed.pull.include_attestations = wanted;
    absl::StatusOr<PulledImage> pulled = bed.Pull(registry, "app:v1");
    ASSERT_TRUE(pulled.ok()) << pulled.status();
    EXPECT_EQ(bed.Has(content::Digest::Sha256Of("in-toto")), wanted);
    EXPECT_EQ(pulled->manifests.size(), 1u);
  }
}

TEST(PullerTest, SchemaOneIsRefusedWithAWayOut) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddManifest("app", "v1", R"({"schemaVersion":1,"name":"app","fsLayers":[]})",
                       "application/vnd.docker.distribution.manifest.v1+prettyjws");
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  EXPECT_EQ(image.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(image.status().message()), HasSubstr("push it again"));
}

TEST(PullerTest, UnpackedLayersStayAwayUnderTheDiscardPolicy) {
  RegistryTestbed bed;
  FakeRegistry registry;
  registry.AddImage("app", "v1", {"unpacked", "new"});
  bed.pull.fetch_unpacked_layers = false;
  bed.pull.is_unpacked = [](const ImagePlan&, size_t index) { return index == 0; };
  ASSERT_TRUE(bed.Pull(registry, "app:v1").ok());
  EXPECT_FALSE(bed.Has(content::Digest::Sha256Of("unpacked")));
  EXPECT_TRUE(bed.Has(content::Digest::Sha256Of("new")));
}

TEST(PullerTest, AForeignLayerComesFromItsUrlWithoutCredentials) {
  RegistryTestbed bed;
  FakeRegistry::Options basic;
  basic.auth = FakeRegistry::Auth::kBasic;
  basic.users = {{"ann", "secret"}};
  FakeRegistry registry(basic);
  FakeRegistry elsewhere;
  content::Descriptor layer = elsewhere.AddBlob(
      "files", "foreign bytes", "application/vnd.docker.image.rootfs.foreign.diff.tar");
  layer.urls = {elsewhere.origin() + "/v2/files/blobs/" + layer.digest.str()};
  content::Descriptor config = registry.AddBlob(
      "app",
      R"({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[")" +
          layer.digest.str() + R"("]}})",
      "application/vnd.docker.container.image.v1+json");
  oci::Manifest manifest;
  manifest.media_type = oci::kDockerManifest;
  manifest.config = config;
  manifest.layers = {layer};
  registry.AddManifest("app", "v1", oci::PrintManifest(manifest), oci::kDockerManifest);
  Credential ann{"ann", "secret", "", "", "test"};
  StaticCredentials credentials(registry.host(), ann);
  bed.context.credentials = &credentials;
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(bed.Has(layer.digest));
  for (const FakeRegistry::Request& request : elsewhere.requests())
    EXPECT_EQ(request.header("authorization"), "");
}

TEST(PullerTest, ADeadMirrorIsPassedOverAndADyingOneContinuedElsewhere) {
  RegistryTestbed bed;
  FakeRegistry upstream, mirror;
  std::string layer = Noise(2 << 20, 10);
  upstream.AddImage("app", "v1", {layer});
  mirror.AddImage("app", "v1", {layer});
  mirror.BreakBlobs(1 << 20, 1000);
  bed.Configure(upstream.host(), "server = \"" + upstream.origin() +
                                     "\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"" +
                                     mirror.origin() + "\"]\n");
  bed.options.max_attempts = 2;
  bed.Rebuild();
  absl::StatusOr<PulledImage> image = bed.Pull(upstream, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_GT(mirror.blob_bytes_sent(), 1 << 20);
  EXPECT_LE(mirror.blob_bytes_sent() + upstream.blob_bytes_sent(),
            static_cast<int64_t>(layer.size()) + 8192);
  EXPECT_EQ(mirror.requests()[0].parameter("ns"), upstream.host());
}

TEST(PullerTest, AMirrorThatSendsWrongBytesIsNotAskedAgain) {
  RegistryTestbed bed;
  FakeRegistry upstream, mirror;
  std::string layer = Noise(1 << 20, 11);
  upstream.AddImage("app", "v1", {layer});
  mirror.AddImage("app", "v1", {layer});
  std::string path = content::Digest::Sha256Of(layer).str();
  mirror.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (!absl::StrContains(request.path, path)) return false;
    connection.Answer(200, {}, std::string(1 << 20, 'x'));
    return true;
  });
  bed.Configure(upstream.host(),
                "server = \"" + upstream.origin() + "\"\n[host.\"" + mirror.origin() + "\"]\n");
  absl::StatusOr<PulledImage> image = bed.Pull(upstream, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(mirror.CountRequests("GET", path), 1);
  EXPECT_EQ(upstream.CountRequests("GET", path), 1);
}

TEST(PullerTest, ASlowNetworkIsReadThroughSeveralConnections) {
  RegistryTestbed bed;
  bed.fetcher_options.range_threshold_bytes = 1 << 20;
  bed.fetcher_options.range_bytes = 256 << 10;
  bed.Rebuild();
  FakeRegistry registry;
  std::string layer = Noise(4 << 20, 12);
  registry.AddImage("app", "v1", {layer});
  registry.SetRate(2 << 20);
  RecordingSink sink;
  bed.pull.sink = &sink;
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  content::Digest digest = content::Digest::Sha256Of(layer);
  EXPECT_EQ(*content::ReadBlob(bed.store, digest, 8 << 20), layer);
  EXPECT_EQ(sink.layers[digest].bytes, layer);
  EXPECT_GT(registry.CountRequests("GET", digest.str()), 8);
  EXPECT_GT(registry.connections(), 2);
  EXPECT_LE(registry.blob_bytes_sent(), static_cast<int64_t>(layer.size()) + 4096);
}

TEST(PullerTest, EarlyRangesOfAnInterruptedPullAreNotFetchedAgain) {
  RegistryTestbed bed;
  bed.fetcher_options.range_threshold_bytes = 1 << 20;
  bed.fetcher_options.range_bytes = 256 << 10;
  bed.Rebuild();
  FakeRegistry registry;
  std::string layer = Noise(4 << 20, 13);
  registry.AddImage("app", "v1", {layer});
  registry.SetRate(2 << 20);
  content::Digest digest = content::Digest::Sha256Of(layer);
  // Three interruptions in different places.
  std::atomic<int> asked{0};
  for (int stop_at : {6, 10, 14}) {
    CancelToken token;
    bed.context.cancel = &token;
    registry.SetHook([&, stop_at](const FakeRegistry::Request& request, FakeRegistry::Connection&) {
      if (absl::StrContains(request.path, digest.str()) && ++asked == stop_at) token.Cancel("test");
      return false;
    });
    EXPECT_EQ(bed.Pull(registry, "app:v1").status().code(), absl::StatusCode::kCancelled);
    registry.SetHook(nullptr);
    bed.Rebuild();
  }
  bed.context.cancel = nullptr;
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(*content::ReadBlob(bed.store, digest, 8 << 20), layer);
  EXPECT_EQ(bed.store.ListIngests()->size(), 0u);
  // Only what was on the way at each interruption is lost.
  EXPECT_LE(registry.blob_bytes_sent(), static_cast<int64_t>(layer.size()) + 3 * (512 << 10));
}

TEST(PullerTest, RangesThatBreakAreContinuedToo) {
  RegistryTestbed bed;
  bed.fetcher_options.range_threshold_bytes = 1 << 20;
  bed.fetcher_options.range_bytes = 256 << 10;
  bed.Rebuild();
  FakeRegistry registry;
  std::string layer = Noise(4 << 20, 14);
  registry.AddImage("app", "v1", {layer});
  registry.SetRate(16 << 20);
  registry.BreakBlobs(100 << 10, 12);
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(*content::ReadBlob(bed.store, content::Digest::Sha256Of(layer), 8 << 20), layer);
}

TEST(FetcherTest, TheSpoolIsSweptByAge) {
  RegistryTestbed bed;
  ASSERT_TRUE(MakeDirectories(bed.fetcher_options.spool_directory).ok());
  std::string left =
      bed.fetcher_options.spool_directory + "/" + std::string(64, 'a') + ".4194304.data";
  ASSERT_TRUE(WriteFile(left, "early").ok());
  ASSERT_TRUE(bed.puller->fetcher().SweepSpool(absl::Hours(1)).ok());
  EXPECT_TRUE(ReadFile(left, 100).ok());
  ASSERT_TRUE(bed.puller->fetcher().SweepSpool(-absl::Seconds(1)).ok());
  EXPECT_TRUE(absl::IsNotFound(ReadFile(left, 100).status()));
}

TEST(PullerTest, CancellingEndsAtOnceAndKeepsWhatThereIs) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(2 << 20, 15);
  registry.AddImage("app", "v1", {layer});
  registry.SetRate(1 << 20);
  CancelToken token;
  bed.context.cancel = &token;
  std::string digest = content::Digest::Sha256Of(layer).str();
  bed.pull.progress = [&](const Progress& progress) {
    if (progress.ref == digest && progress.offset_bytes > 0) token.Cancel("Ctrl-C");
  };
  absl::StatusOr<PulledImage> image = bed.Pull(registry, "app:v1");
  EXPECT_EQ(image.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(image.status().message()), HasSubstr("Ctrl-C"));
  EXPECT_FALSE(bed.Has(content::Digest::Sha256Of(layer)));
  absl::StatusOr<content::IngestStatus> ingest = bed.store.StatIngest("layer-" + digest);
  ASSERT_TRUE(ingest.ok());
  EXPECT_GT(ingest->offset_bytes, 0);
}

TEST(PullerTest, AFullDiskIsReportedAndTheBytesStay) {
  RegistryTestbed bed;
  FakeRegistry registry;
  std::string layer = Noise(2 << 20, 16);
  registry.AddImage("app", "v1", {layer});
  bed.store.SetIngestLimit(1 << 20);
  EXPECT_EQ(bed.Pull(registry, "app:v1").status().code(), absl::StatusCode::kResourceExhausted);
  bed.store.SetIngestLimit(-1);
  registry.ClearLog();
  ASSERT_TRUE(bed.Pull(registry, "app:v1").ok());
  EXPECT_LT(registry.blob_bytes_sent(), (1 << 20) + (300 << 10));
}

TEST(ResolverTest, TagsComeInPages) {
  RegistryTestbed bed;
  FakeRegistry registry;
  for (const char* tag : {"a", "b", "c", "d", "e", "f", "g"}) registry.AddImage("app", tag, {"x"});
  absl::StatusOr<std::vector<std::string>> tags =
      bed.resolver->ListTags(bed.Ref(registry, "app"), {});
  ASSERT_TRUE(tags.ok()) << tags.status();
  EXPECT_THAT(*tags, ElementsAre("a", "b", "c", "d", "e", "f", "g"));
}

TEST(ResolverTest, ReferrersByApiAndByTag) {
  for (bool api : {true, false}) {
    RegistryTestbed bed;
    FakeRegistry registry;
    registry.SetReferrersApi(api);
    content::Descriptor image = registry.AddImage("app", "v1", {"x"});
    content::Descriptor empty = registry.AddBlob("app", "{}", "application/vnd.oci.empty.v1+json");
    oci::Manifest signature;
    signature.media_type = oci::kOciManifest;
    signature.artifact_type = "application/vnd.test.signature";
    signature.config = empty;
    signature.subject = image;
    content::Descriptor made =
        registry.AddManifest("app", "", oci::PrintManifest(signature), oci::kOciManifest);
    if (!api) {
      made.artifact_type = signature.artifact_type;
      oci::Index index;
      index.media_type = oci::kOciIndex;
      index.manifests = {made};
      registry.AddManifest("app", "sha256-" + std::string(image.digest.hex()),
                           oci::PrintIndex(index), oci::kOciIndex);
    }
    absl::StatusOr<std::vector<content::Descriptor>> found = bed.resolver->Referrers(
        bed.Ref(registry, "app:v1"), image.digest, "application/vnd.test.signature", {});
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(found->size(), 1u);
    EXPECT_EQ(found->front().digest, made.digest);
    EXPECT_TRUE(
        bed.resolver->Referrers(bed.Ref(registry, "app:v1"), image.digest, "other", {})->empty());
  }
}

TEST(ResolverTest, DeletesByTagAndDigest) {
  RegistryTestbed bed;
  FakeRegistry registry;
  content::Descriptor image = registry.AddImage("app", "v1", {"x"});
  Reference ref = bed.Ref(registry, "app:v1").WithDigest(image.digest);
  EXPECT_TRUE(bed.resolver->DeleteManifest(ref, {}).ok());
  EXPECT_EQ(bed.resolver->Resolve(ref, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bed.resolver->DeleteManifest(ref, {}).code(), absl::StatusCode::kNotFound);
}

TEST(ResolverTest, AHostWithoutHeadIsAskedByGet) {
  RegistryTestbed bed;
  FakeRegistry registry;
  content::Descriptor image = registry.AddImage("app", "v1", {"x"});
  registry.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.method != "HEAD") return false;
    connection.Answer(405, {}, "");
    return true;
  });
  absl::StatusOr<Resolved> resolved = bed.resolver->Resolve(bed.Ref(registry, "app:v1"), {});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->descriptor.digest, image.digest);
  EXPECT_EQ(resolved->manifest, registry.Manifest("app", "v1"));
}

TEST(ResolverTest, ExplainShowsRulesHostsAndAnswers) {
  RegistryTestbed bed;
  FakeRegistry upstream, mirror;
  upstream.AddImage("app", "v1", {"x"});
  bed.Configure(upstream.host(),
                "server = \"" + upstream.origin() + "\"\n\n[host.\"" + mirror.origin() + "\"]\n");
  absl::StatusOr<Explanation> explanation = bed.resolver->Explain(bed.Ref(upstream, "app:v1"), {});
  ASSERT_TRUE(explanation.ok()) << explanation.status();
  EXPECT_TRUE(explanation->result.ok());
  ASSERT_EQ(explanation->attempts.size(), 2u);
  EXPECT_EQ(explanation->attempts[0].status, 404);
  EXPECT_THAT(explanation->attempts[0].rule, HasSubstr("hosts.toml:3 [host."));
  EXPECT_EQ(explanation->attempts[0].credential, "anonymous");
  EXPECT_EQ(explanation->attempts[1].status, 200);
  EXPECT_EQ(explanation->attempts[1].request, "HEAD /v2/app/manifests/v1");
}

TEST(ResolverTest, EveryExplainedAttemptHasItsHost) {
  RegistryTestbed bed;
  FakeRegistry registry, elsewhere;
  elsewhere.AddImage("app", "v1", {"x"});
  registry.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    return connection.Answer(307, {{"Location", elsewhere.origin() + request.path}}, "");
  });
  absl::StatusOr<Explanation> explanation = bed.resolver->Explain(bed.Ref(registry, "app:v1"), {});
  ASSERT_TRUE(explanation.ok()) << explanation.status();
  std::vector<std::string> hosts, tried;
  for (const RegistryHost& host : explanation->lookup.hosts) hosts.push_back(host.origin());
  for (const Attempt& attempt : explanation->attempts) tried.push_back(attempt.host);
  EXPECT_THAT(hosts,
              ElementsAre("https://" + registry.host(), registry.origin(), elsewhere.origin()));
  EXPECT_THAT(tried,
              ElementsAre("https://" + registry.host(), registry.origin(), elsewhere.origin()));
  EXPECT_EQ(explanation->attempts[0].status, 0);
  EXPECT_EQ(explanation->attempts[1].status, 307);
}

}  // namespace
}  // namespace gantry::distribution
