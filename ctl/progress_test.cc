#include "ctl/progress.h"

#include <gtest/gtest.h>

#include "proto/gantry/v1/types.pb.h"

namespace gantry::ctl {
namespace {

using v1::Progress;

Progress Step(const std::string& id, Progress::State state, int64_t current = 0,
              int64_t total = 0) {
  Progress progress;
  progress.set_id(id);
  progress.set_state(state);
  progress.set_current_bytes(current);
  progress.set_total_bytes(total);
  return progress;
}

class ProgressTest : public ::testing::Test {
 protected:
  ProgressView View(ProgressView::Style style, size_t height = 24) {
    return ProgressView(
        style, [this](absl::string_view text) { out_.append(text.data(), text.size()); },
        [this] { return now_; }, 100, height);
  }
  std::string out_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(ProgressTest, WithoutALayerNothingStaysOnTheTerminal) {
  auto view = View(ProgressView::Style::kBars);
  view.Update(Step("", Progress::WAITING));
  EXPECT_EQ(out_, "") << "there is nothing to say yet";
  view.Update(Step("", Progress::RETRYING));
  EXPECT_NE(out_, "");
  view.Finish();
  const std::string erased = "\x1b[1A\x1b[J";
  ASSERT_GE(out_.size(), erased.size());
  EXPECT_EQ(out_.substr(out_.size() - erased.size()), erased);
}

TEST_F(ProgressTest, LinesOfAPushHaveItsWordsBelowATitle) {
  auto view = View(ProgressView::Style::kLines);
  view.SetUpload();
  view.SetTitle("to there");
  view.Update(Step("", Progress::WAITING));
  EXPECT_EQ(out_, "");
  view.Update(Step("a", Progress::WAITING));
  view.Update(Step("a", Progress::UPLOADING, 1, 10));
  view.Update(Step("a", Progress::UPLOADED));
  view.Update(Step("b", Progress::EXISTS));
  EXPECT_EQ(out_, "to there\na: Preparing\na: Pushed\nb: Layer already exists\n");
}

TEST_F(ProgressTest, LinesSayWhatIsDoneOnce) {
  auto view = View(ProgressView::Style::kLines);
  view.Update(Step("a", Progress::DOWNLOADING, 1, 10));
  view.Update(Step("a", Progress::DOWNLOADING, 5, 10));
  view.Update(Step("b", Progress::EXISTS));
  view.Update(Step("a", Progress::COMPLETE));
  view.Finish();
  EXPECT_EQ(out_, "b: Already exists\na: Pull complete\n");
}

TEST_F(ProgressTest, LinesPassTheWholeOverUnlessItIsInTrouble) {
  auto view = View(ProgressView::Style::kLines);
  view.Update(Step("", Progress::WAITING));
  EXPECT_EQ(out_, "");
  Progress retry = Step("", Progress::RETRYING);
  retry.set_detail("in 2s: 503");
  view.Update(retry);
  EXPECT_EQ(out_, "Retrying in 2s: 503\n");
}

TEST_F(ProgressTest, BarsSayThatTheWholeIsTriedAgain) {
  auto view = View(ProgressView::Style::kBars);
  view.Update(Step("", Progress::WAITING));
  Progress retry = Step("", Progress::RETRYING);
  retry.set_detail("(2 of 6): https://host: 503");
  view.Update(retry);
  EXPECT_NE(out_.find("Retrying (2 of 6): https://host: 503\n"), std::string::npos) << out_;
  retry.set_detail("(3 of 6): https://host: 503");
  view.Update(retry);
  EXPECT_NE(out_.find("\x1b[1A\r\x1b[KRetrying (3 of 6)"), std::string::npos) << out_;
  out_.clear();
  now_ += absl::Seconds(1);
  view.Update(Step("a", Progress::DOWNLOADING, 1, 10));
  EXPECT_EQ(out_.find("Retrying"), std::string::npos) << out_;
  EXPECT_NE(out_.find("Total 0/1"), std::string::npos) << out_;
}

TEST_F(ProgressTest, DigestsAreShortened) {
  auto view = View(ProgressView::Style::kLines);
  view.Update(Step("sha256:" + std::string(64, 'a'), Progress::WAITING));
  EXPECT_EQ(out_, "aaaaaaaaaaaa: Pulling fs layer\n");
}

TEST_F(ProgressTest, BlobsOfAnArchiveAreShortenedAndLoaded) {
  auto view = View(ProgressView::Style::kLines);
  view.SetCompleteWord("Loaded");
  view.Update(Step("blobs/sha256/" + std::string(64, 'b'), Progress::COMPLETE));
  EXPECT_EQ(out_, "bbbbbbbbbbbb: Loaded\n");
}

TEST_F(ProgressTest, JsonIsALineAStep) {
  auto view = View(ProgressView::Style::kJson);
  view.Update(Step("a", Progress::DOWNLOADING, 1, 10));
  EXPECT_EQ(out_,
            "{\"id\":\"a\",\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":"
            "10}}\n");
}

TEST_F(ProgressTest, SilentSaysNothing) {
  auto view = View(ProgressView::Style::kSilent);
  view.Update(Step("a", Progress::DOWNLOADING, 1, 10));
  view.Message("x");
  view.Finish();
  EXPECT_EQ(out_, "");
}

TEST_F(ProgressTest, BarsShowLayersAndOneTotalWithRateAndTimeLeft) {
  auto view = View(ProgressView::Style::kBars);
  now_ += absl::Seconds(2);
  view.Update(Step("a", Progress::DOWNLOADING, 20000000, 100000000));
  EXPECT_NE(out_.find("a: Downloading ["), std::string::npos) << out_;
  EXPECT_NE(out_.find("20MB/100MB  10MB/s  8.0s left"), std::string::npos) << out_;
  EXPECT_NE(out_.find("Total 0/1 ["), std::string::npos) << out_;
}

TEST_F(ProgressTest, BarsAreRedrawnInPlaceAndNotTooOften) {
  auto view = View(ProgressView::Style::kBars);
  now_ += absl::Seconds(1);
  view.Update(Step("a", Progress::DOWNLOADING, 1, 10));
  out_.clear();
  now_ += absl::Milliseconds(1);
  view.Update(Step("a", Progress::DOWNLOADING, 2, 10));
  EXPECT_EQ(out_, "");
  now_ += absl::Seconds(1);
  view.Update(Step("a", Progress::DOWNLOADING, 3, 10));
  EXPECT_EQ(out_.substr(0, 4), "\x1b[2A") << out_;
}

TEST_F(ProgressTest, MoreLayersThanRowsKeepTheUnfinishedOnes) {
  auto view = View(ProgressView::Style::kBars, 5);
  for (int i = 0; i < 9; ++i) view.Update(Step("done" + std::to_string(i), Progress::COMPLETE));
  now_ += absl::Seconds(1);
  out_.clear();
  view.Update(Step("busy", Progress::DOWNLOADING, 1, 10));
  EXPECT_NE(out_.find("busy: "), std::string::npos) << out_;
  int lines = 0;
  for (const char c : out_) lines += c == '\n' ? 1 : 0;
  EXPECT_EQ(lines, 4);
}

TEST_F(ProgressTest, OnlyLayersHaveLines) {
  auto view = View(ProgressView::Style::kLines);
  for (const char* kind : {"manifest", "config", "index", "layer"}) {
    Progress step = Step(kind, Progress::DOWNLOADED, 10, 10);
    step.set_media_type(kind);
    view.Update(step);
  }
  EXPECT_EQ(out_, "layer: Download complete\n");
}

TEST_F(ProgressTest, ALateReportOfAnEarlierStepUndoesNothing) {
  auto view = View(ProgressView::Style::kBars);
  view.Update(Step("a", Progress::DOWNLOADING, 60, 100));
  view.Update(Step("a", Progress::UNPACKING, 50, 100));
  now_ += absl::Seconds(1);
  out_.clear();
  view.Update(Step("a", Progress::DOWNLOADING, 80, 100));
  view.Update(Step("a", Progress::UNPACKING, 60, 100));
  EXPECT_NE(out_.find("a: Extracting"), std::string::npos) << out_;
  EXPECT_EQ(out_.find("Downloading"), std::string::npos) << out_;
  EXPECT_NE(out_.find("80B/100B"), std::string::npos) << out_;
}

TEST_F(ProgressTest, TheEndIsCompleteWithoutBarsOfLayers) {
  auto view = View(ProgressView::Style::kBars);
  now_ += absl::Seconds(1);
  view.Update(Step("a", Progress::DOWNLOADED, 10, 10));
  out_.clear();
  view.Finish();
  EXPECT_NE(out_.find("a: Download complete\n"), std::string::npos) << out_;
  EXPECT_NE(out_.find("Total 1/1 ["), std::string::npos) << out_;
}

TEST_F(ProgressTest, ABlobOfAnArchiveAndItsLayerAreOneThing) {
  auto view = View(ProgressView::Style::kBars);
  view.SetCompleteWord("Loaded");
  const std::string hex(64, 'c');
  view.Update(Step("blobs/sha256/" + hex, Progress::COMPLETE, 10, 10));
  view.Update(Step("sha256:" + hex, Progress::UNPACKING, 5, 10));
  view.Update(Step("sha256:" + hex, Progress::COMPLETE, 10, 10));
  out_.clear();
  view.Finish();
  EXPECT_NE(out_.find("Total 1/1 ["), std::string::npos) << out_;
  EXPECT_NE(out_.find("10B/10B"), std::string::npos) << out_;
}

TEST_F(ProgressTest, LayersThatWereThereDoNotCountForTheRate) {
  auto view = View(ProgressView::Style::kBars);
  now_ += absl::Seconds(1);
  view.Update(Step("old", Progress::EXISTS, 0, 900000000));
  now_ += absl::Seconds(1);
  view.Update(Step("new", Progress::DOWNLOADING, 2000000, 4000000));
  EXPECT_NE(out_.find("2MB/4MB  1MB/s"), std::string::npos) << out_;
}

}  // namespace
}  // namespace gantry::ctl
