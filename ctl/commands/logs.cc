#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/time_range.h"
#include "ctl/text.h"
#include "proto/gantry/v1/container_streams.pb.h"

namespace gantry::ctl {
namespace {

// In the order of their names, escaped as docker escapes them.
std::string AttributesOf(const v1::LogsResponse::Entry& entry) {
  const std::map<std::string, std::string> sorted(entry.attributes().begin(),
                                                  entry.attributes().end());
  return absl::StrJoin(sorted, ",", [](std::string* out, const auto& attribute) {
    absl::StrAppend(out, QueryEscaped(attribute.first), "=", QueryEscaped(attribute.second));
  });
}

class LogsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&follow_, "follow", 'f', "Follow the output");
    flags.String(&tail_, "tail", 'n', "lines", "Show only the last NUMBER of lines (default all)");
    flags.String(&since_, "since", 0, "time",
                 "Only from then on: 2026-11-21T09:00:00Z, or 10m ago");
    flags.String(&until_, "until", 0, "time", "Only up to then");
    flags.Bool(&timestamps_, "timestamps", 't', "With the time of each line");
    flags.Bool(&details_, "details", 0, "With the attributes of each line");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::LogsRequest request;
    request.set_container(args[0]);
    request.set_stdout(true);
    request.set_stderr(true);
    request.set_follow(follow_);
    request.set_details(details_);
    GANTRY_RETURN_IF_ERROR(SetTimeRange(since_, until_, request));
    if (!tail_.empty() && tail_ != "all") {
      int64_t lines;
      if (!absl::SimpleAtoi(tail_, &lines)) {
        return absl::InvalidArgumentError(
            absl::StrCat("--tail: \"", tail_, "\" is neither a number nor all"));
      }
      if (lines >= 0) request.set_tail(lines);
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->Open<v1::LogsRequest, v1::LogsResponse>(request);
    v1::LogsResponse response;
    // A piece of a long line continues: its time was printed with the first piece.
    bool at_line_start[2] = {true, true};
    while (stream->Read(&response)) {
      std::string out;
      bool to_stderr = false;
      const auto flush = [&] {
        if (!out.empty()) to_stderr ? context.ErrRaw(out) : context.OutRaw(out);
        out.clear();
      };
      for (const auto& entry : response.entries()) {
        if (entry.stderr() != to_stderr) flush();
        to_stderr = entry.stderr();
        bool& line_start = at_line_start[to_stderr ? 1 : 0];
        if (line_start && timestamps_) {
          absl::StrAppend(&out,
                          absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", engine::FromProto(entry.at()),
                                           absl::UTCTimeZone()),
                          " ");
        }
        if (line_start && details_) absl::StrAppend(&out, AttributesOf(entry), " ");
        out.append(entry.text());
        line_start = !entry.text().empty() && entry.text().back() == '\n';
      }
      flush();
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }

 private:
  bool follow_ = false, timestamps_ = false, details_ = false;
  std::string tail_, since_, until_;
};

}  // namespace

Verb LogsVerb() {
  return {.name = "logs",
          .arguments = "[OPTIONS] CONTAINER",
          .summary = "Show what a container has printed",
          .examples =
              "  ctl logs --tail 20 -f web\n"
              "  ctl logs --since 10m -t web\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<LogsAction>(); }};
}

}  // namespace gantry::ctl
