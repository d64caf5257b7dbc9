// Images to and from a registry, and what checks and repairs them: pull, push, verify, refetch, and
// transfers in a client's own words. The images have no layers, or layers that are not unpacked, so
// no privilege is needed.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/image_push.h"
#include "supervisor/core/image_testbed.h"
#include "supervisor/core/image_transfer.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/image_verify.h"
#include "supervisor/core/refetch.h"
#include "supervisor/distribution/registry_testbed.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class ImageRegistryTest : public ::testing::Test {
 protected:
  ImageRegistryTest()
      : unpack_({&bed_.stores, &unpacker_, far_.puller.get(), nullptr, false}),
        pull_({&bed_.stores, bed_.catalog.get(), &unpacker_, far_.puller.get(), far_.resolver.get(),
               nullptr, far_.hosts.get()}),
        push_({&bed_.stores, bed_.catalog.get(), far_.puller.get(), far_.pusher.get(), nullptr,
               far_.hosts.get()}),
        verify_({&bed_.stores, bed_.catalog.get(), far_.puller.get(), nullptr, false}),
        transfer_({&bed_.stores, bed_.catalog.get(), &pull_, &push_, &unpack_, &unpacker_}) {}

  // An image of settings only.
  content::Descriptor Publish(const std::string& repository, const std::string& tag,
                              const std::string& author) {
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config = registry_.AddBlob(
        repository,
        absl::StrCat(R"({"os":"linux","architecture":"amd64","author":")", author, "\"}"),
        oci::kOciConfig);
    return registry_.AddManifest(repository, tag, oci::PrintManifest(manifest), oci::kOciManifest);
  }
  std::string Full(const std::string& name) { return absl::StrCat(registry_.host(), "/", name); }
  absl::StatusOr<v1::PulledImage> Pull(const std::string& name) {
    v1::PullRequest request;
    request.set_reference(Full(name));
    return pull_.Pull(bed_.context, request, nullptr);
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const absl::Status listed = bed_.world.images.List({"default", ""}, metadata::Filter(),
                                                       [&](const record::v1::Image& image) {
                                                         names.push_back(image.name());
                                                         return absl::OkStatus();
                                                       });
    EXPECT_TRUE(listed.ok()) << listed;
    return names;
  }
  int Leases() {
    int count = 0;
    const absl::Status listed =
        bed_.world.leases.List({"default", ""}, metadata::Filter(), [&](const record::v1::Lease&) {
          ++count;
          return absl::OkStatus();
        });
    EXPECT_TRUE(listed.ok()) << listed;
    return count;
  }

  ImageTestbed bed_;
  distribution::RegistryTestbed far_;
  distribution::FakeRegistry registry_;
  distribution::Unpacker unpacker_{distribution::UnpackerOptions()};
  ImageUnpack unpack_;
  ImagePull pull_;
  ImagePush push_;
  ImageVerify verify_;
  ImageTransfer transfer_;
};

TEST_F(ImageRegistryTest, APullNamesWhatItFetched) {
  const content::Descriptor image = Publish("app", "v1", "ann");
  auto pulled = Pull("app:v1");
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->reference(), Full("app:v1"));
  EXPECT_EQ(pulled->image_id(), image.digest.str());
  EXPECT_FALSE(pulled->up_to_date());
  EXPECT_THAT(Names(), ElementsAre(Full("app:v1")));
  EXPECT_TRUE(bed_.Has(image));
  EXPECT_EQ(Leases(), 0);
  pulled = Pull("app:v1");
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_TRUE(pulled->up_to_date());
  EXPECT_EQ(pull_.pull_counts().succeeded, 2);
  EXPECT_GT(pull_.pull_counts().fetched_bytes, 0);
}

TEST_F(ImageRegistryTest, WhatIsNotThereLeavesNothing) {
  const absl::Status status = Pull("app:nope").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("app:nope: the registry has no such tag or repository"));
  EXPECT_THAT(Names(), ElementsAre());
  EXPECT_EQ(Leases(), 0);
  EXPECT_EQ(pull_.pull_counts().failed, 1);
  EXPECT_EQ(pull_.pull_counts().running, 0);
}

TEST_F(ImageRegistryTest, AllTagsAreOnePullEach) {
  Publish("app", "v1", "ann");
  Publish("app", "v2", "bob");
  v1::PullRequest request;
  request.set_reference(Full("app"));
  request.set_all_tags(true);
  auto pulled = pull_.Pull(bed_.context, request, nullptr);
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_THAT(Names(), UnorderedElementsAre(Full("app:v1"), Full("app:v2")));
}

