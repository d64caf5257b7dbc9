#include "supervisor/core/end_report.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "proto/gantry/v1/life.pb.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/end_causes.h"
#include "supervisor/core/log_options.h"
#include "supervisor/core/log_reader.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/program_check.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr int64_t kLogLines = 20;
constexpr size_t kMaxLineBytes = 500;

// The last end: what the container's state says, with what is known besides where that is about the
// same end. False: there was none.
bool EndOf(const LoadedContainer& loaded, absl::StatusOr<record::v1::RunEnd> known,
           record::v1::RunEnd& end) {
  const record::v1::ContainerState& state = loaded.state;
  // Of a start that failed, the state has the error and the code; an earlier end stays beside them.
  const bool failed_code = state.exit_code() >= 126 && state.exit_code() <= 128;
  if (!state.error().empty() && (failed_code || absl::StartsWith(state.error(), "gantryd ended")) &&
      (!known.ok() || known->error() != state.error())) {
    end.set_start_failed(true);
    end.set_exit_code(state.exit_code());
    end.set_error(state.error());
    return true;
  }
  // A run that goes on has cleared its state: what is known is about the one before it.
  const bool same = known.ok() && (!state.has_finished_at() ||
                                   known->finished_at().seconds() == state.finished_at().seconds());
  if (same) {
    end = *std::move(known);
    return true;
  }
  if (!state.has_finished_at()) return false;
  end.set_exit_code(state.exit_code());
  end.set_oom_killed(state.oom_killed());
  end.set_error(state.error());
  if (state.has_started_at()) *end.mutable_started_at() = state.started_at();
  *end.mutable_finished_at() = state.finished_at();
  return true;
}

}  // namespace

absl::StatusOr<v1::EndReport> EndReports::Explain(const CallContext& context,
                                                  const std::string& container) {
  const absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, container);
  if (absl::IsNotFound(loaded.status())) {
    absl::StatusOr<v1::EndReport> removed = OfRemoved(context, container);
    if (removed.ok()) return removed;
  }
  GANTRY_RETURN_IF_ERROR(loaded.status());
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(*loaded));
  const absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded->id(), "");
  record::v1::RunEnd end;
  const bool ended = EndOf(*loaded, parts_.ends->Read(*loaded), end);
  if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Check());
  return Report(context, *loaded, task.ok() ? &*task : nullptr,
                ended ? std::optional(std::move(end)) : std::nullopt);
}

absl::StatusOr<v1::EndReport> EndReports::OfRemoved(const CallContext& context,
                                                    const std::string& container) {
  const absl::string_view wanted = absl::StripPrefix(container, "/");
  const absl::Duration now = Clock::Real().Monotonic();
  absl::MutexLock lock(&mu_);
  for (auto kept = removed_.rbegin(); kept != removed_.rend(); ++kept) {
    if (now - kept->at > kKeptFor) break;
    if (kept->ns != context.ns) continue;
    const std::string& id = kept->report.container_id();
    // The prefix of an id as people copy it from a list.
    constexpr size_t kShort = 12;
    if (kept->report.name() == wanted || id == wanted ||
        (wanted.size() >= kShort && absl::StartsWith(id, wanted)))
      return kept->report;
  }
  return absl::NotFoundError(absl::StrCat("container ", container, ": not found"));
}

void EndReports::NoteRemoval(const LoadedContainer& loaded, const Process* ended) {
  if (!loaded.ours || !loaded.config.auto_remove()) return;
  record::v1::RunEnd end;
  if (ended != nullptr) {
    end = parts_.ends->Describe(loaded, *ended);
  } else {
    end.set_start_failed(true);
    end.set_exit_code(loaded.state.exit_code());
    end.set_error(loaded.state.error());
  }
  CallContext context;
  context.ns = loaded.scope.ns;
  Kept kept;
  kept.ns = loaded.scope.ns;
  kept.at = Clock::Real().Monotonic();
  kept.report = Report(context, loaded, ended, std::move(end));
  kept.report.set_removed(true);
  absl::MutexLock lock(&mu_);
  removed_.push_back(std::move(kept));
  while (removed_.size() > kKept) removed_.pop_front();
}

