#include "ctl/commands/build_view.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
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

std::string WarningText(const v1::BuildWarning& warning) {
  return absl::StrCat(warning.rule(), ": ", warning.text(), " (line ", warning.line(), ")");
}

// BuildKit's clients know a step by a digest; any text of that form will do.
std::string VertexOf(int32_t step) { return absl::StrFormat("sha256:%064x", step); }

engine::Value ListOf(engine::Value one) {
  engine::Value list = engine::Value::EmptyList();
  list.Append(std::move(one));
  return list;
}

// One document for each event, as docker build --progress rawjson writes it; "" for what that has
// none for.
std::string JsonOf(const v1::BuildResponse& response) {
  engine::Value out = engine::Value::EmptyObject();
  const std::string now = absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone());
  const auto time = [](const google::protobuf::Timestamp& at) {
    return absl::FormatTime(absl::RFC3339_full, TimeOf(at), absl::UTCTimeZone());
  };
  engine::Value value = engine::Value::EmptyObject();
  switch (response.event_case()) {
    case v1::BuildResponse::kStep: {
      const v1::BuildStep& step = response.step();
      if (step.metadata()) return "";
      value.Set("digest", VertexOf(step.number()));
      value.Set("name", step.name());
      value.Set("started", time(step.started_at()));
      if (step.has_completed_at()) value.Set("completed", time(step.completed_at()));
      if (step.cached()) value.Set("cached", true);
      if (!step.error().empty()) value.Set("error", step.error());
      out.Set("vertexes", ListOf(std::move(value)));
      break;
    }
    case v1::BuildResponse::kProgress: {
      const v1::BuildProgress& progress = response.progress();
      value.Set("id", progress.id());
      value.Set("vertex", VertexOf(progress.step()));
      if (progress.total_bytes() > 0) value.Set("total", progress.total_bytes());
      value.Set("current", progress.current_bytes());
      value.Set("timestamp", now);
      out.Set("statuses", ListOf(std::move(value)));
      break;
    }
    case v1::BuildResponse::kLog: {
      value.Set("vertex", VertexOf(response.log().step()));
      value.Set("stream", static_cast<int64_t>(response.log().stream()));
      value.Set("data", absl::Base64Escape(response.log().data()));
      value.Set("timestamp", now);
      out.Set("logs", ListOf(std::move(value)));
      break;
    }
    case v1::BuildResponse::kWarning: {
      const v1::BuildWarning& warning = response.warning();
      engine::Value line = engine::Value::EmptyObject();
      line.Set("line", static_cast<int64_t>(warning.line()));
      engine::Value range = engine::Value::EmptyObject();
      range.Set("start", line);
      range.Set("end", std::move(line));
      value.Set("vertex", VertexOf(1));
      value.Set("level", static_cast<int64_t>(1));
      value.Set("short", absl::Base64Escape(WarningText(warning)));
      value.Set("range", ListOf(std::move(range)));
      out.Set("warnings", ListOf(std::move(value)));
      break;
    }
    default:
      return "";
  }
  return out.ToJson();
}

// One that was ended because another one failed.
bool IsCancelled(const v1::BuildStep& step) {
  return absl::EndsWith(step.error(), "context canceled");
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
    if (!json.empty()) write_(absl::StrCat(PrintableJson(json), "\n"));
    return;
  }
  switch (response.event_case()) {
    case v1::BuildResponse::kStep: {
      if (response.step().metadata()) return;
      const bool is_new = steps_.count(response.step().number()) == 0;
      Step& step = steps_[response.step().number()];
      const v1::BuildStep before = step.step;
      if (is_new) {
        EndExport();
        step.number = static_cast<int>(steps_.size());
      }
      step.step = response.step();
      if (step.step.has_completed_at() && step.step.error().empty() &&
          absl::StartsWith(step.step.name(), "exporting to image")) {
        exports_ = step.step.number();
        if (is_new && style_ == Style::kPlain) Plain(step, before, is_new);
        break;
      }
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
          absl::StrCat(OneLine(progress.id()), ": ", engine::HumanSize(progress.current_bytes()));
      break;
    }
    case v1::BuildResponse::kWarning: {
      warnings_.push_back(WarningText(response.warning()));
      break;
    }
    case v1::BuildResponse::kBuilt: {
      if (exports_ == 0 || response.built().image_id().empty()) break;
      made_.push_back(absl::StrCat("writing image ", response.built().image_id()));
      for (const std::string& tag : response.built().tags())
        made_.push_back(absl::StrCat("naming to ", tag));
      break;
    }
    default:
      break;
  }
  if (style_ == Style::kTerminal) Draw(false);
}

