#include "supervisor/core/container_probe.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "proto/gantry/v1/container_streams.pb.h"

namespace gantry::core {

void ContainerProber::Probe(const std::string& ns, const std::string& container,
                            const HealthOptions& options, std::function<void(ProbeResult)> done) {
  v1::ExecConfig config;
  for (const std::string& word : options.command) config.add_command(word);
  ExecRunner::Limits limits;
  limits.timeout = options.timeout;
  // A few bytes more than are kept, so that the cut can respect characters.
  limits.output_bytes = kMaxProbeOutput + 4;
  limits.merge = true;
  runner_.RunToEnd(ns, container, config, limits,
                   [done = std::move(done), timeout = options.timeout](RunResult run) {
                     ProbeResult result;
                     result.start = run.start;
                     result.end = run.end;
                     result.exit_code =
                         run.exit_code.has_value() ? static_cast<int>(*run.exit_code) : -1;
                     result.output = std::move(run.out);
                     if (run.timed_out) {
                       result.output = absl::StrCat("Health check exceeded timeout (",
                                                    absl::FormatDuration(timeout), ")");
                     } else if (!run.error.ok() && result.output.empty()) {
                       result.output = std::string(run.error.message());
                     }
                     done(std::move(result));
                   });
}

void ContainerProber::Stop() { runner_.Stop(); }

}  // namespace gantry::core
