#include "supervisor/core/image_progress.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {
namespace {

v1::Progress::State ToState(distribution::Progress::State state, bool uploading) {
  using State = distribution::Progress::State;
  switch (state) {
    case State::kResolving:
    case State::kWaiting:
      return v1::Progress::WAITING;
    case State::kMoving:
      return uploading ? v1::Progress::UPLOADING : v1::Progress::DOWNLOADING;
    case State::kRetrying:
      return v1::Progress::RETRYING;
    case State::kVerifying:
      return v1::Progress::VERIFYING;
    case State::kDone:
      return uploading ? v1::Progress::UPLOADED : v1::Progress::DOWNLOADED;
    case State::kExists:
      return v1::Progress::EXISTS;
    case State::kMounted:
      return v1::Progress::MOUNTED;
    case State::kSkipped:
      return v1::Progress::EXISTS;
  }
  return v1::Progress::STATE_UNSPECIFIED;
}

}  // namespace

distribution::ProgressFn TransferProgress(const ProgressFn& progress, bool uploading) {
  if (!progress) return nullptr;
  return [progress, uploading](const distribution::Progress& step) {
    v1::Progress out;
    if (step.kind != distribution::Progress::Kind::kReference) out.set_id(step.ref);
    out.set_state(ToState(step.state, uploading));
    out.set_current_bytes(step.offset_bytes);
    out.set_total_bytes(step.total_bytes);
    out.set_detail(step.detail);
    switch (step.kind) {
      case distribution::Progress::Kind::kLayer:
        out.set_media_type("layer");
        break;
      case distribution::Progress::Kind::kConfig:
        out.set_media_type("config");
        break;
      case distribution::Progress::Kind::kManifest:
        out.set_media_type("manifest");
        break;
      case distribution::Progress::Kind::kIndex:
        out.set_media_type("index");
        break;
      default:
        break;
    }
    progress(out);
  };
}

distribution::UnpackProgressFn UnpackProgressTo(const ProgressFn& progress) {
  if (!progress) return nullptr;
  return [progress](const distribution::UnpackProgress& step) {
    v1::Progress out;
    out.set_id(!step.layer.empty() ? step.layer.str() : step.diff_id.str());
    if (out.id().empty()) return;
    out.set_media_type("layer");
    switch (step.state) {
      case distribution::UnpackProgress::State::kUnpacking:
        out.set_state(v1::Progress::UNPACKING);
        break;
      case distribution::UnpackProgress::State::kDone:
        out.set_state(v1::Progress::COMPLETE);
        break;
      case distribution::UnpackProgress::State::kExists:
        out.set_state(v1::Progress::EXISTS);
        break;
    }
    out.set_current_bytes(step.offset_bytes);
    out.set_total_bytes(step.total_bytes);
    progress(out);
  };
}

distribution::ArchiveProgressFn ArchiveProgress(const ProgressFn& progress,
                                                v1::Progress::State state) {
  if (!progress) return nullptr;
  return [progress, state](absl::string_view entry, int64_t offset, int64_t total) {
    v1::Progress out;
    out.set_id(std::string(entry));
    out.set_state(total > 0 && offset >= total ? v1::Progress::COMPLETE : state);
    out.set_current_bytes(offset);
    out.set_total_bytes(total);
    progress(out);
  };
}

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.3fs", absl::ToDoubleSeconds(duration));
}

std::string CostOf(absl::Duration receiving, const snapshot::ApplyCost& cost) {
  return absl::StrCat("processor: receive=", Seconds(receiving), " inflate=", Seconds(cost.inflate),
                      " hash=", Seconds(cost.hash), " files=", Seconds(cost.files));
}

}  // namespace gantry::core
