#include "supervisor/core/layout_origin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "content-store/fake_store.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

constexpr char kRefName[] = "org.opencontainers.image.ref.name";

class LayoutOriginTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MakeDirectories(dir_.path() + "/blobs/sha256", 0755).ok());
    root_ = UniqueFd(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  content::Descriptor Write(const std::string& bytes, const std::string& type) {
    content::Descriptor blob;
    blob.media_type = type;
    blob.digest = content::Digest::Sha256Of(bytes);
    blob.size_bytes = static_cast<int64_t>(bytes.size());
    EXPECT_TRUE(WriteFile(PathOf(blob), bytes).ok());
    return blob;
  }
  std::string PathOf(const content::Descriptor& blob) {
    return absl::StrCat(dir_.path(), "/blobs/sha256/", blob.digest.hex());
  }
  // A manifest under each of these tags.
  content::Descriptor Index(const std::vector<std::string>& tags) {
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config = Write("{}", oci::kOciConfig);
    content::Descriptor target = Write(oci::PrintManifest(manifest), oci::kOciManifest);
    oci::Index index;
    index.media_type = oci::kOciIndex;
    for (const std::string& tag : tags) {
      target.annotations[kRefName] = tag;
      index.manifests.push_back(target);
    }
    EXPECT_TRUE(WriteFile(dir_.path() + "/index.json", oci::PrintIndex(index)).ok());
    return target;
  }
  LayoutOrigin Origin(const std::string& tag = "", const std::string& digest = "") {
    return LayoutOrigin(root_.get(), "layout", tag, digest);
  }

  TempDir dir_;
  UniqueFd root_;
  content::FakeStore store_;
};

TEST_F(LayoutOriginTest, ATagOrADigestSaysWhatIsMeant) {
  const content::Descriptor target = Index({"v1", "latest"});
  EXPECT_EQ(Origin("v1").Root(nullptr)->digest, target.digest);
  EXPECT_EQ(Origin().Root(nullptr)->digest, target.digest);
  EXPECT_EQ(Origin("", target.digest.str()).Root(nullptr)->media_type, oci::kOciManifest);
  const absl::Status missing = Origin("v2").Root(nullptr).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(missing.message().find("v1, latest"), absl::string_view::npos) << missing;
}

TEST_F(LayoutOriginTest, TheOnlyEntryNeedsNoTag) {
  const content::Descriptor target = Index({"v1"});
  EXPECT_EQ(Origin().Root(nullptr)->digest, target.digest);
  Index({"v1", "v2"});
  EXPECT_EQ(Origin().Root(nullptr).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LayoutOriginTest, ABlobIsVerifiedOnItsWay) {
  const content::Descriptor blob = Write("content", oci::kOciLayer);
  LayoutOrigin origin = Origin();
  ASSERT_TRUE(origin.Fetch(blob, store_, nullptr).ok());
  EXPECT_EQ(content::ReadBlob(store_, blob.digest, 100).value(), "content");
  const content::Descriptor other = Write("original", oci::kOciLayer);
  ASSERT_TRUE(WriteFile(PathOf(other), "replaced").ok());
  EXPECT_EQ(origin.Fetch(other, store_, nullptr).code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(WriteFile(PathOf(other), "original and more").ok());
  EXPECT_EQ(origin.Fetch(other, store_, nullptr).code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(store_.Stat(other.digest).ok());
  EXPECT_TRUE(store_.ListIngests()->empty());
}

TEST_F(LayoutOriginTest, LinksDoNotLeadOutOfTheDirectory) {
  TempDir outside;
  ASSERT_TRUE(WriteFile(outside.path() + "/secret", "outside").ok());
  content::Descriptor blob;
  blob.digest = content::Digest::Sha256Of("outside");
  blob.size_bytes = 7;
  ASSERT_EQ(symlink((outside.path() + "/secret").c_str(), PathOf(blob).c_str()), 0);
  EXPECT_EQ(Origin().Fetch(blob, store_, nullptr).code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(unlink(PathOf(blob).c_str()), 0);
  ASSERT_EQ(mkfifo(PathOf(blob).c_str(), 0600), 0);
  EXPECT_EQ(Origin().Fetch(blob, store_, nullptr).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace gantry::core
