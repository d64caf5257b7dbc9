#include "base/engine/config_json.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/engine/engine_json.h"
#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::ContainerConfig Config(const std::string& body) {
  absl::StatusOr<v1::ContainerConfig> config = ConfigFromJson(body);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : v1::ContainerConfig();
}
v1::ContainerConfig Host(const std::string& host_config) {
  return Config(absl::StrCat(R"({"HostConfig":)", host_config, "}"));
}

TEST(ConfigFromJsonTest, TheProcess) {
  const v1::ContainerConfig config = Config(
      R"({"Image":"bb:1","Hostname":"h","User":"7","Tty":true,"OpenStdin":true,"StdinOnce":true,)"
      R"("AttachStdout":true,"Env":["A=1","B"],"Cmd":["sh","-c","x"],"WorkingDir":"/w",)"
      R"("Labels":{"a":"b","c":null},"StopSignal":"INT","StopTimeout":0,)"
      R"("ExposedPorts":{"80/tcp":{},"53/UDP":{},"8080":{}}})");
  EXPECT_EQ(config.image(), "bb:1");
  EXPECT_EQ(config.hostname(), "h");
  EXPECT_EQ(config.user(), "7");
  EXPECT_TRUE(config.tty() && config.open_stdin() && config.stdin_once());
  EXPECT_TRUE(config.attach_stdout());
  EXPECT_FALSE(config.attach_stderr());
  EXPECT_THAT(config.env(), ElementsAre("A=1", "B"));
  EXPECT_THAT(config.command(), ElementsAre("sh", "-c", "x"));
  EXPECT_EQ(config.working_dir(), "/w");
  EXPECT_EQ(config.labels().at("a"), "b");
  EXPECT_EQ(config.labels().at("c"), "");
  EXPECT_EQ(config.stop_signal(), "INT");
  EXPECT_TRUE(config.has_stop_timeout_seconds());
  EXPECT_EQ(config.stop_timeout_seconds(), 0);
  EXPECT_THAT(config.exposed_ports(), ElementsAre("53/udp", "80/tcp", "8080/tcp"));
}

TEST(ConfigFromJsonTest, AnEntrypointIsInheritedGivenOrNone) {
  EXPECT_FALSE(Config(R"({"Entrypoint":null})").has_entrypoint());
  EXPECT_FALSE(Config("{}").has_entrypoint());
  EXPECT_THAT(Config(R"({"Entrypoint":"/init"})").entrypoint().values(), ElementsAre("/init"));
  for (const char* none : {R"({"Entrypoint":[]})", R"({"Entrypoint":[""]})"}) {
    const v1::ContainerConfig config = Config(none);
    EXPECT_TRUE(config.has_entrypoint()) << none;
    EXPECT_THAT(config.entrypoint().values(), ElementsAre()) << none;
  }
}

TEST(ConfigFromJsonTest, KeysAreMatchedWithoutRegardToCaseAndUnknownOnesSkipped) {
  const v1::ContainerConfig config =
      Config(R"({"image":"bb","hostconfig":{"memory":16777216},"Unheard":{"of":[1]}})");
  EXPECT_EQ(config.image(), "bb");
  EXPECT_EQ(config.resources().memory_bytes(), 16 << 20);
}

TEST(ConfigFromJsonTest, AHealthCheck) {
  const v1::HealthCheck check =
      Config(R"({"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1500000000,"Retries":4}})")
          .health_check();
  EXPECT_THAT(check.test(), ElementsAre("CMD-SHELL", "true"));
  EXPECT_EQ(check.interval().seconds(), 1);
  EXPECT_EQ(check.interval().nanos(), 500000000);
  EXPECT_FALSE(check.has_timeout());
  EXPECT_EQ(check.retries(), 4);
}

