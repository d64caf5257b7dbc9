// What happens to the parts of a project, as people follow it: on a terminal a line per part that
// is redrawn in place, elsewhere a plain line per change.
//
//   [+] up 2/3
//    ✔ Network demo_default   Created   0.1s
//    ⠿ Container demo-web-1   Starting  0.3s
//
// Thread-safe.
#ifndef GANTRY_CTL_COMPOSE_PROGRESS_BOARD_H_
#define GANTRY_CTL_COMPOSE_PROGRESS_BOARD_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry::compose {

class ProgressBoard {
 public:
  enum class Style { kRedraw, kLines, kSilent };
  enum class Mark { kWorking, kDone, kWarning, kFailed };
  using Write = std::function<void(absl::string_view)>;

  // `title` is the command's word ("up"); `write` gets the error stream's text.
  ProgressBoard(Style style, std::string title, Write write, size_t width = 80, size_t height = 24);
  ~ProgressBoard();
  ProgressBoard(const ProgressBoard&) = delete;
  ProgressBoard& operator=(const ProgressBoard&) = delete;

  // From now on the times of what is under way go on between two changes. On a terminal only.
  void Animate();
  Style style() const { return style_; }

  // "Container demo-web-1", "Starting".
  void Update(const std::string& part, absl::string_view word, Mark mark);
  // Between the two something else writes to the terminal: nothing is drawn, and afterwards it is
  // drawn below that. They nest.
  void Leave();
  void Return();
  // Draws a last time; nothing is drawn afterwards.
  void Finish();

 private:
  struct Line {
    std::string part;
    std::string word;
    Mark mark = Mark::kWorking;
    absl::Time begin;
    absl::Time end;
  };
  void Draw(bool last) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Style style_;
  const std::string title_;
  const Write write_;
  const size_t width_;
  const size_t height_;

  absl::Mutex mutex_;
  std::vector<Line> lines_ ABSL_GUARDED_BY(mutex_);
  size_t drawn_ ABSL_GUARDED_BY(mutex_) = 0;
  int away_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread animation_;  // by the thread that owns the board
};

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_PROGRESS_BOARD_H_
