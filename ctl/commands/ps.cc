#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/engine/list_rows.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/each_namespace.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

class PsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&all_, "all", 'a', "Show stopped containers too");
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.Bool(&latest_, "latest", 'l', "The newest container");
    flags.Int(&last_, "last", 'n', "Show the N newest containers");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.Bool(&size_, "size", 's', "Sizes of their file systems");
    flags.Bool(&everywhere_, kAllNamespaces, 0, kAllNamespacesHelp);
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    filters_.AddFlags(flags);
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::ListContainersRequest request;
    request.set_all(all_);
    request.set_limit(latest_ ? 1 : static_cast<int32_t>(last_));
    request.set_size(size_ || absl::StrContains(format_, ".Size") ||
                     absl::StrContains(format_, "json"));
    const bool ids_only = quiet_ && format_.empty() && !everywhere_;
    request.set_ids_only(ids_only);
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    if (ids_only) {
      v1::ListContainersResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      std::string ids;
      for (const v1::ContainerSummary& container : response.containers())
        absl::StrAppend(&ids, no_trunc_ ? container.id() : engine::ShortId(container.id()), "\n");
      context.Out(ids);
      return 0;
    }
    const absl::Time now = absl::Now();
    std::vector<Value> rows;
    GANTRY_RETURN_IF_ERROR(EachNamespace(*client, everywhere_, [&](Client& one) -> absl::Status {
      v1::ListContainersResponse response;
      GANTRY_RETURN_IF_ERROR(one.Call(request, &response));
      for (const v1::ContainerSummary& container : response.containers()) {
        rows.push_back(engine::ContainerRow(container, !no_trunc_, now));
        if (everywhere_) rows.back().Set("Namespace", one.name_space());
      }
      return absl::OkStatus();
    }));
    Listing listing;
    listing.headings = {
        {"ID", "CONTAINER ID"},      {"Image", "IMAGE"},        {"Command", "COMMAND"},
        {"CreatedAt", "CREATED AT"}, {"RunningFor", "CREATED"}, {"Status", "STATUS"},
        {"State", "STATE"},          {"Ports", "PORTS"},        {"Names", "NAMES"},
        {"Labels", "LABELS"},        {"Mounts", "MOUNTS"},      {"LocalVolumes", "LOCAL VOLUMES"},
        {"Networks", "NETWORKS"},    {"Size", "SIZE"},          {"Platform", "PLATFORM"}};
    listing.default_table =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
    if (size_) listing.default_table += "\t{{.Size}}";
    if (everywhere_) {
      listing.headings.emplace_back("Namespace", "NAMESPACE");
      listing.default_table = absl::StrCat("{{.Namespace}}\t", listing.default_table);
    }
    listing.quiet_field = "ID";
    listing.raw =
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n"
        "created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\n"
        "names: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";
    if (size_) listing.raw += "size: {{.Size}}\n";
    GANTRY_ASSIGN_OR_RETURN(std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  bool all_ = false, quiet_ = false, latest_ = false, no_trunc_ = false, size_ = false;
  bool everywhere_ = false;
  int64_t last_ = 0;
  std::string format_;
  FilterFlags filters_;
};

}  // namespace

Verb PsVerb() {
  return {.name = "ps",
          .arguments = "[OPTIONS]",
          .summary = "List containers",
          .examples =
              "  ctl ps -a\n"
              "  ctl ps -q --filter status=exited --filter label=team=web\n"
              "  ctl ps --format 'table {{.Names}}\\t{{.Status}}'\n",
          .max_args = 0,
          .make = [] { return std::make_unique<PsAction>(); }};
}

}  // namespace gantry::ctl
