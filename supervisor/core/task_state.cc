#include "supervisor/core/task_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace gantry::core {

using runtime::TaskKey;

absl::Time FromProto(const google::protobuf::Timestamp& at) {
  return absl::FromUnixSeconds(at.seconds()) + absl::Nanoseconds(at.nanos());
}

std::string ProcessText(const TaskKey& key, const std::string& exec_id) {
  return exec_id.empty()
             ? absl::StrCat("task \"", key.container_id, "\" in namespace \"", key.ns, "\"")
             : absl::StrCat("exec \"", exec_id, "\" of task \"", key.container_id,
                            "\" in namespace \"", key.ns, "\"");
}

// The arguments of an OCI process document in one line; "" where it cannot be read.
std::string CommandOf(const std::string& process_json) {
  const auto process = nlohmann::json::parse(process_json, nullptr, /*allow_exceptions=*/false);
  if (!process.is_object()) return "";
  const auto args = process.find("args");
  if (args == process.end() || !args->is_array()) return "";
  return absl::StrJoin(*args, " ", [](std::string* out, const nlohmann::json& argument) {
    if (argument.is_string()) absl::StrAppend(out, argument.get_ref<const std::string&>());
  });
}

absl::Status NoSuchProcess(const TaskKey& key, const std::string& exec_id) {
  return absl::NotFoundError(absl::StrCat(ProcessText(key, exec_id), ": not found"));
}

void SeenEvents::Open(const std::string& bundle_path) {
  fd_.reset(open((bundle_path + kFile).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

uint64_t SeenEvents::Read() const {
  char text[32] = {};
  uint64_t number = 0;
  if (!fd_.valid() || pread(fd_.get(), text, sizeof text - 1, 0) <= 0) return 0;
  return absl::SimpleAtoi(absl::string_view(text, 20), &number) ? number : 0;
}

void SeenEvents::Write(uint64_t number) {
  if (!fd_.valid()) return;
  // Fixed width: a successor never sees the tail of a longer, older number.
  std::string text = absl::StrCat(absl::Dec(number, absl::kZeroPad20));
  if (pwrite(fd_.get(), text.data(), text.size(), 0) < 0) {
    PLOG(WARNING) << "cannot note the last event seen; a restart may repeat events";
  }
}

}  // namespace gantry::core
