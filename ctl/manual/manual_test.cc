#include "ctl/manual/manual.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "ctl/flags.h"
#include "ctl/verb.h"

namespace gantry::ctl {
namespace {

class SpinAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&speed_, "speed", 's', "rpm", "How fast\nas it may be");
    flags.Bool(&quiet_, "quiet", 0, "Say nothing").hidden = true;
  }
  absl::StatusOr<int> Run(Context&, const std::vector<std::string>&) override { return 0; }

 private:
  std::string speed_;
  bool quiet_ = false;
};

Verb Tree() {
  Verb spin;
  spin.name = "spin";
  spin.aliases = {"turn"};
  spin.arguments = "[OPTIONS] WHEEL";
  spin.summary = "Turn a wheel";
  spin.examples = "  ctl wheel spin -s 3 a\\b\n  .5 'x'\n";
  spin.make = [] { return std::make_unique<SpinAction>(); };
  Verb secret = spin;
  secret.name = "__secret";
  secret.hidden = true;
  Verb wheel;
  wheel.name = "wheel";
  wheel.summary = "Manage wheels";
  wheel.verbs = {spin, secret};
  Verb root;
  root.name = "ctl";
  root.summary = "Runs things.\n\nMore.";
  root.verbs = {wheel};
  return root;
}

std::map<std::string, std::string> Pages() {
  std::map<std::string, std::string> pages;
  for (ManualPage& page : ManualPages(Tree())) pages[page.file] = page.text;
  return pages;
}

TEST(ManualTest, EveryVerbThatIsShownHasAPage) {
  std::string names;
  for (const auto& [name, text] : Pages()) names += name + " ";
  EXPECT_EQ(names, "ctl-wheel-spin.1 ctl-wheel.1 ctl.1 ");
}

TEST(ManualTest, APageSaysWhatHelpSays) {
  const std::string page = Pages()["ctl-wheel-spin.1"];
  EXPECT_NE(page.find("ctl\\-wheel\\-spin \\- Turn a wheel\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\\fBctl wheel spin\\fR [OPTIONS] WHEEL\n"), std::string::npos) << page;
  EXPECT_NE(
      page.find("\\fB\\-s\\fR, \\fB\\-\\-speed\\fR \\fIrpm\\fR\nHow fast\n.br\nas it may be\n"),
      std::string::npos)
      << page;
  EXPECT_NE(page.find("Other names: turn."), std::string::npos) << page;
  EXPECT_EQ(page.find("quiet"), std::string::npos) << page;
  EXPECT_NE(page.find("\\fBctl\\-wheel\\fR(1)"), std::string::npos) << page;
}

TEST(ManualTest, TextIsNoMarkup) {
  const std::string page = Pages()["ctl-wheel-spin.1"];
  EXPECT_NE(page.find("\n  ctl wheel spin \\-s 3 a\\eb\n  .5 \\(aqx\\(aq\n"), std::string::npos)
      << page;
}

TEST(ManualTest, AGroupListsItsVerbsAndTheRootItsOptions) {
  std::map<std::string, std::string> pages = Pages();
  EXPECT_NE(pages["ctl-wheel.1"].find(".TP\n\\fBspin\\fR\nTurn a wheel\n"), std::string::npos)
      << pages["ctl-wheel.1"];
  EXPECT_EQ(pages["ctl-wheel.1"].find("secret"), std::string::npos);
  EXPECT_NE(pages["ctl.1"].find("\\-\\-namespace"), std::string::npos) << pages["ctl.1"];
  EXPECT_NE(pages["ctl.1"].find("ctl \\- Runs things\n"), std::string::npos) << pages["ctl.1"];
}

}  // namespace
}  // namespace gantry::ctl
