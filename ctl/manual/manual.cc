#include "ctl/manual/manual.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/man_page.h"
#include "base/status_macros.h"
#include "ctl/version.h"

namespace gantry::ctl {
namespace {

using Way = std::vector<const Verb*>;

std::string Join(const Way& way, const char* separator) {
  return absl::StrJoin(
      way, separator, [](std::string* out, const Verb* verb) { absl::StrAppend(out, verb->name); });
}

std::string PageName(const Way& way) { return absl::StrCat(Join(way, "-"), "(1)"); }

// The first line of a summary, as `man -k` lists it.
std::string FirstLine(const Verb& verb) {
  const std::vector<std::string> lines = absl::StrSplit(verb.summary, '\n');
  std::string line = lines.front();
  if (absl::EndsWith(line, ".")) line.pop_back();
  return line;
}

void AddOptions(ManPage& page, const char* title, const FlagSet& flags) {
  std::vector<const FlagSet::Flag*> shown;
  for (const FlagSet::Flag& flag : flags.flags()) {
    if (!flag.hidden) shown.push_back(&flag);
  }
  if (shown.empty()) return;
  std::sort(shown.begin(), shown.end(),
            [](const FlagSet::Flag* a, const FlagSet::Flag* b) { return a->name < b->name; });
  page.Section(title);
  for (const FlagSet::Flag* flag : shown)
    page.Option(flag->letter, flag->name, flag->value_name, flag->help);
}

void AddVerb(const Way& way, ManPage& page) {
  const Verb& verb = *way.back();
  page.Usage(Join(way, " "), verb.arguments);
  page.Section("DESCRIPTION");
  page.Paragraph(absl::StrCat(verb.summary, absl::EndsWith(verb.summary, ".") ? "" : "."));
  if (!verb.aliases.empty())
    page.Paragraph(absl::StrCat("Other names: ", absl::StrJoin(verb.aliases, ", "), "."));
  FlagSet flags;
  const std::unique_ptr<Action> action = verb.make();
  action->AddFlags(flags);
  AddOptions(page, "OPTIONS", flags);
}

void AddGroup(const Way& way, ManPage& page) {
  const Verb& group = *way.back();
  page.Usage(Join(way, " "), way.size() == 1 ? "[OPTIONS] COMMAND [ARG...]" : "COMMAND [ARG...]");
  page.Section("DESCRIPTION");
  page.Paragraph(way.size() == 1 ? absl::StrCat(FirstLine(group), ".") : group.summary);
  FlagSet flags;
  Context nowhere({}, {});
  if (way.size() == 1) flags = GlobalFlags();
  if (group.group_flags) group.group_flags(flags, nowhere);
  AddOptions(page, "OPTIONS BEFORE THE COMMAND", flags);
  page.Section("COMMANDS");
  for (const Verb& verb : group.verbs) {
    if (!verb.hidden) page.Item(verb.name, FirstLine(verb));
  }
}

void AddPages(Way way, std::vector<ManualPage>& pages) {
  const Verb& verb = *way.back();
  ManPage page(Join(way, "-"), 1, absl::StrCat("gantry ", kCtlVersion), FirstLine(verb));
  page.Section("SYNOPSIS");
  verb.verbs.empty() ? AddVerb(way, page) : AddGroup(way, page);
  if (!verb.examples.empty()) {
    page.Section("EXAMPLES");
    page.Literal(verb.examples);
  }
  if (way.size() == 1) {
    page.Section("ENVIRONMENT");
    page.Item("GANTRY_ADDRESS", "Socket of gantryd, as --address.");
    page.Item("GANTRY_NAMESPACE", "Namespace to work in, as --namespace.");
    page.Item("DOCKER_CONFIG", "Directory of the client's configuration, as --config.");
    page.Section("EXIT STATUS");
    page.Paragraph(
        "That of the container's process for run, exec and wait. 125: the command line or the "
        "daemon is at fault; 126: the program cannot be executed; 127: there is no such program.");
  }
  std::vector<std::string> others;
  if (way.size() > 1) others.push_back(PageName(Way(way.begin(), way.end() - 1)));
  for (const Verb& inner : verb.verbs) {
    if (inner.hidden) continue;
    way.push_back(&inner);
    others.push_back(PageName(way));
    AddPages(way, pages);
    way.pop_back();
  }
  if (way.size() == 1) others.insert(others.end(), {"gantryd(8)", "gantry-config.toml(5)"});
  page.SeeAlso(others);
  pages.push_back({absl::StrCat(Join(way, "-"), ".1"), page.text()});
}

class ManualAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    for (const ManualPage& page : ManualPages(*context.root)) {
      GANTRY_RETURN_IF_ERROR(
          WriteFileAtomic(absl::StrCat(args[0], "/", page.file), page.text, 0644));
    }
    return 0;
  }
};

}  // namespace

std::vector<ManualPage> ManualPages(const Verb& root) {
  std::vector<ManualPage> pages;
  AddPages({&root}, pages);
  return pages;
}

void AddManualVerb(Verb& root) {
  Verb verb;
  verb.name = "__man";
  verb.arguments = "DIR";
  verb.summary = "Write the manual pages into a directory";
  verb.min_args = 1;
  verb.max_args = 1;
  verb.completes = "files";
  verb.hidden = true;
  verb.make = [] { return std::make_unique<ManualAction>(); };
  root.verbs.push_back(std::move(verb));
}

}  // namespace gantry::ctl
