// Transfers that go wrong: what the caller hears, what stays for the next attempt, what is named.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"
#include "base/file.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/image_push.h"
#include "supervisor/core/image_testbed.h"
#include "supervisor/core/image_verify.h"
#include "supervisor/core/registry_service.h"
#include "supervisor/distribution/registry_testbed.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::core {
namespace {

using distribution::FakeRegistry;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ImageFaultsTest : public ::testing::Test {
 protected:
  ImageFaultsTest() {
    pull_ = std::make_unique<ImagePull>(
        ImagePull::Parts{&bed_.stores, bed_.catalog.get(), &unpacker_, far_.puller.get(),
                         far_.resolver.get(), nullptr, far_.hosts.get()});
    push_ = std::make_unique<ImagePush>(ImagePush::Parts{&bed_.stores, bed_.catalog.get(),
                                                         far_.puller.get(), far_.pusher.get(),
                                                         nullptr, far_.hosts.get()});
    verify_ = std::make_unique<ImageVerify>(
        ImageVerify::Parts{&bed_.stores, bed_.catalog.get(), far_.puller.get(), nullptr, false});
    service_ = std::make_unique<RegistryService>(*far_.resolver, far_.puller->fetcher(), nullptr);
  }

  // An image of settings only, whose configuration takes about so many bytes.
  struct Published {
    content::Descriptor manifest;
    content::Descriptor config;
  };
  Published Publish(const std::string& tag, size_t bytes = 0) {
    Published out;
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    out.config =
        registry_.AddBlob("app",
                          absl::StrCat(R"({"os":"linux","architecture":"amd64","author":")",
                                       std::string(bytes, 'a'), tag, "\"}"),
                          oci::kOciConfig);
    manifest.config = out.config;
    out.manifest =
        registry_.AddManifest("app", tag, oci::PrintManifest(manifest), oci::kOciManifest);
    return out;
  }
  std::string Full(const std::string& name) { return absl::StrCat(registry_.host(), "/", name); }
  absl::StatusOr<v1::PulledImage> Pull(const std::string& name, const std::string& platform = "") {
    v1::PullRequest request;
    request.set_reference(Full(name));
    request.set_platform(platform);
    return pull_->Pull(bed_.context, request, nullptr);
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    EXPECT_TRUE(bed_.world.images
                    .List({"default", ""}, metadata::Filter(),
                          [&](const record::v1::Image& image) {
                            names.push_back(image.name());
                            return absl::OkStatus();
                          })
                    .ok());
    return names;
  }
  // What interrupted attempts have left for the next, by what they were to do.
  std::vector<std::string> Kept() {
    std::vector<std::string> kept;
    EXPECT_TRUE(bed_.world.leases
                    .List({"default", ""}, metadata::Filter(),
                          [&](const record::v1::Lease& lease) {
                            const auto label = lease.labels().find("gantry.io/interrupted");
                            kept.push_back(label == lease.labels().end() ? lease.id()
                                                                         : label->second);
                            return absl::OkStatus();
                          })
                    .ok());
    return kept;
  }
  std::string BlobFile(const content::Descriptor& blob) {
    return bed_.dir.Join(absl::StrCat("content/blobs/sha256/", blob.digest.hex()));
  }
  // Overwrites a blob's file, which is write-protected.
  void Damage(const content::Descriptor& blob, const std::string& bytes) {
    const std::string file = BlobFile(blob);
    ASSERT_EQ(access(file.c_str(), F_OK), 0) << file;
    ASSERT_EQ(unlink(file.c_str()), 0);
    ASSERT_TRUE(WriteFile(file, bytes).ok());
  }
  absl::StatusOr<v1::VerifyResponse::Result> Verify(bool repair = false,
                                                    const std::string& image = "") {
    findings_.clear();
    v1::VerifyRequest request;
    request.set_repair(repair);
    if (!image.empty()) request.add_images(image);
    return verify_->Verify(
        bed_.context, request,
        [&](const v1::VerifyResponse::Finding& finding) { findings_.push_back(finding); }, nullptr);
  }

  ImageTestbed bed_;
  distribution::RegistryTestbed far_;
  FakeRegistry registry_;
  distribution::Unpacker unpacker_{distribution::UnpackerOptions()};
  std::unique_ptr<ImagePull> pull_;
  std::unique_ptr<ImagePush> push_;
  std::unique_ptr<ImageVerify> verify_;
  std::unique_ptr<RegistryService> service_;
  std::vector<v1::VerifyResponse::Finding> findings_;
};

