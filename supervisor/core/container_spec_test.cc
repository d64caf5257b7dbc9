#include "supervisor/core/container_spec.h"

#include <signal.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MergeImageConfigTest, EntrypointOfTheUserDropsTheImagesCommand) {
  oci::ImageConfig image;
  image.entrypoint = {"/bin/ep"};
  image.cmd = {"default"};
  v1::ContainerConfig config;
  config.set_image("x");
  v1::ContainerConfig plain = config;
  ASSERT_TRUE(MergeImageConfig(image, plain).ok());
  EXPECT_THAT(plain.entrypoint().values(), ElementsAre("/bin/ep"));
  EXPECT_THAT(plain.command(), ElementsAre("default"));
  v1::ContainerConfig own = config;
  own.mutable_entrypoint()->add_values("/bin/sh");
  ASSERT_TRUE(MergeImageConfig(image, own).ok());
  EXPECT_THAT(own.entrypoint().values(), ElementsAre("/bin/sh"));
  EXPECT_THAT(own.command(), ElementsAre());
  v1::ContainerConfig none = config;
  none.mutable_entrypoint()->add_values("");
  EXPECT_TRUE(absl::IsInvalidArgument(MergeImageConfig(image, none)));
}

TEST(MergeImageConfigTest, EnvironmentOfTheUserWinsAndCanTakeAway) {
  oci::ImageConfig image;
  image.cmd = {"sh"};
  image.env = {"A=image", "B=image", "C=image"};
  v1::ContainerConfig config;
  config.set_image("x");
  config.add_env("B=user");
  config.add_env("C");
  config.add_env("D=user");
  ASSERT_TRUE(MergeImageConfig(image, config).ok());
  EXPECT_THAT(config.env(), ElementsAre("A=image", "B=user", "D=user"));
}

TEST(MergeImageConfigTest, LabelsThatSteerTheDaemonAreNotTakenFromImages) {
  oci::ImageConfig image;
  image.cmd = {"sh"};
  image.labels = {{"containerd.io/restart.loguri", "binary:///bin/evil"},
                  {"io.cri-containerd.kind", "sandbox"},
                  {"fine", "1"}};
  v1::ContainerConfig config;
  config.set_image("x");
  ASSERT_TRUE(MergeImageConfig(image, config).ok());
  EXPECT_EQ(config.labels().size(), 1u);
  EXPECT_EQ(config.labels().at("fine"), "1");
}

TEST(CheckContainerConfigTest, RefusalsNameTheOption) {
  auto message = [](auto change) {
    v1::ContainerConfig config;
    config.set_image("x");
    change(config);
    absl::Status status = CheckContainerConfig(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    return std::string(status.message());
  };
  EXPECT_THAT(message([](auto& c) { c.add_env("=x"); }), HasSubstr("--env"));
  EXPECT_THAT(message([](auto& c) { c.set_working_dir("rel"); }), HasSubstr("--workdir"));
  EXPECT_THAT(message([](auto& c) { c.set_network_mode("mynet"); }), HasSubstr("host, none"));
  EXPECT_THAT(message([](auto& c) { c.set_stop_signal("SIGNOPE"); }), HasSubstr("SIGNOPE"));
  EXPECT_THAT(message([](auto& c) { c.mutable_resources()->set_memory_bytes(1000); }),
              HasSubstr("--memory"));
  EXPECT_THAT(message([](auto& c) {
                auto* mount = c.add_mounts();
                mount->set_type(v1::Mount::BIND);
                mount->set_source("../etc");
                mount->set_target("/x");
              }),
              HasSubstr("../etc"));
  EXPECT_THAT(message([](auto& c) {
                c.set_auto_remove(true);
                c.mutable_restart_policy()->set_name("always");
              }),
              HasSubstr("--rm"));
}

TEST(ToResourcesTest, CpusBecomeQuotaAndPeriod) {
  v1::Resources in;
  in.set_nano_cpus(1500000000);
  in.set_memory_bytes(64 << 20);
  auto out = ToResources(in);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->cpu_quota_micros, 150000);
  EXPECT_EQ(out->cpu_period_micros, 100000u);
  EXPECT_EQ(out->memory_limit_bytes, 64 << 20);
  EXPECT_EQ(out->memory_swap_bytes, 128 << 20);
  in.set_cpu_quota_micros(5);
  EXPECT_TRUE(absl::IsInvalidArgument(ToResources(in).status()));
}

