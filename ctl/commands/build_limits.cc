#include "ctl/commands/build_limits.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::ctl {

void BuildLimits::AddFlags(FlagSet& flags) {
  flags.OptionalInt(&cpu_period_, "cpu-period", 0, "Period of the CPU quota of RUN, microseconds");
  flags.OptionalInt(&cpu_quota_, "cpu-quota", 0, "CPU time of RUN in each period, microseconds");
  flags.OptionalInt(&cpu_shares_, "cpu-shares", 'c', "Weight of RUN beside others");
  flags.String(&memory_nodes_, "cpuset-mems", 0, "list", "Memory nodes of RUN");
  flags.String(&memory_swap_, "memory-swap", 0, "bytes", "Memory and swap of RUN, -1 for any");
  // Of docker's first builder.
  flags.Bool(&ignored_, "compress", 0, "Accepted: the context stays on this machine").hidden = true;
  flags
      .Custom("isolation", 0, "name", "Accepted: default",
              [this](absl::string_view text) {
                if (!text.empty() && text != "default")
                  return absl::InvalidArgumentError(
                      absl::StrCat("\"", text, "\": a thing of Windows; leave it out"));
                isolation_ = std::string(text);
                return absl::OkStatus();
              })
      .hidden = true;
}

bool BuildLimits::any() const {
  return cpu_period_ || cpu_quota_ || cpu_shares_ || !memory_nodes_.empty() ||
         !memory_swap_.empty();
}

absl::Status BuildLimits::Fill(v1::Resources* resources) const {
  if (cpu_period_) resources->set_cpu_period_micros(*cpu_period_);
  if (cpu_quota_) resources->set_cpu_quota_micros(*cpu_quota_);
  if (cpu_shares_) resources->set_cpu_shares(*cpu_shares_);
  if (!memory_nodes_.empty()) resources->set_cpuset_mems(memory_nodes_);
  if (memory_swap_.empty()) return absl::OkStatus();
  if (memory_swap_ == "-1") {
    resources->set_memory_swap_bytes(-1);
    return absl::OkStatus();
  }
  const absl::StatusOr<int64_t> bytes = engine::ParseBytes(memory_swap_);
  if (!bytes.ok())
    return absl::InvalidArgumentError(absl::StrCat("--memory-swap: ", bytes.status().message()));
  resources->set_memory_swap_bytes(*bytes);
  return absl::OkStatus();
}

}  // namespace gantry::ctl