TEST_F(ImageFaultsTest, ACancelledPullNamesNothingAndKeepsWhatItGot) {
  const Published image = Publish("v1");
  CancelToken cancel;
  bed_.context.cancel = &cancel;
  registry_.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& peer) {
    if (!absl::StrContains(request.path, "/blobs/")) return false;
    cancel.Cancel();
    peer.Close();
    return true;
  });
  absl::Status status = Pull("app:v1").status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(Kept(), ElementsAre("pull " + Full("app:v1")));
  EXPECT_EQ(pull_->pull_counts().failed, 1);
  EXPECT_EQ(pull_->pull_counts().running, 0);
  // A collection leaves it for the next attempt, which ends the keeping.
  ASSERT_TRUE(
      bed_.world.collector.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  EXPECT_TRUE(bed_.Has(image.manifest));
  registry_.SetHook(nullptr);
  bed_.context.cancel = nullptr;
  status = Pull("app:v1").status();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(Names(), ElementsAre(Full("app:v1")));
  EXPECT_THAT(Kept(), IsEmpty());
}

TEST_F(ImageFaultsTest, ABrokenConnectionIsResumed) {
  const Published image = Publish("v1", 1 << 20);
  registry_.BreakBlobs(300000, 2);
  const absl::Status status = Pull("app:v1").status();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(bed_.Has(image.config));
  EXPECT_EQ(registry_.CountRequests("GET", image.config.digest.str()), 3);
  EXPECT_LT(registry_.blob_bytes_sent(), (1 << 20) + (1 << 19));  // from where it broke
}

TEST_F(ImageFaultsTest, AnAttemptThatGaveUpIsContinuedByTheNext) {
  const Published image = Publish("v1", 1 << 20);
  registry_.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& peer) {
    if (!absl::StrContains(request.path, "/blobs/")) return false;
    return peer.Answer(503, {}, "busy") || true;
  });
  const absl::Status status = Pull("app:v1").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(Kept(), ElementsAre("pull " + Full("app:v1")));
  registry_.SetHook(nullptr);
  registry_.ClearLog();
  ASSERT_TRUE(Pull("app:v1").ok());
  EXPECT_EQ(registry_.CountRequests("GET", "/manifests/" + image.manifest.digest.str()), 0);
  EXPECT_THAT(Kept(), IsEmpty());
}

TEST_F(ImageFaultsTest, BytesOfAnotherDigestAreNotTaken) {
  const Published image = Publish("v1");
  registry_.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& peer) {
    if (request.method != "GET" || !absl::StrContains(request.path, "/blobs/")) return false;
    return peer.Answer(200, {{"Content-Type", "application/octet-stream"}},
                       std::string(static_cast<size_t>(image.config.size_bytes), 'x')) ||
           true;
  });
  const absl::Status status = Pull("app:v1").status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(image.config.digest.str())) << status;
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_FALSE(bed_.Has(image.config));
}

TEST_F(ImageFaultsTest, AManifestOfAnotherDigestIsNotTaken) {
  const Published asked = Publish("v1");
  Publish("v2");
  const std::string other = registry_.Manifest("app", "v2");
  registry_.SetHook([&](const FakeRegistry::Request& request, FakeRegistry::Connection& peer) {
    if (!absl::StrContains(request.path, "/manifests/")) return false;
    return peer.Answer(200, {{"Content-Type", std::string(oci::kOciManifest)}}, other) || true;
  });
  const absl::Status status = Pull("app@" + asked.manifest.digest.str()).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(asked.manifest.digest.str())) << status;
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(ImageFaultsTest, APlatformThatIsNotThereIsSaidWithThoseThatAre) {
  const content::Descriptor arm = registry_.AddImage("app", "", {}, "arm64");
  registry_.AddIndex("app", "v1", {arm});
  const absl::Status status = Pull("app:v1", "linux/s390x").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("s390x"), HasSubstr("arm64")));
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(Kept(), IsEmpty());
  EXPECT_TRUE(absl::IsInvalidArgument(Pull("app:v1", "linux/").status()))
      << Pull("app:v1", "linux/").status();
}