TEST(ConfigFromJsonTest, MountsOfAllSpellings) {
  const v1::ContainerConfig config = Config(
      R"({"Volumes":{"/anon":{},"/bound":{}},"HostConfig":{"VolumeDriver":"local","Binds":)"
      R"(["/src:/bound:ro,rslave","data:/data"],"Tmpfs":{"/t":"size=1m,mode=1777"},"Mounts":[)"
      R"({"Type":"bind","Source":"/s","Target":"/b","ReadOnly":true,"BindOptions":)"
      R"({"Propagation":"rshared","NonRecursive":true}},)"
      R"({"Type":"volume","Source":"v","Target":"/v/","VolumeOptions":{"NoCopy":true,"Subpath":"x",)"
      R"("DriverConfig":{"Name":"nfs","Options":{"o":"ro"}}}},)"
      R"({"Type":"tmpfs","Target":"/m","TmpfsOptions":{"SizeBytes":4096,"Mode":448,)"
      R"("Options":[["noexec"],["uid","7"]]}}]}})");
  ASSERT_EQ(config.mounts_size(), 7);
  EXPECT_EQ(config.mounts(0).target(), "/anon");
  EXPECT_EQ(config.mounts(1).target(), "/bound");
  EXPECT_EQ(config.mounts(1).type(), v1::Mount::BIND);
  EXPECT_EQ(config.mounts(1).propagation(), "rslave");
  EXPECT_EQ(config.mounts(2).source(), "data");
  EXPECT_EQ(config.mounts(2).volume_driver(), "local");
  EXPECT_EQ(config.mounts(3).source(), "/s");
  EXPECT_TRUE(config.mounts(3).non_recursive());
  EXPECT_FALSE(config.mounts(3).create_source());
  EXPECT_EQ(config.mounts(4).target(), "/v");
  EXPECT_EQ(config.mounts(4).volume_driver(), "nfs");
  EXPECT_EQ(config.mounts(4).volume_options().at("o"), "ro");
  EXPECT_THAT(config.mounts(5).options(), ElementsAre("noexec", "uid=7"));
  EXPECT_EQ(config.mounts(5).tmpfs_mode(), 0700u);
  EXPECT_EQ(config.mounts(6).target(), "/t");
}

TEST(ConfigFromJsonTest, PortsOfTheHost) {
  const v1::ContainerConfig config = Host(
      R"({"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},{"HostPort":""}],)"
      R"("53/udp":[{"HostIp":"::1","HostPort":"53"},{"HostIp":"10.0.0.1"}],"9/tcp":null}})");
  ASSERT_EQ(config.port_bindings_size(), 4);
  EXPECT_EQ(config.port_bindings(0).host_ip(), "127.0.0.1");
  EXPECT_EQ(config.port_bindings(0).host_port(), "8080");
  EXPECT_EQ(config.port_bindings(1).host_port(), "");
  EXPECT_EQ(config.port_bindings(2).host_ip(), "::1");
  EXPECT_EQ(config.port_bindings(2).protocol(), "udp");
  EXPECT_EQ(config.port_bindings(3).host_ip(), "10.0.0.1");
}

TEST(ConfigFromJsonTest, Networks) {
  const v1::ContainerConfig config = Config(
      R"({"NetworkingConfig":{"EndpointsConfig":{"front":{"Aliases":["web"],"MacAddress":"02::1",)"
      R"("IPAMConfig":{"IPv4Address":"10.0.0.9"}},"back":null}}})");
  ASSERT_EQ(config.networks_size(), 2);
  EXPECT_EQ(config.networks(0).network(), "front");
  EXPECT_THAT(config.networks(0).aliases(), ElementsAre("web"));
  EXPECT_EQ(config.networks(0).ipv4_address(), "10.0.0.9");
  EXPECT_EQ(config.networks(1).network(), "back");
  EXPECT_EQ(Config(R"({"NetworkDisabled":true})").network_mode(), "none");
}

