#include "content-store/digest.h"

#include "gtest/gtest.h"

namespace gantry::content {
namespace {

constexpr char kHello[] = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

TEST(DigestTest, ParsesWhatItPrints) {
  const absl::StatusOr<Digest> digest = Digest::Parse(kHello);
  ASSERT_TRUE(digest.ok());
  EXPECT_EQ(digest->str(), kHello);
  EXPECT_EQ(digest->algorithm(), "sha256");
  EXPECT_EQ(digest->hex(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
}

TEST(DigestTest, RefusesWhatIsNotADigest) {
  const std::string hex(64, 'a');
  for (const std::string& text :
       {std::string(), std::string("sha256"), std::string("sha256:"), "sha256:" + hex.substr(1),
        "sha256:" + hex + "a", "md5:" + hex.substr(0, 32), "SHA256:" + hex,
        "sha256:" + std::string(64, 'A'), "sha256:" + std::string(64, 'g'), "sha512:" + hex,
        "sha256:../../" + hex.substr(6), std::string("sha256:\0", 8) + hex.substr(1), ":" + hex}) {
    EXPECT_EQ(Digest::Parse(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(DigestTest, EmptyDigestIsEmpty) {
  EXPECT_TRUE(Digest().empty());
  EXPECT_EQ(Digest().hex(), "");
  EXPECT_EQ(Digest().algorithm(), "");
}

TEST(HasherTest, HashesPiecesAsOne) {
  Hasher hasher;
  hasher.Update("he");
  EXPECT_NE(hasher.Current().str(), kHello);
  hasher.Update("llo");
  EXPECT_EQ(hasher.Current().str(), kHello);
  EXPECT_EQ(Digest::Sha256Of("hello").str(), kHello);
}

TEST(HasherTest, KnowsSha512) {
  Hasher hasher("sha512");
  hasher.Update("hello");
  EXPECT_EQ(hasher.Current().str(),
            "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7"
            "2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043");
}

}  // namespace
}  // namespace gantry::content