TEST_F(ImageFaultsTest, WhatIsNoReferenceIsRefusedBeforeAnyWork) {
  v1::PullRequest request;
  request.set_reference("app:tag:tag");
  EXPECT_TRUE(absl::IsInvalidArgument(pull_->Pull(bed_.context, request, nullptr).status()));
  v1::PushRequest push;
  push.set_reference(":tag");
  EXPECT_TRUE(absl::IsInvalidArgument(push_->Push(bed_.context, push, nullptr).status()));
  RegistryAccess access;
  access.default_scheme = "gopher";
  request.set_reference(Full("app:v1"));
  const absl::Status scheme = pull_->Pull(bed_.context, request, nullptr, access).status();
  EXPECT_TRUE(absl::IsInvalidArgument(scheme));
  EXPECT_THAT(std::string(scheme.message()), HasSubstr("gopher"));
  access.default_scheme.clear();
  access.hosts_directory = "relative/dir";
  EXPECT_TRUE(
      absl::IsInvalidArgument(pull_->Pull(bed_.context, request, nullptr, access).status()));
  EXPECT_THAT(Kept(), IsEmpty());
  EXPECT_THAT(registry_.lines(), IsEmpty());
}

TEST_F(ImageFaultsTest, APushThatBreaksGoesOnWhereItWas) {
  const content::Descriptor image =
      bed_.Image(absl::StrCat(R"("author":")", std::string(1 << 20, 'a'), "\""));
  bed_.Record(Full("app:v1"), image);
  registry_.BreakUploads(300000, 1);
  v1::PushRequest request;
  request.set_reference(Full("app:v1"));
  const auto pushed = push_->Push(bed_.context, request, nullptr);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_NE(registry_.Manifest("app", "v1"), "");
  EXPECT_EQ(pushed->at(0).digest(), image.digest.str());
  EXPECT_EQ(pushed->at(0).size_bytes(), image.size_bytes);
  EXPECT_EQ(pushed->at(0).tag(), "v1");
  EXPECT_THAT(Kept(), IsEmpty());
}

TEST_F(ImageFaultsTest, APushThatIsRefusedLeavesNoTag) {
  bed_.Record(Full("app:v1"), bed_.Image(R"("author":"ann")"));
  registry_.SetHook([](const FakeRegistry::Request& request, FakeRegistry::Connection& peer) {
    if (request.method != "PUT" || !absl::StrContains(request.path, "/manifests/")) return false;
    return peer.Answer(403, {}, R"({"errors":[{"code":"DENIED","message":"not yours"}]})") || true;
  });
  v1::PushRequest request;
  request.set_reference(Full("app:v1"));
  const absl::Status status = push_->Push(bed_.context, request, nullptr).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not yours"));
  EXPECT_EQ(registry_.Manifest("app", "v1"), "");
  EXPECT_THAT(Kept(), IsEmpty());
}

TEST_F(ImageFaultsTest, APushOfWhatIsNotHereSaysWhatIsMissing) {
  v1::PushRequest request;
  request.set_reference(Full("app"));
  request.set_all_tags(true);
  absl::Status status = push_->Push(bed_.context, request, nullptr).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  request.set_all_tags(false);
  request.set_reference(Full("app:v1"));
  EXPECT_TRUE(absl::IsNotFound(push_->Push(bed_.context, request, nullptr).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(push_->PushAs(bed_.context, {}, nullptr, {}).status()));

  const content::Descriptor image = bed_.Image(R"("author":"ann")");
  bed_.Record(Full("app:v1"), image);
  ASSERT_TRUE(bed_.world.Content().Delete(image.digest).ok());
  ASSERT_TRUE(bed_.world.files->Delete(image.digest).ok());
  status = push_->Push(bed_.context, request, nullptr).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(image.digest.str())) << status;
  EXPECT_EQ(registry_.Manifest("app", "v1"), "");
}

TEST_F(ImageFaultsTest, VerifySaysHowABlobIsDamaged) {
  const Published image = Publish("v1");
  ASSERT_TRUE(Pull("app:v1").ok());
  Damage(image.config, std::string(static_cast<size_t>(image.config.size_bytes), 'x'));
  absl::StatusOr<v1::VerifyResponse::Result> result = Verify();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->images(), 1);
  EXPECT_EQ(result->damaged(), 1);
  ASSERT_EQ(findings_.size(), 1u);
  EXPECT_EQ(findings_[0].image(), Full("app:v1"));
  EXPECT_EQ(findings_[0].digest(), image.config.digest.str());
  EXPECT_THAT(findings_[0].problem(), HasSubstr("its bytes hash to sha256:"));
  Damage(image.config, "short");
  result = Verify();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(findings_.at(0).problem(), HasSubstr("has 5 bytes, not "));
  EXPECT_FALSE(findings_.at(0).repaired());

  result = Verify(/*repair=*/true, Full("app:v1"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->repaired(), 1);
  EXPECT_TRUE(findings_.at(0).repaired());
  EXPECT_EQ(Verify()->damaged(), 0);
  EXPECT_TRUE(absl::IsNotFound(Verify(false, "nobody:1").status()));
}

