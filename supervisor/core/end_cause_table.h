// The rows of the table of causes (end_causes.h), and what they look at. Only for its files: rows
// about a start are in end_causes_start.cc, about a run's end in end_causes_run.cc, about output and
// exit status in end_causes_output.cc, and the functions that they share in end_cause_facts.cc.
//
// A remedy is written without the words of any client: {name} stands for a field of ContainerConfig
// or Resources, {!name} for a call of the API. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_END_CAUSE_TABLE_H_
#define GANTRY_SUPERVISOR_CORE_END_CAUSE_TABLE_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "supervisor/core/end_causes.h"

namespace gantry::core {

using Seen = std::optional<std::string>;  // what was seen; no value: the cause does not apply

// `seen` says whether the row applies, and what speaks for it.
struct EndCause {
  const char* id;
  const char* title;
  const char* remedy;
  Seen (*seen)(const EndFacts& facts);
};

absl::Span<const EndCause> StartCauses();
absl::Span<const EndCause> RunCauses();
absl::Span<const EndCause> OutputCauses();

// One of the parts is in the text; upper and lower case are the same.
bool HasAny(absl::string_view text, std::initializer_list<absl::string_view> parts);

// The last line of output that holds one of the parts, of a run that failed.
Seen InLog(const EndFacts& facts, std::initializer_list<absl::string_view> parts);

// What the runtime or the daemon said of a start that failed.
Seen InError(const EndFacts& facts, std::initializer_list<absl::string_view> parts);

// The program could not be run, by the runtime or by a shell in the container.
bool ProgramFailed(const EndFacts& facts);

// The program itself could not be run, as opposed to something that it ran.
bool NotRun(const EndFacts& facts);

bool RefusedWith(const EndFacts& facts, std::initializer_list<absl::string_view> parts);

// The signal that ended the first process, or a child of it as its exit status says; 0: none.
uint32_t SignalOf(const EndFacts& facts);

// Which process a signal ended, for the detail of a finding.
std::string Whose(const EndFacts& facts);

Seen BySignal(const EndFacts& facts, uint32_t signal);

// A call through the daemon brought the end about. A signal that a client sent may have been meant
// for something else, such as a reload: it counts when it is what ended the process, or when the
// process ended soon after it.
bool Requested(const EndFacts& facts);
std::string RequestText(const EndFacts& facts);

std::string OomText(const EndFacts& facts);

// The kill was for a limit of the container's own group. Without the kernel's words: it has one.
bool OwnLimit(const EndFacts& facts);

// What was run is a shell or an interpreter without arguments.
bool IsShell(const EndFacts& facts);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_END_CAUSE_TABLE_H_
