#include "supervisor/core/log_options.h"

#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/shim/v1/shim.pb.h"

namespace gantry::core {
namespace {

using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

struct Applied {
  int64_t max_size_bytes() const { return log.max_size_bytes(); }
  int max_files() const { return log.max_files(); }
  bool block_when_full() const { return log.block_when_full(); }
  const auto& attributes() const { return log.attributes(); }
  const LogCollector& forward() const { return collector; }
  bool has_forward() const { return !collector.address.empty(); }

  shim::v1::Log log;
  LogCollector collector;
};

absl::StatusOr<Applied> Apply(const std::map<std::string, std::string>& options,
                              const std::string& driver = "") {
  v1::ContainerConfig config;
  config.set_image("web:1");
  config.mutable_log()->set_driver(driver);
  (*config.mutable_labels())["tier"] = "front";
  (*config.mutable_labels())["team"] = "a";
  config.add_env("E=1");
  config.add_env("PATH=/bin:/usr/bin");
  config.add_env("EQ=a=b");
  for (const auto& [key, value] : options) (*config.mutable_log()->mutable_options())[key] = value;
  Applied result;
  LogOwner owner;
  owner.id = "0123456789abcdef0123456789abcdef";
  owner.name = "front1";
  owner.image_id = "sha256:fedcba98765432100000";
  owner.host_name = "host1";
  const absl::Status applied = ApplyLogOptions(config, owner, result.log, result.collector);
  if (!applied.ok()) return applied;
  return result;
}

TEST(LogOptionsTest, SizesAndCounts) {
  EXPECT_EQ(Apply({{"max-size", "10m"}})->max_size_bytes(), 10 << 20);
  EXPECT_EQ(Apply({{"max-size", "7"}})->max_size_bytes(), 7);
  EXPECT_EQ(Apply({{"max-size", "-1"}})->max_size_bytes(), 0);
  EXPECT_EQ(Apply({{"max-file", "3"}})->max_files(), 3);
  EXPECT_TRUE(Apply({{"mode", "blocking"}})->block_when_full());
  EXPECT_FALSE(Apply({{"mode", "non-blocking"}})->block_when_full());
  EXPECT_TRUE(Apply({{"tag", "x"}, {"compress", "true"}, {"max-buffer-size", "1m"}}).ok());
}

TEST(LogOptionsTest, WhatThereIsNotIsRefusedByItsField) {
  for (const char* bad : {"", "m", "-5m", "1x", "1.5m"})
    EXPECT_EQ(FieldOf(Apply({{"max-size", bad}}).status()), "log.options.max-size") << bad;
  EXPECT_EQ(FieldOf(Apply({{"max-file", "0"}}).status()), "log.options.max-file");
  EXPECT_EQ(FieldOf(Apply({{"nope", "1"}}).status()), "log.options");
  EXPECT_EQ(FieldOf(Apply({{"mode", "other"}}).status()), "log.options");
  EXPECT_EQ(FieldOf(Apply({{"env-regex", "("}}).status()), "log.options.env-regex");
}

TEST(LogOptionsTest, WithoutAChoiceLinesHaveNoAttributes) {
  EXPECT_THAT(Apply({})->attributes(), IsEmpty());
  EXPECT_THAT(Apply({{"max-size", "1m"}})->attributes(), IsEmpty());
}

TEST(LogOptionsTest, AttributesByName) {
  EXPECT_THAT(Apply({{"labels", "tier,absent"}, {"env", "E,EQ"}})->attributes(),
              UnorderedElementsAre(Pair("tier", "front"), Pair("E", "1"), Pair("EQ", "a=b")));
}

TEST(LogOptionsTest, AttributesByPattern) {
  EXPECT_THAT(Apply({{"labels-regex", "^t"}, {"env-regex", "^PA"}})->attributes(),
              UnorderedElementsAre(Pair("tier", "front"), Pair("team", "a"),
                                   Pair("PATH", "/bin:/usr/bin")));
}

TEST(LogOptionsTest, ATagIsAnAttributeOfTheFile) {
  EXPECT_THAT(Apply({{"tag", "{{.Name}}/{{.ID}}"}, {"labels", "tier"}})->attributes(),
              UnorderedElementsAre(Pair("tag", "front1/0123456789ab"), Pair("tier", "front")));
  EXPECT_FALSE(Apply({{"tag", "{{.Nope}}"}}).ok());
}

TEST(LogCollectorsTest, AFileHasNoCollector) {
  EXPECT_FALSE(Apply({}, "json-file")->has_forward());
  EXPECT_FALSE(Apply({{"max-buffer-size", "4m"}}, "local")->has_forward());
  EXPECT_EQ(FieldOf(Apply({{"syslog-address", "udp://h"}}, "json-file").status()), "log.options");
}

TEST(LogCollectorsTest, JournaldGetsFieldsOfTheContainer) {
  const absl::StatusOr<Applied> log =
      Apply({{"labels", "tier"}, {"env", "E"}, {"tag", "{{.Name}}/{{ .ID }}"}}, "journald");
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(log->forward().protocol, "journald");
  EXPECT_EQ(log->forward().address, "unixgram:/run/systemd/journal/socket");
  EXPECT_EQ(log->forward().tag, "front1/0123456789ab");
  EXPECT_THAT(log->forward().fields,
              UnorderedElementsAre(
                  Pair("CONTAINER_ID", "0123456789ab"),
                  Pair("CONTAINER_ID_FULL", "0123456789abcdef0123456789abcdef"),
                  Pair("CONTAINER_NAME", "front1"), Pair("CONTAINER_TAG", "front1/0123456789ab"),
                  Pair("IMAGE_NAME", "web:1"), Pair("TIER", "front"), Pair("E", "1")));
}

TEST(LogCollectorsTest, SyslogAddressesFormatsAndFacilities) {
  const auto forward = [](const std::map<std::string, std::string>& options) {
    return Apply(options, "syslog")->forward();
  };
  EXPECT_EQ(forward({}).address, "unixgram:/dev/log");
  EXPECT_EQ(forward({}).protocol, "syslog");
  EXPECT_EQ(forward({}).facility, 3);
  EXPECT_EQ(forward({}).tag, "0123456789ab");
  EXPECT_EQ(forward({{"syslog-address", "udp://10.0.0.1"}}).address, "udp:10.0.0.1:514");
  EXPECT_EQ(forward({{"syslog-address", "tcp://[::1]:99"}}).address, "tcp:[::1]:99");
  EXPECT_EQ(forward({{"syslog-address", "tcp://[::1]"}}).address, "tcp:[::1]:514");
  EXPECT_EQ(forward({{"syslog-address", "unix:///run/s"}}).address, "unix:/run/s");
  EXPECT_EQ(forward({{"syslog-facility", "local7"}}).facility, 23);
  EXPECT_EQ(forward({{"syslog-facility", "16"}}).facility, 16);
  EXPECT_EQ(forward({{"syslog-format", "rfc5424micro"}}).protocol, "rfc5424micro");
  EXPECT_EQ(forward({{"max-buffer-size", "4m"}}).max_buffer_bytes, 4 << 20);
}

TEST(LogCollectorsTest, FluentdAddressesAndPrecision) {
  const auto forward = [](const std::map<std::string, std::string>& options) {
    return Apply(options, "fluentd")->forward();
  };
  EXPECT_EQ(forward({}).address, "tcp:127.0.0.1:24224");
  EXPECT_EQ(forward({{"fluentd-address", "logs:1"}}).address, "tcp:logs:1");
  EXPECT_EQ(forward({{"fluentd-address", "unix:///run/f"}}).address, "unix:/run/f");
  EXPECT_TRUE(forward({{"fluentd-sub-second-precision", "true"}}).sub_second);
  EXPECT_TRUE(Apply({{"fluentd-async", "true"}, {"fluentd-retry-wait", "1s"}}, "fluentd").ok());
}

TEST(LogCollectorsTest, WhatCannotBeDoneIsRefusedByItsField) {
  const std::pair<const char*, std::map<std::string, std::string>> kRefused[] = {
      {"log.options.syslog-address", {{"syslog-address", "tcp+tls://h:1"}}},
      {"log.options.syslog-address", {{"syslog-address", "http://h"}}},
      {"log.options.syslog-address", {{"syslog-address", "udp://"}}},
      {"log.options.syslog-address", {{"syslog-address", "udp://h:0"}}},
      {"log.options.syslog-address", {{"syslog-address", "unix://relative"}}},
      {"log.options.syslog-facility", {{"syslog-facility", "local9"}}},
      {"log.options.syslog-format", {{"syslog-format", "rfc1"}}},
      {"log.options.tag", {{"tag", "{{.Nope}}"}}},
      {"log.options.tag", {{"tag", "{{.ID"}}},
      {"log.options", {{"fluentd-address", "h"}}},
  };
  for (const auto& [field, options] : kRefused)
    EXPECT_EQ(FieldOf(Apply(options, "syslog").status()), field) << options.begin()->second;
  EXPECT_EQ(FieldOf(Apply({{"fluentd-address", "udp://h"}}, "fluentd").status()),
            "log.options.fluentd-address");
}

// What the shim reads, and what it writes.
TEST(LogCollectorsTest, TheShimFindsTheCollectorBesideTheLog) {
  const TempDir dir;
  const std::string log = dir.path() + "/container.log";
  const auto text = [](const std::string& path) {
    std::ostringstream all;
    all << std::ifstream(path).rdbuf();
    return all.str();
  };
  LogCollector collector;
  collector.protocol = "rfc5424";
  collector.address = "tcp:[::1]:514";  // a number needs no name server
  collector.tag = "a\nb";
  collector.fields = {{"F", "x y"}};
  ASSERT_TRUE(PlaceCollector(log, /*wanted=*/true, collector).ok());
  EXPECT_EQ(text(log + ".forward"),
            "protocol rfc5424\naddress tcp:[::1]:514\ntag a\\nb\nhost \nbuffer 1048576\n"
            "facility 3\nsub_second 0\nfield F\nvalue x y\n");
  EXPECT_EQ(ReadLogDelivered(log).delivered_lines, 0);
  std::ofstream(log + ".delivery") << "delivered 5\ndropped 2\nwaiting 9\nproblem x: y z\n";
  const LogDelivered delivered = ReadLogDelivered(log);
  EXPECT_EQ(delivered.delivered_lines, 5);
  EXPECT_EQ(delivered.dropped_lines, 2);
  EXPECT_EQ(delivered.waiting_bytes, 9);
  EXPECT_EQ(delivered.problem, "x: y z");
  ASSERT_TRUE(PlaceCollector(log, /*wanted=*/false, collector).ok());
  EXPECT_EQ(text(log + ".forward"), "");
  EXPECT_EQ(text(log + ".delivery"), "");
  EXPECT_TRUE(PlaceCollector(log, /*wanted=*/false, collector).ok());
}

}  // namespace
}  // namespace gantry::core
