#include "ctl/progress.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "base/engine/units.h"
#include "base/engine/value.h"
#include "ctl/text.h"
#include "proto/gantry/v1/types.pb.h"

namespace gantry::ctl {

using engine::Value;
namespace {

using v1::Progress;

constexpr absl::Duration kRedraw = absl::Milliseconds(80);

// How far a state is along the way of one layer: bytes may be counted once on the wire and once
// again while unpacking.
bool Done(int state) {
  return state == Progress::COMPLETE || state == Progress::EXISTS || state == Progress::UPLOADED ||
         state == Progress::MOUNTED;
}

// Steps come in this order. An earlier step that is reported late, because a layer is unpacked
// while it is still on its way, does not undo a later one.
int Rank(int state) {
  switch (state) {
    case Progress::DOWNLOADING:
    case Progress::UPLOADING:
    case Progress::READING:
    case Progress::WRITING:
      return 1;
    case Progress::VERIFYING:
      return 2;
    case Progress::DOWNLOADED:
      return 3;
    case Progress::UNPACKING:
      return 4;
    default:
      return Done(state) ? 5 : 0;
  }
}

bool Goes(int from, int to) {
  if (from == Progress::RETRYING || to == Progress::RETRYING) return true;
  // What was read in full from an archive is unpacked afterwards.
  if (from == Progress::COMPLETE && to == Progress::UNPACKING) return true;
  return Rank(to) >= Rank(from);
}

// What one thing is counted by: a blob in an archive ("blobs/sha256/<hex>") is the one that is
// called "sha256:<hex>" when it is unpacked.
std::string Key(const std::string& id) {
  constexpr size_t kHexDigits = 64;
  const size_t split = id.find_last_of(":/");
  return split != std::string::npos && id.size() - split == kHexDigits + 1 ? id.substr(split + 1)
                                                                           : id;
}

// Digests, and paths of blobs in an archive, by the first digits.
std::string Label(const std::string& id) {
  const size_t split = id.find_last_of(":/");
  if (split != std::string::npos && id.size() - split > 40) return id.substr(split + 1, 12);
  return id;
}

std::string Bar(double fraction, size_t width) {
  fraction = std::clamp(fraction, 0.0, 1.0);
  const auto full = static_cast<size_t>(fraction * static_cast<double>(width));
  std::string bar(full, '=');
  if (full < width) bar += '>';
  bar.resize(width, ' ');
  return absl::StrCat("[", bar, "]");
}

}  // namespace

std::string ProgressView::Word(int state) const {
  switch (static_cast<Progress::State>(state)) {
    case Progress::WAITING:
      return upload_ ? "Preparing" : "Pulling fs layer";
    case Progress::DOWNLOADING:
      return "Downloading";
    case Progress::VERIFYING:
      return "Verifying Checksum";
    case Progress::DOWNLOADED:
      return "Download complete";
    case Progress::UNPACKING:
      return "Extracting";
    case Progress::COMPLETE:
      return complete_word_;
    case Progress::EXISTS:
      return upload_ ? "Layer already exists" : "Already exists";
    case Progress::UPLOADING:
      return "Pushing";
    case Progress::UPLOADED:
      return "Pushed";
    case Progress::MOUNTED:
      return "Mounted from";
    case Progress::READING:
      return "Reading";
    case Progress::WRITING:
      return "Writing";
    case Progress::RETRYING:
      return "Retrying";
    case Progress::STATE_UNSPECIFIED:
    default:
      return "Working";
  }
}

ProgressView::ProgressView(Style style, Write write, Now now, size_t width, size_t height)
    : style_(style),
      write_(std::move(write)),
      now_(std::move(now)),
      width_(std::max<size_t>(width, 40)),
      height_(std::max<size_t>(height, 4)),
      start_(now_()) {}

void ProgressView::Update(const Progress& progress) {
  if (style_ == Style::kSilent) return;
  if (style_ == Style::kJson) {
    Value line = Value::EmptyObject();
    line.Set("id", progress.id());
    line.Set("status", Word(progress.state()));
    Value detail = Value::EmptyObject();
    detail.Set("current", progress.current_bytes());
    detail.Set("total", progress.total_bytes());
    line.Set("progressDetail", std::move(detail));
    if (!progress.detail().empty()) line.Set("detail", progress.detail());
    write_(PrintableJson(line.ToJson()) + "\n");
    return;
  }
  // Where a part goes on, what delayed the whole is over.
  if (const auto whole = index_.find(""); !progress.id().empty() && whole != index_.end() &&
                                          items_[whole->second].state == Progress::RETRYING) {
    items_[whole->second].state = Progress::WAITING;
  }
  // As in docker's view, only layers have lines.
  if (!progress.media_type().empty() && progress.media_type() != "layer") return;
  if (!title_.empty() && !progress.id().empty()) Message(std::exchange(title_, ""));
  const auto [it, is_new] = index_.emplace(Key(progress.id()), items_.size());
  if (is_new) {
    items_.emplace_back();
    items_.back().id = Printable(progress.id());
  }
  Item& item = items_[it->second];
  if (Rank(progress.state()) == 1) {
    item.transferred = std::max(item.transferred, progress.current_bytes());
  }
  if (!is_new && !Goes(item.state, progress.state())) return;
  item.state = progress.state();
  item.current = progress.current_bytes();
  if (progress.total_bytes() > 0) item.total = progress.total_bytes();
  item.detail = Printable(progress.detail());
  if (progress.state() == Progress::MOUNTED && item.detail.empty())
    item.detail = "another repository";
  if (Done(item.state)) item.current = item.total;
  if (style_ == Style::kLines) {
    // As in docker's output to a file: what is done, not that something goes on.
    if (item.state == Progress::DOWNLOADING || item.state == Progress::UPLOADING ||
        item.state == Progress::UNPACKING) {
      return;
    }
    std::string said = Word(item.state);
    if (!item.detail.empty()) absl::StrAppend(&said, " ", item.detail);
    // Of the work as a whole only retries are reported.
    if (item.id.empty() && item.state != Progress::RETRYING) return;
    if (said != item.printed) {
      item.printed = said;
      write_(absl::StrCat(item.id.empty() ? "" : Label(item.id) + ": ", said, "\n"));
    }
    return;
  }
  const absl::Time now = now_();
  // The next update may come only after the wait of the retry, so this one is drawn at once.
  if (now - last_draw_ >= kRedraw || item.state == Progress::RETRYING) Draw(false);
}

void ProgressView::Message(absl::string_view text) {
  if (style_ == Style::kSilent) return;
  if (style_ == Style::kJson) {
    Value line = Value::EmptyObject();
    line.Set("status", text);
    write_(PrintableJson(line.ToJson()) + "\n");
    return;
  }
  Erase();
  write_(absl::StrCat(Printable(text), "\n"));
}

void ProgressView::Finish() {
  if (finished_) return;
  finished_ = true;
  if (style_ != Style::kBars) return;
  // Without a single layer there is no total to show.
  const bool layers =
      std::any_of(items_.begin(), items_.end(), [](const Item& item) { return !item.id.empty(); });
  layers ? Draw(true) : Erase();
}

void ProgressView::Erase() {
  if (drawn_lines_ == 0) return;
  write_(absl::StrFormat("\x1b[%dA\x1b[J", drawn_lines_));
  drawn_lines_ = 0;
}

void ProgressView::Draw(bool last) {
  const absl::Time now = now_();
  last_draw_ = now;
  // Before the first layer is known there is something to say only where it takes long.
  const auto whole = index_.find("");
  if (!last && whole != index_.end() && items_.size() == 1 && items_[0].total == 0 &&
      items_[0].state != Progress::RETRYING) {
    return Erase();
  }
  std::string out;
  if (drawn_lines_ > 0) out = absl::StrFormat("\x1b[%dA", drawn_lines_);
  // Lines beyond the screen cannot be redrawn, so finished layers are left out first.
  std::vector<const Item*> shown;
  for (const Item& item : items_) {
    if (!item.id.empty()) shown.push_back(&item);
  }
  if (shown.size() + 2 > height_ && !last) {
    std::stable_partition(shown.begin(), shown.end(),
                          [](const Item* item) { return !Done(item->state); });
    shown.resize(height_ - 2);
  }
  size_t lines = 0;
  for (const Item* item : shown) {
    absl::StrAppend(&out, "\r\x1b[K", ItemLine(*item), "\n");
    ++lines;
  }
  absl::StrAppend(&out, "\r\x1b[K", TotalLine(now), "\n\x1b[J");
  drawn_lines_ = lines + 1;
  write_(out);
}

std::string ProgressView::ItemLine(const Item& item) const {
  std::string line = absl::StrCat(Label(item.id), ": ", Word(item.state));
  if (!item.detail.empty()) absl::StrAppend(&line, " ", item.detail);
  if (!Done(item.state) && item.state != Progress::DOWNLOADED && item.total > 0 &&
      item.state != Progress::WAITING) {
    const std::string numbers =
        absl::StrCat(engine::HumanSize(item.current), "/", engine::HumanSize(item.total));
    const size_t used = DisplayWidth(line) + numbers.size() + 5;
    if (used + 10 < width_) {
      const size_t bar = std::min<size_t>(width_ - used, 50);
      absl::StrAppend(
          &line, " ",
          Bar(static_cast<double>(item.current) / static_cast<double>(item.total), bar));
    }
    absl::StrAppend(&line, " ", numbers);
  }
  return Ellipsis(line, width_ - 1);
}

std::string ProgressView::TotalLine(absl::Time now) const {
  int64_t current = 0;
  int64_t total = 0;
  size_t done = 0;
  size_t count = 0;
  const auto overall = index_.find("");
  for (const Item& item : items_) {
    if (item.id.empty()) continue;
    ++count;
    if (Done(item.state) || (finished_ && item.state == Progress::DOWNLOADED)) ++done;
    // Layers that exist already are not transferred and must not count for the rate.
    if (item.state == Progress::EXISTS) continue;
    const bool arriving = item.state == Progress::UNPACKING && item.transferred > 0;
    current += arriving               ? std::min(item.transferred, item.total)
               : Rank(item.state) > 1 ? item.total
                                      : std::max(item.current, item.transferred);
    total += item.total;
  }
  if (overall != index_.end() && items_[overall->second].total > 0) {
    current = items_[overall->second].current;
    total = items_[overall->second].total;
  }
  const double elapsed = absl::ToDoubleSeconds(now - start_);
  const double rate = elapsed > 0.2 ? static_cast<double>(current) / elapsed : 0;
  if (overall != index_.end() && !finished_ &&
      items_[overall->second].state == Progress::RETRYING) {
    return Ellipsis(absl::StrCat("Retrying ", items_[overall->second].detail), width_ - 1);
  }
  std::string line = count > 0 ? absl::StrCat("Total ", done, "/", count) : "Total";
  if (total > 0) {
    absl::StrAppend(&line, " ", Bar(static_cast<double>(current) / static_cast<double>(total), 30),
                    " ", engine::HumanSize(current), "/", engine::HumanSize(total));
  } else if (current > 0) {
    absl::StrAppend(&line, " ", engine::HumanSize(current));
  }
  if (rate > 0) {
    absl::StrAppend(&line, "  ", engine::HumanSize(static_cast<int64_t>(rate)), "/s");
    if (total > current) {
      absl::StrAppend(
          &line, "  ",
          engine::ShortDuration(absl::Seconds(static_cast<double>(total - current) / rate)),
          " left");
    } else {
      absl::StrAppend(&line, "  ", engine::ShortDuration(now - start_));
    }
  }
  return Ellipsis(line, width_ - 1);
}

}  // namespace gantry::ctl
