#include "supervisor/core/start_failure.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/new_thread.h"

namespace gantry::core {

uint32_t StartFailureCode(const absl::Status& why) {
  const absl::string_view text = why.message();
  // A mount or a cgroup file that is missing is no missing program, though errno says the same.
  if (!absl::StrContains(text, "exec: \"") && !absl::StrContains(text, "open executable")) {
    return 128;
  }
  if (absl::StrContains(text, "executable file not found") ||
      absl::StrContains(text, "no such file or directory")) {
    return 127;
  }
  if (absl::StrContains(text, "permission denied") || absl::StrContains(text, "is a directory")) {
    return 126;
  }
  return 128;
}

absl::Status NamingTheContainer(const absl::Status& why, absl::string_view name,
                                const oci::ProcessSpec& process) {
  std::string text(why.message());
  const size_t runtime = text.find("OCI runtime ");
  if (runtime != std::string::npos) text.erase(0, runtime);
  // crun's words for a program that the user may not execute.
  static constexpr char kNameless[] = "open executable";
  const size_t nameless = text.find(kNameless);
  if (nameless != std::string::npos && !process.args.empty())
    text.replace(nameless, sizeof(kNameless) - 1,
                 absl::StrCat("exec: \"", process.args.front(), "\""));
  if (absl::StrContains(text, "esource temporarily unavailable"))
    absl::StrAppend(&text, "; ", kNoMoreProcesses);
  constexpr uint64_t kEnough = 64;
  for (const oci::Rlimit& limit : process.rlimits) {
    if (limit.type != "RLIMIT_NOFILE" || limit.soft >= kEnough) continue;
    if (runtime == std::string::npos || StartFailureCode(why) != 128) continue;
    absl::StrAppend(&text, "; the process may have no more than ", limit.soft,
                    " open files, and the runtime needs some of them to set it up: raise the "
                    "container's limit \"nofile\"");
  }
  return absl::Status(why.code(), absl::StrCat("container ", name, ": ", text));
}

}  // namespace gantry::core
