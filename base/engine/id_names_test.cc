#include "base/engine/id_names.h"

#include <string>

#include "gtest/gtest.h"

namespace gantry::engine {
namespace {

const std::string kId(64, 'a');
const std::string kOther(64, 'b');

std::string Named(const std::string& message) {
  return WithNames(message, [](const std::string& id) { return id == kId ? "web" : ""; });
}

TEST(IdNamesTest, KnownIdsBecomeNames) {
  EXPECT_EQ(Named("container " + kId + " is running"), "container web is running");
  EXPECT_EQ(Named("container " + kId + ": its root"), "container web: its root");
  EXPECT_EQ(Named("shim of default/" + kId + ": Create"), "shim of default/web: Create");
  EXPECT_EQ(Named("task \"" + kId + "\" and " + kId), "task \"web\" and web");
}

TEST(IdNamesTest, OthersStay) {
  EXPECT_EQ(Named("volume " + kOther + " is in use"), "volume " + kOther + " is in use");
  EXPECT_EQ(Named("manifest sha256:" + kId), "manifest sha256:" + kId);
  EXPECT_EQ(Named("/run/" + kId + "/x"), "/run/" + kId + "/x");
  EXPECT_EQ(Named("x" + kId), "x" + kId);
  EXPECT_EQ(Named("No such container: " + kId), "No such container: " + kId);
  EXPECT_EQ(Named(kId + "0"), kId + "0");
  const std::string taken = "name \"web\" is in use by container \"" + kId + "\"";
  EXPECT_EQ(Named(taken), taken);
}

TEST(IdNamesTest, SaysWhetherThereIsOne) {
  EXPECT_TRUE(HoldsId("container " + kId));
  EXPECT_FALSE(HoldsId("sha256:" + kId));
  EXPECT_FALSE(HoldsId("container web"));
}

}  // namespace
}  // namespace gantry::engine
