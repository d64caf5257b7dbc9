#include "supervisor/oci/platform.h"

#include "gtest/gtest.h"

namespace gantry::oci {
namespace {

using content::Platform;

Platform P(absl::string_view text) {
  auto parsed = ParsePlatform(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.value_or(Platform{});
}

content::Descriptor Entry(absl::string_view platform, char digit) {
  content::Descriptor d;
  d.digest = *content::Digest::Parse("sha256:" + std::string(64, digit));
  if (!platform.empty()) {
    d.platform = Platform{};
    if (platform == "unknown/unknown") {
      d.platform->os = d.platform->architecture = "unknown";
    } else {
      d.platform = P(platform);
    }
  }
  return d;
}

TEST(PlatformTest, NormalisesSpellings) {
  EXPECT_EQ(FormatPlatform(P("linux/x86_64")), "linux/amd64");
  EXPECT_EQ(FormatPlatform(P("Linux/AArch64")), "linux/arm64");
  EXPECT_EQ(FormatPlatform(P("linux/arm64/v8")), "linux/arm64");
  EXPECT_EQ(FormatPlatform(P("linux/armhf")), "linux/arm/v7");
  EXPECT_EQ(FormatPlatform(P("linux/armel")), "linux/arm/v6");
  EXPECT_EQ(FormatPlatform(P("linux/arm")), "linux/arm/v7");
  EXPECT_EQ(FormatPlatform(P("linux/i386")), "linux/386");
  EXPECT_EQ(FormatPlatform(P("linux/amd64/v1")), "linux/amd64");
  EXPECT_EQ(FormatPlatform(P("linux/arm/6")), "linux/arm/v6");
  EXPECT_EQ(FormatPlatform(P("arm64")), "linux/arm64");
  EXPECT_EQ(P("linux"), HostPlatform());
}

TEST(PlatformTest, RefusesNonsense) {
  for (const char* text : {"", "/", "linux/", "linux//v7", "a/b/c/d", "linux/amd64/v1/x", "../etc",
                           "lin ux/amd64", "toaster/amd64"}) {
    EXPECT_EQ(ParsePlatform(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(PlatformTest, OnlyAcceptsWhatTheMachineCanRun) {
  const PlatformMatcher arm7 = PlatformMatcher::Only(P("linux/arm/v7"));
  EXPECT_EQ(arm7.Rank(P("linux/arm/v7")), 0);
  EXPECT_EQ(arm7.Rank(P("linux/arm/v6")), 1);
  EXPECT_EQ(arm7.Rank(P("linux/arm/v5")), 2);
  EXPECT_FALSE(arm7.Matches(P("linux/arm/v8")));
  EXPECT_FALSE(arm7.Matches(P("linux/amd64")));

  const PlatformMatcher amd64v3 = PlatformMatcher::Only(P("linux/amd64/v3"));
  EXPECT_EQ(amd64v3.Rank(P("linux/amd64/v3")), 0);
  EXPECT_EQ(amd64v3.Rank(P("linux/amd64")), 2);
  EXPECT_FALSE(amd64v3.Matches(P("linux/amd64/v4")));

  const PlatformMatcher arm64 = PlatformMatcher::Only(P("linux/arm64"));
  EXPECT_LT(arm64.Rank(P("linux/arm64")), arm64.Rank(P("linux/arm/v8")));
  EXPECT_LT(arm64.Rank(P("linux/arm/v8")), arm64.Rank(P("linux/arm/v5")));
}

TEST(PlatformTest, SelectsBestFirstAndSkipsAttestations) {
  content::Descriptor attestation = Entry("unknown/unknown", '9');
  attestation.annotations["vnd.docker.reference.type"] = "attestation-manifest";
  const std::vector<content::Descriptor> all = {
      Entry("linux/arm/v6", '1'), Entry("", '2'), Entry("linux/amd64", '3'),
      Entry("linux/arm/v7", '4'), attestation,    Entry("windows/amd64", '5')};
  std::string order;
  for (const auto& d : SelectManifests(all, PlatformMatcher::Only(P("linux/arm/v7"))))
    order += d.digest.hex()[0];
  EXPECT_EQ(order, "412");
  EXPECT_EQ(SelectManifests(all, PlatformMatcher::All()).size(), 5u);
}

TEST(PlatformTest, HostMatchesItsOwnImages) {
  EXPECT_TRUE(PlatformMatcher::Host().Matches(HostPlatform()));
  Platform plain = HostPlatform();
  plain.variant.clear();
  EXPECT_TRUE(PlatformMatcher::Host().Matches(plain));
  plain.os = "windows";
  EXPECT_FALSE(PlatformMatcher::Host().Matches(plain));
}

}  // namespace
}  // namespace gantry::oci
