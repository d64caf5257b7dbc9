#include "base/engine/container_json.h"

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/engine/value.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::engine {
namespace {

using ::testing::HasSubstr;

std::string Summary(const v1::ContainerSummary& container,
                    const std::map<std::string, std::string>& network_ids, absl::Time now,
                    const SummaryFields& fields = {}) {
  std::string out;
  AppendContainerSummary(container, network_ids, now, fields, &out);
  return out;
}

TEST(ContainerJsonTest, AListEntryHasDockersFields) {
  v1::ContainerSummary container;
  container.set_id("c1");
  container.set_name("web");
  container.set_image("nginx:1");
  container.set_image_id("sha256:ab");
  container.add_command("sh");
  container.add_command("a b");
  container.mutable_created_at()->set_seconds(1700000000);
  container.mutable_started_at()->set_seconds(1700000000);
  container.set_state(v1::CONTAINER_STATE_RUNNING);
  (*container.mutable_labels())["k"] = "v";
  container.set_network_mode("front");
  container.add_networks("front");
  v1::PublishedPort* port = container.add_ports();
  port->set_ip("0.0.0.0");
  port->set_private_port(80);
  port->set_public_port(8080);
  port->set_protocol("tcp");
  port = container.add_ports();
  port->set_private_port(443);
  port->set_protocol("tcp");
  EXPECT_EQ(
      Summary(container, {{"front", "n1"}}, absl::FromUnixSeconds(1700000060)),
      R"({"Id":"c1","Names":["/web"],"Image":"nginx:1","ImageID":"sha256:ab","Command":"sh 'a b'",)"
      R"("Created":1700000000,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,)"
      R"("Type":"tcp"},{"PrivatePort":443,"Type":"tcp"}],"Labels":{"k":"v"},"State":"running",)"
      R"("Status":"Up About a minute","HostConfig":{"NetworkMode":"front"},"NetworkSettings":)"
      R"({"Networks":{"front":{"IPAMConfig":null,"Links":null,"Aliases":null,"DriverOpts":null,)"
      R"("GwPriority":0,"NetworkID":"n1","EndpointID":"","Gateway":"","IPAddress":"","IPPrefixLen":0,)"
      R"("IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"MacAddress":"",)"
      R"("DNSNames":null}}},"Mounts":[]})");
}

TEST(ContainerJsonTest, AListEntryHasTheAddressesOfARunningContainer) {
  v1::ContainerSummary container;
  container.add_networks("front");
  container.add_networks("back");
  v1::NetworkEndpoint* place = container.add_endpoints();
  place->set_network("front");
  place->set_network_id("n1");
  place->set_endpoint_id("e1");
  place->set_ip_address("10.0.0.2");
  place->set_ip_prefix_len(16);
  place->set_mac_address("02:42:0a:00:00:02");
  const std::string text = Summary(container, {{"front", "n1"}, {"back", "n2"}}, absl::Now());
  EXPECT_THAT(text, HasSubstr(R"("NetworkID":"n1","EndpointID":"e1","Gateway":"",)"
                              R"("IPAddress":"10.0.0.2","IPPrefixLen":16)"));
  EXPECT_THAT(text, HasSubstr(R"("NetworkID":"n2","EndpointID":"","Gateway":"")"));
}

TEST(ContainerJsonTest, AListEntryHasWhatWasAskedForAndItsManifestUnlessTheVersionHasNot) {
  v1::ContainerSummary container;
  container.add_networks("front");
  v1::NetworkAttachment* asked = container.add_attachments();
  asked->set_network("front");
  asked->set_ipv4_address("10.0.0.9");
  asked->set_gateway_priority(7);
  asked->add_aliases("a");
  (*container.mutable_annotations())["k"] = "v";
  container.mutable_image_manifest()->set_media_type("m");
  container.mutable_image_manifest()->set_digest("sha256:01");
  container.mutable_image_manifest()->set_size_bytes(5);
  container.mutable_image_manifest()->set_platform("linux/arm64/v8");
  const std::string text = Summary(container, {}, absl::Now());
  EXPECT_THAT(text, HasSubstr(R"("IPAMConfig":{"IPv4Address":"10.0.0.9"},"Links":null,)"
                              R"("Aliases":null,"DriverOpts":null,"GwPriority":7,)"));
  EXPECT_THAT(text, HasSubstr(R"("HostConfig":{"NetworkMode":"","Annotations":{"k":"v"}})"));
  EXPECT_THAT(text, HasSubstr(R"("ImageManifestDescriptor":{"mediaType":"m","digest":"sha256:01",)"
                              R"("size":5,"platform":{"architecture":"arm64","os":"linux",)"
                              R"("variant":"v8"}})"));
  SummaryFields none;
  none.image_manifest = none.annotations = none.dns_names = none.gateway_priority = false;
  const std::string older = Summary(container, {}, absl::Now(), none);
  for (const char* key : {"ImageManifestDescriptor", "Annotations", "DNSNames", "GwPriority"})
    EXPECT_EQ(older.find(key), std::string::npos) << key;
}

// Written without a parser's help: what comes back is what went in, whatever is in it.
TEST(ContainerJsonTest, AListEntryIsJsonWhateverItsTextsAre) {
  v1::ContainerSummary container;
  const std::string odd = "a\"b\\c\n\t\x01/\xc3\xa4</script>";
  container.set_id("c1");
  container.set_image(odd);
  container.add_command(odd);
  (*container.mutable_labels())[odd] = odd;
  (*container.mutable_labels())["a"] = "";
  (*container.mutable_annotations())[odd] = odd;
  container.set_network_mode(odd);
  // Named twice, and in an endpoint.
  container.add_networks(odd);
  container.add_networks("other");
  container.add_networks("other");
  container.add_endpoints()->set_network(odd);
  container.set_size_rw_bytes(int64_t{1} << 40);
  v1::MountPoint* mount = container.add_mounts();
  mount->set_type("bind");
  mount->set_source(odd);
  mount->set_read_write(true);
  const absl::StatusOr<Value> document =
      Value::FromJson(Summary(container, {}, absl::Now()), Value::SameKeys::kRefused);
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(document->Find("Names")->ToJson(), "[]");
  EXPECT_EQ(document->Find("Image")->string(), odd);
  EXPECT_EQ(document->Find("Command")->string(), odd);
  EXPECT_EQ(document->Find("Labels")->Find(odd)->string(), odd);
  EXPECT_EQ(document->Find("Labels")->object().fields.front().first, "a");
  EXPECT_EQ(document->Find("SizeRw")->integer(), int64_t{1} << 40);
  EXPECT_EQ(document->Find("HostConfig")->Find("NetworkMode")->string(), odd);
  EXPECT_EQ(document->Find("HostConfig")->Find("Annotations")->Find(odd)->string(), odd);
  const Value* networks = document->Find("NetworkSettings")->Find("Networks");
  ASSERT_EQ(networks->object().fields.size(), 2u);
  EXPECT_EQ(networks->object().fields[0].first, odd);
  EXPECT_EQ(networks->object().fields[1].first, "other");
  ASSERT_EQ(document->Find("Mounts")->list().size(), 1u);
  EXPECT_EQ(document->Find("Mounts")->list()[0].Find("Source")->string(), odd);
  EXPECT_TRUE(document->Find("Mounts")->list()[0].Find("RW")->Truth());
}

TEST(ContainerJsonTest, ModesOfPathsHaveGosBits) {
  v1::PathStat stat;
  stat.set_name("tmp");
  stat.set_mode(S_IFDIR | S_ISVTX | 0755);
  stat.mutable_modified_at()->set_seconds(1700000000);
  std::string text;
  ASSERT_TRUE(absl::Base64Unescape(PathStatHeader(stat), &text));
  // Directory is bit 31, sticky bit 20.
  EXPECT_EQ(text, R"({"name":"tmp","size":0,"mode":2148532717,"mtime":"2023-11-14T22:13:20Z",)"
                  R"("linkTarget":""})");
  stat.set_mode(S_IFLNK | 0777);
  ASSERT_TRUE(absl::Base64Unescape(PathStatHeader(stat), &text));
  EXPECT_THAT(text, HasSubstr(R"("mode":134218239)"));
}

TEST(ContainerJsonTest, StatsHoldTheSampleBefore) {
  v1::ContainerStats before;
  before.set_running(true);
  before.mutable_read_at()->set_seconds(1700000000);
  before.set_cpu_total_nanos(100);
  before.set_host_cpu_nanos(1000);
  before.set_online_cpus(2);
  v1::ContainerStats now = before;
  now.set_id("c1");
  now.set_name("web");
  now.mutable_read_at()->set_seconds(1700000001);
  now.set_cpu_total_nanos(300);
  now.set_host_cpu_nanos(3000);
  now.set_memory_usage_bytes(450);
  now.set_memory_limit_bytes(1000);
  (*now.mutable_memory_stat())["inactive_file"] = 50;
  now.set_pids_current(3);
  for (const char* name : {"eth0", "eth1"}) {
    v1::InterfaceCounters* interface = now.add_interfaces();
    interface->set_name(name);
    interface->set_rx_bytes(7);
    interface->set_tx_packets(2);
  }
  v1::BlockDeviceCounters* device = now.add_devices();
  device->set_major(8);
  device->set_minor(16);
  device->set_read_bytes(4096);
  device->set_write_operations(5);
  now.set_cpu_periods(9);
  now.set_throttled_periods(4);
  const Value document = StatsDocument(now, before);
  const std::string text = document.ToJson();
  EXPECT_THAT(text, HasSubstr(R"("read":"2023-11-14T22:13:21Z","preread":"2023-11-14T22:13:20Z")"));
  EXPECT_THAT(text, HasSubstr(R"("cpu_stats":{"cpu_usage":{"total_usage":300)"));
  EXPECT_THAT(text, HasSubstr(R"("precpu_stats":{"cpu_usage":{"total_usage":100)"));
  EXPECT_THAT(text, HasSubstr(R"("system_cpu_usage":3000,"online_cpus":2)"));
  EXPECT_THAT(text, HasSubstr(R"("memory_stats":{"usage":500,"stats":{"inactive_file":50},)"
                              R"("limit":1000})"));
  EXPECT_THAT(text, HasSubstr(R"({"major":8,"minor":16,"op":"read","value":4096})"));
  EXPECT_THAT(text, HasSubstr(R"({"major":8,"minor":16,"op":"write","value":5})"));
  EXPECT_THAT(text, HasSubstr(R"("networks":{"eth0":{"rx_bytes":7,"rx_packets":0,"rx_errors":0,)"
                              R"("rx_dropped":0,"tx_bytes":0,"tx_packets":2,"tx_errors":0,)"
                              R"("tx_dropped":0},"eth1":{"rx_bytes":7,)"));
  EXPECT_THAT(text, HasSubstr(R"("throttling_data":{"periods":9,"throttled_periods":4,)"));
}

TEST(ContainerJsonTest, WhatDoesNotRunHasZeros) {
  v1::ContainerStats stats;
  stats.set_id("c1");
  stats.set_name("web");
  const std::string text = StatsDocument(stats, {}).ToJson();
  EXPECT_THAT(text, HasSubstr(R"("read":"0001-01-01T00:00:00Z")"));
  EXPECT_THAT(text, HasSubstr(R"("pids_stats":{})"));
  EXPECT_THAT(text, HasSubstr(R"("memory_stats":{},"name":"/web","id":"c1"})"));
}

TEST(ContainerJsonTest, AnExecIsReadAndShown) {
  v1::ExecDetails exec;
  const absl::Status read = ExecFromDocument(
      *Value::FromJson(R"({"Cmd":["sh","-c","x"],"Tty":true,"AttachStdin":true,"Env":["A=b"],)"
                       R"("User":"7","ConsoleSize":[24,80],"DetachKeys":"ctrl-a"})"),
      *exec.mutable_config());
  ASSERT_TRUE(read.ok()) << read;
  EXPECT_EQ(exec.config().console_size().width(), 80u);
  exec.set_exec_id("e1");
  exec.set_container_id("c1");
  exec.set_exit_code(3);
  EXPECT_EQ(ExecDocument(exec).ToJson(),
            R"({"ID":"e1","Running":false,"ExitCode":3,"ProcessConfig":{"tty":true,)"
            R"("entrypoint":"sh","arguments":["-c","x"],"privileged":false,"user":"7"},)"
            R"("OpenStdin":true,"OpenStderr":false,"OpenStdout":false,"CanRemove":false,)"
            R"("ContainerID":"c1","DetachKeys":"ctrl-a","Pid":0})");
  for (const char* body :
       {"null", "{}", R"({"Cmd":[]})", R"({"Cmd":[1]})", R"({"Cmd":"x","Tty":1})"}) {
    v1::ExecConfig config;
    EXPECT_TRUE(absl::IsInvalidArgument(ExecFromDocument(*Value::FromJson(body), config))) << body;
  }
}

}  // namespace
}  // namespace gantry::engine
