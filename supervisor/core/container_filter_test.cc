#include "supervisor/core/container_filter.h"

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

class ContainerFilterTest : public testing::Test {
 protected:
  ContainerFilterTest() {
    container_.set_id("0123456789abcdef");
    container_.set_name("web");
    container_.set_image("docker.io/library/debian:12");
    container_.set_image_id("sha256:fedcba");
    container_.set_state(v1::CONTAINER_STATE_EXITED);
    container_.set_exit_code(3);
    container_.set_network_mode("host");
    container_.mutable_created_at()->set_seconds(1000);
    (*container_.mutable_labels())["tier"] = "front";
    v1::MountPoint* mount = container_.add_mounts();
    mount->set_source("/srv");
    mount->set_destination("/data");
  }

  using Pairs = std::vector<std::pair<std::string, std::string>>;

  static absl::StatusOr<ContainerFilter> Parse(const Pairs& pairs) {
    google::protobuf::RepeatedPtrField<v1::Filter> filters;
    for (const auto& [key, value] : pairs) {
      v1::Filter* filter = filters.Add();
      filter->set_key(key);
      filter->set_value(value);
    }
    return ContainerFilter::Parse(
        filters,
        [](const std::string& container) {
          return container == "old"   ? absl::StatusOr<absl::Time>(absl::FromUnixSeconds(500))
                 : container == "new" ? absl::StatusOr<absl::Time>(absl::FromUnixSeconds(1500))
                                      : absl::NotFoundError("No such container");
        },
        [](const std::string& image) { return image == "mirror/os:12" ? "sha256:fedcba" : ""; });
  }
  bool Matches(const Pairs& pairs) {
    const absl::StatusOr<ContainerFilter> filter = Parse(pairs);
    EXPECT_TRUE(filter.ok()) << filter.status();
    return filter.ok() && filter->Matches(container_);
  }

  v1::ContainerSummary container_;
};

TEST_F(ContainerFilterTest, SaysWhatItHasToKnow) {
  EXPECT_TRUE(Parse({})->matches_all());
  EXPECT_FALSE(Parse({})->needs_record());
  EXPECT_FALSE(Parse({{"name", "web"}, {"status", "exited"}, {"before", "new"}})->needs_record());
  EXPECT_FALSE(Parse({{"name", "web"}})->matches_all());
  for (const char* key : {"label", "ancestor", "network", "volume", "label!"})
    EXPECT_TRUE(Parse({{"id", "0"}, {key, "x"}})->needs_record()) << key;
  EXPECT_TRUE(Parse({{"status", "dead"}})->needs_record());
  EXPECT_TRUE(Parse({{"status", "running"}, {"status", "paused"}})->wants_active_only());
  EXPECT_FALSE(Parse({{"status", "running"}, {"status", "exited"}})->wants_active_only());
  EXPECT_FALSE(Parse({{"name", "web"}})->wants_active_only());
}

TEST_F(ContainerFilterTest, NoFilterMatchesAll) { EXPECT_TRUE(Matches({})); }

TEST_F(ContainerFilterTest, EachKeyMatchesWhatItSays) {
  const Pairs kFits = {{"id", "0123"},         {"name", "^we"},     {"name", "^/web$"},
                       {"status", "exited"},   {"exited", "3"},     {"ancestor", "debian:12"},
                       {"ancestor", "fedc"},   {"network", "host"}, {"volume", "/data"},
                       {"volume", "/srv"},     {"health", "none"},  {"is-task", "false"},
                       {"before", "new"},      {"since", "old"},    {"label", "tier=front"},
                       {"label!", "tier=back"}};
  for (const auto& pair : kFits) EXPECT_TRUE(Matches({pair})) << pair.first << "=" << pair.second;
}

TEST_F(ContainerFilterTest, EachKeyRefusesWhatDoesNotFit) {
  const Pairs kDoesNot = {{"id", "123"},        {"name", "^eb"},        {"status", "running"},
                          {"exited", "0"},      {"ancestor", "alpine"}, {"network", "none"},
                          {"volume", "/other"}, {"health", "healthy"},  {"is-task", "true"},
                          {"before", "old"},    {"since", "new"},       {"label", "tier=back"},
                          {"label!", "tier"},   {"publish", "80"}};
  for (const auto& pair : kDoesNot)
    EXPECT_FALSE(Matches({pair})) << pair.first << "=" << pair.second;
}

TEST_F(ContainerFilterTest, ValuesOfAKeyAreAlternativesAndKeysAllHold) {
  EXPECT_TRUE(Matches({{"status", "running"}, {"status", "exited"}}));
  EXPECT_FALSE(Matches({{"status", "exited"}, {"name", "db"}}));
}

TEST_F(ContainerFilterTest, ExitCodeOfWhatRunsAgainIsNotAskedFor) {
  container_.set_state(v1::CONTAINER_STATE_RESTARTING);
  EXPECT_FALSE(Matches({{"exited", "3"}}));
  EXPECT_TRUE(Matches({{"status", "restarting"}}));
}

TEST_F(ContainerFilterTest, BadValuesAreRefusedBeforeAnyContainer) {
  const Pairs kBad = {{"bogus", "x"},     {"name", "("},      {"status", "stopped"},
                      {"exited", "many"}, {"health", "fine"}, {"is-task", "maybe"}};
  for (const auto& pair : kBad)
    EXPECT_TRUE(absl::IsInvalidArgument(Parse({pair}).status())) << pair.first;
  EXPECT_TRUE(absl::IsNotFound(Parse({{"before", "nobody"}}).status()));
}

TEST_F(ContainerFilterTest, SaysWhetherStatesAreNamed) {
  EXPECT_TRUE(Parse({{"status", "exited"}})->names_states());
  EXPECT_TRUE(Parse({{"exited", "0"}})->names_states());
  EXPECT_FALSE(Parse({{"name", "web"}})->names_states());
}

TEST_F(ContainerFilterTest, AncestorByAnotherNameOfTheImage) {
  EXPECT_TRUE(Matches({{"ancestor", "mirror/os:12"}}));
  EXPECT_FALSE(Matches({{"ancestor", "mirror/os:13"}}));
}

TEST_F(ContainerFilterTest, PortsByNumberRangeAndProtocol) {
  v1::PublishedPort* port = container_.add_ports();
  port->set_private_port(80);
  port->set_public_port(8080);
  port->set_protocol("tcp");
  for (const char* value : {"80", "80/tcp", "79-81", "1-65535/tcp"}) {
    EXPECT_TRUE(Matches({{"publish", value}})) << value;
    EXPECT_TRUE(Matches({{"expose", value}})) << value;
  }
  for (const char* value : {"8080", "80/udp", "81-90"})
    EXPECT_FALSE(Matches({{"publish", value}})) << value;
  port->set_public_port(0);
  EXPECT_FALSE(Matches({{"publish", "80"}}));
  EXPECT_TRUE(Matches({{"expose", "80"}}));
  for (const char* value : {"", "x", "90-80", "70000", "1-2-3"})
    EXPECT_FALSE(Parse({{"publish", value}}).ok()) << value;
}

}  // namespace
}  // namespace gantry::core
