// Why a container ended, from what is known of its end: one table of causes, each with what was
// seen and what to try. Pure.
//
// The order of the table is the order of the findings: what is certain (the kernel's, the shim's
// and the daemon's own knowledge, the image's files) before what the program's last output says,
// and that before the bare exit status. There is always at least one finding.
//
// Remedies name no client's words: {name} stands for a field of ContainerConfig or Resources,
// {!name} for a call of the API.
#ifndef GANTRY_SUPERVISOR_CORE_END_CAUSES_H_
#define GANTRY_SUPERVISOR_CORE_END_CAUSES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/life.pb.h"
#include "proto/record/v1/record.pb.h"
#include "proto/record/v1/run_end.pb.h"
#include "supervisor/core/program_check.h"

namespace gantry::core {

struct EndFacts {
  v1::ContainerState state = v1::CONTAINER_STATE_UNSPECIFIED;
  std::string id;
  v1::ContainerConfig config;
  bool ended = false;                // a run of it has ended or did not begin
  record::v1::RunEnd end;            // which; empty without `ended`
  std::vector<std::string> command;  // the process's arguments
  std::string working_directory;
  std::string user;  // "" for root
  ProgramFacts program;
  // What the runtime printed where the container's output goes, because the kernel refused the
  // program only after the start had succeeded; "" if it did not.
  std::string refusal;
  std::vector<std::string> log_tail;  // the last lines of output, oldest first
  std::optional<v1::HealthState> health;
  bool wants_restart = false;  // the policy starts it again
};

// A line of output that is such a refusal, in the words of crun or runc. A program may print the same;
// then the look at its file says otherwise.
bool IsRefusal(absl::string_view line);

std::vector<v1::EndFinding> ExplainEnd(const EndFacts& facts);

// What the restart policy makes of the end, in a sentence.
std::string RestartDecision(const EndFacts& facts, const record::v1::ContainerState& state);

// "SIGKILL"; "signal 40" for one without a name.
std::string SignalWord(uint32_t signal);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_END_CAUSES_H_
