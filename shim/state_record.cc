#include "shim/state_record.h"

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "shim/shim_log.h"

namespace gantry::shim {
namespace {

// Execs come with the documents of their processes.
constexpr int64_t kMaxRecordBytes = 16 << 20;

std::string RecordPath(const std::string& bundle) { return absl::StrCat(bundle, "/state"); }

absl::Status WriteRecord(const std::string& path, const v1::InfoResponse& state) {
  const std::string aside = absl::StrCat(path, ".new");
  GANTRY_RETURN_IF_ERROR(WriteFile(aside, state.SerializeAsString(), 0600));
  if (rename(aside.c_str(), path.c_str()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("state record: rename to ", path));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::InfoResponse> ReadStateRecord(const std::string& bundle) {
  const std::string path = RecordPath(bundle);
  GANTRY_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxRecordBytes));
  v1::InfoResponse state;
  if (!state.ParseFromString(bytes) || state.container_id().empty())
    return absl::DataLossError(absl::StrCat("state record ", path, ": damaged"));
  return state;
}

StateRecorder::StateRecorder(std::string bundle, EventLog* events,
                             std::function<void(v1::InfoResponse*)> fill)
    : path_(RecordPath(bundle)),
      events_(events),
      fill_(std::move(fill)),
      listener_(events->Listen([this] { Write(); })) {}

StateRecorder::~StateRecorder() { events_->Unlisten(listener_); }

void StateRecorder::Write() {
  absl::MutexLock lock(&mu_);
  v1::InfoResponse state;
  fill_(&state);
  if (state.container_id().empty()) return;  // deleted
  const absl::Status written = WriteRecord(path_, state);
  if (written.ok() || failure_logged_) return;
  failure_logged_ = true;
  ShimLog(LogLevel::kWarning, written.message());
}

}  // namespace gantry::shim
