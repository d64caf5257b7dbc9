#include "ctl/trace/command_trace.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace gantry::ctl {
namespace {

std::string& ProcessTraceparent() {
  static auto* const text = new std::string;
  return *text;
}

}  // namespace

CommandTrace::CommandTrace(const std::map<std::string, std::string>& environment,
                           const std::string& name) {
  const auto variable = [&environment](const std::string& key) {
    const auto it = environment.find(key);
    return it == environment.end() ? std::string() : it->second;
  };
  auto target = trace::TargetFromEnvironment(variable, "ctl");
  error_ = target.status();
  if (!target.ok() || !target->has_value()) return;
  target_ = **std::move(target);
  const trace::SpanContext parent = trace::ParseTraceparent(variable("TRACEPARENT"));
  span_.context = trace::NewContext(parent);
  span_.parent_span_id = parent.span_id;
  span_.name = name;
  span_.start = absl::Now();
  ProcessTraceparent() = trace::FormatTraceparent(span_.context);
}

void CommandTrace::End(int exit_status) {
  if (!target_.has_value() || !span_.context.sampled) return;
  span_.end = absl::Now();
  span_.attributes = {{"process.exit.code", absl::StrCat(exit_status)}};
  span_.failed = exit_status != 0;
  // Whether a collector listens is no business of the command's.
  (void)trace::SendSpans(*target_, {span_}, kPatience);
}

const std::string& CommandTrace::Traceparent() { return ProcessTraceparent(); }

}  // namespace gantry::ctl
