#include "ctl/compose/progress_board.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace gantry::compose {

ProgressBoard::ProgressBoard(Style style, std::string title, Write write, size_t width,
                             size_t height)
    : style_(style),
      title_(std::move(title)),
      write_(std::move(write)),
      width_(width),
      height_(height) {}

ProgressBoard::~ProgressBoard() {
  Finish();
  if (animation_.joinable()) animation_.join();
}

void ProgressBoard::Animate() {
  constexpr absl::Duration kFrame = absl::Milliseconds(100);
  if (style_ != Style::kRedraw || animation_.joinable()) return;
  animation_ = std::thread([this] {
    absl::MutexLock lock(&mutex_);
    while (!mutex_.AwaitWithTimeout(absl::Condition(&finished_), kFrame)) {
      const bool moves = std::any_of(lines_.begin(), lines_.end(),
                                     [](const Line& line) { return line.mark == Mark::kWorking; });
      if (moves && away_ == 0) Draw(/*last=*/false);
    }
  });
}

void ProgressBoard::Leave() {
  absl::MutexLock lock(&mutex_);
  ++away_;
}

void ProgressBoard::Return() {
  absl::MutexLock lock(&mutex_);
  if (--away_ == 0) drawn_ = 0;
}

void ProgressBoard::Update(const std::string& part, absl::string_view word, Mark mark) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  auto line =
      std::find_if(lines_.begin(), lines_.end(), [&](const Line& one) { return one.part == part; });
  if (line == lines_.end()) {
    lines_.push_back({part, "", Mark::kWorking, absl::Now(), absl::Now()});
    line = lines_.end() - 1;
  }
  const bool news = line->word != word;
  line->word = std::string(word);
  line->mark = mark;
  line->end = absl::Now();
  if (style_ == Style::kLines && news) write_(absl::StrCat(" ", part, " ", word, " \n"));
  if (style_ == Style::kRedraw && away_ == 0) Draw(/*last=*/false);
}

void ProgressBoard::Finish() {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  finished_ = true;
  if (style_ == Style::kRedraw && !lines_.empty()) Draw(/*last=*/true);
}

void ProgressBoard::Draw(bool last) {
  std::string out;
  if (drawn_ > 0) absl::StrAppend(&out, "\033[", drawn_, "A");
  size_t done = 0;
  size_t widest = 0;
  for (const Line& line : lines_) {
    done += line.mark != Mark::kWorking;
    widest = std::max(widest, line.part.size());
  }
  absl::StrAppend(&out, "\033[2K[+] ", title_, " ", done, "/", lines_.size(), "\n");
  drawn_ = 1;
  // What does not fit is not drawn until the end: those that are done come first off.
  const size_t room = height_ > 4 ? height_ - 3 : 1;
  size_t skip = last || lines_.size() <= room ? 0 : lines_.size() - room;
  for (const Line& line : lines_) {
    if (skip > 0 && line.mark == Mark::kDone) {
      --skip;
      continue;
    }
    if (!last && drawn_ > room) break;
    const char* sign = line.mark == Mark::kDone      ? "\033[32m✔\033[0m"
                       : line.mark == Mark::kFailed  ? "\033[31m✘\033[0m"
                       : line.mark == Mark::kWarning ? "\033[33m!\033[0m"
                                                     : "\033[36m⠿\033[0m";
    const absl::Duration took = (line.mark == Mark::kWorking ? absl::Now() : line.end) - line.begin;
    std::string text = absl::StrFormat("%-*s  %-12s %5.1fs", static_cast<int>(widest), line.part,
                                       line.word, absl::ToDoubleSeconds(took));
    if (text.size() + 3 > width_ && width_ > 10) text.resize(width_ - 3);
    absl::StrAppend(&out, "\033[2K ", sign, " ", text, "\n");
    ++drawn_;
  }
  write_(out);
}

}  // namespace gantry::compose