TEST_F(ImageFaultsTest, ARepairThatFailsKeepsTheRestOfTheImage) {
  const Published image = Publish("v1");
  ASSERT_TRUE(Pull("app:v1").ok());
  Damage(image.manifest, "no manifest");
  registry_.SetHook([](const FakeRegistry::Request&, FakeRegistry::Connection& peer) {
    return peer.Answer(503, {}, "busy") || true;
  });
  absl::StatusOr<v1::VerifyResponse::Result> result = Verify(/*repair=*/true);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->damaged(), 1);
  EXPECT_EQ(result->repaired(), 0);
  EXPECT_FALSE(findings_.at(0).repaired());
  EXPECT_THAT(findings_.at(0).problem(), HasSubstr("; repair: "));
  // Its other blobs are not lost with it, however long the registry is away.
  ASSERT_TRUE(
      bed_.world.collector.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  EXPECT_TRUE(bed_.Has(image.config));
  registry_.SetHook(nullptr);
  result = Verify(/*repair=*/true);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->repaired(), 1);
  EXPECT_EQ(result->blobs(), 2);
  ASSERT_TRUE(
      bed_.world.collector.Collect({.full_sweep = true, .gate_timeout = absl::Seconds(60)}).ok());
  EXPECT_EQ(Verify()->damaged(), 0);
  ASSERT_TRUE(Pull("app:v1").ok());
  EXPECT_THAT(Kept(), IsEmpty());
}

TEST_F(ImageFaultsTest, AnIndexWithoutAnyOfItsImagesIsDamaged) {
  const content::Descriptor here = bed_.Image(R"("author":"here")");
  const content::Descriptor elsewhere = bed_.Image(R"("author":"there")", "arm64");
  bed_.Record("docker.io/library/some:1", bed_.Index({here, elsewhere}));
  const content::Descriptor gone = bed_.Image(R"("author":"gone")", "riscv64");
  const content::Descriptor index = bed_.Index({gone});
  bed_.Record("docker.io/library/none:1", index);
  for (const content::Descriptor& blob : {elsewhere, gone}) {
    ASSERT_TRUE(bed_.world.Content().Delete(blob.digest).ok());
  }
  const absl::StatusOr<v1::VerifyResponse::Result> result = Verify();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->images(), 2);
  EXPECT_EQ(result->damaged(), 1);  // a platform may be left out, but not all
  ASSERT_EQ(findings_.size(), 1u);
  EXPECT_EQ(findings_[0].image(), "docker.io/library/none:1");
  EXPECT_EQ(findings_[0].digest(), index.digest.str());
}

TEST_F(ImageFaultsTest, ACancelledVerifyEnds) {
  bed_.Record("docker.io/library/some:1", bed_.Image(""));
  CancelToken cancel;
  cancel.Cancel();
  bed_.context.cancel = &cancel;
  EXPECT_TRUE(absl::IsCancelled(Verify().status()));
  EXPECT_THAT(Kept(), IsEmpty());
}

TEST_F(ImageFaultsTest, LoginTriesTheCredential) {
  FakeRegistry::Options options;
  options.auth = FakeRegistry::Auth::kBasic;
  options.users = {{"ann", "right"}};
  FakeRegistry closed(options);
  v1::LoginRequest request;
  request.mutable_auth()->set_server_address(closed.host());
  absl::Status status = service_->Login(bed_.context, request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(closed.lines(), IsEmpty());
  request.mutable_auth()->set_username("ann");
  request.mutable_auth()->set_password("wrong");
  status = service_->Login(bed_.context, request).status();
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("wrong")));
  request.mutable_auth()->set_password("right");
  const auto response = service_->Login(bed_.context, request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status(), "Login Succeeded");
}