void BuildView::EndExport() {
  if (exports_ == 0 || style_ != Style::kPlain) return;
  Step& step = steps_[std::exchange(exports_, 0)];
  for (const std::string& one : made_)
    write_(absl::StrCat("#", step.number, " ", Printable(one), " done\n"));
  made_.clear();
  v1::BuildStep before = step.step;
  before.clear_completed_at();
  Plain(step, before, false);
}

void BuildView::Plain(Step& step, const v1::BuildStep& before, bool is_new) {
  const std::string number = absl::StrCat("#", step.number, " ");
  if (is_new) write_(absl::StrCat(number, Printable(step.step.name()), "\n"));
  if (!step.step.has_completed_at() || before.has_completed_at() || exports_ == step.step.number())
    return;
  if (!step.progress.empty() && step.step.error().empty())
    write_(absl::StrCat(number, step.progress, " done\n"));
  if (!step.partial.empty()) write_(absl::StrCat(number, Printable(step.partial), "\n"));
  step.partial.clear();
  if (IsCancelled(step.step)) {
    write_(absl::StrCat(number, "CANCELED\n\n"));
  } else if (!step.step.error().empty()) {
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
      write_(
          absl::StrFormat("#%d %.3f %s\n", step.number, std::max(0.0, seconds), Printable(line)));
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
                             : IsCancelled(step.step)     ? "CANCELED "
                             : !step.step.error().empty() ? "ERROR "
                                                          : "";
    lines.push_back(
        Line(absl::StrCat(" => ", mark, OneLine(step.step.name())), SecondsOf(step.step)));
    if (number == exports_) {
      for (const std::string& one : made_)
        lines.push_back(Line(absl::StrCat(" => => ", Printable(one)), ""));
    }
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

std::string FailedLines(absl::string_view dockerfile, absl::string_view failure) {
  const size_t colon = failure.find(':');
  if (colon == absl::string_view::npos || dockerfile.empty()) return "";
  absl::string_view rest = failure.substr(colon + 1);
  absl::ConsumePrefix(&rest, " dockerfile parse error on line ");
  int line = 0;
  if (!absl::SimpleAtoi(rest.substr(0, rest.find(':')), &line)) return "";
  const std::vector<absl::string_view> lines = absl::StrSplit(dockerfile, '\n');
  if (line < 1 || line > static_cast<int>(lines.size())) return "";
  std::string out =
      absl::StrCat(Printable(failure.substr(0, colon)), ":", line, "\n--------------------\n");
  const int last = std::min(line + 2, static_cast<int>(lines.size()));
  for (int i = std::max(1, line - 2); i <= last; ++i) {
    const std::string shown =
        absl::StrFormat("%4d | %s %s", i, i == line ? ">>>" : "   ", Printable(lines[i - 1]));
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(shown), "\n");
  }
  return out + "--------------------\n";
}

void BuildView::Finish() {
  EndExport();
  if (style_ == Style::kTerminal) {
    Draw(true);
    // The output of what failed, which was only shown in part.
    for (const auto& [number, step] : steps_) {
      if (step.step.error().empty() || IsCancelled(step.step) || step.lines.empty()) continue;
      write_(absl::StrCat("------\n > ", Printable(step.step.name()), ":\n"));
      for (const std::string& line : step.lines) write_(absl::StrCat(Printable(line), "\n"));
      write_("------\n");
    }
  }
  if (style_ == Style::kTerminal || style_ == Style::kPlain) {
    if (!warnings_.empty())
      write_(absl::StrCat(style_ == Style::kTerminal ? "\n " : " ", warnings_.size(),
                          warnings_.size() == 1 ? " warning" : " warnings", " found:\n"));
    for (const std::string& warning : warnings_)
      write_(absl::StrCat(" - ", Printable(warning), "\n"));
  }
}

}  // namespace gantry::ctl