// What is shown by inspect is what was asked for: HostConfig goes there and back.
TEST(ConfigFromJsonTest, HostConfigComesOutAsItWentIn) {
  const std::string host =
      R"({"Binds":["/src:/b:ro"],"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},)"
      R"("RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"CapAdd":["CAP_NET_ADMIN"],)"
      R"("Dns":["9.9.9.9"],"ExtraHosts":["a:1.2.3.4"],"GroupAdd":["7"],"IpcMode":"host",)"
      R"("OomScoreAdj":-5,"PidMode":"host","Privileged":true,"ReadonlyRootfs":true,)"
      R"("SecurityOpt":["no-new-privileges"],"Sysctls":{"net.core.somaxconn":"9"},)"
      R"("ShmSize":1048576,"Memory":16777216,"MemorySwap":-1,"MemorySwappiness":10,)"
      R"("NanoCpus":1500000000,"CpusetCpus":"0-1","PidsLimit":100,"BlkioWeight":500,)"
      R"("BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1024}],)"
      R"("Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/n","CgroupPermissions":"r"}],)"
      R"("Ulimits":[{"Name":"nofile","Hard":2048,"Soft":1024}],"Init":true,"UTSMode":"host",)"
      R"("Mounts":[{"Type":"volume","Source":"v","Target":"/v","VolumeOptions":{"NoCopy":true,)"
      R"("Labels":{"l":"1"},"DriverConfig":{"Name":"nfs","Options":{"o":"ro"}},"Subpath":"s"}},)"
      R"({"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":64,"Mode":448,)"
      R"("Options":[["noexec"],["uid","7"]]}}],"Tmpfs":{"/u":"size=1m"}})";
  v1::ContainerDetails details;
  *details.mutable_config() = Host(host);
  const Value shown = ContainerDocument(details);
  const Value given = *Value::FromJson(host);
  for (const auto& [key, value] : given.object().fields) {
    const Value* out = shown.Find("HostConfig")->Find(key);
    ASSERT_NE(out, nullptr) << key;
    if (key == "Binds" || key == "Mounts") continue;  // below: a named volume is a bind for docker
    EXPECT_EQ(out->ToJson(), value.ToJson()) << key;
  }
  // And once more gives the same configuration.
  const v1::ContainerConfig again = Host(shown.Find("HostConfig")->ToJson());
  EXPECT_EQ(again.mounts_size(), details.config().mounts_size());
  EXPECT_EQ(again.resources().SerializeAsString(),
            details.config().resources().SerializeAsString());
}

TEST(ConfigFromJsonTest, BindsAreRepeatedAsTheyWereGiven) {
  const std::string host =
      R"({"Binds":["/src:/a:rw","/src:/b:ro,z","data:/c:rw","data:/d","/src:/e:cached"]})";
  v1::ContainerDetails details;
  *details.mutable_config() = Host(host);
  const Value shown = ContainerDocument(details);
  EXPECT_EQ(shown.Find("HostConfig")->Find("Binds")->ToJson(),
            Value::FromJson(host)->Find("Binds")->ToJson());
}