v1::EndReport EndReports::Report(const CallContext& context, const LoadedContainer& loaded,
                                 const Process* task, std::optional<record::v1::RunEnd> end) {
  EndFacts facts;
  facts.state = StateOf(loaded.state, loaded.config.restart_policy(), task);
  facts.id = loaded.id();
  facts.config = loaded.config;
  facts.ended = end.has_value();
  if (end.has_value()) facts.end = *std::move(end);
  facts.wants_restart = facts.state == v1::CONTAINER_STATE_RESTARTING;
  facts.health = parts_.health->Get(context.ns, loaded.id());
  // Of a run that ended well nobody asks, and --rm is to be quick.
  const bool went_well = facts.end.exit_code() == 0 && !facts.end.start_failed() &&
                         facts.end.error().empty() && loaded.config.auto_remove();
  std::string path;
  const absl::StatusOr<oci::RuntimeSpec> spec =
      went_well ? absl::StatusOr<oci::RuntimeSpec>(absl::NotFoundError("not looked at"))
                : oci::RuntimeSpec::Parse(loaded.record.spec().value());
  if (spec.ok() && spec->document().contains("process")) {
    const absl::StatusOr<oci::ProcessSpec> process =
        oci::ProcessFromJson(spec->document()["process"]);
    if (process.ok()) {
      facts.command = process->args;
      facts.working_directory = process->cwd;
      if (process->uid != 0) facts.user = absl::StrCat(process->uid, ":", process->gid);
      for (const std::string& variable : process->env) {
        absl::string_view text = variable;
        if (absl::ConsumePrefix(&text, "PATH=")) path = std::string(text);
      }
    }
  }
  if (facts.ended && !went_well) {
    LogQuery query;
    query.tail = kLogLines;
    // A container that keeps no log has no last lines; a client that has gone needs none.
    (void)parts_.streams->Logs(
        context, loaded.id(), std::move(query), [&facts](const LogEntry& entry) {
          facts.log_tail.push_back(ToValidUtf8(Utf8Prefix(entry.text, kMaxLineBytes)));
          return absl::OkStatus();
        });
  }
  if (facts.end.exit_code() != 0) {
    for (const std::string& line : facts.log_tail) {
      if (IsRefusal(line)) facts.refusal = std::string(absl::StripSuffix(line, "\n"));
    }
  }
  const bool looks = facts.end.start_failed() || !facts.refusal.empty() ||
                     facts.end.exit_code() == 126 || facts.end.exit_code() == 127;
  if (facts.ended && looks && !facts.command.empty()) {
    // With --init the program is the one that init is given.
    std::string program = facts.command[0];
    if (loaded.config.init() && facts.command.size() > 1) {
      const bool dashes = facts.command[1] == "--" && facts.command.size() > 2;
      program = facts.command[dashes ? 2 : 1];
    }
    const absl::Status looked = parts_.files->WithRootfs(
        context, loaded, /*writable=*/false, ContainerFiles::View::kWithMounts, [&](int root) {
          facts.program = CheckProgram(root, program, path, facts.working_directory);
          return absl::OkStatus();
        });
    LOG_IF(INFO, !looked.ok()) << "ns=" << context.ns << " id=" << loaded.id()
                               << " its program could not be looked at: " << looked;
  }
  v1::EndReport report;
  report.set_container_id(loaded.id());
  report.set_name(loaded.ShownName());
  report.set_state(facts.state);
  report.set_ended(facts.ended);
  if (facts.ended) {
    const record::v1::RunEnd& last = facts.end;
    report.set_start_failed(last.start_failed());
    report.set_exit_code(last.exit_code());
    report.set_exit_signal(last.exit_signal());
    report.set_oom_killed(last.oom_killed());
    report.set_error(last.error());
    if (last.has_started_at()) *report.mutable_started_at() = last.started_at();
    if (last.has_finished_at()) *report.mutable_finished_at() = last.finished_at();
    report.set_request(last.request().call());
    if (last.request().has_caller()) {
      const record::v1::Caller& from = last.request().caller();
      v1::EndCaller& caller = *report.mutable_caller();
      caller.set_door(from.door());
      caller.set_has_process(from.has_process());
      caller.set_uid(from.uid());
      caller.set_pid(from.pid());
      caller.set_program(from.program());
      caller.set_address(from.address());
    }
    *report.mutable_kernel_lines() = last.kernel_lines();
  }
  for (v1::EndFinding& finding : ExplainEnd(facts)) *report.add_findings() = std::move(finding);
  report.set_restart(RestartDecision(facts, loaded.state));
  for (std::string& line : facts.log_tail)
    report.add_log_tail(std::string(absl::StripSuffix(line, "\n")));
  if (const std::optional<LogTarget> target = LogTargetOf(*parts_.records, loaded);
      target.has_value() && IsCollector(loaded.config.log().driver())) {
    const LogDelivered delivered = ReadLogDelivered(target->path);
    v1::LogDelivery& delivery = *report.mutable_log_delivery();
    delivery.set_delivered_lines(delivered.delivered_lines);
    delivery.set_dropped_lines(delivered.dropped_lines);
    delivery.set_waiting_bytes(delivered.waiting_bytes);
    delivery.set_problem(delivered.problem);
  }
  if (facts.health.has_value()) *report.mutable_health() = *facts.health;
  for (std::string& word : facts.command) report.add_command(std::move(word));
  return report;
}

}  // namespace gantry::core