TEST_F(ImageRegistryTest, ATransferWritesTheNamesThatAreWantedAndNoOther) {
  const content::Descriptor image = Publish("app", "v1", "ann");
  TransferPull order;
  order.reference = Full("app:v1");
  order.names = [](const content::Digest& digest) {
    return std::vector<ImageNaming>{{"mine", {{"team", "blue"}}},
                                    {absl::StrCat("mine@", digest.str()), {}}};
  };
  std::vector<std::string> named;
  const absl::Status pulled = transfer_.Pull(
      bed_.context, order, nullptr, [&](const std::string& name) { named.push_back(name); });
  ASSERT_TRUE(pulled.ok()) << pulled;
  EXPECT_EQ(named.size(), 2u);
  EXPECT_THAT(Names(), UnorderedElementsAre("mine", absl::StrCat("mine@", image.digest.str())));
  EXPECT_EQ(bed_.world.images.Get({"default", ""}, "mine")->labels().at("team"), "blue");
  EXPECT_EQ(Leases(), 0);
}

TEST_F(ImageRegistryTest, ATransferDoesNotTouchTheNameOfTheRegistry) {
  const content::Descriptor other = bed_.Image(R"("author":"other")");
  bed_.Record(Full("app:v1"), other);
  Publish("app", "v1", "ann");
  TransferPull order;
  order.reference = Full("app:v1");
  order.names = [](const content::Digest&) { return std::vector<ImageNaming>{{"mine", {}}}; };
  ASSERT_TRUE(transfer_.Pull(bed_.context, order, nullptr, [](const std::string&) {}).ok());
  EXPECT_EQ(bed_.world.images.Get({"default", ""}, Full("app:v1"))->target().digest(),
            other.digest.str());
}

TEST_F(ImageRegistryTest, APushNeedsNoNameHere) {
  const content::Descriptor image = bed_.Image(R"("author":"ann")");
  bed_.Record("mine", image);
  TransferPush order;
  order.image = "mine";
  order.reference = Full("app:v9");
  const absl::Status pushed = transfer_.Push(bed_.context, order, nullptr);
  ASSERT_TRUE(pushed.ok()) << pushed;
  EXPECT_NE(registry_.Manifest("app", "v9"), "");
  EXPECT_THAT(Names(), ElementsAre("mine"));
  order.image = "not here";
  EXPECT_EQ(transfer_.Push(bed_.context, order, nullptr).code(), absl::StatusCode::kNotFound);
}

TEST_F(ImageRegistryTest, APushByNameSendsThatImage) {
  const content::Descriptor image = bed_.Image(R"("author":"ann")");
  bed_.Record(Full("app:v1"), image);
  bed_.Record(Full("app:v2"), image);
  v1::PushRequest request;
  request.set_reference(Full("app"));
  request.set_all_tags(true);
  auto pushed = push_.Push(bed_.context, request, nullptr);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  ASSERT_EQ(pushed->size(), 2u);
  EXPECT_EQ((*pushed)[0].digest(), image.digest.str());
  EXPECT_NE(registry_.Manifest("app", "v2"), "");
}

