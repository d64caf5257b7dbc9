#include "supervisor/api/docker/named_builds.h"

#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "base/byte_stream.h"
#include "base/cancel_token.h"

namespace gantry::api::docker {
namespace {

TEST(NamedBuildsTest, ABuildIsCancelledByItsId) {
  NamedBuilds builds;
  CancelToken one, other;
  builds.Enter("one", &one);
  builds.Enter("other", &other);
  builds.Enter("", &other);
  builds.Cancel("one");
  builds.Cancel("");
  builds.Cancel("none");
  EXPECT_TRUE(one.cancelled());
  EXPECT_FALSE(other.cancelled());
  builds.Leave("other", &other);
  builds.Cancel("other");
  EXPECT_FALSE(other.cancelled());
}

TEST(NamedBuildsTest, AnUploadMeetsItsBuild) {
  NamedBuilds builds(absl::Seconds(30));
  StringSource body("context");
  std::thread upload([&] { EXPECT_TRUE(builds.Upload("id", body).ok()); });
  std::string got;
  EXPECT_TRUE(builds
                  .ReadUpload("id",
                              [&](ByteSource& source) {
                                got = ReadAll(source, 100).value();
                                return absl::OkStatus();
                              })
                  .ok());
  upload.join();
  EXPECT_EQ(got, "context");
}

TEST(NamedBuildsTest, NeitherWaitsForever) {
  NamedBuilds builds(absl::Milliseconds(1));
  StringSource body("context");
  EXPECT_TRUE(absl::IsNotFound(builds.Upload("id", body)));
  EXPECT_TRUE(
      absl::IsNotFound(builds.ReadUpload("id", [](ByteSource&) { return absl::OkStatus(); })));
}

}  // namespace
}  // namespace gantry::api::docker