TEST_F(ImageFaultsTest, ACredentialOfTheRequestIsUsedForItsPullAndNoOther) {
  FakeRegistry::Options options;
  options.auth = FakeRegistry::Auth::kBasic;
  options.users = {{"ann", "right"}};
  FakeRegistry closed(options);
  oci::Manifest manifest;
  manifest.media_type = oci::kOciManifest;
  manifest.config =
      closed.AddBlob("app", R"({"os":"linux","architecture":"amd64"})", oci::kOciConfig);
  closed.AddManifest("app", "v1", oci::PrintManifest(manifest), oci::kOciManifest);
  v1::PullRequest request;
  request.set_reference(closed.host() + "/app:v1");
  absl::Status status = pull_->Pull(bed_.context, request, nullptr).status();
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  request.mutable_auth()->set_username("ann");
  request.mutable_auth()->set_password("right");
  status = pull_->Pull(bed_.context, request, nullptr).status();
  EXPECT_TRUE(status.ok()) << status;
  request.clear_auth();
  EXPECT_TRUE(absl::IsUnauthenticated(pull_->Pull(bed_.context, request, nullptr).status()));
}

TEST_F(ImageFaultsTest, ExplainSaysWhatWasAskedAndAnswered) {
  const Published image = Publish("v1");
  v1::ExplainRegistryRequest request;
  request.set_reference(Full("app:v1"));
  absl::StatusOr<v1::ExplainRegistryResponse> explained =
      service_->ExplainRegistry(bed_.context, request);
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->reference(), Full("app:v1"));
  EXPECT_EQ(explained->resolved().digest(), image.manifest.digest.str());
  EXPECT_EQ(explained->resolved().media_type(), oci::kOciManifest);
  EXPECT_EQ(explained->error(), "");
  std::vector<int> answers;
  for (const auto& host : explained->hosts()) {
    for (const auto& attempt : host.attempts()) answers.push_back(attempt.status());
  }
  EXPECT_THAT(answers, Contains(200));

  request.set_reference(Full("app:nope"));
  explained = service_->ExplainRegistry(bed_.context, request);
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_FALSE(explained->has_resolved());
  EXPECT_THAT(explained->error(), HasSubstr("app:nope"));
  request.set_reference("NOT/A:ref:at:all");
  EXPECT_TRUE(absl::IsInvalidArgument(service_->ExplainRegistry(bed_.context, request).status()));
}

TEST_F(ImageFaultsTest, ExplainChoosesFromAnIndexByPlatform) {
  content::Descriptor host = Publish("host").manifest;
  host.platform = oci::HostPlatform();
  content::Descriptor other = Publish("other", 100).manifest;
  other.platform = oci::ParsePlatform("linux/s390x").value();
  oci::Index index;
  index.media_type = oci::kOciIndex;
  index.manifests = {other, host};
  registry_.AddManifest("app", "both", oci::PrintIndex(index), oci::kOciIndex);
  v1::ExplainRegistryRequest request;
  request.set_reference(Full("app:both"));
  const auto explain = [&](const std::string& platform) {
    request.set_platform(platform);
    return service_->ExplainRegistry(bed_.context, request);
  };
  absl::StatusOr<v1::ExplainRegistryResponse> explained = explain("");
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->resolved().media_type(), oci::kOciIndex);
  EXPECT_EQ(explained->manifest().digest(), host.digest.str());
  explained = explain("linux/s390x");
  EXPECT_EQ(explained->manifest().digest(), other.digest.str());
  explained = explain("linux/riscv64");
  EXPECT_FALSE(explained->has_manifest());
  EXPECT_THAT(explained->error(), HasSubstr("no image for platform linux/riscv64; there are"));
  EXPECT_THAT(explained->error(), HasSubstr("linux/s390x"));
  EXPECT_TRUE(absl::IsInvalidArgument(explain("a/b/c/d/e").status()));
}

TEST_F(ImageFaultsTest, LookupTellsTheDescriptorAndThePlatforms) {
  content::Descriptor host = Publish("v1").manifest;
  absl::StatusOr<RemoteImage> found = service_->Lookup(bed_.context, Full("app:v1"), {});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->descriptor.digest, host.digest);
  EXPECT_EQ(found->platforms.size(), 1u);
  host.platform = oci::ParsePlatform("linux/amd64").value();
  content::Descriptor other = Publish("other", 100).manifest;
  other.platform = oci::ParsePlatform("linux/s390x").value();
  oci::Index index;
  index.media_type = oci::kOciIndex;
  index.manifests = {other, host};
  registry_.AddManifest("app", "both", oci::PrintIndex(index), oci::kOciIndex);
  found = service_->Lookup(bed_.context, Full("app:both"), {});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->descriptor.media_type, oci::kOciIndex);
  EXPECT_EQ(found->platforms, (std::vector<std::string>{"linux/s390x", "linux/amd64"}));
  EXPECT_TRUE(absl::IsNotFound(service_->Lookup(bed_.context, Full("app:nope"), {}).status()));
}

