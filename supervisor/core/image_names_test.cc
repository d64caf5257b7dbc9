#include "supervisor/core/image_names.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

TEST(ImageNamesTest, IdsAreKnownByTheirLooks) {
  const content::Digest digest = content::Digest::Sha256Of("x");
  EXPECT_TRUE(ReadsAsId(digest.str()));
  EXPECT_TRUE(ReadsAsId(std::string(digest.hex())));
  EXPECT_TRUE(ReadsAsId("sha256:4bcf"));
  EXPECT_FALSE(ReadsAsId("docker.io/library/x:1"));
  EXPECT_FALSE(ReadsAsId("4bcf"));
  EXPECT_FALSE(ReadsAsId(absl::StrCat("x@", digest.str())));
}

TEST(ImageNamesTest, ADigestInANameIsAPromise) {
  const content::Digest mine = content::Digest::Sha256Of("mine");
  const content::Digest other = content::Digest::Sha256Of("other");
  EXPECT_TRUE(CheckImageName("docker.io/library/x:1", mine).ok());
  EXPECT_TRUE(CheckImageName(absl::StrCat("x@", mine.str()), mine).ok());
  EXPECT_TRUE(CheckImageName(absl::StrCat("<none>@", mine.str()), mine).ok());
  EXPECT_EQ(CheckImageName(absl::StrCat("x:1@", other.str()), mine).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckImageName(other.str(), mine).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckImageName(std::string(other.hex()), mine).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace gantry::core
