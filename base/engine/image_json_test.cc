#include "base/engine/image_json.h"

#include <gtest/gtest.h>

#include "proto/gantry/v1/images.pb.h"

namespace gantry::engine {
namespace {

v1::ImageSummary Busybox() {
  v1::ImageSummary image;
  image.set_id("sha256:aa");
  image.add_repo_tags("busybox:latest");
  image.add_repo_digests("busybox@sha256:aa");
  image.mutable_created_at()->set_seconds(1700000000);
  image.set_size_bytes(4000);
  image.set_containers(2);
  (*image.mutable_labels())["a"] = "b";
  image.mutable_target()->set_media_type("application/vnd.oci.image.index.v1+json");
  image.mutable_target()->set_digest("sha256:aa");
  image.mutable_target()->set_size_bytes(610);
  return image;
}

TEST(ImageJsonTest, AnItemHasTheKeysOfTheNewestVersion) {
  EXPECT_EQ(ImageListItem(Busybox(), 51).ToJson(),
            R"({"Containers":2,"Created":1700000000,"Id":"sha256:aa","Labels":{"a":"b"},)"
            R"("ParentId":"","Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json",)"
            R"("digest":"sha256:aa","size":610},"RepoDigests":["busybox@sha256:aa"],)"
            R"("RepoTags":["busybox:latest"],"SharedSize":-1,"Size":4000})");
}

TEST(ImageJsonTest, AnItemForAnOldClientHasWhatThatVersionHad) {
  v1::ImageSummary image = Busybox();
  image.clear_repo_tags();
  image.clear_repo_digests();
  image.clear_labels();
  EXPECT_EQ(ImageListItem(image, 41).ToJson(),
            R"({"Containers":-1,"Created":1700000000,"Id":"sha256:aa","Labels":null,"ParentId":"",)"
            R"("RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"],"SharedSize":-1,)"
            R"("Size":4000,"VirtualSize":4000})");
  EXPECT_EQ(ImageListItem(image, 43).Find("RepoTags")->ToJson(), "[]");
}

TEST(ImageJsonTest, ManifestsSayTheirKindAndPlatform) {
  v1::ImageSummary image = Busybox();
  v1::ManifestSummary* arm = image.add_manifests();
  arm->mutable_manifest()->set_digest("sha256:bb");
  arm->mutable_manifest()->set_media_type("application/vnd.oci.image.manifest.v1+json");
  arm->mutable_manifest()->set_size_bytes(7);
  arm->set_platform("linux/arm64/v8");
  arm->set_available(true);
  arm->set_content_size_bytes(10);
  arm->set_unpacked_size_bytes(30);
  v1::ManifestSummary* proof = image.add_manifests();
  proof->mutable_manifest()->set_digest("sha256:cc");
  proof->set_attestation(true);
  (*proof->mutable_manifest()->mutable_annotations())["vnd.docker.reference.digest"] = "sha256:bb";
  const Value item = ImageListItem(image, 47);
  ASSERT_NE(item.Find("Manifests"), nullptr);
  EXPECT_EQ(item.Find("Manifests")->list()[0].ToJson(),
            R"({"ID":"sha256:bb","Descriptor":{"mediaType":)"
            R"("application/vnd.oci.image.manifest.v1+json","digest":"sha256:bb","size":7},)"
            R"("Available":true,"Size":{"Content":10,"Total":40},"Kind":"image","ImageData":)"
            R"({"Platform":{"architecture":"arm64","os":"linux","variant":"v8"},"Containers":[],)"
            R"("Size":{"Unpacked":30}}})");
  EXPECT_EQ(item.Find("Manifests")->list()[1].Find("Kind")->string(), "attestation");
  EXPECT_EQ(item.Find("Manifests")->list()[1].Find("AttestationData")->ToJson(),
            R"({"For":"sha256:bb"})");
  EXPECT_EQ(item.Find("Descriptor"), nullptr);
}

TEST(ImageJsonTest, InspectForOldClientsHasAContainersFieldsInTheConfiguration) {
  v1::ImageDetails image;
  *image.mutable_summary() = Busybox();
  image.set_config_json(R"({"config":{"Cmd":["sh"]},"os":"linux","architecture":"amd64"})");
  const Value old = ImageInspectDocument(image, 41);
  EXPECT_EQ(old.Find("Config")->Find("Cmd")->ToJson(), R"(["sh"])");
  EXPECT_EQ(old.Find("Config")->Find("Hostname")->ToJson(), R"("")");
  EXPECT_NE(old.Find("ContainerConfig"), nullptr);
  EXPECT_EQ(old.Find("VirtualSize")->integer(), 4000);
  EXPECT_EQ(old.Find("Descriptor"), nullptr);
  const Value now = ImageInspectDocument(image, 51);
  EXPECT_EQ(now.Find("Config")->ToJson(), R"({"Cmd":["sh"]})");
  EXPECT_EQ(now.Find("ContainerConfig"), nullptr);
  EXPECT_EQ(now.Find("VirtualSize"), nullptr);
  EXPECT_NE(now.Find("Descriptor"), nullptr);
}

TEST(ImageJsonTest, HistorySaysWhatIsMissing) {
  v1::ImageHistoryResponse history;
  v1::ImageHistoryResponse::Entry* top = history.add_entries();
  top->set_id("sha256:aa");
  top->add_tags("busybox:latest");
  top->mutable_created_at()->set_seconds(5);
  top->set_created_by("CMD sh");
  history.add_entries()->set_size_bytes(9);
  EXPECT_EQ(ImageHistoryDocument(history).ToJson(),
            R"([{"Comment":"","Created":5,"CreatedBy":"CMD sh","Id":"sha256:aa","Size":0,)"
            R"("Tags":["busybox:latest"]},{"Comment":"","Created":0,"CreatedBy":"",)"
            R"("Id":"<missing>","Size":9,"Tags":null}])");
}

TEST(ImageJsonTest, RemovalsKeepTheirOrder) {
  v1::RemoveImageResponse removed;
  removed.add_removals()->set_untagged("busybox:latest");
  removed.add_removals()->set_deleted("sha256:aa");
  EXPECT_EQ(ImageRemovalsDocument(removed).ToJson(),
            R"([{"Untagged":"busybox:latest"},{"Deleted":"sha256:aa"}])");
  EXPECT_EQ(ImagePruneDocument(v1::PruneImagesResponse()).ToJson(),
            R"({"ImagesDeleted":null,"SpaceReclaimed":0})");
}

}  // namespace
}  // namespace gantry::engine
