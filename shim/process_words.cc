#include "shim/process_words.h"

#include "absl/strings/str_cat.h"

namespace gantry::shim {
namespace {

absl::string_view StatusWord(v1::Status status) {
  switch (status) {
    case v1::STATUS_EMPTY:
      return "not created";
    case v1::STATUS_CREATED:
      return "created, not started";
    case v1::STATUS_RUNNING:
      return "running";
    case v1::STATUS_STOPPED:
      return "stopped";
    case v1::STATUS_PAUSED:
      return "paused";
    case v1::STATUS_PAUSING:
      return "being paused";
    default:
      return "in an unknown state";
  }
}

}  // namespace

std::string NameOf(absl::string_view exec_id) {
  return exec_id.empty() ? "container" : absl::StrCat("exec ", exec_id);
}

absl::Status WrongState(absl::string_view exec_id, v1::Status status, absl::string_view what) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot ", what, ": ", NameOf(exec_id), " is ", StatusWord(status)));
}

}  // namespace gantry::shim