TEST_F(ImageRegistryTest, ATagIsWrittenWithItsLabels) {
  const content::Descriptor image = bed_.Image("");
  bed_.Record("one", image);
  ASSERT_TRUE(transfer_.Tag(bed_.context, "one", {"two", {{"k", "v"}}}).ok());
  EXPECT_EQ(bed_.world.images.Get({"default", ""}, "two")->labels().at("k"), "v");
  EXPECT_EQ(transfer_.Tag(bed_.context, "none", {"three", {}}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(transfer_
                .Tag(bed_.context, "one",
                     {absl::StrCat("x@", content::Digest::Sha256Of("other").str()), {}})
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ImageRegistryTest, WhatIsExportedIsImportedUnderTheNamesAskedFor) {
  const content::Descriptor image = bed_.Image(R"("author":"ann")");
  bed_.Record("docker.io/library/one:1", image);
  bed_.Record("docker.io/library/one:2", image);
  TransferExport out;
  out.prefixes = {"docker.io/library/one"};
  StringSink archive;
  ASSERT_TRUE(transfer_.Export(bed_.context, out, archive, nullptr).ok());
  EXPECT_EQ(transfer_.Export(bed_.context, {}, archive, nullptr).code(),
            absl::StatusCode::kInvalidArgument);

  TransferImport in;
  in.names = [](const distribution::ImportedImage& imported) {
    return std::vector<ImageNaming>{{absl::StrCat("copy of ", imported.name), {}}};
  };
  StringSource source(archive.str());
  std::vector<std::string> named;
  const absl::Status imported = transfer_.Import(
      bed_.context, in, source, nullptr, [&](const std::string& name) { named.push_back(name); });
  ASSERT_TRUE(imported.ok()) << imported;
  EXPECT_THAT(named, UnorderedElementsAre("copy of docker.io/library/one:1",
                                          "copy of docker.io/library/one:2"));
  in.names = [](const distribution::ImportedImage&) { return std::vector<ImageNaming>(); };
  StringSource again(archive.str());
  EXPECT_EQ(transfer_.Import(bed_.context, in, again, nullptr, [](const std::string&) {}).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Leases(), 0);
}

TEST_F(ImageRegistryTest, VerifyFindsAndRepairsAndHoldsWhatItLooksAt) {
  const content::Descriptor image = Publish("app", "v1", "ann");
  ASSERT_TRUE(Pull("app:v1").ok());
  v1::VerifyRequest request;
  int leases = 0;
  std::vector<v1::VerifyResponse::Finding> findings;
  const auto verify = [&] {
    findings.clear();
    return verify_.Verify(
        bed_.context, request,
        [&](const v1::VerifyResponse::Finding& finding) { findings.push_back(finding); },
        [&](const v1::Progress&) { leases = std::max(leases, Leases()); });
  };
  auto result = verify();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->blobs(), 2);
  EXPECT_EQ(result->damaged(), 0);
  EXPECT_EQ(leases, 1);
  EXPECT_EQ(Leases(), 0);

  ASSERT_TRUE(bed_.world.files->Delete(image.digest).ok());
  result = verify();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->damaged(), 1);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].digest(), image.digest.str());

  request.set_repair(true);
  result = verify();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->repaired(), 1) << findings[0].problem();
  request.set_repair(false);
  EXPECT_EQ(verify()->damaged(), 0);
}

TEST_F(ImageRegistryTest, DiscardedLayersAreFetchedAgainAndLetGo) {
  const content::Descriptor layer = registry_.AddBlob("app", "the layer", oci::kOciLayerGzip);
  oci::Document document;
  oci::Manifest& manifest = document.manifest.emplace();
  manifest.media_type = oci::kOciManifest;
  manifest.config = bed_.Blob(oci::kOciConfig, R"({"os":"linux","architecture":"amd64"})");
  manifest.layers = {layer};
  const content::Descriptor image =
      bed_.Blob(oci::kOciManifest, oci::PrintManifest(manifest),
                {{absl::StrCat("containerd.io/distribution.source.", registry_.host()), "app"}});
  metadata::ContentNamespace content = bed_.world.Content();
  const auto context_of = [](const std::string&) { return distribution::CallContext(); };
  {
    Refetch refetch(*far_.puller, content, /*discard=*/true);
    const absl::Status fetched = refetch.FetchBelow(bed_.Index({image}), context_of, nullptr);
    ASSERT_TRUE(fetched.ok()) << fetched;
    EXPECT_TRUE(bed_.Has(layer));
  }
  EXPECT_FALSE(bed_.Has(layer));
  {
    Refetch refetch(*far_.puller, content, /*discard=*/false);
    ASSERT_TRUE(refetch.FetchBelow(image, context_of, nullptr).ok());
  }
  EXPECT_TRUE(bed_.Has(layer));

  ASSERT_TRUE(content.Delete(layer.digest).ok());
  ASSERT_TRUE(bed_.world.files->Delete(layer.digest).ok());
  registry_.RemoveBlob("app", layer.digest);
  Refetch refetch(*far_.puller, content, /*discard=*/true);
  EXPECT_THAT(std::string(refetch.FetchBelow(image, context_of, nullptr).message()),
              HasSubstr("cannot be fetched again"));
}

TEST_F(ImageRegistryTest, AnIndexThatNamesTheSameOverAndOverIsWalkedOnce) {
  content::Descriptor below = bed_.Image("");
  for (int level = 0; level < 8; ++level)
    below = bed_.Index(std::vector<content::Descriptor>(200, below));
  metadata::ContentNamespace content = bed_.world.Content();
  Refetch refetch(*far_.puller, content, false);
  EXPECT_TRUE(
      refetch
          .FetchBelow(
              below, [](const std::string&) { return distribution::CallContext(); }, nullptr)
          .ok());
  bed_.Record("docker.io/library/many:1", below);
  auto list = bed_.catalog->List(bed_.context, {});
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->images(0).id(), below.digest.str());
}

}  // namespace
}  // namespace gantry::core
