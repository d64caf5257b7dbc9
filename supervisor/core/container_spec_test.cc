#include "supervisor/core/container_spec.h"

#include <signal.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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
  EXPECT_THAT(config.env(), ElementsAre("B=user", "C", "D=user", "A=image"));
}

TEST(MergeImageConfigTest, ARelativeWorkingDirectoryOfAnImageIsBelowTheRoot) {
  for (const auto& [named, merged] :
       {std::pair("srv/app", "/srv/app"), std::pair("/srv", "/srv"), std::pair("", "")}) {
    oci::ImageConfig image;
    image.cmd = {"sh"};
    image.working_dir = named;
    v1::ContainerConfig config;
    config.set_image("x");
    ASSERT_TRUE(MergeImageConfig(image, config).ok());
    EXPECT_EQ(config.working_dir(), merged);
  }
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

TEST(CheckContainerConfigTest, RefusalsNameTheField) {
  auto message = [](auto change) {
    v1::ContainerConfig config;
    config.set_image("x");
    change(config);
    absl::Status status = CheckContainerConfig(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    return std::string(status.message());
  };
  EXPECT_THAT(message([](auto& c) { c.add_env("=x"); }), StartsWith("env: "));
  EXPECT_THAT(message([](auto& c) { c.set_working_dir("rel"); }), StartsWith("working_dir: "));
  EXPECT_THAT(message([](auto& c) { c.set_network_mode("my net"); }), HasSubstr("host, none"));
  EXPECT_THAT(message([](auto& c) { c.set_stop_signal("SIGNOPE"); }), HasSubstr("SIGNOPE"));
  EXPECT_THAT(message([](auto& c) { c.mutable_resources()->set_memory_bytes(1000); }),
              StartsWith("memory_bytes: "));
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
              StartsWith("auto_remove: "));
}

TEST(CheckContainerConfigTest, WhatWouldBeIgnoredIsRefused) {
  using Change = void (*)(v1::ContainerConfig&);
  const std::pair<const char*, Change> kCases[] = {
      {"publish_all_ports",
       [](auto& c) {
         c.set_publish_all_ports(true);
         c.set_network_mode("none");
       }},
      {"ipv4_address",
       [](auto& c) {
         c.set_network_mode("bridge");
         c.add_networks()->set_network("bridge");
         c.mutable_networks(0)->set_ipv4_address("172.17.0.9");
       }},
      {"aliases",
       [](auto& c) {
         c.set_network_mode("web");
         c.add_networks()->set_network("bridge");
         c.mutable_networks(0)->add_aliases("db");
       }},
      {"networks",
       [](auto& c) {
         c.set_network_mode("web");
         c.add_networks()->set_network("host");
       }},
      {"link_local_addresses",
       [](auto& c) {
         c.set_network_mode("web");
         c.add_networks()->set_network("web");
         c.mutable_networks(0)->add_link_local_addresses("10.0.0.1");
       }},
      {"links", [](auto& c) { c.add_links("db"); }},
      {"mac_address", [](auto& c) { c.set_mac_address("02:00:00:00:00:01"); }},
      {"ipv4_address", [](auto& c) { c.add_networks()->set_ipv4_address("10.0.0.1"); }},
      {"ipv6_address", [](auto& c) { c.add_networks()->set_ipv6_address("fd00::1"); }},
      {"aliases", [](auto& c) { c.add_networks()->add_aliases("db"); }},
      {"userns_mode", [](auto& c) { c.set_userns_mode("private"); }},
      {"storage_options", [](auto& c) { (*c.mutable_storage_options())["size"] = "1x"; }},
      {"health_check.test", [](auto& c) { c.mutable_health_check()->add_test("CMD"); }},
      {"health_check.interval",
       [](auto& c) { c.mutable_health_check()->mutable_interval()->set_nanos(5); }},
      {"health_check.retries", [](auto& c) { c.mutable_health_check()->set_retries(-1); }},
      {"cgroup_parent", [](auto& c) { c.set_cgroup_parent("/a/../.."); }},
      {"nano_cpus", [](auto& c) { c.mutable_resources()->set_nano_cpus(int64_t{100000} << 30); }},
      {"extra_hosts", [](auto& c) { c.add_extra_hosts("db:999"); }},
      {"extra_hosts", [](auto& c) { c.add_extra_hosts("db\n10.0.0.1 x:10.0.0.1"); }},
      {"dns", [](auto& c) { c.add_dns("example.com"); }},
      {"dns_search", [](auto& c) { c.add_dns_search("a\nnameserver 1.2.3.4"); }},
      {"dns_options", [](auto& c) { c.add_dns_options("a b"); }},
  };
  for (const auto& [field, change] : kCases) {
    v1::ContainerConfig config;
    config.set_image("x");
    ASSERT_TRUE(CheckContainerConfig(config).ok());
    change(config);
    const absl::Status status = CheckContainerConfig(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << field;
    EXPECT_EQ(FieldOf(status), field);
    EXPECT_THAT(std::string(status.message()), StartsWith(std::string(field) + ": "));
  }
}

TEST(CheckContainerConfigTest, HostsAndHealthChecksThatMeanNothingElsePass) {
  v1::ContainerConfig config;
  config.set_image("x");
  config.add_extra_hosts("db:fd00::1");
  config.add_dns("9.9.9.9");
  config.set_userns_mode("host");
  config.mutable_health_check()->add_test("NONE");
  EXPECT_TRUE(CheckContainerConfig(config).ok()) << CheckContainerConfig(config);
}

TEST(ToResourcesTest, LimitsPerDeviceNeedABlockDevice) {
  v1::Resources in;
  v1::DeviceRate* rate = in.add_blkio_device_read_bps();
  rate->set_rate(1 << 20);
  for (const char* path : {"", "vda", "/dev/null", "/no/such/device"}) {
    rate->set_path(path);
    const absl::Status status = ToResources(in).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << path;
    EXPECT_THAT(std::string(status.message()), StartsWith("blkio_device_read_bps: "));
  }
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

}  // namespace
}  // namespace gantry::core
