#include "supervisor/core/end_causes.h"

#include <string.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "supervisor/core/end_cause_table.h"

namespace gantry::core {
namespace {

// Causes that only say what the status is, for when nothing more telling was found.
bool IsBareStatus(absl::string_view id) {
  return id == "runtime-failed" || id == "refused" || id == "ended-by-signal" || id == "finished" ||
         id == "failed";
}

void Add(std::vector<v1::EndFinding>& findings, const char* cause, const char* title,
         std::string detail, const char* remedy) {
  v1::EndFinding& finding = findings.emplace_back();
  finding.set_cause(cause);
  finding.set_title(title);
  finding.set_detail(std::move(detail));
  finding.set_remedy(remedy);
}

// What is to say of a container that has not ended.
void AddPresent(const EndFacts& facts, std::vector<v1::EndFinding>& findings) {
  if (facts.state == v1::CONTAINER_STATE_RUNNING) {
    Add(findings, "running", "It runs.",
        facts.ended ? "what follows is about its run before this one" : "", "");
  } else if (facts.state == v1::CONTAINER_STATE_PAUSED) {
    Add(findings, "paused", "It is paused, so nothing in it moves.", "",
        "Continue it with {!unpause}.");
  } else if (facts.state == v1::CONTAINER_STATE_DEAD) {
    Add(findings, "unknown", "Its shim does not answer, so its state is not known.", "",
        "The daemon goes on asking. {!rm} by force ends it in any case.");
  } else if (!facts.ended) {
    Add(findings, "never-started", "It was created and never started.", "",
        "Start it with {!start}.");
  }
  if (facts.health.has_value() && facts.health->status() == "unhealthy") {
    std::string seen = absl::StrCat(facts.health->failing_streak(), " probes failed in a row");
    if (facts.health->log_size() > 0) {
      const v1::HealthResult& last = *facts.health->log().rbegin();
      absl::StrAppend(&seen, "; the last one ended with ", last.exit_code(),
                      " and printed: ", absl::StripAsciiWhitespace(last.output()));
    }
    Add(findings, "unhealthy", "Its health check fails.", std::move(seen),
        "Run the check by hand with {!exec}; if it only needs longer, raise {health_check.timeout} "
        "or "
        "{health_check.start_period}.");
  }
}

}  // namespace

bool IsRefusal(absl::string_view line) {
  return absl::StrContains(line, "exec container process") ||
         absl::StrContains(line, "exec user process caused") ||
         (absl::StartsWith(line, "exec /") && absl::StrContains(line, "exec format error"));
}

std::string SignalWord(uint32_t signal) {
  const char* const name = sigabbrev_np(static_cast<int>(signal));
  return name != nullptr ? absl::StrCat("SIG", name) : absl::StrCat("signal ", signal);
}

std::vector<v1::EndFinding> ExplainEnd(const EndFacts& facts) {
  std::vector<v1::EndFinding> findings;
  AddPresent(facts, findings);
  bool explained = false;
  for (const absl::Span<const EndCause> causes : {StartCauses(), RunCauses(), OutputCauses()}) {
    for (const EndCause& cause : causes) {
      if (!facts.ended || (explained && IsBareStatus(cause.id))) continue;
      Seen seen = cause.seen(facts);
      if (!seen.has_value()) continue;
      explained = true;
      Add(findings, cause.id, cause.title, *std::move(seen), cause.remedy);
    }
  }
  return findings;
}

std::string RestartDecision(const EndFacts& facts, const record::v1::ContainerState& state) {
  const v1::RestartPolicy& policy = facts.config.restart_policy();
  if (!facts.ended) return "";
  const std::string name = policy.name().empty() ? "no" : policy.name();
  if (facts.wants_restart) {
    return absl::StrCat("It is started again (policy ", name, ", restart ",
                        state.restart_count() + 1, ").");
  }
  if (facts.state == v1::CONTAINER_STATE_RUNNING) {
    return state.restart_count() == 0
               ? absl::StrCat("It runs (policy ", name, ").")
               : absl::StrCat("The policy ", name, " has started it ", state.restart_count(),
                              " times since a person did.");
  }
  if (name == "no") return "It stays as it is: it has no restart policy.";
  if (facts.end.start_failed())
    return absl::StrCat("It stays as it is: policy ", name,
                        " does not repeat a start that failed.");
  if (state.stopped_by_user())
    return absl::StrCat("It stays as it is: it was stopped on request, which policy ", name,
                        " respects.");
  if (name == "on-failure" && facts.end.exit_code() == 0)
    return "It stays as it is: policy on-failure restarts only what ends with an error.";
  if (name == "on-failure" && policy.maximum_retry_count() > 0)
    return absl::StrCat("It stays as it is: policy on-failure has used up its ",
                        policy.maximum_retry_count(), " restarts.");
  return absl::StrCat("It stays as it is (policy ", name, ").");
}

}  // namespace gantry::core
