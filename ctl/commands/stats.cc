#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "base/engine/list_rows.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "ctl/text.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

class StatsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&all_, "all", 'a', "Show stopped containers too");
    flags.Bool(&no_stream_, "no-stream", 0, "Print one sample and end");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::StatsRequest request;
    for (const std::string& name : args) request.add_containers(name);
    request.set_all(all_);
    request.set_once(no_stream_);
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Listing listing;
    listing.headings = {{"ID", "CONTAINER ID"},
                        {"Name", "NAME"},
                        {"Container", "CONTAINER"},
                        {"CPUPerc", "CPU %"},
                        {"MemUsage", "MEM USAGE / LIMIT"},
                        {"MemPerc", "MEM %"},
                        {"NetIO", "NET I/O"},
                        {"BlockIO", "BLOCK I/O"},
                        {"PIDs", "PIDS"}};
    listing.default_table =
        "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t"
        "{{.BlockIO}}\t{{.PIDs}}";
    const bool table = format_.empty() || format_.substr(0, 5) == "table";
    const bool redraw = table && !no_stream_ && context.OutIsTerminal();
    auto stream = client->Open<v1::StatsRequest, v1::StatsResponse>(request);
    v1::StatsResponse response;
    while (stream->Read(&response)) {
      std::vector<Value> rows;
      for (const v1::ContainerStats& stats : response.containers()) {
        rows.push_back(engine::StatsRow(stats, args.empty() ? "" : stats.name(), !no_trunc_));
      }
      GANTRY_ASSIGN_OR_RETURN(std::string text, Render(listing, rows, format_, false));
      if (!redraw) {
        context.Out(text);
        continue;
      }
      // Each line is written over the old one and its rest erased: the screen is never blank in
      // between, so it does not flicker.
      context.OutRaw(absl::StrCat(
          "\x1b[H", absl::StrReplaceAll(Printable(text), {{"\n", "\x1b[K\n"}}), "\x1b[J"));
    }
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }

 private:
  bool all_ = false, no_stream_ = false, no_trunc_ = false;
  std::string format_;
};

}  // namespace

Verb StatsVerb() {
  return {.name = "stats",
          .arguments = "[OPTIONS] [CONTAINER...]",
          .summary = "Watch what containers use",
          .examples =
              "  ctl stats\n"
              "  ctl stats --no-stream --format json web\n",
          .completes = "running",
          .make = [] { return std::make_unique<StatsAction>(); }};
}

}  // namespace gantry::ctl
