#include "supervisor/distribution/pusher.h"

#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "supervisor/distribution/registry_testbed.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {
namespace {

using ::testing::HasSubstr;

class PusherTest : public ::testing::Test {
 protected:
  // Puts an image of one layer into the store, by pulling it from a registry that then has no
  // further part.
  content::Descriptor Make(const std::string& layer) {
    source.AddImage("src/app", "v1", {layer, "small"});
    absl::StatusOr<PulledImage> image = bed.Pull(source, "src/app:v1");
    EXPECT_TRUE(image.ok()) << image.status();
    return image->target;
  }

  absl::StatusOr<PushedImage> Push(FakeRegistry& registry, const std::string& name,
                                   const content::Descriptor& target) {
    return bed.pusher->Push(bed.Ref(registry, name), target, bed.store, push, bed.context);
  }

  // Whether a file with that ending is in the spool directory.
  bool IsSpooled(const std::string& ending) {
    for (const auto& entry :
         std::filesystem::directory_iterator(bed.fetcher_options.spool_directory)) {
      if (entry.path().extension() == ending) return true;
    }
    return false;
  }

  RegistryTestbed bed;
  FakeRegistry source;
  PushOptions push;
};

TEST_F(PusherTest, ThePushedImageIsByteIdentical) {
  std::string layer = Noise(1 << 20, 1);
  content::Descriptor image = Make(layer);
  FakeRegistry target;
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:v2", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->target.digest, image.digest);
  EXPECT_EQ(target.Manifest("dst/app", "v2"), source.Manifest("src/app", "v1"));
  EXPECT_TRUE(target.HasBlob("dst/app", content::Digest::Sha256Of(layer)));
  EXPECT_EQ(
      pushed->sent_bytes, static_cast<int64_t>(layer.size()) + 5 + *[&] {
        oci::Manifest manifest =
            *oci::ParseManifest(source.Manifest("src/app", "v1"), oci::kOciManifest, "m");
        return std::make_unique<int64_t>(manifest.config.size_bytes);
      }());
}

TEST_F(PusherTest, WhatIsThereIsNotSentAgain) {
  content::Descriptor image = Make(Noise(1 << 20, 2));
  FakeRegistry target;
  ASSERT_TRUE(Push(target, "dst/app:v1", image).ok());
  target.ClearLog();
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->sent_bytes, 0);
  EXPECT_GT(pushed->skipped_bytes, 1 << 20);
  EXPECT_EQ(target.CountRequests("PUT", ""), 0);
  EXPECT_EQ(target.CountRequests("POST", ""), 0);
}

TEST_F(PusherTest, BlobsOfASiblingRepositoryAreMounted) {
  std::string layer = Noise(1 << 20, 3);
  content::Descriptor image = Make(layer);
  absl::Mutex mu;
  std::set<std::string> from;
  push.progress = [&](const Progress& step) {
    absl::MutexLock lock(&mu);
    if (step.state == Progress::State::kMounted) from.insert(step.detail);
  };
  // The blobs came from `source`, so that is where they can be mounted.
  absl::StatusOr<PushedImage> pushed = Push(source, "other/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(from, std::set<std::string>{"src/app"});
  EXPECT_EQ(pushed->sent_bytes, 0);
  EXPECT_GT(pushed->mounted_bytes, 1 << 20);
  EXPECT_TRUE(source.HasBlob("other/app", content::Digest::Sha256Of(layer)));
}

TEST_F(PusherTest, AMountThatIsRefusedBecomesAnUpload) {
  content::Descriptor image = Make("layer");
  source.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.parameter("mount").empty()) return false;
    return connection.Answer(403, {}, "");
  });
  absl::StatusOr<PushedImage> pushed = Push(source, "other/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->mounted_bytes, 0);
  EXPECT_GT(pushed->sent_bytes, 0);
}

TEST_F(PusherTest, ABrokenUploadGoesOnFromWhatArrived) {
  std::string layer = Noise(3 << 20, 4);
  content::Descriptor image = Make(layer);
  FakeRegistry target;
  target.BreakUploads(1 << 20, 2);
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_TRUE(target.HasBlob("dst/app", content::Digest::Sha256Of(layer)));
  EXPECT_GE(target.CountRequests("PATCH", "/blobs/uploads/"), 1);
}

TEST_F(PusherTest, ALostUploadSessionStartsOver) {
  std::string layer = Noise(1 << 20, 5);
  content::Descriptor image = Make(layer);
  FakeRegistry target;
  target.BreakUploads(1 << 19, 1);
  target.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.method != "GET" || !absl::StrContains(request.path, "/uploads/")) return false;
    return connection.Answer(404, {}, "");
  });
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_TRUE(target.HasBlob("dst/app", content::Digest::Sha256Of(layer)));
}