TEST_F(ImageFaultsTest, ExplainOfflineAsksNobody) {
  Publish("v1");
  far_.Configure(registry_.host(), absl::StrCat("server = \"http://", registry_.host(), "\"\n"));
  v1::ExplainRegistryRequest request;
  request.set_reference(Full("app:v1"));
  request.set_offline(true);
  const absl::StatusOr<v1::ExplainRegistryResponse> explained =
      service_->ExplainRegistry(bed_.context, request);
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_THAT(registry_.lines(), IsEmpty());
  ASSERT_GE(explained->hosts_size(), 1);
  EXPECT_THAT(explained->hosts(0).url(), HasSubstr(registry_.host()));
  EXPECT_EQ(explained->hosts(0).attempts_size(), 0);
  EXPECT_FALSE(explained->has_resolved());
  EXPECT_EQ(explained->error(), "");  // nothing went wrong
}

TEST_F(ImageFaultsTest, ProgressNamesEachBlobAndItsEnd) {
  const Published image = Publish("v1", 200000);
  absl::Mutex mu;
  std::vector<v1::Progress> steps;
  v1::PullRequest request;
  request.set_reference(Full("app:v1"));
  ASSERT_TRUE(pull_
                  ->Pull(bed_.context, request,
                         [&](const v1::Progress& step) {
                           absl::MutexLock lock(&mu);
                           steps.push_back(step);
                         })
                  .ok());
  v1::Progress last;
  for (const v1::Progress& step : steps) {
    if (step.id() != image.config.digest.str()) continue;
    EXPECT_GE(step.current_bytes(), last.current_bytes());
    EXPECT_EQ(step.media_type(), "config");
    last = step;
  }
  EXPECT_EQ(last.state(), v1::Progress::DOWNLOADED);
  EXPECT_EQ(last.total_bytes(), image.config.size_bytes);
}

TEST(ImageProgressTest, EachStateOfATransferHasItsWord) {
  using State = distribution::Progress::State;
  std::vector<v1::Progress::State> words;
  const ProgressFn note = [&](const v1::Progress& step) { words.push_back(step.state()); };
  const distribution::ProgressFn down = TransferProgress(note, /*uploading=*/false);
  const distribution::ProgressFn up = TransferProgress(note, /*uploading=*/true);
  distribution::Progress step;
  for (const State state : {State::kWaiting, State::kMoving, State::kRetrying, State::kDone,
                            State::kExists, State::kMounted}) {
    step.state = state;
    down(step);
    up(step);
  }
  EXPECT_THAT(words,
              ElementsAre(v1::Progress::WAITING, v1::Progress::WAITING, v1::Progress::DOWNLOADING,
                          v1::Progress::UPLOADING, v1::Progress::RETRYING, v1::Progress::RETRYING,
                          v1::Progress::DOWNLOADED, v1::Progress::UPLOADED, v1::Progress::EXISTS,
                          v1::Progress::EXISTS, v1::Progress::MOUNTED, v1::Progress::MOUNTED));
  // Without a listener there is nothing to call.
  EXPECT_FALSE(TransferProgress(nullptr, false));
  EXPECT_FALSE(ArchiveProgress(nullptr, v1::Progress::READING));
  EXPECT_FALSE(UnpackProgressTo(nullptr));
}

TEST(ImageProgressTest, AnArchivesEntryIsCompleteAtItsEnd) {
  std::vector<v1::Progress> steps;
  const distribution::ArchiveProgressFn read = ArchiveProgress(
      [&](const v1::Progress& step) { steps.push_back(step); }, v1::Progress::READING);
  read("blobs/sha256/x", 5, 10);
  read("blobs/sha256/x", 10, 10);
  read("index.json", 7, 0);  // its length is not known
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_EQ(steps[0].id(), "blobs/sha256/x");
  EXPECT_EQ(steps[0].state(), v1::Progress::READING);
  EXPECT_EQ(steps[1].state(), v1::Progress::COMPLETE);
  EXPECT_EQ(steps[2].state(), v1::Progress::READING);
}

}  // namespace
}  // namespace gantry::core
