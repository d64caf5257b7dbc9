#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "base/engine/proto_time.h"
#include "base/engine/state_words.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/life/remedy_words.h"
#include "ctl/life/verbs.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/life.pb.h"

namespace gantry::ctl {
namespace {

// RFC 3339; "" for none.
std::string TimeText(absl::Time time) {
  return time == absl::InfinitePast()
             ? ""
             : absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

Value Document(const v1::EndReport& report) {
  Value out = Value::EmptyObject();
  out.Set("Id", report.container_id());
  out.Set("Name", report.name());
  out.Set("State", engine::StateWord(report.state()));
  out.Set("Ended", report.ended());
  out.Set("StartFailed", report.start_failed());
  out.Set("ExitCode", report.exit_code());
  out.Set("ExitSignal", report.exit_signal());
  out.Set("OOMKilled", report.oom_killed());
  out.Set("Error", report.error());
  out.Set("StartedAt", TimeText(engine::FromProto(report.has_started_at(), report.started_at())));
  out.Set("FinishedAt",
          TimeText(engine::FromProto(report.has_finished_at(), report.finished_at())));
  out.Set("Request", report.request());
  if (report.has_caller()) {
    const v1::EndCaller& from = report.caller();
    Value caller = Value::EmptyObject();
    caller.Set("Door", from.door());
    if (from.has_process()) {
      caller.Set("UID", from.uid());
      caller.Set("PID", from.pid());
      caller.Set("Program", from.program());
    }
    if (!from.address().empty()) caller.Set("Address", from.address());
    out.Set("Caller", std::move(caller));
  } else {
    out.Set("Caller", Value());
  }
  out.Set("Removed", report.removed());
  Value findings = Value::EmptyList();
  for (const v1::EndFinding& finding : report.findings()) {
    Value one = Value::EmptyObject();
    one.Set("Cause", finding.cause());
    one.Set("Title", finding.title());
    one.Set("Detail", finding.detail());
    one.Set("Remedy", WithFlags(finding.remedy()));
    findings.Append(std::move(one));
  }
  out.Set("Findings", std::move(findings));
  out.Set("Restart", report.restart());
  out.Set("KernelLines", Value::StringRange(report.kernel_lines()));
  out.Set("LogTail", Value::StringRange(report.log_tail()));
  out.Set("Command", Value::StringRange(report.command()));
  out.Set("Health", report.health().status());
  if (report.has_log_delivery()) {
    const v1::LogDelivery& delivered = report.log_delivery();
    Value delivery = Value::EmptyObject();
    delivery.Set("DeliveredLines", delivered.delivered_lines());
    delivery.Set("DroppedLines", delivered.dropped_lines());
    delivery.Set("WaitingBytes", delivered.waiting_bytes());
    delivery.Set("Problem", delivered.problem());
    out.Set("LogDelivery", std::move(delivery));
  }
  return out;
}

// "exited with status 137 (SIGKILL) 3 seconds ago, after 2 minutes".
std::string EndText(const v1::EndReport& report) {
  const absl::Time at = engine::FromProto(report.has_finished_at(), report.finished_at());
  const absl::Time from = engine::FromProto(report.has_started_at(), report.started_at());
  std::string text;
  if (report.start_failed()) {
    text = absl::StrCat("could not be started (status ", report.exit_code(), ")");
  } else {
    text = absl::StrCat("ended with status ", report.exit_code());
  }
  if (at != absl::InfinitePast())
    absl::StrAppend(&text, " ", absl::AsciiStrToLower(engine::HumanDuration(absl::Now() - at)),
                    " ago");
  if (!report.start_failed() && from != absl::InfinitePast() && at != absl::InfinitePast())
    absl::StrAppend(&text, ", after ", absl::AsciiStrToLower(engine::HumanDuration(at - from)));
  return text;
}

std::string Text(const v1::EndReport& report) {
  std::string out = absl::StrCat(
      report.name(), report.removed() ? " has removed itself (--rm)"
                                      : absl::StrCat(" is ", engine::StateWord(report.state())));
  if (report.ended()) absl::StrAppend(&out, "; its last run ", EndText(report));
  out += ".\n";
  for (const v1::EndFinding& finding : report.findings()) {
    absl::StrAppend(&out, "\n* ", finding.title(), "\n");
    if (!finding.detail().empty()) absl::StrAppend(&out, "    seen:   ", finding.detail(), "\n");
    if (!finding.remedy().empty())
      absl::StrAppend(&out, "    remedy: ", WithFlags(finding.remedy()), "\n");
  }
  if (report.log_delivery().dropped_lines() > 0 || !report.log_delivery().problem().empty()) {
    absl::StrAppend(
        &out, "\nIts log driver has delivered ", report.log_delivery().delivered_lines(),
        " lines and dropped ", report.log_delivery().dropped_lines(),
        report.log_delivery().problem().empty() ? "" : "; now: ", report.log_delivery().problem(),
        "\n");
  }
  if (!report.restart().empty()) absl::StrAppend(&out, "\n", report.restart(), "\n");
  if (!report.command().empty())
    absl::StrAppend(&out, "\nIt ran: ", absl::StrJoin(report.command(), " "), "\n");
  if (!report.log_tail().empty() &&
      (report.start_failed() || report.exit_code() != 0 || report.oom_killed())) {
    constexpr int kShown = 8;
    out += "Its last output:\n";
    for (int i = std::max(0, report.log_tail_size() - kShown); i < report.log_tail_size(); ++i)
      absl::StrAppend(&out, "    ", report.log_tail(i), "\n");
  }
  return out;
}

class WhyAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 0, "template", "json, or a Go template");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    std::string texts;
    for (const std::string& name : args) {
      v1::ExplainEndRequest request;
      request.set_container(name);
      v1::ExplainEndResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      if (format_.empty()) {
        absl::StrAppend(&texts, texts.empty() ? "" : "\n", Text(response.report()));
        continue;
      }
      GANTRY_ASSIGN_OR_RETURN(const std::string text,
                              RenderOne(Document(response.report()), format_));
      texts += text;
    }
    context.Out(texts);
    return 0;
  }

 private:
  std::string format_;
};

}  // namespace

Verb WhyVerb() {
  return {.name = "why",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Explain why a container ended or did not start, and what to try",
          .examples =
              "  ctl why web\n"
              "  ctl why --format json web\n"
              "  ctl why --format '{{range .Findings}}{{.Cause}} {{end}}' web\n",
          .min_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<WhyAction>(); }};
}

}  // namespace gantry::ctl