TEST_F(PusherTest, AnInterruptedPushIsContinuedByTheNext) {
  std::string layer = Noise(3 << 20, 8);
  content::Descriptor image = Make(layer);
  FakeRegistry target;
  ASSERT_TRUE(MakeDirectories(bed.fetcher_options.spool_directory).ok());
  target.BreakUploads(2 << 20, 1);
  CancelToken gone;
  bed.context.cancel = &gone;
  push.progress = [&](const Progress& step) {
    if (step.state == Progress::State::kRetrying) gone.Cancel("^C");
  };
  EXPECT_EQ(Push(target, "dst/app:v1", image).status().code(), absl::StatusCode::kCancelled);
  ASSERT_TRUE(IsSpooled(".upload"));

  // Another daemon on the same root.
  bed.Rebuild();
  bed.context.cancel = nullptr;
  push.progress = nullptr;
  target.ClearLog();
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_TRUE(target.HasBlob("dst/app", content::Digest::Sha256Of(layer)));
  EXPECT_LE(pushed->sent_bytes, (1 << 20) + 4096) << "what had arrived was sent again";
  EXPECT_FALSE(IsSpooled(".upload")) << "a finished upload leaves its note behind";
}

TEST_F(PusherTest, AnUploadThatTheRegistryForgotStartsOver) {
  std::string layer = Noise(2 << 20, 9);
  content::Descriptor image = Make(layer);
  ASSERT_TRUE(MakeDirectories(bed.fetcher_options.spool_directory).ok());
  FakeRegistry target;
  target.BreakUploads(1 << 20, 1);
  CancelToken gone;
  bed.context.cancel = &gone;
  push.progress = [&](const Progress& step) {
    if (step.state == Progress::State::kRetrying) gone.Cancel("^C");
  };
  EXPECT_FALSE(Push(target, "dst/app:v1", image).ok());
  bed.context.cancel = nullptr;
  push.progress = nullptr;
  target.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.method != "GET" || !absl::StrContains(request.path, "/uploads/")) return false;
    return connection.Answer(404, {}, "");
  });
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_GE(pushed->sent_bytes, 2 << 20);
  EXPECT_TRUE(target.HasBlob("dst/app", content::Digest::Sha256Of(layer)));
}

TEST_F(PusherTest, ChunksWhenAskedFor) {
  std::string layer = Noise(1 << 20, 6);
  content::Descriptor image = Make(layer);
  FakeRegistry target;
  push.chunk_bytes = 300 << 10;
  ASSERT_TRUE(Push(target, "dst/app:v1", image).ok());
  EXPECT_TRUE(target.HasBlob("dst/app", content::Digest::Sha256Of(layer)));
  EXPECT_GE(target.CountRequests("PATCH", "/blobs/uploads/"), 4);
}

TEST_F(PusherTest, AnIndexGoesAfterItsImages) {
  content::Descriptor arm = source.AddImage("src/app", "", {"arm"}, "arm64");
  content::Descriptor amd = source.AddImage("src/app", "", {"amd"}, "amd64");
  content::Descriptor index = source.AddIndex("src/app", "all", {arm, amd});
  bed.pull.all_platforms = true;
  ASSERT_TRUE(bed.Pull(source, "src/app:all").ok());
  FakeRegistry target;
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:all", index);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(target.Manifest("dst/app", "all"), source.Manifest("src/app", "all"));
  EXPECT_FALSE(target.Manifest("dst/app", arm.digest.str()).empty());
  std::vector<std::string> puts;
  for (const std::string& line : target.lines()) {
    if (absl::StartsWith(line, "PUT") && absl::StrContains(line, "/manifests/"))
      puts.push_back(line);
  }
  ASSERT_EQ(puts.size(), 3u);
  EXPECT_EQ(puts.back(), "PUT /v2/dst/app/manifests/all");
}

TEST_F(PusherTest, APlatformThatWasNeverPulledIsNamed) {
  content::Descriptor arm = source.AddImage("src/app", "", {"arm"}, "arm64");
  content::Descriptor amd = source.AddImage("src/app", "", {"amd"}, "amd64");
  content::Descriptor index = source.AddIndex("src/app", "all", {arm, amd});
  ASSERT_TRUE(bed.Pull(source, "src/app:all").ok());
  FakeRegistry target;
  absl::Status status = Push(target, "dst/app:all", index).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("linux/arm64"));
  push.platforms = {content::Platform{"linux", "amd64", "", "", {}}};
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:amd", index);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->target.digest, amd.digest);
}