TEST(ConfigFromJsonTest, ErrorsNameTheField) {
  const std::vector<std::tuple<const char*, const char*, const char*>> cases = {
      {"", "body", "JSON"},
      {"[]", "body", "not a JSON object"},
      {R"({"Image":7})", "Image", "is a number, not a string"},
      {R"({"Cmd":{"a":1}})", "Cmd", "is an object, not an array"},
      {R"({"Cmd":["a",1]})", "Cmd[1]", "not a string"},
      {R"({"Env":["=x"]})", "Env", "no name"},
      {R"({"Tty":"yes"})", "Tty", "is a string, not a boolean"},
      {R"({"Labels":{"a":1}})", "Labels.a", "not a string"},
      {R"({"ExposedPorts":{"http":{}}})", "ExposedPorts", "http"},
      {R"({"ExposedPorts":{"80/quic":{}}})", "ExposedPorts", "quic"},
      {R"({"ExposedPorts":{"1:80/tcp":{}}})", "ExposedPorts", "1:80"},
      {R"({"Volumes":{"data":{}}})", "Volumes", "data"},
      {R"({"Volumes":{"/a:/b":{}}})", "Volumes", "/a:/b"},
      {R"({"StopTimeout":-2})", "StopTimeout", "not between"},
      {R"({"Healthcheck":{"Test":["SHELL"]}})", "Healthcheck.Test", "SHELL"},
      {R"({"Healthcheck":{"Interval":5}})", "Healthcheck.Interval", "nanoseconds"},
      {R"({"HostConfig":[]})", "HostConfig", "is an array, not an object"},
      {R"({"HostConfig":{"Memory":-5}})", "HostConfig.Memory", "negative"},
      {R"({"HostConfig":{"Memory":1000}})", "HostConfig.Memory", "6 MiB"},
      {R"({"HostConfig":{"Memory":1.5}})", "HostConfig.Memory", "whole number"},
      {R"({"HostConfig":{"Memory":18446744073709551615}})", "HostConfig.Memory", "not between"},
      {R"({"HostConfig":{"Memory":16777216,"MemorySwap":8388608}})", "HostConfig.MemorySwap",
       "less than Memory"},
      {R"({"HostConfig":{"NanoCpus":1,"CpuPeriod":1}})", "HostConfig.NanoCpus", "CpuPeriod"},
      {R"({"HostConfig":{"Binds":["./a:/b"]}})", "HostConfig.Binds", "not absolute"},
      {R"({"HostConfig":{"Binds":["/a:/b:sideways"]}})", "HostConfig.Binds", "sideways"},
      {R"({"HostConfig":{"Binds":["/a:/b","/c:/b"]}})", "HostConfig", "two mounts at /b"},
      {R"({"HostConfig":{"Mounts":[{"Type":"nfs","Target":"/x"}]}})", "HostConfig.Mounts[0].Type",
       "nfs"},
      {R"({"HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"x"}]}})",
       "HostConfig.Mounts[0].Target", "absolute"},
      {R"({"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x","BindOptions":{}}]}})",
       "HostConfig.Mounts[0].BindOptions", "bind"},
      {R"({"HostConfig":{"RestartPolicy":{"Name":"sometimes"}}})", "HostConfig.RestartPolicy.Name",
       "sometimes"},
      {R"({"HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":1}}})",
       "HostConfig.RestartPolicy.MaximumRetryCount", "always"},
      {R"({"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}})",
       "HostConfig.AutoRemove", "restart policy"},
      {R"({"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}})",
       "HostConfig.PortBindings", "x"},
      {R"({"HostConfig":{"PortBindings":{"80/tcp":["8080"]}}})",
       "HostConfig.PortBindings.80/tcp[0]", "not an object"},
      {R"({"HostConfig":{"Ulimits":[{"Name":"bogus","Soft":1,"Hard":1}]}})",
       "HostConfig.Ulimits[0].Name", "bogus"},
      {R"({"HostConfig":{"Devices":[{"PathOnHost":"null"}]}})", "HostConfig.Devices[0].PathOnHost",
       "absolute"},
      {R"({"HostConfig":{"DeviceRequests":[{}]}})", "HostConfig.DeviceRequests[0].Capabilities",
       "needed"},
      {R"({"HostConfig":{"Isolation":"hyperv"}})", "HostConfig.Isolation", "hyperv"},
      {R"({"HostConfig":{"ConsoleSize":[1]}})", "HostConfig.ConsoleSize", "HEIGHT"},
      {R"({"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":"a"}}}})",
       "NetworkingConfig.EndpointsConfig.n.Aliases", "not an array"},
  };
  for (const auto& [body, field, reason] : cases) {
    const absl::Status status = ConfigFromJson(body).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << body << ": " << status;
    EXPECT_EQ(FieldOf(status), field) << body << ": " << status;
    EXPECT_THAT(FieldReason(status), HasSubstr(reason)) << body;
  }
}

TEST(UpdateFromDocumentTest, ResourcesAndPolicy) {
  v1::Resources resources;
  v1::RestartPolicy policy;
  ASSERT_TRUE(UpdateFromDocument(*Value::FromJson(R"({"Memory":16777216,"PidsLimit":-1,)"
                                                  R"("RestartPolicy":{"Name":"always"}})"),
                                 resources, policy)
                  .ok());
  EXPECT_EQ(resources.memory_bytes(), 16 << 20);
  EXPECT_EQ(resources.pids_limit(), -1);
  EXPECT_EQ(policy.name(), "always");
  EXPECT_EQ(FieldOf(UpdateFromDocument(*Value::FromJson(R"({"Memory":1})"), resources, policy)),
            "Memory");
}

}  // namespace
}  // namespace gantry::engine
