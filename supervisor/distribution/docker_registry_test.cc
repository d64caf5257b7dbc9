// Pull and push against the registry people run, in each of its ways to keep others out.

#include "supervisor/distribution/docker_registry.h"

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/subprocess.h"
#include "supervisor/distribution/registry_testbed.h"

namespace gantry::distribution {
namespace {

using ::testing::ElementsAre;

struct Setup {
  bool tls;
  DockerRegistry::Auth auth;
  const char* name;
};

class DockerRegistryTest : public ::testing::TestWithParam<Setup> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<DockerRegistry>> started =
        DockerRegistry::Start(GetParam().tls, GetParam().auth);
    if (absl::IsNotFound(started.status())) GTEST_SKIP() << "docker-registry is not installed";
    ASSERT_TRUE(started.ok()) << started.status();
    registry = *std::move(started);
    std::string hosts_toml;
    if (GetParam().tls) hosts_toml += "ca = \"" + registry->ca_file() + "\"\n";
    if (GetParam().auth == DockerRegistry::Auth::kToken)
      hosts_toml += "token_realms = [\"" + registry->token_origin() + "\"]\n";
    if (!hosts_toml.empty()) bed.Configure(registry->host(), hosts_toml);
    if (GetParam().auth != DockerRegistry::Auth::kNone) {
      credentials = std::make_unique<StaticCredentials>(
          registry->host(),
          Credential{DockerRegistry::kUser, DockerRegistry::kPassword, "", "", "test"});
      bed.context.credentials = credentials.get();
    }
  }

  Reference Ref(const std::string& name) {
    return *Reference::Parse(registry->host() + "/" + name);
  }

  // An image in the store, by way of a fake registry.
  content::Descriptor Make(const std::vector<std::string>& layers) {
    FakeRegistry source;
    source.AddImage("src", "v1", layers);
    absl::StatusOr<PulledImage> image = bed.Pull(source, "src:v1");
    EXPECT_TRUE(image.ok()) << image.status();
    return image->target;
  }

  RegistryTestbed bed;
  std::unique_ptr<DockerRegistry> registry;
  std::unique_ptr<StaticCredentials> credentials;
};

TEST_P(DockerRegistryTest, ThereAndBackIsByteIdentical) {
  std::string large = Noise(40 << 20, 1), small = Noise(1000, 2);
  content::Descriptor image = Make({large, small});
  absl::StatusOr<PushedImage> pushed =
      bed.pusher->Push(Ref("team/app:v1"), image, bed.store, {}, bed.context);
  ASSERT_TRUE(pushed.ok()) << pushed.status() << "\n" << registry->log();
  content::FakeStore other;
  absl::StatusOr<PulledImage> pulled =
      bed.puller->Pull(Ref("team/app:v1"), other, bed.pull, bed.context);
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->target.digest, image.digest);
  ASSERT_EQ(pulled->blobs.size(), 4u);
  for (const content::Digest& digest : pulled->blobs) {
    EXPECT_EQ(*content::ReadBlob(other, digest, 64 << 20),
              *content::ReadBlob(bed.store, digest, 64 << 20));
  }
}

TEST_P(DockerRegistryTest, SkipsMountsListsAndDeletes) {
  content::Descriptor image = Make({Noise(2 << 20, 3)});
  ASSERT_TRUE(bed.pusher->Push(Ref("team/app:v1"), image, bed.store, {}, bed.context).ok());
  absl::StatusOr<PushedImage> again =
      bed.pusher->Push(Ref("team/app:v2"), image, bed.store, {}, bed.context);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->sent_bytes, 0);

  content::FakeStore other;
  ASSERT_TRUE(bed.puller->Pull(Ref("team/app:v1"), other, bed.pull, bed.context).ok());
  absl::StatusOr<PushedImage> mounted =
      bed.pusher->Push(Ref("side/app:v1"), image, other, {}, bed.context);
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  EXPECT_GT(mounted->mounted_bytes, 2 << 20);

  EXPECT_THAT(*bed.resolver->ListTags(Ref("team/app"), bed.context), ElementsAre("v1", "v2"));
  EXPECT_TRUE(bed.resolver->CheckLogin(registry->host(), bed.context).ok());
  Reference by_digest = Ref("team/app:v1").WithDigest(image.digest);
  ASSERT_TRUE(bed.resolver->DeleteManifest(by_digest, bed.context).ok());
  EXPECT_EQ(bed.resolver->Resolve(by_digest, bed.context).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_P(DockerRegistryTest, ChunkedUploads) {
  std::string layer = Noise(3 << 20, 4);
  content::Descriptor image = Make({layer});
  PushOptions options;
  options.chunk_bytes = 1 << 20;
  absl::StatusOr<PushedImage> pushed =
      bed.pusher->Push(Ref("team/app:v1"), image, bed.store, options, bed.context);
  ASSERT_TRUE(pushed.ok()) << pushed.status() << "\n" << registry->log();
  content::FakeStore other;
  EXPECT_TRUE(bed.puller->Pull(Ref("team/app:v1"), other, bed.pull, bed.context).ok());
}

TEST_P(DockerRegistryTest, StrangersAndUnknownNamesGetClearErrors) {
  StaticCredentials wrong(registry->host(), Credential{"ann", "not-it", "", "", "test"});
  CallContext context;
  context.credentials = &wrong;
  absl::Status status = bed.resolver->Resolve(Ref("team/none:v1"), context).status();
  if (GetParam().auth == DockerRegistry::Auth::kNone) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  } else {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << status;
    EXPECT_EQ(bed.resolver->Resolve(Ref("team/none:v1"), bed.context).status().code(),
              absl::StatusCode::kNotFound);
  }
}

TEST_P(DockerRegistryTest, ARegistryKilledInTheMiddleIsContinuedAfterItsReturn) {
  std::string layer = Noise(48 << 20, 5);
  content::Descriptor image = Make({layer});
  ASSERT_TRUE(bed.pusher->Push(Ref("team/app:v1"), image, bed.store, {}, bed.context).ok());
  content::FakeStore other;
  bool killed = false;
  PullOptions options = bed.pull;
  std::string digest = content::Digest::Sha256Of(layer).str();
  options.progress = [&](const Progress& progress) {
    if (!killed && progress.ref == digest && progress.offset_bytes > 0 &&
        progress.state == Progress::State::kMoving) {
      killed = true;
      EXPECT_TRUE(registry->Restart().ok());
    }
  };
  absl::StatusOr<PulledImage> pulled =
      bed.puller->Pull(Ref("team/app:v1"), other, options, bed.context);
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_TRUE(killed);
  // Whatever was on the way when it died, and nothing else, came twice.
  EXPECT_LT(pulled->fetched_bytes, static_cast<int64_t>(layer.size()) + (1 << 20));
}

INSTANTIATE_TEST_SUITE_P(Ways, DockerRegistryTest,
                         ::testing::Values(Setup{false, DockerRegistry::Auth::kNone, "Plain"},
                                           Setup{true, DockerRegistry::Auth::kNone, "Tls"},
                                           Setup{true, DockerRegistry::Auth::kBasic, "TlsBasic"},
                                           Setup{false, DockerRegistry::Auth::kToken, "Token"}),
                         [](const ::testing::TestParamInfo<Setup>& info) {
                           return info.param.name;
                         });

}  // namespace
}  // namespace gantry::distribution
