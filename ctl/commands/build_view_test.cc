#include "ctl/commands/build_view.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::ctl {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kTitle[] = "\x1b]0;owned\x07";

// All that the view writes of a build whose every text tries to set the terminal's title, and of
// which a step fails or goes on until the end.
std::string Shown(BuildView::Style style, bool fails) {
  std::string out;
  BuildView view(
      style, [&out](absl::string_view text) { absl::StrAppend(&out, text); }, 120, 24);
  v1::BuildResponse begun;
  begun.mutable_step()->set_number(1);
  begun.mutable_step()->set_name(absl::StrCat("RUN ", kTitle,
                                              "\xc2\x9b"
                                              "2J"));
  view.Update(begun);
  v1::BuildResponse progress;
  progress.mutable_progress()->set_step(1);
  progress.mutable_progress()->set_id(absl::StrCat("https://host/", kTitle));
  progress.mutable_progress()->set_current_bytes(1000);
  view.Update(progress);
  v1::BuildResponse log;
  log.mutable_log()->set_step(1);
  log.mutable_log()->set_data(absl::StrCat("output ", kTitle, "\n"));
  view.Update(log);
  v1::BuildResponse warning;
  warning.mutable_warning()->set_text(absl::StrCat("warning ", kTitle));
  view.Update(warning);
  v1::BuildResponse failed = begun;
  failed.mutable_step()->set_error(absl::StrCat("error ", kTitle));
  failed.mutable_step()->mutable_completed_at()->set_seconds(1);
  if (fails) view.Update(failed);
  view.Finish();
  return out;
}

TEST(BuildViewTest, NoTextOfABuildSteersATerminal) {
  for (const BuildView::Style style :
       {BuildView::Style::kTerminal, BuildView::Style::kPlain, BuildView::Style::kJson}) {
    for (const bool fails : {false, true}) {
      const std::string shown = Shown(style, fails);
      EXPECT_THAT(shown, HasSubstr("RUN "));
      EXPECT_THAT(shown, Not(HasSubstr("\x1b]")));
      EXPECT_THAT(shown, Not(HasSubstr("\x07")));
      EXPECT_THAT(shown, Not(HasSubstr("\xc2\x9b")));
    }
  }
}

TEST(BuildViewTest, WhatATransferIsOfIsShownWithoutItsControlCharacters) {
  EXPECT_THAT(Shown(BuildView::Style::kTerminal, /*fails=*/false),
              HasSubstr("https://host/\\x1b]0;owned\\x07: 1kB"));
}

}  // namespace
}  // namespace gantry::ctl
