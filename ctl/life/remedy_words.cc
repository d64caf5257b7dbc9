#include "ctl/life/remedy_words.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace gantry::ctl {
namespace {

constexpr std::pair<absl::string_view, absl::string_view> kWords[] = {
    {"cap_add", "--cap-add"},
    {"cgroup_parent", "--cgroup-parent"},
    {"command", "the command"},
    {"devices", "--device"},
    {"entrypoint", "--entrypoint"},
    {"health_check.start_period", "--health-start-period"},
    {"health_check.timeout", "--health-timeout"},
    {"init", "--init"},
    {"memory_bytes", "--memory"},
    {"mounts", "--mount, -v or --tmpfs"},
    {"network_mode", "--network"},
    {"open_stdin", "-i"},
    {"pids_limit", "--pids-limit"},
    {"platform", "--platform"},
    {"port_bindings", "--publish"},
    {"read_only_rootfs", "--read-only"},
    {"restart_policy", "--restart"},
    {"security_options", "--security-opt"},
    {"shm_size_bytes", "--shm-size"},
    {"stop_signal", "--stop-signal"},
    {"stop_timeout_seconds", "--stop-timeout"},
    {"tty", "-t"},
    {"ulimits", "--ulimit"},
    {"user", "--user"},
    {"working_dir", "--workdir"},
};

absl::string_view WordOf(absl::string_view field) {
  for (const auto& [name, word] : kWords) {
    if (name == field) return word;
  }
  return field;
}

}  // namespace

std::string WithFlags(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t open = text.find('{');
    const size_t close = text.find('}', open == absl::string_view::npos ? text.size() : open);
    if (close == absl::string_view::npos) break;
    absl::StrAppend(&out, text.substr(0, open));
    absl::string_view word = text.substr(open + 1, close - open - 1);
    if (absl::ConsumePrefix(&word, "!")) {
      absl::StrAppend(&out, "`ctl ", word, "`");
    } else {
      absl::StrAppend(&out, WordOf(word));
    }
    text.remove_prefix(close + 1);
  }
  return absl::StrCat(out, text);
}

}  // namespace gantry::ctl
