// Progress of a build: on a terminal the steps with their times, redrawn in place, and the last
// lines of those that run; elsewhere a line for each thing that happens; or a JSON object a line.
//
// Thread-compatible.
#ifndef GANTRY_CTL_COMMANDS_BUILD_VIEW_H_
#define GANTRY_CTL_COMMANDS_BUILD_VIEW_H_

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {

class BuildView {
 public:
  enum class Style { kTerminal, kPlain, kJson, kSilent };
  using Write = std::function<void(absl::string_view)>;  // text, escape sequences among it

  BuildView(Style style, Write write, size_t width, size_t height);

  void Update(const v1::BuildResponse& response);
  // Draws a last time and leaves the cursor below.
  void Finish();

 private:
  struct Step {
    v1::BuildStep step;
    int number = 0;  // as it is shown: without gaps for what is not
    std::string progress;
    std::deque<std::string> lines;  // the last ones of its output
    std::string partial;            // of a line that is not complete
    bool begun = false;             // kPlain: its name was printed
  };
  void Plain(Step& step, const v1::BuildStep& before, bool is_new);
  // The end of a step that makes an image, which is shown with what was made.
  void EndExport();
  void Output(Step& step, const v1::BuildLog& log);
  void Draw(bool last);
  std::string Line(const std::string& left, const std::string& right) const;

  const Style style_;
  const Write write_;
  const size_t width_;
  const size_t height_;
  const absl::Time start_;
  std::map<int, Step> steps_;
  std::vector<std::string> warnings_;
  int exports_ = 0;                // the step whose end is held back, 0 for none
  std::vector<std::string> made_;  // what it has made
  size_t drawn_lines_ = 0;
  absl::Time last_draw_ = absl::InfinitePast();
};

// The lines of the Dockerfile that a failure is about, as docker shows them: one of the form
// "FILE:LINE: ..." or "FILE: dockerfile parse error on line LINE: ..."; "" for another one.
std::string FailedLines(absl::string_view dockerfile, absl::string_view failure);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_VIEW_H_
