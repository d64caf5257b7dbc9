// Progress of long work: on a terminal one total bar with rate and time left and a line per
// layer, redrawn in place; elsewhere a plain line per change of state; or a JSON object a line.
//
// Thread-compatible: Update() from one thread.
#ifndef GANTRY_CTL_PROGRESS_H_
#define GANTRY_CTL_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::v1 {
class Progress;
}

namespace gantry::ctl {

class ProgressView {
 public:
  enum class Style { kBars, kLines, kJson, kSilent };
  using Write = std::function<void(absl::string_view)>;
  using Now = std::function<absl::Time()>;

  // `width` columns and `height` rows of a terminal.
  ProgressView(Style style, Write write, Now now, size_t width = 80, size_t height = 24);

  // The word for a finished layer; "Pull complete" by default.
  void SetCompleteWord(std::string word) { complete_word_ = std::move(word); }

  // What is sent has words of its own.
  void SetUpload() { upload_ = true; }
  // A line that stays, above the first layer.
  void SetTitle(std::string line) { title_ = std::move(line); }

  void Update(const v1::Progress& progress);
  // A line that stays.
  void Message(absl::string_view text);
  // Draws a last time and leaves the cursor below.
  void Finish();

 private:
  struct Item {
    std::string id;
    int state = 0;
    int64_t current = 0;
    int64_t total = 0;
    int64_t transferred = 0;  // of `total`, over the network or from an archive
    std::string detail;
    std::string printed;  // kLines: what was said last
  };

  void Draw(bool last);
  void Erase();
  std::string TotalLine(absl::Time now) const;
  std::string ItemLine(const Item& item) const;
  std::string Word(int state) const;

  const Style style_;
  const Write write_;
  const Now now_;
  const size_t width_;
  const size_t height_;
  const absl::Time start_;

  std::string complete_word_ = "Pull complete";
  std::string title_;  // not yet shown
  bool upload_ = false;
  std::vector<Item> items_;
  std::map<std::string, size_t> index_;
  size_t drawn_lines_ = 0;
  absl::Time last_draw_ = absl::InfinitePast();
  bool finished_ = false;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_PROGRESS_H_
