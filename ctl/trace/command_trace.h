// The span of one run of ctl, where OpenTelemetry's variables name a collector (base/trace/otlp.h);
// TRACEPARENT in the environment names its parent. The daemon's spans are below it.
//
// Thread-safe but for construction and End().
#ifndef GANTRY_CTL_TRACE_COMMAND_TRACE_H_
#define GANTRY_CTL_TRACE_COMMAND_TRACE_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "base/trace/otlp.h"
#include "base/trace/span.h"

namespace gantry::ctl {

class CommandTrace {
 public:
  // The collector is waited for at most this long, after the command.
  static constexpr absl::Duration kPatience = absl::Milliseconds(500);

  // `name` is the verb with its groups: "ctl image ls". A variable that is wrong switches tracing
  // off; error() says why.
  CommandTrace(const std::map<std::string, std::string>& environment, const std::string& name);

  const absl::Status& error() const { return error_; }
  // Sends the span. Best effort.
  void End(int exit_status);

  // Of this process, for the metadata of its calls; "": nothing is traced.
  static const std::string& Traceparent();

 private:
  std::optional<trace::OtlpTarget> target_;
  absl::Status error_;
  trace::Span span_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TRACE_COMMAND_TRACE_H_
