#include "supervisor/oci/config_change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;

ImageConfig Changed(std::initializer_list<const char*> instructions) {
  ImageConfig config;
  config.env = {"PATH=/bin", "A=old"};
  for (const char* instruction : instructions) {
    const absl::Status status = ApplyChange(instruction, config);
    EXPECT_TRUE(status.ok()) << instruction << ": " << status;
  }
  return config;
}

TEST(ConfigChangeTest, CommandsInBothForms) {
  EXPECT_THAT(Changed({"CMD [\"/bin/ls\", \"-l\"]"}).cmd, ElementsAre("/bin/ls", "-l"));
  EXPECT_THAT(Changed({"cmd echo $HOME"}).cmd, ElementsAre("/bin/sh", "-c", "echo $HOME"));
  EXPECT_THAT(Changed({"ENTRYPOINT []"}).entrypoint, IsEmpty());
  // Not JSON after all: a shell's line, as docker reads it.
  EXPECT_THAT(Changed({"CMD [ -e /x ] && ls"}).cmd,
              ElementsAre("/bin/sh", "-c", "[ -e /x ] && ls"));
}

TEST(ConfigChangeTest, EnvironmentReplacesAndExpands) {
  EXPECT_THAT(Changed({"ENV PATH=/opt/bin:$PATH B=\"two words\" A=${A}er C='$A' D=\\$A"}).env,
              ElementsAre("PATH=/opt/bin:/bin", "A=older", "B=two words", "C=$A", "D=$A"));
  EXPECT_THAT(Changed({"ENV A several words"}).env, ElementsAre("PATH=/bin", "A=several words"));
}

TEST(ConfigChangeTest, TheRest) {
  const ImageConfig config = Changed(
      {"LABEL a=1 \"b c\"=2", "EXPOSE 80 53/udp 8000-8002", "USER joe:staff", "VOLUME [\"/data\"]",
       "VOLUME /a /b", "WORKDIR /srv", "WORKDIR www", "STOPSIGNAL SIGINT", "ONBUILD RUN make",
       "HEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost"});
  EXPECT_THAT(config.labels, ElementsAre(Pair("a", "1"), Pair("b c", "2")));
  EXPECT_THAT(config.exposed_ports,
              ElementsAre("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"));
  EXPECT_EQ(config.user, "joe:staff");
  EXPECT_THAT(config.volumes, ElementsAre("/a", "/b", "/data"));
  EXPECT_EQ(config.working_dir, "/srv/www");
  EXPECT_EQ(config.stop_signal, "SIGINT");
  EXPECT_THAT(config.on_build, ElementsAre("RUN make"));
  ASSERT_TRUE(config.health_check.has_value());
  EXPECT_THAT(config.health_check->test, ElementsAre("CMD-SHELL", "curl -f localhost"));
  EXPECT_EQ(config.health_check->interval, absl::Seconds(5));
  EXPECT_EQ(config.health_check->retries, 2);
}

TEST(ConfigChangeTest, WhatIsRefusedChangesNothing) {
  for (const char* bad :
       {"RUN rm -rf /", "FROM scratch", "", "CMD", "ENV", "ENV A=1 B", "ENV =x", "LABEL \"open=1",
        "EXPOSE 0", "EXPOSE 70000", "EXPOSE 9-8", "EXPOSE 80/icmp", "EXPOSE x", "USER a b",
        "WORKDIR \"\"", "HEALTHCHECK", "HEALTHCHECK CMD", "HEALTHCHECK --retries=0 CMD x",
        "HEALTHCHECK --bogus=1 CMD x"}) {
    ImageConfig config;
    config.env = {"A=1"};
    const absl::Status status = ApplyChange(bad, config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(std::string(status.message()), StartsWith("change")) << bad;
    EXPECT_THAT(config.env, ElementsAre("A=1")) << bad;
    EXPECT_THAT(config.labels, IsEmpty()) << bad;
    EXPECT_THAT(config.exposed_ports, IsEmpty()) << bad;
  }
}

}  // namespace
}  // namespace gantry::oci
