// `ctl plugin`: Gantry has no plugins, so lists are empty and no name is known.
#include <string>
#include <utility>
#include <vector>

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

// Every verb that names a plugin: none is there, and none can be had.
class NamedPluginAction final : public Action {
 public:
  explicit NamedPluginAction(std::string verb) : verb_(std::move(verb)) {}
  void AddFlags(FlagSet& flags) override {
    if (verb_ == "inspect")
      flags.String(&format_, "format", 'f', "template", "json, or a Go template");
    if (verb_ == "disable" || verb_ == "rm") flags.Bool(&unused_, "force", 'f', "As in docker");
    if (verb_ == "enable") flags.Int(&timeout_, "timeout", 0, "As in docker");
    if (verb_ == "create") flags.Bool(&unused_, "compress", 0, "As in docker");
    if (verb_ == "install") {
      flags.String(&alias_, "alias", 0, "name", "As in docker");
      flags.Bool(&unused_, "disable", 0, "As in docker");
    }
    if (verb_ == "install" || verb_ == "upgrade")
      flags.Bool(&unused_, "grant-all-permissions", 0, "As in docker");
    if (verb_ == "upgrade") flags.Bool(&unused_, "skip-remote-check", 0, "As in docker");
    if (verb_ == "install" || verb_ == "push" || verb_ == "upgrade")
      flags.Bool(&unused_, "disable-content-trust", 0, "As in docker").hidden = true;
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (verb_ == "inspect" && (format_.empty() || format_ == "json")) context.Out("[]\n");
    if (verb_ == "install" || verb_ == "create") {
      return absl::UnimplementedError(
          absl::StrCat("plugin \"", args[0],
                       "\": Gantry runs no plugins; a volume driver works as a program of its own, "
                       "with a socket in /run/docker/plugins"));
    }
    return absl::NotFoundError(
        absl::StrCat("plugin \"", args[0], "\" not found: Gantry has no plugins"));
  }

 private:
  const std::string verb_;
  bool unused_ = false;
  int64_t timeout_ = 0;
  std::string format_, alias_;
};

Verb Named(const char* name, const char* arguments, int min_args, int max_args, const char* summary,
           const char* examples) {
  return {.name = name,
          .arguments = arguments,
          .summary = summary,
          .examples = examples,
          .min_args = min_args,
          .max_args = max_args,
          .make = [verb = std::string(name)] { return std::make_unique<NamedPluginAction>(verb); }};
}

}  // namespace

std::vector<Verb> PluginVerbs() {
  return {
      Named("create", "[OPTIONS] PLUGIN DIRECTORY", 2, 2, "Refused: there are no plugins",
            "  ctl plugin create NAME X=1\n"),
      Named("disable", "[OPTIONS] PLUGIN", 1, 1, "Stop a plugin", "  ctl plugin disable NAME\n"),
      Named("enable", "[OPTIONS] PLUGIN", 1, 1, "Start a plugin", "  ctl plugin enable NAME\n"),
      Named("inspect", "[OPTIONS] PLUGIN [PLUGIN...]", 1, -1, "Show everything about plugins",
            "  ctl plugin inspect NAME\n"),
      Named("install", "[OPTIONS] PLUGIN [KEY=VALUE...]", 1, -1, "Refused: there are no plugins",
            "  ctl plugin install NAME\n"),
      Verb{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS]",
           .summary = "List plugins: there are none",
           .examples = "  ctl plugin ls\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ListPluginsAction>(); }},
      Named("push", "[OPTIONS] PLUGIN[:TAG]", 1, 1, "Send a plugin to a registry",
            "  ctl plugin push NAME\n"),
      Named("rm", "[OPTIONS] PLUGIN [PLUGIN...]", 1, -1, "Remove plugins",
            "  ctl plugin rm NAME\n"),
      Named("set", "PLUGIN KEY=VALUE [KEY=VALUE...]", 2, -1, "Change a plugin's settings",
            "  ctl plugin set NAME X=1\n"),
      Named("upgrade", "[OPTIONS] PLUGIN [REMOTE]", 1, 2, "Take a newer version of a plugin",
            "  ctl plugin upgrade NAME X=1\n")};
}

}  // namespace gantry::ctl
