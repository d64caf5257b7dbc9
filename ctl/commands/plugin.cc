// `ctl plugin`: Gantry has no plugins, so lists are empty and no name is known.
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/filters.h"
#include "ctl/listing.h"

namespace gantry::ctl {
namespace {

class ListPluginsAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    filters_.AddFlags(flags);
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    Listing listing;
    listing.headings = {{"ID", "ID"},
                        {"Name", "NAME"},
                        {"Description", "DESCRIPTION"},
                        {"Enabled", "ENABLED"},
                        {"PluginReference", "PLUGIN REFERENCE"}};
    listing.default_table = "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}";
    listing.quiet_field = "ID";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, {}, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  bool quiet_ = false, no_trunc_ = false;
  std::string format_;
  FilterFlags filters_;
};

// inspect and the verbs that change a plugin.
class NamedPluginAction final : public Action {
 public:
  explicit NamedPluginAction(bool inspect) : inspect_(inspect) {}
  void AddFlags(FlagSet& flags) override {
    if (inspect_) {
      flags.String(&format_, "format", 'f', "template", "json, or a Go template");
    } else {
      flags.Bool(&force_, "force", 'f', "As in docker");
    }
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (inspect_ && (format_.empty() || format_ == "json")) context.Out("[]\n");
    return absl::NotFoundError(
        absl::StrCat("plugin \"", args[0], "\" not found: Gantry has no plugins"));
  }

 private:
  const bool inspect_;
  bool force_ = false;
  std::string format_;
};

Verb Named(const char* name, const char* summary) {
  const bool inspect = std::string(name) == "inspect";
  return {.name = name,
          .arguments = "[OPTIONS] PLUGIN [PLUGIN...]",
          .summary = summary,
          .examples = absl::StrCat("  ctl plugin ", name, " NAME\n"),
          .min_args = 1,
          .make = [inspect] { return std::make_unique<NamedPluginAction>(inspect); }};
}

}  // namespace

std::vector<Verb> PluginVerbs() {
  return {Named("disable", "Stop a plugin"), Named("enable", "Start a plugin"),
          Named("inspect", "Show everything about plugins"),
          Verb{.name = "ls",
               .aliases = {"list"},
               .arguments = "[OPTIONS]",
               .summary = "List plugins: there are none",
               .examples = "  ctl plugin ls\n",
               .max_args = 0,
               .make = [] { return std::make_unique<ListPluginsAction>(); }},
          Named("rm", "Remove plugins")};
}

}  // namespace gantry::ctl
