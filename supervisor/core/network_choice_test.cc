#include "supervisor/core/network_choice.h"

#include "gtest/gtest.h"

#include "base/field_error.h"

namespace gantry::core {
namespace {

TEST(NetworkChoiceTest, NothingAndDefaultAreNone) {
  for (const char* mode : {"", "default", "none"}) {
    const absl::StatusOr<NetworkChoice> choice = ParseNetworkMode(mode);
    ASSERT_TRUE(choice.ok()) << mode;
    EXPECT_EQ(choice->kind, NetworkChoice::Kind::kNone) << mode;
    EXPECT_EQ(choice->Print(), "none") << mode;
  }
}

TEST(NetworkChoiceTest, HostAndAnotherContainerPrintAsTheyWereParsed) {
  EXPECT_TRUE(ParseNetworkMode("host")->host());
  EXPECT_EQ(ParseNetworkMode("host")->Print(), "host");
  const NetworkChoice shared = ParseNetworkMode("container:web").value();
  EXPECT_EQ(shared.kind, NetworkChoice::Kind::kContainer);
  EXPECT_EQ(shared.container, "web");
  EXPECT_EQ(shared.Print(), "container:web");
}

TEST(NetworkChoiceTest, AnUnknownNetworkIsAnErrorOfItsField) {
  const absl::Status refused = ParseNetworkMode("bridge2").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_EQ(FieldOf(refused), "network_mode");
  EXPECT_NE(refused.message().find("bridge2"), absl::string_view::npos) << refused;
}

}  // namespace
}  // namespace gantry::core
