#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "base/engine/absent_fields.h"
#include "base/engine/engine_json.h"
#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/time_range.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

// "2026-11-21T09:24:08.123456789Z container start <id> (image=x, name=y)"
std::string EventLine(const v1::Event& event) {
  std::vector<std::string> attributes;
  const Value sorted = Value::StringMap(event.attributes());
  for (const auto& [key, value] : sorted.object().fields) {
    attributes.push_back(absl::StrCat(key, "=", value.string()));
  }
  std::string at = absl::FormatTime("%Y-%m-%dT%H:%M:%E9S%Ez", engine::FromProto(event.at()),
                                    absl::LocalTimeZone());
  if (absl::EndsWith(at, "+00:00")) at.replace(at.size() - 6, 6, "Z");
  return absl::StrCat(
      at, " ", event.type(), " ", event.action(), " ", event.id(),
      attributes.empty() ? "" : absl::StrCat(" (", absl::StrJoin(attributes, ", "), ")"), "\n");
}

// docker's, for events only also where a template parses and then fails.
constexpr int kBadTemplateStatus = 64;

class EventsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&since_, "since", 0, "time", "From then on: 2026-11-21T09:00:00Z, or 10m ago");
    flags.String(&until_, "until", 0, "time", "Up to then");
    flags.String(&format_, "format", 0, "template", "json, or a Go template");
    filters_.AddFlags(flags);
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (const absl::Status status = GoTemplate::Parse(format_).status(); !status.ok()) {
      return WithExitStatus(status, kBadTemplateStatus);
    }
    v1::EventsRequest request;
    GANTRY_RETURN_IF_ERROR(SetTimeRange(since_, until_, request));
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    auto stream = client->Open<v1::EventsRequest, v1::Event>(request);
    v1::Event event;
    while (stream->Read(&event)) {
      if (format_.empty()) {
        context.Out(EventLine(event));
        continue;
      }
      const auto text = RenderOne(engine::EventDocument(event), format_, [](const auto& path) {
        return engine::AbsentField(engine::Document::kEvent, path);
      });
      if (!text.ok()) return WithExitStatus(text.status(), kBadTemplateStatus);
      context.Out(*text);
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }

 private:
  std::string since_, until_, format_;
  FilterFlags filters_;
};

}  // namespace

Verb EventsVerb() {
  return {.name = "events",
          .arguments = "[OPTIONS]",
          .summary = "Watch what happens to containers and images",
          .examples =
              "  ctl events --since 10m --until 0s\n"
              "  ctl events --filter type=container --filter event=die --format json\n",
          .max_args = 0,
          .make = [] { return std::make_unique<EventsAction>(); }};
}

}  // namespace gantry::ctl
