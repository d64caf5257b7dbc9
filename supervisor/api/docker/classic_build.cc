#include "supervisor/api/docker/classic_build.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/engine/value.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

std::string Document(const Value& value) { return absl::StrCat(value.ToJson(), "\r\n"); }

std::string Stream(absl::string_view text) {
  Value value = Value::EmptyObject();
  value.Set("stream", text);
  return Document(value);
}

// "sha256:..." as docker shortens it.
std::string Short(absl::string_view id) {
  const size_t colon = id.find(':');
  return std::string(id.substr(colon == absl::string_view::npos ? 0 : colon + 1, 12));
}

}  // namespace

void ClassicBuild::Begin(Step& step) {
  step.begun = true;
  step.lines.push_back(Stream(absl::StrCat("Step ", step.last.position(), "/",
                                           step.last.positions(), " : ", step.last.instruction())));
  step.lines.push_back(Stream("\n"));
}

void ClassicBuild::End(Step& step) {
  if (!step.last.error().empty()) {
    exit_code_ = step.last.exit_code();
    command_ = step.last.command();
    return;
  }
  if (step.last.cached()) step.lines.push_back(Stream(" ---> Using cache\n"));
  if (step.running && !keep_containers_)
    step.lines.push_back(Stream(
        absl::StrCat(" ---> Removed intermediate container ", Short(step.last.container()), "\n")));
  step.lines.push_back(Stream(absl::StrCat(" ---> ", Short(step.last.image_id()), "\n")));
}

std::vector<std::string> ClassicBuild::Take() {
  std::vector<std::string> out;
  while (!order_.empty()) {
    Step& first = steps_[order_.front()];
    out.insert(out.end(), first.lines.begin(), first.lines.end());
    first.lines.clear();
    if (!first.last.has_completed_at()) break;
    order_.pop_front();
  }
  if (order_.empty()) {
    out.insert(out.end(), rest_.begin(), rest_.end());
    rest_.clear();
  }
  if (quiet_) out.clear();
  return out;
}

std::vector<std::string> ClassicBuild::Add(const v1::BuildResponse& event) {
  switch (event.event_case()) {
    case v1::BuildResponse::kStep: {
      const v1::BuildStep& now = event.step();
      // The builder's own steps are no news to a client of docker's.
      if (now.instruction().empty()) return {};
      const bool is_new = steps_.count(now.number()) == 0;
      Step& step = steps_[now.number()];
      const bool was_over = step.last.has_completed_at();
      step.last = now;
      if (is_new) {
        order_.push_back(now.number());
        Begin(step);
      }
      if (!step.running && !now.container().empty()) {
        step.running = true;
        step.lines.push_back(
            Stream(absl::StrCat(" ---> Running in ", Short(now.container()), "\n")));
      }
      if (!was_over && now.has_completed_at()) End(step);
      return Take();
    }
    case v1::BuildResponse::kLog: {
      const auto found = steps_.find(event.log().step());
      if (found == steps_.end()) return {};
      const std::string& text = event.log().data();
      found->second.lines.push_back(
          Stream(event.log().stream() == 2 ? absl::StrCat("\x1b[91m", text, "\x1b[0m") : text));
      return Take();
    }
    case v1::BuildResponse::kBuilt: {
      const v1::BuiltImage& built = event.built();
      Value id = Value::EmptyObject();
      id.Set("ID", built.image_id());
      Value aux = Value::EmptyObject();
      aux.Set("aux", std::move(id));
      if (quiet_) return {Stream(absl::StrCat(built.image_id(), "\n"))};
      rest_.push_back(Document(aux));
      rest_.push_back(Stream(absl::StrCat("Successfully built ", Short(built.image_id()), "\n")));
      for (const std::string& tag : built.tags()) {
        const bool has_tag = tag.find(':', tag.rfind('/') + 1) != std::string::npos;
        rest_.push_back(
            Stream(absl::StrCat("Successfully tagged ", tag, has_tag ? "" : ":latest", "\n")));
      }
      return Take();
    }
    default:
      return {};
  }
}

std::string ClassicBuild::Failed(const absl::Status& status) const {
  std::string message(status.message());
  Value detail = Value::EmptyObject();
  if (exit_code_ != 0) {
    message = absl::StrCat("The command '", command_, "' returned a non-zero code: ", exit_code_);
    detail.Set("code", exit_code_);
  }
  detail.Set("message", message);
  Value error = Value::EmptyObject();
  error.Set("errorDetail", std::move(detail));
  error.Set("error", message);
  return Document(error);
}

}  // namespace gantry::api::docker