TEST(ToSpecConfigTest, NetworkIsNoneUnlessAskedFor) {
  v1::ContainerConfig config;
  config.set_image("x");
  config.add_command("sh");
  SpecPlace place;
  place.id = "abc";
  place.directory = "/d";
  auto spec = ToSpecConfig(config, place);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->network.kind, oci::NamespaceMode::Kind::kPrivate);
  config.set_network_mode("host");
  spec = ToSpecConfig(config, place);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->network.kind, oci::NamespaceMode::Kind::kHost);
  EXPECT_EQ(spec->mounts.size(), 3u);
  EXPECT_EQ(spec->mounts[0].source, "/d/resolv.conf");
}

TEST(CgroupsPathTest, IsWhatTheRuntimesDriverReads) {
  EXPECT_EQ(CgroupsPath("web", "", false), "/gantry/web");
  EXPECT_EQ(CgroupsPath("web", "/jobs", false), "/jobs/web");
  EXPECT_EQ(CgroupsPath("web", "", true), "system.slice:gantry:web");
  EXPECT_EQ(CgroupsPath("web", "jobs.slice", true), "jobs.slice:gantry:web");
}

TEST(ToSpecConfigTest, MissingBindSourceIsRefusedUnlessItMayBeMade) {
  v1::ContainerConfig config;
  config.set_image("x");
  v1::Mount* mount = config.add_mounts();
  mount->set_type(v1::Mount::BIND);
  mount->set_source("/no/such/source/of/mine");
  mount->set_target("/x");
  auto spec = ToSpecConfig(config, SpecPlace());
  EXPECT_TRUE(absl::IsInvalidArgument(spec.status()));
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr("/no/such/source/of/mine"));
}

TEST(ParseSignalTest, NamesAndNumbers) {
  EXPECT_EQ(*ParseSignal("TERM"), SIGTERM);
  EXPECT_EQ(*ParseSignal("sigkill"), SIGKILL);
  EXPECT_EQ(*ParseSignal("9"), 9);
  EXPECT_EQ(*ParseSignal("RTMIN+3"), SIGRTMIN + 3);
  EXPECT_EQ(*ParseSignal("SIGRTMAX-1"), SIGRTMAX - 1);
  for (const char* bad : {"", "0", "-1", "65", "TERMINATE", "SIG", "RTMIN+99"})
    EXPECT_FALSE(ParseSignal(bad).ok()) << bad;
}

TEST(ApplyLogOptionTest, SizesAndCounts) {
  shim::v1::Log log;
  ASSERT_TRUE(ApplyLogOption("max-size", "10m", log).ok());
  EXPECT_EQ(log.max_size_bytes(), 10 << 20);
  ASSERT_TRUE(ApplyLogOption("max-size", "7", log).ok());
  EXPECT_EQ(log.max_size_bytes(), 7);
  ASSERT_TRUE(ApplyLogOption("max-file", "3", log).ok());
  EXPECT_EQ(log.max_files(), 3);
  ASSERT_TRUE(ApplyLogOption("mode", "blocking", log).ok());
  EXPECT_TRUE(log.block_when_full());
  for (const char* bad : {"", "m", "-5m", "1x", "1.5m"})
    EXPECT_FALSE(ApplyLogOption("max-size", bad, log).ok()) << bad;
  EXPECT_FALSE(ApplyLogOption("max-file", "0", log).ok());
  EXPECT_FALSE(ApplyLogOption("nope", "1", log).ok());
}

}  // namespace
}  // namespace gantry::core
