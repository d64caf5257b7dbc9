#include "base/engine/progress_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/gantry/v1/types.pb.h"

namespace gantry::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kLayer[] = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

v1::Progress Step(v1::Progress::State state, int64_t current = 0, int64_t total = 0) {
  v1::Progress step;
  step.set_id(kLayer);
  step.set_media_type("layer");
  step.set_state(state);
  step.set_current_bytes(current);
  step.set_total_bytes(total);
  return step;
}

std::string Plain(const std::string& status) {
  return R"({"status":")" + status + R"(","progressDetail":{},"id":"0123456789ab"})" + "\r\n";
}

TEST(ProgressJsonTest, MessagesEndAsDockersDo) {
  EXPECT_EQ(StatusLine("Digest: sha256:aa"), "{\"status\":\"Digest: sha256:aa\"}\r\n");
  EXPECT_EQ(StatusLine("Pulling from library/x", "latest"),
            "{\"status\":\"Pulling from library/x\",\"id\":\"latest\"}\r\n");
  EXPECT_EQ(StreamLine("Loaded image: x\n"), "{\"stream\":\"Loaded image: x\\n\"}\r\n");
  EXPECT_EQ(ErrorLine("no"), "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n");
}

TEST(ProgressJsonTest, TheBarIsFiftyWide) {
  EXPECT_EQ(ProgressBar(500, 1000),
            "[" + std::string(25, '=') + ">" + std::string(25, ' ') + "]     500B/1kB");
  EXPECT_EQ(ProgressBar(1000, 1000), "[" + std::string(50, '=') + ">]      1kB/1kB");
  EXPECT_EQ(ProgressBar(2000, 0), "     2kB");
  EXPECT_EQ(ProgressBar(0, 0), "");
}

TEST(ProgressJsonTest, APulledLayerGoesForwardOnly) {
  LayerProgress layers(LayerProgress::Work::kPull);
  EXPECT_THAT(layers.Lines(Step(v1::Progress::WAITING)), IsEmpty());
  EXPECT_THAT(
      layers.Lines(Step(v1::Progress::DOWNLOADING, 500, 1000)),
      ElementsAre(Plain("Pulling fs layer"), StepLine("Downloading", "0123456789ab", 500, 1000)));
  // Unpacked while it arrives.
  EXPECT_THAT(layers.Lines(Step(v1::Progress::UNPACKING, 400, 1000)), IsEmpty());
  EXPECT_THAT(layers.Lines(Step(v1::Progress::VERIFYING)),
              ElementsAre(Plain("Verifying Checksum")));
  EXPECT_THAT(layers.Lines(Step(v1::Progress::DOWNLOADING, 1000, 1000)), IsEmpty());
  EXPECT_THAT(layers.Lines(Step(v1::Progress::DOWNLOADED)),
              ElementsAre(Plain("Download complete")));
  EXPECT_THAT(layers.Lines(Step(v1::Progress::UNPACKING, 800, 1000)),
              ElementsAre(StepLine("Extracting", "0123456789ab", 800, 1000)));
  EXPECT_THAT(layers.Lines(Step(v1::Progress::COMPLETE)), ElementsAre(Plain("Pull complete")));
  EXPECT_THAT(layers.Lines(Step(v1::Progress::COMPLETE)), IsEmpty());
}

TEST(ProgressJsonTest, OfAnImageThatIsAllHereNothingIsSaid) {
  LayerProgress layers(LayerProgress::Work::kPull);
  EXPECT_THAT(layers.Lines(Step(v1::Progress::WAITING)), IsEmpty());
  EXPECT_THAT(layers.Lines(Step(v1::Progress::EXISTS)), IsEmpty());
}

TEST(ProgressJsonTest, ALayerThatIsHereHasOneLineBesideOthersThatCome) {
  LayerProgress layers(LayerProgress::Work::kPull);
  EXPECT_THAT(layers.Lines(Step(v1::Progress::EXISTS)), IsEmpty());
  v1::Progress other = Step(v1::Progress::DOWNLOADING, 1, 2);
  other.set_id("sha256:fedcba9876543210");
  EXPECT_THAT(layers.Lines(other),
              ElementsAre(Plain("Already exists"), StepLine("Pulling fs layer", "fedcba987654"),
                          StepLine("Downloading", "fedcba987654", 1, 2)));
  EXPECT_THAT(layers.Lines(Step(v1::Progress::EXISTS)), IsEmpty());
  other.set_id("sha256:aaaaaaaaaaaaaaaa");
  other.set_state(v1::Progress::EXISTS);
  EXPECT_THAT(layers.Lines(other), ElementsAre(StepLine("Already exists", "aaaaaaaaaaaa")));
}

TEST(ProgressJsonTest, OnlyLayersHaveLines) {
  LayerProgress layers(LayerProgress::Work::kPull);
  v1::Progress manifest = Step(v1::Progress::DOWNLOADED);
  manifest.set_media_type("manifest");
  EXPECT_THAT(layers.Lines(manifest), IsEmpty());
}

TEST(ProgressJsonTest, APushedLayer) {
  LayerProgress layers(LayerProgress::Work::kPush);
  EXPECT_THAT(layers.Lines(Step(v1::Progress::UPLOADING, 10, 20)),
              ElementsAre(Plain("Preparing"), StepLine("Pushing", "0123456789ab", 10, 20)));
  EXPECT_THAT(layers.Lines(Step(v1::Progress::UPLOADED)), ElementsAre(Plain("Pushed")));
  LayerProgress again(LayerProgress::Work::kPush);
  EXPECT_THAT(again.Lines(Step(v1::Progress::EXISTS)),
              ElementsAre(Plain("Preparing"), Plain("Layer already exists")));
}

TEST(ProgressJsonTest, ALoadShowsBlobsOfSomeSize) {
  LayerProgress layers(LayerProgress::Work::kLoad);
  v1::Progress step;
  step.set_state(v1::Progress::READING);
  step.set_id("blobs/sha256/0123456789abcdef");
  step.set_current_bytes(1 << 20);
  step.set_total_bytes(2 << 20);
  EXPECT_THAT(layers.Lines(step),
              ElementsAre(StepLine("Loading layer", "0123456789ab", 1 << 20, 2 << 20)));
  step.set_total_bytes(400);
  EXPECT_THAT(layers.Lines(step), IsEmpty());
}

}  // namespace
}  // namespace gantry::engine