TEST_F(PusherTest, ADiscardedBlobIsNamedWithTheWayOut) {
  std::string layer = Noise(100000, 7);
  content::Descriptor image = Make(layer);
  ASSERT_TRUE(bed.store.Delete(content::Digest::Sha256Of(layer)).ok());
  FakeRegistry target;
  absl::Status status = Push(target, "dst/app:v1", image).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(content::Digest::Sha256Of(layer).str()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("pull the image again"));
  EXPECT_EQ(target.Manifest("dst/app", "v1"), "");
}

TEST_F(PusherTest, ADiscardedBlobIsMountedOrFetchedAgain) {
  std::string layer = Noise(100000, 10);
  content::Descriptor image = Make(layer);
  const content::Digest digest = content::Digest::Sha256Of(layer);
  ASSERT_TRUE(bed.store.Delete(digest).ok());
  int fetched = 0;
  push.fetch_missing = [&](const content::Descriptor& blob, const content::Labels& labels) {
    ++fetched;
    EXPECT_EQ(labels.count(absl::StrCat("containerd.io/distribution.source.", source.host())), 1u);
    return bed.puller->FetchOne(bed.Ref(source, "src/app"), blob, bed.store, bed.pull, bed.context);
  };
  absl::StatusOr<PushedImage> pushed = Push(source, "other/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_TRUE(source.HasBlob("other/app", digest));
  EXPECT_EQ(fetched, 0) << "a registry that has the blob need not be sent it";
  FakeRegistry target;
  pushed = Push(target, "dst/app:v1", image);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_TRUE(target.HasBlob("dst/app", digest));
  EXPECT_EQ(fetched, 1);
}

TEST_F(PusherTest, ARegistryThatStoresSomethingElseIsCaught) {
  content::Descriptor image = Make("layer");
  FakeRegistry target;
  target.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.method != "PUT" || !absl::StrContains(request.path, "/manifests/")) return false;
    return connection.Answer(
        201, {{"Docker-Content-Digest", content::Digest::Sha256Of("other").str()}}, "");
  });
  EXPECT_EQ(Push(target, "dst/app:v1", image).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(PusherTest, PushWithoutRightsIsRefusedByName) {
  content::Descriptor image = Make("layer");
  FakeRegistry::Options options;
  options.auth = FakeRegistry::Auth::kToken;
  options.users = {{"ann", "pw-of-ann"}};
  FakeRegistry target(options);
  EXPECT_EQ(Push(target, "dst/app:v1", image).status().code(), absl::StatusCode::kUnauthenticated);
  StaticCredentials credentials(target.host(), {"ann", "pw-of-ann", "", "", "test"});
  bed.context.credentials = &credentials;
  EXPECT_TRUE(Push(target, "dst/app:v1", image).ok());
}

TEST_F(PusherTest, UploadsAreNotRedirectedToOtherHosts) {
  content::Descriptor image = Make("layer");
  FakeRegistry target, thief;
  target.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& connection) {
    if (request.method != "POST") return false;
    return connection.Answer(307, {{"Location", thief.origin() + request.path}}, "");
  });
  EXPECT_EQ(Push(target, "dst/app:v1", image).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(thief.requests().empty());
}

TEST_F(PusherTest, AReferrerIsAnnouncedWhereTheRegistryDoesNotDoIt) {
  content::Descriptor subject = source.AddImage("src/app", "v1", {"layer"});
  content::Descriptor empty = source.AddBlob("src/app", "{}", "application/vnd.oci.empty.v1+json");
  oci::Manifest signature;
  signature.media_type = oci::kOciManifest;
  signature.artifact_type = "application/vnd.test.signature";
  signature.config = empty;
  signature.subject = subject;
  source.AddManifest("src/app", "sig", oci::PrintManifest(signature), oci::kOciManifest);
  absl::StatusOr<PulledImage> image = bed.Pull(source, "src/app:sig");
  ASSERT_TRUE(image.ok()) << image.status();
  FakeRegistry target;
  target.SetReferrersApi(false);
  absl::StatusOr<PushedImage> pushed = Push(target, "dst/app:sig", image->target);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  absl::StatusOr<std::vector<content::Descriptor>> found = bed.resolver->Referrers(
      bed.Ref(target, "dst/app:sig"), subject.digest, "application/vnd.test.signature", {});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().digest, image->target.digest);
}

}  // namespace
}  // namespace gantry::distribution
