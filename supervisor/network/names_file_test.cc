#include "supervisor/network/names_file.h"

#include <sys/stat.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::network {
namespace {

std::vector<std::string> Texts(const std::vector<NameAddress>& addresses) {
  std::vector<std::string> texts;
  for (const NameAddress& one : addresses) texts.push_back(one.ToString());
  return texts;
}

using Strings = std::vector<std::string>;

const std::vector<NamedMember> kMembers = {
    {"Api", {"Api", "rest", "0123456789ab"}, {"10.1.0.2", "fd00::2"}},
    {"db", {"db", "rest"}, {"10.1.0.3"}},
    {"apis", {"apis"}, {"10.1.0.10"}},
};

TEST(NamesFileTest, PrintsSortedLines) {
  const auto text = PrintNames("web", kMembers);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text,
            "gantry names 1\nnetwork web\n"
            "name 0123456789ab 10.1.0.2\nname 0123456789ab fd00::2\n"
            "name api 10.1.0.2\nname api fd00::2\nname apis 10.1.0.10\nname db 10.1.0.3\n"
            "name rest 10.1.0.2\nname rest 10.1.0.3\nname rest fd00::2\n"
            "address 10.1.0.10 apis\naddress 10.1.0.2 Api\naddress 10.1.0.3 db\n"
            "address fd00::2 Api\n");
}

TEST(NamesFileTest, FindsNamesAndAddresses) {
  const std::string text = *PrintNames("web", kMembers);
  const auto table = NamesTable::Parse(text);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->network(), "web");
  EXPECT_EQ(Texts(table->Find("api")), (Strings{"10.1.0.2", "fd00::2"}));
  EXPECT_EQ(Texts(table->Find("rest")), (Strings{"10.1.0.2", "10.1.0.3", "fd00::2"}));
  EXPECT_EQ(Texts(table->Find("rest", 1)), Strings{"10.1.0.2"});
  EXPECT_EQ(Texts(table->Find("apis")), Strings{"10.1.0.10"});
  EXPECT_EQ(Texts(table->Find("0123456789ab")).size(), 2u);
  for (const char* absent : {"", "a", "ap", "apisx", "zz", "0", "re st", "rest 10.1.0.2"})
    EXPECT_TRUE(table->Find(absent).empty()) << absent;
  EXPECT_EQ(table->NameOf(*NameAddress::Parse("10.1.0.2")), "Api");
  EXPECT_EQ(table->NameOf(*NameAddress::Parse("fd00:0::2")), "Api");
  EXPECT_EQ(table->NameOf(*NameAddress::Parse("10.1.0.1")), "");
  EXPECT_EQ(table->NameOf(*NameAddress::Parse("10.1.0.20")), "");
}

