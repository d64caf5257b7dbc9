#include "base/engine/value_syntax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::engine {
namespace {

TEST(VolumeTest, BindWithOptions) {
  const auto mount = ParseVolume("/srv:/www:ro,rslave", "/cwd");
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_EQ(mount->type(), v1::Mount::BIND);
  EXPECT_EQ(mount->source(), "/srv");
  EXPECT_EQ(mount->target(), "/www");
  EXPECT_TRUE(mount->read_only());
  EXPECT_TRUE(mount->create_source());
  EXPECT_EQ(mount->propagation(), "rslave");
}

TEST(VolumeTest, WordsWithoutAnEffectAreKept) {
  const auto mount = ParseVolume("data:/x:rw,z,cached", "/cwd");
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_FALSE(mount->read_only());
  EXPECT_THAT(mount->options(), testing::ElementsAre("rw", "z", "cached"));
  for (const char* text : {"/a:/b:ro,rw", "/a:/b:rw,ro", "/a:/b:rw,rw", "/a:/b:ro,ro"})
    EXPECT_FALSE(ParseVolume(text, "/").ok()) << text;
}

TEST(VolumeTest, RelativeSourceIsTakenFromHere) {
  EXPECT_EQ(ParseVolume("./a/../b:/x", "/cwd")->source(), "/cwd/b");
  EXPECT_EQ(ParseVolume(".:/x", "/cwd")->source(), "/cwd");
}

TEST(VolumeTest, NamesAreVolumes) {
  const auto named = ParseVolume("data:/var/lib/data", "/cwd");
  EXPECT_EQ(named->type(), v1::Mount::VOLUME);
  EXPECT_EQ(named->source(), "data");
  const auto anonymous = ParseVolume("/var/lib/data", "/cwd");
  EXPECT_EQ(anonymous->type(), v1::Mount::VOLUME);
  EXPECT_EQ(anonymous->source(), "");
}

TEST(VolumeTest, RefusesWhatMakesNoSense) {
  for (const char* text :
       {"", ":/x", "/a:", "/a:b", "/a:/b:ro:x", "/a:/b:sideways", "/a:/", "/a:/../"}) {
    EXPECT_FALSE(ParseVolume(text, "/").ok()) << text;
  }
}

TEST(MountTest, BindNeedsSourceAndKeepsCommasInQuotes) {
  const auto mount = ParseMount("type=bind,\"source=/a,b\",target=/x,readonly", "/");
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_EQ(mount->source(), "/a,b");
  EXPECT_TRUE(mount->read_only());
  EXPECT_FALSE(mount->create_source());
  EXPECT_FALSE(ParseMount("type=bind,target=/x", "/").ok());
}

TEST(MountTest, TmpfsOptions) {
  const auto mount = ParseMount("type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1770", "/");
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_EQ(mount->tmpfs_size_bytes(), 64 << 20);
  EXPECT_EQ(mount->tmpfs_mode(), 01770u);
  EXPECT_FALSE(ParseMount("type=tmpfs,dst=/run,src=/x", "/").ok());
}

TEST(MountTest, UnknownKeyAndTypeAreNamed) {
  EXPECT_NE(ParseMount("type=bind,src=/a,dst=/b,colour=red", "/").status().message().find("colour"),
            absl::string_view::npos);
  EXPECT_NE(ParseMount("type=nfs,dst=/b", "/").status().message().find("nfs"),
            absl::string_view::npos);
}

TEST(PublishTest, EveryForm) {
  const auto one = ParsePublish("8080:80");
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->size(), 1u);
  EXPECT_EQ((*one)[0].host_port(), "8080");
  EXPECT_EQ((*one)[0].container_port(), 80u);
  EXPECT_EQ((*one)[0].protocol(), "tcp");

  EXPECT_EQ((*ParsePublish("127.0.0.1:53:53/udp"))[0].host_ip(), "127.0.0.1");
  EXPECT_EQ((*ParsePublish("[::1]:8080:80"))[0].host_ip(), "::1");
  EXPECT_EQ((*ParsePublish("127.0.0.1::80"))[0].host_port(), "");
  EXPECT_EQ((*ParsePublish("80"))[0].host_port(), "");
  const auto range = ParsePublish("8000-8002:80-82");
  ASSERT_EQ(range->size(), 3u);
  EXPECT_EQ((*range)[2].host_port(), "8002");
  EXPECT_EQ((*range)[2].container_port(), 82u);
}

TEST(PublishTest, RefusesBadPorts) {
  for (const char* text : {"", "0", "65536", "80/icmp", "a:b", "8000-8001:80-82", "82-80"}) {
    EXPECT_FALSE(ParsePublish(text).ok()) << text;
  }
}

TEST(DeviceTest, EveryForm) {
  EXPECT_EQ(ParseDevice("/dev/fuse")->permissions(), "rwm");
  EXPECT_EQ(ParseDevice("/dev/fuse:r")->permissions(), "r");
  const auto device = ParseDevice("/dev/sda:/dev/xvda:rw");
  EXPECT_EQ(device->container_path(), "/dev/xvda");
  EXPECT_EQ(device->permissions(), "rw");
  EXPECT_FALSE(ParseDevice("fuse").ok());
  EXPECT_FALSE(ParseDevice("/dev/a:/dev/b:x").ok());
}

TEST(UlimitTest, SoftAndHard) {
  const auto both = ParseUlimit("nofile=1024:2048");
  EXPECT_EQ(both->soft(), 1024);
  EXPECT_EQ(both->hard(), 2048);
  EXPECT_EQ(ParseUlimit("core=-1")->hard(), -1);
  EXPECT_FALSE(ParseUlimit("nofile=2:1").ok());
  EXPECT_FALSE(ParseUlimit("nosuch=1").ok());
}

TEST(RestartPolicyTest, CountOnlyForOnFailure) {
  EXPECT_EQ(ParseRestartPolicy("on-failure:3")->maximum_retry_count(), 3);
  EXPECT_FALSE(ParseRestartPolicy("always:3").ok());
  EXPECT_FALSE(ParseRestartPolicy("sometimes").ok());
}

TEST(EnvironmentTest, BareNamesTakeOurs) {
  const std::map<std::string, std::string> ours = {{"HOME", "/root"}};
  EXPECT_EQ(*ParseEnvironment("HOME", ours), "HOME=/root");
  EXPECT_EQ(*ParseEnvironment("UNSET", ours), "UNSET");
  EXPECT_EQ(*ParseEnvironment("A=b=c", ours), "A=b=c");
  EXPECT_FALSE(ParseEnvironment("=x", ours).ok());
}

TEST(SplitWordsTest, QuotesAndBackslashes) {
  EXPECT_EQ(*SplitWords("a 'b c' \"d \\\" e\" f\\ g ''"),
            (std::vector<std::string>{"a", "b c", "d \" e", "f g", ""}));
  EXPECT_FALSE(SplitWords("'a").ok());
}

}  // namespace
}  // namespace gantry::engine
