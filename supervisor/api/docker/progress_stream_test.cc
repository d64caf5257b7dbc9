#include "supervisor/api/docker/progress_stream.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/docker/image_names.h"

namespace gantry::api::docker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::Progress Downloading(const std::string& layer, int64_t bytes) {
  v1::Progress step;
  step.set_id(layer);
  step.set_media_type("layer");
  step.set_state(v1::Progress::DOWNLOADING);
  step.set_current_bytes(bytes);
  step.set_total_bytes(1000);
  return step;
}

TEST(ProgressQueueTest, AClientThatTakesNothingMakesItNoLonger) {
  ProgressQueue queue(engine::LayerProgress::Work::kPull);
  for (int64_t i = 1; i <= 1000; ++i) {
    queue.Add(Downloading("sha256:aaaa", i));
    queue.Add(Downloading("sha256:bbbb", i));
  }
  const std::vector<std::string> lines = queue.Take();
  ASSERT_EQ(lines.size(), 4u);  // for each layer: that it is known, and how far it is
  EXPECT_THAT(lines[1], HasSubstr("\"current\":1000"));
  EXPECT_THAT(lines[3], HasSubstr("\"current\":1000"));
  EXPECT_THAT(queue.Take(), IsEmpty());
}

TEST(ProgressQueueTest, EndsOfStepsAreKept) {
  ProgressQueue queue(engine::LayerProgress::Work::kPull);
  queue.Add(Downloading("sha256:aaaa", 500));
  v1::Progress done = Downloading("sha256:aaaa", 1000);
  done.set_state(v1::Progress::DOWNLOADED);
  queue.Add(done);
  done.set_state(v1::Progress::COMPLETE);
  queue.Add(done);
  const std::vector<std::string> lines = queue.Take();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[2], HasSubstr("Download complete"));
  EXPECT_THAT(lines[3], HasSubstr("Pull complete"));
}

TEST(ProgressQueueTest, ARequestThatIsTriedAgainHasALine) {
  ProgressQueue queue(engine::LayerProgress::Work::kPull);
  v1::Progress retry;
  retry.set_state(v1::Progress::RETRYING);
  retry.set_detail("(2 of 6): https://host: 503");
  queue.Add(retry);
  EXPECT_THAT(queue.Take(),
              ElementsAre("{\"status\":\"Retrying (2 of 6): https://host: 503\"}\r\n"));
}

TEST(ProgressQueueTest, WaitEndsWithTheWork) {
  ProgressQueue queue(engine::LayerProgress::Work::kPull);
  std::thread work([&queue] {
    queue.Add(Downloading("sha256:aaaa", 1));
    queue.Close();
  });
  size_t lines = 0;
  while (true) {
    const std::vector<std::string> some = queue.Wait();
    if (some.empty()) break;
    lines += some.size();
  }
  work.join();
  EXPECT_EQ(lines, 2u);
}

TEST(ImageNamesTest, ATagOrADigest) {
  EXPECT_EQ(NameWithTag("host:5000/x", "1"), "host:5000/x:1");
  EXPECT_EQ(NameWithTag("x", "sha256:aa"), "x@sha256:aa");
  EXPECT_EQ(NameWithTag("x:2", ""), "x:2");
}

TEST(ImageNamesTest, PlatformsInBothForms) {
  EXPECT_EQ(*PlatformOf(R"({"os":"linux","architecture":"arm","variant":"v7"})"), "linux/arm/v7");
  EXPECT_EQ(*PlatformOf("linux/amd64"), "linux/amd64");
  EXPECT_EQ(*PlatformOf(""), "");
  EXPECT_EQ(*PlatformOf("{}"), "");
  EXPECT_TRUE(absl::IsInvalidArgument(PlatformOf(R"({"os":"linux"})").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(PlatformOf(R"({"os":7})").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(PlatformOf("{").status()));
}

TEST(ImageNamesTest, ErrorsHaveTheWordsThatClientsLookFor) {
  EXPECT_EQ(ImageError(absl::NotFoundError("x"), "a:1").message(), "No such image: a:1");
  EXPECT_EQ(ImageError(absl::InternalError("x"), "a:1"), absl::InternalError("x"));
  const absl::Status denied = PullError(absl::PermissionDeniedError("denied"), "a");
  EXPECT_TRUE(absl::IsNotFound(denied));
  EXPECT_THAT(std::string(denied.message()),
              HasSubstr("pull access denied for a, repository does not exist or may require "
                        "'docker login'"));
}

}  // namespace
}  // namespace gantry::api::docker