TEST(NamesFileTest, EveryOneOfManyNamesIsFound) {
  std::vector<NamedMember> members;
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "c" + std::to_string(i * 7919 % 100003);
    members.push_back(
        {name, {name}, {"10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1)}});
  }
  const std::string text = *PrintNames("web", members);
  const auto table = NamesTable::Parse(text);
  ASSERT_TRUE(table.ok());
  for (const NamedMember& one : members) {
    EXPECT_EQ(Texts(table->Find(one.name)), one.addresses);
    EXPECT_EQ(table->NameOf(*NameAddress::Parse(one.addresses[0])), one.name);
  }
}

TEST(NamesFileTest, NamesThatNoMessageCanCarryAreLeftOut) {
  const std::string long_label(64, 'x');
  std::string long_name = "a";
  while (long_name.size() < 255) long_name += ".a";
  const auto text =
      PrintNames("web", {{"db",
                          {"db", "two words", std::string("nul\0x", 5), "new\nline", "a..b", ".a",
                           "a.", "", long_label, long_name, "back\\slash", "\xc3\xa4"},
                          {"10.1.0.2", "not an address", "10.1.0.2/16"}}});
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "gantry names 1\nnetwork web\nname db 10.1.0.2\naddress 10.1.0.2 db\n");
  EXPECT_TRUE(absl::IsInvalidArgument(PrintNames("two words", {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(PrintNames("", {}).status()));
}

TEST(NamesFileTest, RefusesWhatIsDamaged) {
  const std::string good = *PrintNames("web", kMembers);
  // Every beginning but the whole lines after the head.
  for (size_t size = 0; size < good.size(); ++size) {
    const bool whole_lines = size >= 27 && good[size - 1] == '\n';
    EXPECT_EQ(NamesTable::Parse(good.substr(0, size)).ok(), whole_lines) << size;
  }
  const std::string head = "gantry names 1\nnetwork web\n";
  for (const char* bad :
       {"name b 10.1.0.2\nname a 10.1.0.2\n", "name a 10.1.0.2\nname a 10.1.0.2\n",
        "name A 10.1.0.2\n", "name a  10.1.0.2\n", "name a 10.1.0.2 \n", "name a 10.1.0.256\n",
        "name a\n", "name  10.1.0.2\n", "address 10.1.0.2 a\nname a 10.1.0.2\n", "\n", "x\n",
        "address a 10.1.0.2\n", "name a\t10.1.0.2\n", "name a..b 10.1.0.2\n"})
    EXPECT_TRUE(absl::IsDataLoss(NamesTable::Parse(head + bad).status())) << bad;
  EXPECT_FALSE(NamesTable::Parse("gantry names 2\nnetwork web\n").ok());
  EXPECT_FALSE(NamesTable::Parse("gantry names 1\nnetwork \n").ok());
}

TEST(NamesFileTest, ReaderSeesTheNewestFileAndKeepsTheFormerOfADamagedOne) {
  TempDir directory;
  const std::string path = directory.path() + "/names";
  NamesFile file(path);
  EXPECT_TRUE(file.Refresh().ok());
  EXPECT_TRUE(file.table().Find("db").empty());
  ASSERT_TRUE(ReplaceFile(path, *PrintNames("web", kMembers)).ok());
  EXPECT_TRUE(file.Refresh().ok());
  EXPECT_EQ(Texts(file.table().Find("db")), Strings{"10.1.0.3"});
  ASSERT_TRUE(ReplaceFile(path, "gantry names 1\nnet").ok());
  EXPECT_TRUE(absl::IsDataLoss(file.Refresh()));
  EXPECT_TRUE(file.Refresh().ok());
  EXPECT_EQ(Texts(file.table().Find("db")), Strings{"10.1.0.3"});
  ASSERT_TRUE(ReplaceFile(path, *PrintNames("web", {{"db", {"db"}, {"10.1.0.9"}}})).ok());
  EXPECT_TRUE(file.Refresh().ok());
  EXPECT_EQ(Texts(file.table().Find("db")), Strings{"10.1.0.9"});
  ASSERT_EQ(unlink(path.c_str()), 0);
  EXPECT_TRUE(file.Refresh().ok());
  EXPECT_TRUE(file.table().Find("db").empty());
}

TEST(NamesFileTest, ReplacingLeavesNothingElse) {
  TempDir directory;
  ASSERT_TRUE(ReplaceFile(directory.path() + "/names", "x").ok());
  EXPECT_EQ(*ListDirectory(directory.path()), Strings{"names"});
  EXPECT_FALSE(ReplaceFile(directory.path() + "/nosuch/names", "x").ok());
}

TEST(ResolverFileTest, ReadsWhatItPrints) {
  ResolverConfig config;
  config.networks = {"/run/a/names", "/run/b/names"};
  config.links = {{"db", "0123456789ab"}};
  config.servers = {"10.9.9.9", "fd00::1", "fe80::1%eth0"};
  config.host_servers = "/etc/resolv.conf";
  config.single_labels_stay = true;
  const auto text = PrintResolver(config);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text,
            "gantry resolver 1\nnetwork /run/a/names\nnetwork /run/b/names\n"
            "link db 0123456789ab\nserver 10.9.9.9\nserver fd00::1\nserver fe80::1%eth0\n"
            "host-servers /etc/resolv.conf\nsingle-labels-stay\n");
  const auto back = ParseResolver(*text);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, config);
  EXPECT_EQ(*ParseResolver("gantry resolver 1\n"), ResolverConfig());
}

TEST(ResolverFileTest, RefusesWhatIsDamaged) {
  for (const char* bad : {"", "gantry resolver 2\n", "gantry resolver 1\nnetwork x\n",
                          "gantry resolver 1\nserver x\n", "gantry resolver 1\nserver 1.2.3.4%e\n",
                          "gantry resolver 1\nserver fe80::1%\n", "gantry resolver 1\nlink a\n",
                          "gantry resolver 1\nlink A b\n", "gantry resolver 1\nhost-servers x\n",
                          "gantry resolver 1\nhost-servers /a\nhost-servers /b\n",
                          "gantry resolver 1\nserver 1.2.3.4", "gantry resolver 1\n\n"})
    EXPECT_TRUE(absl::IsDataLoss(ParseResolver(bad).status())) << bad;
  ResolverConfig config;
  config.servers = {"1.2.3.4\nserver 6.6.6.6"};
  EXPECT_TRUE(absl::IsInvalidArgument(PrintResolver(config).status()));
  config = ResolverConfig();
  config.links = {{"a b", "c"}};
  EXPECT_TRUE(absl::IsInvalidArgument(PrintResolver(config).status()));
}

TEST(ResolvConfTest, FirstThreeServers) {
  EXPECT_EQ(ServersOf("# nameserver 9.9.9.9\nnameserver 10.0.0.1\n nameserver\tfe80::1%eth0\r\n"
                      "nameserver nonsense\nsearch a\nnameserver ::1\nnameserver 10.0.0.2"),
            (Strings{"10.0.0.1", "fe80::1%eth0", "::1"}));
  EXPECT_TRUE(ServersOf("").empty());
}

}  // namespace
}  // namespace gantry::network
