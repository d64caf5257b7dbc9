#include "supervisor/api/buildkit/solve_progress.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/proto_time.h"
#include "content-store/digest.h"
#include "supervisor/api/buildkit/solve_request.h"

namespace gantry::api::buildkit {
namespace {

namespace control = moby::buildkit::v1;

constexpr absl::string_view kDefinition = "[internal] load build definition";
constexpr absl::string_view kExport = "exporting to image";

}  // namespace

std::string SolveProgress::DigestOf(absl::string_view what) const {
  content::Hasher hasher;
  hasher.Update(ref_);
  hasher.Update("/");
  hasher.Update(what);
  return hasher.Current().str();
}

void SolveProgress::AddVertex(const v1::BuildStep& step, Status& out) const {
  control::Vertex& vertex = *out.add_vertexes();
  vertex.set_digest(DigestOf(absl::StrCat(step.number())));
  vertex.set_name(step.name());
  vertex.set_cached(step.cached());
  if (!step.error().empty()) vertex.set_error(PlaceOf(file_, step.error()).message);
  if (step.has_started_at()) *vertex.mutable_started() = step.started_at();
  if (step.has_completed_at()) *vertex.mutable_completed() = step.completed_at();
}

void SolveProgress::AddExported(const v1::BuiltImage& built, Status& out) {
  const auto done = [&](std::string what) {
    control::VertexStatus& status = *out.add_statuses();
    status.set_id(std::move(what));
    status.set_vertex(DigestOf(absl::StrCat(held_.number())));
    *status.mutable_timestamp() = held_.completed_at();
    *status.mutable_started() = held_.started_at();
    *status.mutable_completed() = held_.completed_at();
  };
  done("exporting layers");
  done(absl::StrCat("writing image ", built.image_id()));
  for (const std::string& tag : built.tags()) done(absl::StrCat("naming to ", tag));
}

SolveProgress::Status SolveProgress::Add(const v1::BuildResponse& event, absl::Time now) {
  Status out;
  switch (event.event_case()) {
    case v1::BuildResponse::kStep: {
      const v1::BuildStep& step = event.step();
      if (step.metadata()) break;
      Step& known = steps_[step.number()];
      known.last = step;
      if (absl::StartsWith(step.name(), kDefinition)) definition_ = step.number();
      // Its end waits for what was made.
      if (step.name() == kExport && step.error().empty() && step.has_completed_at()) {
        held_ = step;
        break;
      }
      AddVertex(step, out);
      if (step.has_completed_at()) {
        for (auto& [id, status] : known.open) {
          *status.mutable_completed() = step.completed_at();
          *status.mutable_timestamp() = step.completed_at();
          *out.add_statuses() = std::move(status);
        }
        known.open.clear();
      }
      break;
    }
    case v1::BuildResponse::kLog: {
      const auto found = steps_.find(event.log().step());
      if (found == steps_.end()) break;
      control::VertexLog& log = *out.add_logs();
      log.set_vertex(DigestOf(absl::StrCat(event.log().step())));
      log.set_stream(event.log().stream());
      log.set_msg(event.log().data());
      engine::ToProto(now, log.mutable_timestamp());
      break;
    }
    case v1::BuildResponse::kProgress: {
      const v1::BuildProgress& progress = event.progress();
      const auto found = steps_.find(progress.step());
      if (found == steps_.end()) break;
      control::VertexStatus& status = found->second.open[progress.id()];
      // As BuildKit writes what is counted.
      const bool counted = absl::StartsWith(progress.id(), "transferring");
      status.set_id(absl::StrCat(progress.id(), counted ? ":" : ""));
      status.set_vertex(DigestOf(absl::StrCat(progress.step())));
      status.set_current(progress.current_bytes());
      status.set_total(progress.total_bytes());
      *status.mutable_started() = found->second.last.started_at();
      engine::ToProto(now, status.mutable_timestamp());
      *out.add_statuses() = status;
      break;
    }
    case v1::BuildResponse::kWarning: {
      const v1::BuildWarning& said = event.warning();
      control::VertexWarning& warning = *out.add_warnings();
      warning.set_vertex(DigestOf(absl::StrCat(definition_)));
      warning.set_level(1);
      warning.set_short_(said.rule().empty() ? said.text()
                                             : absl::StrCat(said.rule(), ": ", said.text()));
      if (said.line() > 0)
        warning.set_short_(absl::StrCat(warning.short_(), " (line ", said.line(), ")"));
      if (said.line() > 0) {
        warning.mutable_info()->set_filename(said.file());
        warning.mutable_info()->set_data(text_);
        warning.mutable_info()->set_language("Dockerfile");
        pb::Range& range = *warning.add_ranges();
        range.mutable_start()->set_line(said.line());
        range.mutable_end()->set_line(said.line());
      }
      break;
    }
    case v1::BuildResponse::kBuilt:
      if (held_.number() == 0) break;
      AddExported(event.built(), out);
      AddVertex(held_, out);
      break;
    // What a Dockerfile says is the answer of another call.
    case v1::BuildResponse::kReport:
    // Of clients of gantry.v1: here the session is asked for files and agents.
    case v1::BuildResponse::kData:
    case v1::BuildResponse::kWants:
    case v1::BuildResponse::kAgent:
    case v1::BuildResponse::kMoreData:
    case v1::BuildResponse::EVENT_NOT_SET:
      break;
  }
  return out;
}

SolveProgress::Status SolveProgress::Note(absl::string_view text) {
  Status out;
  control::VertexWarning& warning = *out.add_warnings();
  warning.set_vertex(DigestOf(absl::StrCat(definition_)));
  warning.set_level(1);
  warning.set_short_(std::string(text));
  return out;
}

}  // namespace gantry::api::buildkit
