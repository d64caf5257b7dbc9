#include "base/engine/progress_json.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "base/engine/units.h"
#include "proto/gantry/v1/types.pb.h"

namespace gantry::engine {
namespace {

constexpr int kBarWidth = 50;
constexpr size_t kShortId = 12;
constexpr int64_t kWorthShowing = 64 << 10;

}  // namespace

std::string ProgressLine(const Value& message) { return absl::StrCat(message.ToJson(), "\r\n"); }

std::string StatusLine(absl::string_view status, absl::string_view id) {
  Value message = Value::EmptyObject();
  message.Set("status", status);
  if (!id.empty()) message.Set("id", id);
  return ProgressLine(message);
}

std::string StepLine(absl::string_view status, absl::string_view id, int64_t current,
                     int64_t total) {
  Value message = Value::EmptyObject();
  message.Set("status", status);
  Value detail = Value::EmptyObject();
  if (current > 0) detail.Set("current", current);
  if (total > 0) detail.Set("total", total);
  message.Set("progressDetail", std::move(detail));
  if (const std::string bar = ProgressBar(current, total); !bar.empty())
    message.Set("progress", bar);
  if (!id.empty()) message.Set("id", id);
  return ProgressLine(message);
}

std::string StreamLine(absl::string_view text) {
  Value message = Value::EmptyObject();
  message.Set("stream", text);
  return ProgressLine(message);
}

std::string ErrorLine(absl::string_view text) {
  Value detail = Value::EmptyObject();
  detail.Set("message", text);
  Value message = Value::EmptyObject();
  message.Set("errorDetail", std::move(detail));
  message.Set("error", text);
  return ProgressLine(message);
}

std::string AuxLine(Value aux) {
  Value message = Value::EmptyObject();
  message.Set("progressDetail", Value::EmptyObject());
  message.Set("aux", std::move(aux));
  return ProgressLine(message);
}

std::string ProgressBar(int64_t current, int64_t total) {
  if (current <= 0 && total <= 0) return "";
  if (total <= 0 || current > total) return absl::StrFormat("%8s", HumanSize(current));
  const int done = static_cast<int>(std::min<int64_t>(
      kBarWidth,
      static_cast<int64_t>(static_cast<double>(current) / static_cast<double>(total) * kBarWidth)));
  return absl::StrCat("[", std::string(static_cast<size_t>(done), '='), ">",
                      std::string(static_cast<size_t>(kBarWidth - done), ' '), "] ",
                      absl::StrFormat("%8s", HumanSize(current)), "/", HumanSize(total));
}

bool LayerProgress::Reach(const std::string& id, Stage stage) {
  Stage& now = stages_[id];
  if (now >= stage) return false;
  now = stage;
  return true;
}

std::vector<std::string> LayerProgress::Lines(const v1::Progress& step) {
  if (work_ == Work::kLoad) return LoadLines(step);
  // Of the work as a whole only that a request is tried again.
  if (step.id().empty() && step.state() == v1::Progress::RETRYING)
    return {StatusLine(absl::StrCat("Retrying ", step.detail()), "")};
  if (step.media_type() != "layer" || step.id().empty()) return {};
  const std::string id = ShortId(step.id());
  return work_ == Work::kPull ? PullLines(step, id) : PushLines(step, id);
}

// Entries of an archive: "blobs/sha256/HEX", or "ID/layer.tar" as docker wrote them. Documents are
// among the former: they are small, and over before somebody sees them.
std::vector<std::string> LayerProgress::LoadLines(const v1::Progress& step) {
  const std::vector<absl::string_view> path = absl::StrSplit(step.id(), '/');
  std::string id;
  if (path.size() == 3 && path[0] == "blobs") id = std::string(path[2].substr(0, kShortId));
  if (path.size() == 2 && path[1] == "layer.tar") id = std::string(path[0].substr(0, kShortId));
  if (id.empty() || step.total_bytes() < kWorthShowing) return {};
  return {StepLine("Loading layer", id, step.current_bytes(), step.total_bytes())};
}

std::vector<std::string> LayerProgress::PullLines(const v1::Progress& step, const std::string& id) {
  std::vector<std::string> lines;
  const auto say = [&](absl::string_view status, int64_t current = 0, int64_t total = 0) {
    lines.push_back(StepLine(status, id, current, total));
  };
  if (step.state() == v1::Progress::WAITING) return lines;  // it may turn out to be here
  if (step.state() == v1::Progress::EXISTS) {
    if (stages_[id] != Stage::kUnknown) return lines;
    stages_[id] = Stage::kDone;
    say("Already exists");
    if (something_came_) return lines;
    held_back_.push_back(std::move(lines[0]));
    return {};
  }
  lines.swap(held_back_);
  something_came_ = true;
  if (Reach(id, Stage::kKnown)) say("Pulling fs layer");
  const Stage now = stages_[id];
  switch (step.state()) {
    case v1::Progress::DOWNLOADING:
      if (now > Stage::kMoving) break;
      Reach(id, Stage::kMoving);
      say("Downloading", step.current_bytes(), step.total_bytes());
      break;
    case v1::Progress::RETRYING:
      if (now < Stage::kMoved) say(absl::StrCat("Retrying: ", step.detail()));
      break;
    case v1::Progress::VERIFYING:
      if (Reach(id, Stage::kVerifying)) say("Verifying Checksum");
      break;
    case v1::Progress::DOWNLOADED:
      if (Reach(id, Stage::kMoved)) say("Download complete");
      break;
    case v1::Progress::UNPACKING:
      // A layer is unpacked while it arrives; its arrival is what takes the time.
      if (now < Stage::kMoved || now > Stage::kUnpacking) break;
      Reach(id, Stage::kUnpacking);
      say("Extracting", step.current_bytes(), step.total_bytes());
      break;
    case v1::Progress::COMPLETE:
      if (Reach(id, Stage::kMoved)) say("Download complete");
      if (Reach(id, Stage::kDone)) say("Pull complete");
      break;
    default:
      break;
  }
  return lines;
}

std::vector<std::string> LayerProgress::PushLines(const v1::Progress& step, const std::string& id) {
  std::vector<std::string> lines;
  const auto say = [&](absl::string_view status, int64_t current = 0, int64_t total = 0) {
    lines.push_back(StepLine(status, id, current, total));
  };
  if (Reach(id, Stage::kKnown)) say("Preparing");
  switch (step.state()) {
    case v1::Progress::UPLOADING:
      if (stages_[id] > Stage::kMoving) break;
      Reach(id, Stage::kMoving);
      say("Pushing", step.current_bytes(), step.total_bytes());
      break;
    case v1::Progress::RETRYING:
      if (stages_[id] < Stage::kDone) say(absl::StrCat("Retrying: ", step.detail()));
      break;
    case v1::Progress::UPLOADED:
      if (Reach(id, Stage::kDone)) say("Pushed");
      break;
    case v1::Progress::EXISTS:
      if (Reach(id, Stage::kDone)) say("Layer already exists");
      break;
    case v1::Progress::MOUNTED:
      if (Reach(id, Stage::kDone))
        say(absl::StrCat("Mounted from ",
                         step.detail().empty() ? "another repository" : step.detail()));
      break;
    default:
      break;
  }
  return lines;
}

}  // namespace gantry::engine
