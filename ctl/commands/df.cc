#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "ctl/table.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

// "default/0123456789ab" of what is named in a namespace.
std::string ShortName(const std::string& id) {
  const size_t slash = id.find('/');
  if (slash == std::string::npos) return engine::ShortId(id);
  return absl::StrCat(id.substr(0, slash + 1), engine::ShortId(id.substr(slash + 1)));
}

std::string Verbose(const v1::DiskUsageResponse& usage) {
  const absl::Time now = absl::Now();
  std::string out;
  for (const auto& kind : usage.kinds()) {
    if (kind.items().empty()) continue;
    absl::StrAppend(&out, kind.name(), " space usage:\n\n");
    std::string table = "TYPE\tID\tNAME\tSIZE\tSHARED\tUNIQUE\tCREATED\tSTATE\tOWNERS\n";
    for (const auto& item : kind.items()) {
      const absl::Time created = engine::FromProto(item.created_at());
      absl::StrAppend(&table, item.type(), "\t", ShortName(item.id()), "\t",
                      item.name().empty() ? "-" : item.name(), "\t",
                      engine::HumanSize(item.size_bytes()), "\t",
                      engine::HumanSize(item.shared_bytes()), "\t",
                      engine::HumanSize(item.unique_bytes()), "\t",
                      created == absl::InfinitePast()
                          ? "-"
                          : absl::StrCat(engine::HumanDuration(now - created), " ago"),
                      "\t", item.state().empty() ? "-" : item.state(), "\t",
                      item.owners().empty() ? "none: the next collection removes it"
                                            : absl::StrJoin(item.owners(), ", "),
                      "\n");
    }
    absl::StrAppend(&out, AlignColumns(table), "\n");
  }
  absl::StrAppend(&out, "Total on disk: ", engine::HumanSize(usage.total_bytes()), "\n");
  return out;
}

class DfAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&verbose_, "verbose", 'v', "One line for each thing, with its owners");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::DiskUsageRequest request;
    request.set_verbose(verbose_);
    v1::DiskUsageResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    if (verbose_ && format_.empty()) {
      context.Out(Verbose(response));
      return 0;
    }
    std::vector<Value> rows;
    for (const auto& kind : response.kinds()) {
      Value row = Value::EmptyObject();
      row.Set("Type", kind.name());
      row.Set("TotalCount", absl::StrCat(kind.total()));
      row.Set("Active", absl::StrCat(kind.active()));
      row.Set("Size", engine::HumanSize(kind.size_bytes()));
      row.Set("SizeBytes", kind.size_bytes());
      row.Set("Reclaimable",
              kind.size_bytes() > 0
                  ? absl::StrFormat("%s (%d%%)", engine::HumanSize(kind.reclaimable_bytes()),
                                    kind.reclaimable_bytes() * 100 / kind.size_bytes())
                  : engine::HumanSize(kind.reclaimable_bytes()));
      if (verbose_) {
        Value items = Value::EmptyList();
        for (const auto& item : kind.items()) {
          Value one = Value::EmptyObject();
          one.Set("Type", item.type());
          one.Set("ID", item.id());
          one.Set("Name", item.name());
          one.Set("Size", item.size_bytes());
          one.Set("Shared", item.shared_bytes());
          one.Set("Unique", item.unique_bytes());
          one.Set("References", item.references());
          one.Set("State", item.state());
          one.Set("Detail", item.detail());
          one.Set("Owners", Value::StringRange(item.owners()));
          items.Append(std::move(one));
        }
        row.Set("Items", std::move(items));
      }
      rows.push_back(std::move(row));
    }
    Listing listing;
    listing.headings = {{"Type", "TYPE"},
                        {"TotalCount", "TOTAL"},
                        {"Active", "ACTIVE"},
                        {"Size", "SIZE"},
                        {"Reclaimable", "RECLAIMABLE"}};
    listing.default_table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    listing.quiet_field = "Type";
    GANTRY_ASSIGN_OR_RETURN(std::string text, Render(listing, rows, format_, false));
    context.Out(text);
    return 0;
  }

 private:
  bool verbose_ = false;
  std::string format_;
};

}  // namespace

Verb DfVerb() {
  return {.name = "df",
          .arguments = "[OPTIONS]",
          .summary = "Show what takes disk space, and who keeps it",
          .examples =
              "  ctl system df\n"
              "  ctl system df -v\n",
          .max_args = 0,
          .make = [] { return std::make_unique<DfAction>(); }};
}

}  // namespace gantry::ctl
