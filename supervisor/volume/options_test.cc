#include "supervisor/volume/options.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::volume {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(CheckOptionsTest, EachNeedsTheOnesItBelongsTo) {
  EXPECT_TRUE(CheckOptions({}).ok());
  EXPECT_TRUE(CheckOptions({{"type", "tmpfs"}, {"device", "tmpfs"}}).ok());
  EXPECT_TRUE(CheckOptions({{"type", "nfs"}, {"device", ":/x"}, {"o", "addr=10.0.0.1"}}).ok());
  const std::vector<std::pair<Options, const char*>> kRefused = {
      {{{"colour", "blue"}}, "invalid option: \"colour\""},
      {{{"type", "tmpfs"}}, "missing required option: \"device\""},
      {{{"device", "/dev/sda1"}}, "missing required option: \"type\""},
      {{{"o", "ro"}}, "missing required option: \"device\""},
      {{{"size", "1x"}}, "invalid size: '1x'"},
      {{{"size", "1g"}, {"type", "tmpfs"}, {"device", "tmpfs"}}, "cannot be used with a device"}};
  for (const auto& [options, words] : kRefused)
    EXPECT_THAT(CheckOptions(options).message(), HasSubstr(words));
}

TEST(MountOfTest, ABindOfTheHostIsOne) {
  const auto mount = MountOf({{"type", "none"}, {"device", "/srv"}, {"o", "bind,ro"}});
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_EQ(mount->type, "bind");
  EXPECT_EQ(mount->source, "/srv");
  EXPECT_THAT(mount->options, ElementsAre("bind", "ro"));
}

TEST(MountOfTest, TheKernelGetsAddressesOfServers) {
  const auto nfs =
      MountOf({{"type", "nfs4"}, {"device", ":/export"}, {"o", "addr=localhost,vers=4"}});
  ASSERT_TRUE(nfs.ok()) << nfs.status();
  EXPECT_TRUE(nfs->options[0] == "addr=127.0.0.1" || nfs->options[0] == "addr=::1")
      << nfs->options[0];
  EXPECT_EQ(nfs->options[1], "vers=4");
  const auto cifs = MountOf({{"type", "cifs"}, {"device", "//127.0.0.1/share"}, {"o", "user=x"}});
  ASSERT_TRUE(cifs.ok()) << cifs.status();
  EXPECT_THAT(cifs->options, ElementsAre("user=x", "addr=127.0.0.1"));
}

}  // namespace
}  // namespace gantry::volume
