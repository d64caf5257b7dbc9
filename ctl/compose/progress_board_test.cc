#include "ctl/compose/progress_board.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

using ::testing::HasSubstr;
using Mark = ProgressBoard::Mark;
using Style = ProgressBoard::Style;

class ProgressBoardTest : public testing::Test {
 protected:
  ProgressBoard::Write Into() {
    return [this](absl::string_view text) { absl::StrAppend(&text_, text); };
  }
  std::string text_;
};

TEST_F(ProgressBoardTest, LinesSayEachChangeOnce) {
  ProgressBoard board(Style::kLines, "up", Into());
  board.Update("Container a", "Creating", Mark::kWorking);
  board.Update("Container a", "Creating", Mark::kWorking);
  board.Update("Container a", "Created", Mark::kDone);
  board.Finish();
  board.Update("Container a", "late", Mark::kDone);
  EXPECT_EQ(text_, " Container a Creating \n Container a Created \n");
}

TEST_F(ProgressBoardTest, TerminalIsRedrawnInPlace) {
  ProgressBoard board(Style::kRedraw, "up", Into(), 80, 24);
  board.Update("Container a", "Creating", Mark::kWorking);
  EXPECT_THAT(text_, HasSubstr("[+] up 0/1"));
  text_.clear();
  board.Update("Container b", "Created", Mark::kDone);
  EXPECT_EQ(text_.rfind("\033[2A", 0), 0u);  // back over the title and one line
  EXPECT_THAT(text_, HasSubstr("[+] up 1/2"));
  text_.clear();
  board.Finish();
  EXPECT_EQ(text_.rfind("\033[3A", 0), 0u);
  EXPECT_THAT(text_, HasSubstr("✔"));
}

TEST_F(ProgressBoardTest, MoreThanTheScreenHoldsIsDrawnAtTheEnd) {
  ProgressBoard board(Style::kRedraw, "up", Into(), 80, 10);
  for (int i = 0; i < 30; ++i) board.Update(absl::StrCat("Container ", i), "Created", Mark::kDone);
  const size_t before = text_.size();
  EXPECT_THAT(text_.substr(before - 600), HasSubstr("Container 29"));
  text_.clear();
  board.Finish();
  for (int i = 0; i < 30; ++i) EXPECT_THAT(text_, HasSubstr(absl::StrCat("Container ", i, " ")));
}

TEST_F(ProgressBoardTest, IsDrawnBelowWhatSomethingElseHasWritten) {
  ProgressBoard board(Style::kRedraw, "up", Into(), 80, 24);
  board.Update("Image a", "Building", Mark::kWorking);
  board.Leave();
  text_.clear();
  board.Update("Image b", "Pulling", Mark::kWorking);
  EXPECT_EQ(text_, "");
  board.Return();
  board.Update("Image a", "Built", Mark::kDone);
  EXPECT_EQ(text_.find("\033[2A"), std::string::npos);
  EXPECT_THAT(text_, HasSubstr("[+] up 1/2"));
  EXPECT_THAT(text_, HasSubstr("Image b"));
}

TEST_F(ProgressBoardTest, QuietSaysNothing) {
  ProgressBoard board(Style::kSilent, "up", Into());
  board.Update("Container a", "Created", Mark::kDone);
  board.Finish();
  EXPECT_EQ(text_, "");
}

}  // namespace
}  // namespace gantry::compose
