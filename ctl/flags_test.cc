#include "ctl/flags.h"

#include <gtest/gtest.h>

namespace gantry::ctl {
namespace {

class FlagsTest : public ::testing::Test {
 protected:
  FlagsTest() {
    flags_.Bool(&interactive_, "interactive", 'i', "");
    flags_.Bool(&tty_, "tty", 't', "");
    flags_.Strings(&env_, "env", 'e', "list", "");
    flags_.String(&name_, "name", 0, "string", "");
    flags_.OptionalInt(&time_, "time", 0, "");
    flags_.OptionalBool(&init_, "init", 0, "");
    flags_.String(&network_, "network", 0, "name", "");
    flags_.Alias("net", "network");
  }
  absl::Status Parse(std::vector<std::string> args, bool stop = false) {
    return flags_.Parse(args, stop, &rest_);
  }

  FlagSet flags_;
  bool interactive_ = false, tty_ = false;
  std::vector<std::string> env_;
  std::string name_, network_;
  std::optional<int64_t> time_;
  std::optional<bool> init_;
  std::vector<std::string> rest_;
};

TEST_F(FlagsTest, LettersMayBeJoined) {
  ASSERT_TRUE(Parse({"-it", "-eA=1", "-e", "B=2", "-ite=C=3"}).ok());
  EXPECT_TRUE(interactive_);
  EXPECT_TRUE(tty_);
  EXPECT_EQ(env_, (std::vector<std::string>{"A=1", "B=2", "C=3"}));
}

TEST_F(FlagsTest, LongOptionsTakeEqualsOrTheNextWord) {
  ASSERT_TRUE(Parse({"--name=a", "--env", "X=1", "--interactive=false", "--time", "-1"}).ok());
  EXPECT_EQ(name_, "a");
  EXPECT_FALSE(interactive_);
  EXPECT_EQ(time_, -1);
  EXPECT_EQ(init_, std::nullopt);
}

TEST_F(FlagsTest, OptionsAndArgumentsMayBeMixed) {
  ASSERT_TRUE(Parse({"one", "-t", "two", "--", "-x"}).ok());
  EXPECT_EQ(rest_, (std::vector<std::string>{"one", "two", "-x"}));
  EXPECT_TRUE(tty_);
}

TEST_F(FlagsTest, StoppingAtTheFirstArgumentHandsTheRestOn) {
  ASSERT_TRUE(Parse({"-i", "busybox", "ls", "-t", "--name"}, true).ok());
  EXPECT_EQ(rest_, (std::vector<std::string>{"busybox", "ls", "-t", "--name"}));
  EXPECT_FALSE(tty_);
}

TEST_F(FlagsTest, UnknownOptionNamesTheNearest) {
  const absl::Status status = Parse({"--interctive"});
  EXPECT_EQ(status.message(), "unknown flag: --interctive; did you mean --interactive?");
  EXPECT_EQ(Parse({"--zzzzzzzzzz"}).message(), "unknown flag: --zzzzzzzzzz");
  EXPECT_EQ(Parse({"-ix"}).message(), "unknown shorthand flag: 'x' in -ix");
}

TEST_F(FlagsTest, MissingAndBadValuesAreNamed) {
  EXPECT_EQ(Parse({"--name"}).message(), "flag needs an argument: --name");
  EXPECT_EQ(Parse({"-e"}).message(), "flag needs an argument: -e");
  EXPECT_EQ(Parse({"--time=soon"}).message(), "--time: \"soon\" is not a whole number");
  EXPECT_EQ(Parse({"--tty=perhaps"}).message(), "--tty: \"perhaps\" is neither true nor false");
}

TEST_F(FlagsTest, AliasesAreTheSameFlag) {
  ASSERT_TRUE(Parse({"--net=host"}).ok());
  EXPECT_EQ(network_, "host");
  EXPECT_TRUE(flags_.Seen("network"));
  EXPECT_FALSE(flags_.Seen("name"));
}

TEST_F(FlagsTest, LoneDashIsAnArgument) {
  ASSERT_TRUE(Parse({"-"}).ok());
  EXPECT_EQ(rest_, std::vector<std::string>{"-"});
}

TEST(NearestTest, PrefersWhatWasBegun) {
  EXPECT_EQ(Nearest("insp", {"images", "inspect", "info"}), "inspect");
  EXPECT_EQ(Nearest("stpo", {"start", "stop", "stats"}), "stop");
  EXPECT_EQ(Nearest("quux", {"start", "stop"}), "");
  EXPECT_EQ(Nearest("bogus", {"logs"}), "");
  EXPECT_EQ(Nearest("search", {"start"}), "");
  EXPECT_EQ(Nearest("isolation", {"annotation"}), "");
  EXPECT_EQ(Nearest("imags", {"images"}), "images");
}

}  // namespace
}  // namespace gantry::ctl
