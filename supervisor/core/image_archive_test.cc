#include "supervisor/core/image_archive.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/tar/entry.h"
#include "base/tar/writer.h"
#include "supervisor/core/image_assembly.h"
#include "supervisor/core/image_testbed.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;

constexpr char kConfig[] = R"({"os":"linux","architecture":"amd64"})";

class ImageArchiveTest : public ::testing::Test {
 protected:
  ImageArchiveTest() {
    ImageArchive::Parts parts = {};
    parts.stores = &bed_.stores;
    parts.catalog = bed_.catalog.get();
    parts.assembly = &assembly_;
    archive_ = std::make_unique<ImageArchive>(parts);
  }

  // An archive of an image whose entry in the index has the tag as its only name.
  std::string Archive(const std::string& tag) {
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config = Describe(oci::kOciConfig, kConfig);
    const std::string text = oci::PrintManifest(manifest);
    target_ = Describe(oci::kOciManifest, text);
    oci::Index index;
    index.media_type = oci::kOciIndex;
    index.manifests = {target_};
    if (!tag.empty()) index.manifests[0].annotations["org.opencontainers.image.ref.name"] = tag;
    StringSink sink;
    TarWriter tar(sink);
    for (const auto& [path, bytes] :
         {std::pair(absl::StrCat("blobs/sha256/", manifest.config.digest.hex()),
                    std::string(kConfig)),
          std::pair(absl::StrCat("blobs/sha256/", target_.digest.hex()), text),
          std::pair(std::string("index.json"), oci::PrintIndex(index))}) {
      TarEntry entry;
      entry.path = path;
      entry.mode = 0644;
      EXPECT_TRUE(tar.WriteFile(entry, bytes).ok());
    }
    EXPECT_TRUE(tar.Finish().ok());
    return sink.str();
  }
  static content::Descriptor Describe(absl::string_view type, absl::string_view bytes) {
    content::Descriptor out;
    out.media_type = std::string(type);
    out.digest = content::Digest::Sha256Of(bytes);
    out.size_bytes = static_cast<int64_t>(bytes.size());
    return out;
  }

  absl::StatusOr<std::vector<v1::LoadedImage>> Load(const std::string& bytes,
                                                    const std::string& name = "") {
    v1::LoadRequest::Open request;
    request.set_no_unpack(true);
    request.set_name(name);
    StringSource source(bytes);
    return archive_->Load(bed_.context, request, source, nullptr);
  }
  // Found, listed and removed by what load says its name is.
  void ExpectUsable(const v1::LoadedImage& loaded) {
    const std::string name = loaded.reference().empty() ? loaded.image_id() : loaded.reference();
    auto found = bed_.catalog->Find(bed_.context, name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->front().target().digest(), target_.digest.str());
    auto list = bed_.catalog->List(bed_.context, {});
    ASSERT_TRUE(list.ok());
    ASSERT_EQ(list->images_size(), 1);
    if (!loaded.reference().empty()) {
      EXPECT_THAT(list->images(0).repo_tags(), ElementsAre(loaded.reference()));
    }
    v1::RemoveImageRequest remove;
    remove.set_image(name);
    auto removed = bed_.catalog->Remove(bed_.context, remove);
    ASSERT_TRUE(removed.ok()) << removed.status();
    EXPECT_TRUE(absl::IsNotFound(bed_.catalog->Find(bed_.context, name).status()));
  }

  ImageTestbed bed_;
  ImageAssembly assembly_;
  std::unique_ptr<ImageArchive> archive_;
  content::Descriptor target_;
};

TEST_F(ImageArchiveTest, AnImageWithATagOnlyIsUsedByTheNameThatLoadSays) {
  auto loaded = Load(Archive("v1"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->size(), 1u);
  EXPECT_EQ((*loaded)[0].reference(), "v1:latest");
  ExpectUsable((*loaded)[0]);
}

TEST_F(ImageArchiveTest, ATagBelongsToTheRepositoryOfTheRequest) {
  auto loaded = Load(Archive("v1"), "app");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)[0].reference(), "app:v1");
  ExpectUsable((*loaded)[0]);
  loaded = Load(Archive("v1"), "app:mine");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)[0].reference(), "app:mine");
  ExpectUsable((*loaded)[0]);
}

TEST_F(ImageArchiveTest, ATagThatIsNoNameLeavesTheId) {
  for (const std::string& tag : {std::string("V1"), std::string(64, 'a'), std::string("")}) {
    auto loaded = Load(Archive(tag));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)[0].reference(), "") << tag;
    ExpectUsable((*loaded)[0]);
  }
}

TEST_F(ImageArchiveTest, ANameOfAnotherImageIsRefused) {
  EXPECT_EQ(
      Load(Archive(absl::StrCat("x@", content::Digest::Sha256Of("other").str()))).status().code(),
      absl::StatusCode::kInvalidArgument);
  auto list = bed_.catalog->List(bed_.context, {});
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->images_size(), 0);
}

TEST_F(ImageArchiveTest, ANameInTheRequestMustFitToo) {
  EXPECT_EQ(Load(Archive(""), absl::StrCat("x@", content::Digest::Sha256Of("other").str()))
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace gantry::core
