#include "ctl/commands/build_view.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

#include "base/engine/units.h"
#include "base/engine/value.h"
#include "ctl/text.h"

namespace gantry::ctl {
namespace {

constexpr size_t kShownLines = 6;  // of the output of a step that runs
constexpr absl::Duration kRedraw = absl::Milliseconds(100);

absl::Time TimeOf(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string SecondsOf(const v1::BuildStep& step) {
  const absl::Time end = step.has_completed_at() ? TimeOf(step.completed_at()) : absl::Now();
  return absl::StrFormat("%.1fs",
                         std::max(0.0, absl::ToDoubleSeconds(end - TimeOf(step.started_at()))));
}

// One document for each event; "" for an output's bytes.
std::string JsonOf(const v1::BuildResponse& response) {
  engine::Value out = engine::Value::EmptyObject();
  switch (response.event_case()) {
    case v1::BuildResponse::kStep: {
      const v1::BuildStep& step = response.step();
      engine::Value value = engine::Value::EmptyObject();
      value.Set("number", static_cast<int64_t>(step.number()));
      value.Set("name", step.name());
      value.Set("started", absl::FormatTime(TimeOf(step.started_at())));
      if (step.has_completed_at())
        value.Set("completed", absl::FormatTime(TimeOf(step.completed_at())));
      if (step.cached()) value.Set("cached", true);
      if (!step.error().empty()) value.Set("error", step.error());
      if (step.exit_code() != 0) value.Set("exitCode", static_cast<int64_t>(step.exit_code()));
      out.Set("step", std::move(value));
      break;
    }
    case v1::BuildResponse::kLog: {
      engine::Value value = engine::Value::EmptyObject();
      value.Set("step", static_cast<int64_t>(response.log().step()));
      value.Set("stream", static_cast<int64_t>(response.log().stream()));
      value.Set("data", absl::Base64Escape(response.log().data()));
      out.Set("log", std::move(value));
      break;
    }
    case v1::BuildResponse::kWarning: {
      engine::Value value = engine::Value::EmptyObject();
      value.Set("rule", response.warning().rule());
      value.Set("text", response.warning().text());
      value.Set("file", response.warning().file());
      value.Set("line", static_cast<int64_t>(response.warning().line()));
      out.Set("warning", std::move(value));
      break;
    }
    case v1::BuildResponse::kBuilt: {
      engine::Value value = engine::Value::EmptyObject();
      value.Set("imageID", response.built().image_id());
      value.Set("tags", engine::Value::StringRange(response.built().tags()));
      out.Set("built", std::move(value));
      break;
    }
    default:
      return "";
  }
  return out.ToJson();
}

std::string OneLine(absl::string_view text) { return Printable(text.substr(0, text.find('\n'))); }

}  // namespace

BuildView::BuildView(Style style, Write write, size_t width, size_t height)
    : style_(style),
      write_(std::move(write)),
      width_(std::max<size_t>(width, 40)),
      height_(std::max<size_t>(height, 8)),
      start_(absl::Now()) {}

void BuildView::Update(const v1::BuildResponse& response) {
  if (style_ == Style::kSilent) return;
  if (style_ == Style::kJson) {
    const std::string json = JsonOf(response);
    if (!json.empty()) write_(absl::StrCat(json, "\n"));
    return;
  }
  switch (response.event_case()) {
    case v1::BuildResponse::kStep: {
      if (response.step().metadata()) return;
      const bool is_new = steps_.count(response.step().number()) == 0;
      Step& step = steps_[response.step().number()];
      const v1::BuildStep before = step.step;
      step.step = response.step();
      if (style_ == Style::kPlain) Plain(step, before, is_new);
      break;
    }
    case v1::BuildResponse::kLog: {
      const auto found = steps_.find(response.log().step());
      if (found != steps_.end()) Output(found->second, response.log());
      break;
    }
    case v1::BuildResponse::kProgress: {
      const auto found = steps_.find(response.progress().step());
      if (found == steps_.end()) break;
      const v1::BuildProgress& progress = response.progress();
      found->second.progress =
          absl::StrCat(progress.id(), ": ", engine::HumanSize(progress.current_bytes()));
      break;
    }
    case v1::BuildResponse::kWarning: {
      const v1::BuildWarning& warning = response.warning();
      warnings_.push_back(
          absl::StrCat(warning.rule(), ": ", warning.text(), " (line ", warning.line(), ")"));
      break;
    }
    default:
      break;
  }
  if (style_ == Style::kTerminal) Draw(false);
}

void BuildView::Plain(Step& step, const v1::BuildStep& before, bool is_new) {
  const std::string number = absl::StrCat("#", step.step.number(), " ");
  if (is_new) write_(absl::StrCat(number, Printable(step.step.name()), "\n"));
  if (!step.step.has_completed_at() || before.has_completed_at()) return;
  if (!step.partial.empty()) write_(absl::StrCat(number, Printable(step.partial), "\n"));
  step.partial.clear();
  if (!step.step.error().empty()) {
    write_(absl::StrCat(number, "ERROR: ", Printable(step.step.error()), "\n\n"));
  } else if (step.step.cached()) {
    write_(absl::StrCat(number, "CACHED\n\n"));
  } else {
    write_(absl::StrCat(number, "DONE ", SecondsOf(step.step), "\n\n"));
  }
}

void BuildView::Output(Step& step, const v1::BuildLog& log) {
  absl::StrAppend(&step.partial, log.data());
  while (true) {
    const size_t end = step.partial.find('\n');
    if (end == std::string::npos) break;
    std::string line = step.partial.substr(0, end);
    step.partial.erase(0, end + 1);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (style_ == Style::kPlain) {
      const double seconds = absl::ToDoubleSeconds(absl::Now() - TimeOf(step.step.started_at()));
      write_(absl::StrFormat("#%d %.3f %s\n", step.step.number(), std::max(0.0, seconds),
                             Printable(line)));
    }
    step.lines.push_back(std::move(line));
    while (step.lines.size() > 50) step.lines.pop_front();
  }
  if (step.partial.size() > (64 << 10)) step.partial.clear();
}

std::string BuildView::Line(const std::string& left, const std::string& right) const {
  const size_t room = width_ - std::min(width_, right.size() + 1) - 1;
  std::string text = Ellipsis(left, room);
  const size_t shown = DisplayWidth(text);
  if (shown < room) text.append(room - shown, ' ');
  return absl::StrCat(text, " ", right, "\n");
}

void BuildView::Draw(bool last) {
  const absl::Time now = absl::Now();
  if (!last && now - last_draw_ < kRedraw) return;
  last_draw_ = now;
  std::vector<std::string> lines;
  size_t done = 0;
  for (const auto& [number, step] : steps_) done += step.step.has_completed_at() ? 1 : 0;
  for (const auto& [number, step] : steps_) {
    const std::string mark = step.step.cached()           ? "CACHED "
                             : !step.step.error().empty() ? "ERROR "
                                                          : "";
    lines.push_back(
        Line(absl::StrCat(" => ", mark, OneLine(step.step.name())), SecondsOf(step.step)));
    if (step.step.has_completed_at()) continue;
    if (!step.progress.empty()) lines.push_back(Line(absl::StrCat(" => => ", step.progress), ""));
    const size_t first = step.lines.size() > kShownLines ? step.lines.size() - kShownLines : 0;
    for (size_t i = first; i < step.lines.size(); ++i)
      lines.push_back(Line(absl::StrCat(" => => # ", OneLine(step.lines[i])), ""));
  }
  // While it runs no more than fits on the screen, the latest.
  if (!last && lines.size() + 2 > height_)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(height_ - 2));
  std::string text;
  if (drawn_lines_ > 0) absl::StrAppend(&text, "\x1b[", drawn_lines_, "A\x1b[J");
  absl::StrAppendFormat(&text, "[+] Building %.1fs (%d/%d)%s\n",
                        absl::ToDoubleSeconds(now - start_), done, steps_.size(),
                        last && done == steps_.size() ? " FINISHED" : "");
  for (const std::string& line : lines) absl::StrAppend(&text, line);
  drawn_lines_ = lines.size() + 1;
  write_(text);
}

void BuildView::Finish() {
  if (style_ == Style::kTerminal) {
    Draw(true);
    // The output of what failed, which was only shown in part.
    for (const auto& [number, step] : steps_) {
      if (step.step.error().empty() || step.lines.empty()) continue;
      write_(absl::StrCat("------\n > ", Printable(step.step.name()), ":\n"));
      for (const std::string& line : step.lines) write_(absl::StrCat(Printable(line), "\n"));
      write_("------\n");
    }
  }
  if (style_ == Style::kTerminal || style_ == Style::kPlain) {
    if (!warnings_.empty())
      write_(absl::StrCat("\n ", warnings_.size(), warnings_.size() == 1 ? " warning" : " warnings",
                          " found:\n"));
    for (const std::string& warning : warnings_)
      write_(absl::StrCat(" - ", Printable(warning), "\n"));
  }
}

}  // namespace gantry::ctl
