// What lists, inspection, top and stats say of containers in each state.
#include "supervisor/core/container_view.h"

#include <unistd.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class ContainerViewTest : public ContainerFixture {
 protected:
  std::vector<v1::ContainerSummary> List(const v1::ListContainersRequest& request) {
    const absl::StatusOr<v1::ListContainersResponse> listed = view_->List(context_, request);
    EXPECT_TRUE(listed.ok()) << listed.status();
    if (!listed.ok()) return {};
    return {listed->containers().begin(), listed->containers().end()};
  }
  std::vector<std::string> Names(const v1::ListContainersRequest& request) {
    std::vector<std::string> names;
    for (const v1::ContainerSummary& container : List(request)) names.push_back(container.name());
    return names;
  }
  static v1::ListContainersRequest All() {
    v1::ListContainersRequest request;
    request.set_all(true);
    return request;
  }

  // A container as a client of containerd's API records it.
  void MakeForeign(const std::string& id) {
    metadata::NewContainer fresh;
    fresh.record.set_id(id);
    fresh.record.set_image("docker.io/library/theirs:1");
    (*fresh.record.mutable_labels())["team"] = "blue";
    fresh.record.mutable_runtime()->set_name("io.containerd.runsc.v1");
    fresh.record.mutable_spec()->set_type_url("spec");
    fresh.record.mutable_spec()->set_value(
        R"({"ociVersion":"1.0.2","process":{"args":["sleep","9"],"cwd":"/"},)"
        R"("root":{"path":"rootfs"}})");
    fresh.record.set_sandbox("pod-1");
    const auto created = stores_.containers.Create({kNs, ""}, fresh);
    ASSERT_TRUE(created.ok()) << created.status();
  }

  absl::StatusOr<v1::TopResponse> Top(const std::string& container,
                                      const std::vector<std::string>& arguments) {
    v1::TopRequest request;
    request.set_container(container);
    for (const std::string& argument : arguments) request.add_ps_args(argument);
    return view_->Top(context_, request);
  }
  absl::StatusOr<v1::StatsResponse> Stats(const std::vector<std::string>& containers) {
    v1::StatsRequest request;
    for (const std::string& container : containers) request.add_containers(container);
    return view_->Stats(context_, request, previous_);
  }
  // Its process has the pid of this test, so that ps finds it.
  std::string StartAsThisProcess(const std::string& name) {
    const std::string id = Make(name);
    launcher_.OnLaunch([](runtime::FakeShim& shim) { shim.SetNextPid(getpid()); });
    EXPECT_TRUE(Start(id).ok());
    launcher_.OnLaunch(nullptr);
    return id;
  }

  std::map<std::string, v1::ContainerStats> previous_;
};

TEST_F(ContainerViewTest, ListShowsWhatRunsUnlessAllAreAskedFor) {
  Make("created");
  const std::string ended = Make("ended");
  const std::string paused = Make("paused");
  const std::string running = Make("running");
  for (const std::string& id : {ended, paused, running}) ASSERT_TRUE(Start(id).ok());
  Shim(ended).Exit("", 4);
  ASSERT_TRUE(lifecycle_->Pause(context_, paused).ok());
  ASSERT_TRUE(Eventually([&] { return StateIs(ended) == v1::CONTAINER_STATE_EXITED; }));

  EXPECT_THAT(Names({}), ElementsAre("running", "paused"));
  EXPECT_THAT(Names(All()), ElementsAre("running", "paused", "ended", "created"));
  EXPECT_EQ(StateIs(paused), v1::CONTAINER_STATE_PAUSED);
  const v1::ContainerSummary of_ended = Inspect(ended).summary();
  EXPECT_EQ(of_ended.exit_code(), 4u);
  EXPECT_EQ(of_ended.pid(), 0);
  EXPECT_TRUE(of_ended.has_finished_at());
  const v1::ContainerSummary of_running = Inspect(running).summary();
  EXPECT_EQ(of_running.pid(), 1000);
  EXPECT_TRUE(of_running.has_started_at());
  EXPECT_FALSE(of_running.has_finished_at());
}

TEST_F(ContainerViewTest, ALimitCountsTheNewestInWhateverState) {
  for (const char* name : {"a", "b", "c"}) Make(name);
  v1::ListContainersRequest request;
  request.set_limit(2);
  EXPECT_THAT(Names(request), ElementsAre("c", "b"));
  // Those that the filters drop do not count.
  v1::Filter* filter = request.add_filters();
  filter->set_key("name");
  filter->set_value("a|b");
  EXPECT_THAT(Names(request), ElementsAre("b", "a"));
}

TEST_F(ContainerViewTest, FiltersThatMeanNothingAreRefused) {
  for (const auto& [key, value] :
       {std::pair("status", "sleeping"), std::pair("exited", "seven"), std::pair("name", "(")}) {
    v1::ListContainersRequest request = All();
    v1::Filter* filter = request.add_filters();
    filter->set_key(key);
    filter->set_value(value);
    const absl::Status status = view_->List(context_, request).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(value));
  }
  v1::ListContainersRequest before = All();
  v1::Filter* filter = before.add_filters();
  filter->set_key("before");
  filter->set_value("nobody");
  EXPECT_TRUE(absl::IsNotFound(view_->List(context_, before).status()));
}

TEST_F(ContainerViewTest, BeforeAndSinceGoByTheTimeOfCreation) {
  for (const char* name : {"a", "b", "c"}) Make(name);
  for (const auto& [key, left] : {std::pair("before", "a"), std::pair("since", "c")}) {
    v1::ListContainersRequest request = All();
    v1::Filter* filter = request.add_filters();
    filter->set_key(key);
    filter->set_value("b");
    EXPECT_THAT(Names(request), ElementsAre(left)) << key;
  }
}

TEST_F(ContainerViewTest, MountsAndNetworkAreShownAsTheyTakeEffect) {
  v1::ContainerConfig config = Config();
  config.add_command("-v");
  config.mutable_entrypoint()->add_values("/entry");
  v1::Mount* data = config.add_mounts();
  data->set_type(v1::Mount::BIND);
  data->set_source("/srv/data");
  data->set_target("/data");
  v1::Mount* conf = config.add_mounts();
  conf->set_type(v1::Mount::BIND);
  conf->set_source("/srv/conf");
  conf->set_target("/conf");
  conf->set_read_only(true);
  conf->set_propagation("rslave");
  v1::Mount* scratch = config.add_mounts();
  scratch->set_type(v1::Mount::TMPFS);
  scratch->set_target("/scratch");
  Make("web", config);
  const v1::ContainerSummary web = Inspect("web").summary();
  EXPECT_THAT(web.command(), ElementsAre("/entry", "true", "-v"));
  EXPECT_EQ(web.network_mode(), "none");
  EXPECT_THAT(web.networks(), ElementsAre("none"));
  ASSERT_EQ(web.mounts_size(), 3);
  EXPECT_EQ(web.mounts(0).type(), "bind");
  EXPECT_EQ(web.mounts(0).source(), "/srv/data");
  EXPECT_EQ(web.mounts(0).destination(), "/data");
  EXPECT_TRUE(web.mounts(0).read_write());
  EXPECT_EQ(web.mounts(0).propagation(), "rprivate");
  EXPECT_FALSE(web.mounts(1).read_write());
  EXPECT_EQ(web.mounts(1).mode(), "ro");
  EXPECT_EQ(web.mounts(1).propagation(), "rslave");
  EXPECT_EQ(web.mounts(2).type(), "tmpfs");
  EXPECT_EQ(web.mounts(2).propagation(), "");

  v1::ContainerConfig on_host = Config();
  on_host.set_network_mode("host");
  Make("host", on_host);
  EXPECT_EQ(Inspect("host").summary().network_mode(), "host");
}

// Lists read one container after the other into the same memory, and take out what they show.
TEST_F(ContainerViewTest, AListShowsOfEachContainerWhatIsItsOwn) {
  v1::ContainerConfig rich = Config();
  rich.mutable_entrypoint()->add_values("/entry");
  (*rich.mutable_labels())["k"] = "v";
  (*rich.mutable_annotations())["note"] = "yes";
  v1::Mount* data = rich.add_mounts();
  data->set_type(v1::Mount::BIND);
  data->set_source("/srv/data");
  data->set_target("/data");
  Make("a", rich);
  Make("b");
  Make("c", rich);
  MakeForeign("theirs");
  for (int round = 0; round < 2; ++round) {  // nothing was taken out of what is stored
    const std::vector<v1::ContainerSummary> listed = List(All());
    ASSERT_EQ(listed.size(), 4u);
    for (const v1::ContainerSummary& one : listed) {
      const v1::ContainerSummary alone = Inspect(one.id()).summary();
      EXPECT_EQ(one.name(), alone.name());
      EXPECT_EQ(one.image(), alone.image());
      EXPECT_EQ(one.image_id(), alone.image_id());
      EXPECT_EQ(one.network_mode(), alone.network_mode());
      const bool is_rich = one.name() == "a" || one.name() == "c";
      EXPECT_EQ(one.labels().contains("k"), is_rich) << one.name();
      EXPECT_EQ(one.labels().contains("team"), one.id() == "theirs") << one.name();
      EXPECT_EQ(one.annotations().contains("note"), is_rich) << one.name();
      EXPECT_EQ(one.mounts_size(), is_rich ? 1 : 0) << one.name();
      if (is_rich) {
        EXPECT_THAT(one.command(), ElementsAre("/entry", "true"));
        EXPECT_THAT(alone.command(), ElementsAre("/entry", "true"));
      } else if (one.name() == "b") {
        EXPECT_THAT(one.command(), ElementsAre("true"));
      } else {
        EXPECT_THAT(one.command(), IsEmpty());
      }
    }
  }
  EXPECT_EQ(Inspect("a").config().labels().at("k"), "v");
  EXPECT_THAT(Inspect("a").config().entrypoint().values(), ElementsAre("/entry"));
  EXPECT_THAT(Inspect("a").config().command(), ElementsAre("true"));
}

// Lists keep what records say; what changes is shown all the same.
TEST_F(ContainerViewTest, AListShowsWhatHasChangedSinceTheLast) {
  const std::string first = Make("a");
  const std::string second = Make("b");
  EXPECT_THAT(Names(All()), ElementsAre("b", "a"));
  ASSERT_TRUE(lifecycle_->Rename(context_, "a", "other").ok());
  EXPECT_THAT(Names(All()), ElementsAre("b", "other"));
  record::v1::Container record = stores_.containers.Get({kNs, ""}, first).value();
  (*record.mutable_labels())["k"] = "new";
  ASSERT_TRUE(stores_.containers.Update({kNs, ""}, record, {"labels"}).ok());
  ASSERT_TRUE(Start(second).ok());
  const std::vector<v1::ContainerSummary> listed = List(All());
  ASSERT_EQ(listed.size(), 2u);
  EXPECT_EQ(listed[0].state(), v1::CONTAINER_STATE_RUNNING);
  EXPECT_EQ(listed[1].labels().at("k"), "new");
  ASSERT_TRUE(stores_.containers.Delete({kNs, ""}, first).ok());
  EXPECT_THAT(Names(All()), ElementsAre("b"));
  // Again, with the same id.
  metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
  ASSERT_TRUE(snapshots.Remove(first).ok());
  EXPECT_EQ(Make("a"), first);
  EXPECT_THAT(Names(All()), ElementsAre("a", "b"));
  EXPECT_FALSE(List(All())[0].labels().contains("k"));
}

TEST_F(ContainerViewTest, SizesAreOfItsOwnLayerAndOfAllBelow) {
  metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
  const std::vector<snapshot::Mount> base = snapshots.Prepare("base-active", "", {}).value();
  ASSERT_TRUE(WriteFile(base[0].source + "/base", std::string(64 << 10, 'x')).ok());
  ASSERT_TRUE(snapshots.Commit("base", "base-active", {}).ok());
  const std::string id = Make("web");
  ASSERT_TRUE(snapshots.Remove(id).ok());
  const std::vector<snapshot::Mount> own = snapshots.Prepare(id, "base", {}).value();
  ASSERT_TRUE(WriteFile(own[0].source + "/own", std::string(32 << 10, 'y')).ok());

  v1::ListContainersRequest request = All();
  EXPECT_FALSE(List(request).at(0).has_size_rw_bytes());
  request.set_size(true);
  const v1::ContainerSummary web = List(request).at(0);
  EXPECT_GE(web.size_rw_bytes(), 32 << 10);
  EXPECT_GE(web.size_rootfs_bytes(), web.size_rw_bytes() + (64 << 10));
  const v1::ContainerDetails details = view_->Inspect(context_, id, /*size=*/true).value();
  EXPECT_EQ(details.summary().size_rootfs_bytes(), web.size_rootfs_bytes());
  EXPECT_FALSE(Inspect(id).summary().has_size_rootfs_bytes());
}

TEST_F(ContainerViewTest, AContainerIsFoundByNameIdAndPrefix) {
  const std::string id = Make("abcd");
  const std::string other = Make("abce");
  for (const std::string& text : {std::string("abcd"), id, std::string("abcd0")})
    EXPECT_EQ(Inspect(text).summary().id(), id) << text;
  const absl::Status several = view_->Inspect(context_, "abc", false).status();
  EXPECT_TRUE(absl::IsInvalidArgument(several)) << several;
  EXPECT_THAT(std::string(several.message()), HasSubstr(id));
  EXPECT_THAT(std::string(several.message()), HasSubstr(other));
  const absl::Status none = view_->Inspect(context_, "zzz", false).status();
  EXPECT_TRUE(absl::IsNotFound(none));
  EXPECT_EQ(none.message(), "No such container: zzz");
  CallContext elsewhere;
  elsewhere.ns = "k8s.io";
  EXPECT_TRUE(absl::IsNotFound(view_->Inspect(elsewhere, "abcd", false).status()));
}

TEST_F(ContainerViewTest, ThoseOfContainerdsClientsAreShownWithWhatIsKnown) {
  MakeForeign("theirs");
  const std::vector<v1::ContainerSummary> listed = List(All());
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].image(), "docker.io/library/theirs:1");
  EXPECT_EQ(listed[0].name(), "");
  EXPECT_EQ(listed[0].state(), v1::CONTAINER_STATE_CREATED);
  EXPECT_EQ(listed[0].labels().at("team"), "blue");
  const v1::ContainerDetails details = Inspect("theirs");
  EXPECT_EQ(details.path(), "sleep");
  EXPECT_THAT(details.args(), ElementsAre("9"));
  EXPECT_THAT(details.summary().command(), ElementsAre("sleep", "9"));
  EXPECT_EQ(details.runtime(), "io.containerd.runsc.v1");
  EXPECT_EQ(details.pod_id(), "pod-1");
  EXPECT_EQ(details.log_path(), "");  // its client has the log
  EXPECT_EQ(details.hosts_path(), "");
}

TEST_F(ContainerViewTest, InspectSaysWhereItsFilesAre) {
  const std::string id = Make("web");
  v1::ContainerDetails details = Inspect(id);
  const std::string directory = dir_.Join("root/containers/default/" + id);
  EXPECT_EQ(details.log_path(), directory + "/container.log");
  EXPECT_EQ(details.hosts_path(), directory + "/hosts");
  EXPECT_EQ(details.hostname_path(), directory + "/hostname");
  EXPECT_EQ(details.resolv_conf_path(), directory + "/resolv.conf");
  EXPECT_EQ(details.driver(), "native");
  EXPECT_EQ(details.snapshot_key(), id);
  EXPECT_EQ(details.cgroup_path(), "/gantry-test-nowhere/c");
  EXPECT_EQ(details.bundle_path(), "");
  EXPECT_EQ(details.shim_pid(), 0);

  ASSERT_TRUE(Start(id).ok());
  details = Inspect(id);
  EXPECT_THAT(details.bundle_path(), EndsWith("/default/" + id));
  EXPECT_GT(details.shim_pid(), 0);

  // What goes with the container does not outlive a reboot; what logs nowhere has no log.
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  config.mutable_log()->set_driver("none");
  const std::string passing = Make("passing", config);
  details = Inspect(passing);
  EXPECT_EQ(details.hosts_path(), dir_.Join("state/containers/default/" + passing + "/hosts"));
  EXPECT_EQ(details.log_path(), "");
}

TEST_F(ContainerViewTest, HealthInListsIsOfWhatRuns) {
  const std::string id = Make("web");
  v1::HealthState health;
  health.set_status("unhealthy");
  health.set_failing_streak(3);
  health_.Set(kNs, id, health);
  EXPECT_EQ(Inspect(id).summary().health(), "");
  ASSERT_TRUE(Start(id).ok());
  EXPECT_EQ(Inspect(id).summary().health(), "unhealthy");
  EXPECT_EQ(Inspect(id).health().failing_streak(), 3);
  Shim(id).Exit("", 0);
  ASSERT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_EXITED; }));
  EXPECT_EQ(Inspect(id).summary().health(), "");
  EXPECT_EQ(Inspect(id).health().status(), "unhealthy");
}

TEST_F(ContainerViewTest, ARemovalThatWaitsSaysForWhat) {
  const std::string id = Make("web");
  LoadedContainer loaded = records_->Load(context_, id).value();
  ASSERT_TRUE(records_
                  ->UpdateState(loaded,
                                [](record::v1::ContainerState& state) {
                                  state.set_removing(true);
                                  state.set_removal_waits_for("the disk");
                                })
                  .ok());
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_REMOVING);
  EXPECT_EQ(Inspect(id).error(), "removal waits for: the disk");
  EXPECT_THAT(Names({}), IsEmpty());
}

TEST_F(ContainerViewTest, TopShowsTheContainersProcessesAndNoOther) {
  StartAsThisProcess("web");
  const absl::StatusOr<v1::TopResponse> top = Top("web", {"-o", "pid,args"});
  ASSERT_TRUE(top.ok()) << top.status();
  EXPECT_THAT(top->titles(), ElementsAre("PID", "COMMAND"));
  ASSERT_EQ(top->processes_size(), 1);
  ASSERT_EQ(top->processes(0).values_size(), 2);
  EXPECT_EQ(top->processes(0).values(0), std::to_string(getpid()));
  EXPECT_THAT(top->processes(0).values(1), HasSubstr("container_views_test"));
  const absl::StatusOr<v1::TopResponse> usual = Top("web", {});
  ASSERT_TRUE(usual.ok()) << usual.status();
  EXPECT_THAT(usual->titles(), testing::Contains("UID"));
  EXPECT_EQ(usual->processes_size(), 1);
}

TEST_F(ContainerViewTest, TopRefusesWhatItCannotRead) {
  StartAsThisProcess("web");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"-o", "comm"},
                                             {"-o", "pid=X"},
                                             {"-opid="},
                                             {"-eo", "user,pid=nr"},
                                             {"--no-headers"},
                                             {"--help=all"},
                                             {"-V"},
                                             {"--this-is-no-option"},
                                             {std::string("-e\0f", 4)},
                                             {std::string(257, 'e')},
                                             std::vector<std::string>(65, "-e")}) {
    const absl::Status status = Top("web", arguments).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << arguments[0] << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("top: "));
  }
}

TEST_F(ContainerViewTest, TopNeedsARunningContainer) {
  const std::string id = Make("web");
  absl::Status status = Top("web", {}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(), "container web is not running");
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 0);
  ASSERT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_EXITED; }));
  EXPECT_TRUE(absl::IsFailedPrecondition(Top("web", {}).status()));
  EXPECT_TRUE(absl::IsNotFound(Top("nobody", {}).status()));
}

TEST_F(ContainerViewTest, StatsAddUpDevicesAndLeaveOutTheFileCache) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  shim::v1::StatsResponse raw;
  raw.set_memory_usage_bytes(1000);
  raw.set_memory_limit_bytes(4000);
  (*raw.mutable_memory_stat())["total_inactive_file"] = 400;
  (*raw.mutable_memory_stat())["inactive_file"] = 100;
  for (const uint64_t bytes : {1, 20}) {
    auto* network = raw.add_networks();
    network->set_rx_bytes(bytes);
    network->set_tx_bytes(bytes * 2);
    auto* device = raw.add_block_io();
    device->set_read_bytes(bytes * 3);
    device->set_write_bytes(bytes * 4);
  }
  raw.set_pids_limit(UINT64_MAX);
  Shim(id).SetStats(raw);
  v1::ContainerStats stats = Stats({"web"})->containers(0);
  EXPECT_EQ(stats.name(), "web");
  EXPECT_TRUE(stats.running());
  EXPECT_EQ(stats.memory_usage_bytes(), 600u);
  EXPECT_EQ(stats.memory_limit_bytes(), 4000u);
  EXPECT_DOUBLE_EQ(stats.memory_percent(), 15.0);
  EXPECT_EQ(stats.network_rx_bytes(), 21u);
  EXPECT_EQ(stats.network_tx_bytes(), 42u);
  EXPECT_EQ(stats.block_read_bytes(), 63u);
  EXPECT_EQ(stats.block_write_bytes(), 84u);
  EXPECT_EQ(stats.pids_limit(), 0u);

  raw.set_cgroup_v2(true);
  raw.set_memory_limit_bytes(UINT64_MAX);
  Shim(id).SetStats(raw);
  stats = Stats({"web"})->containers(0);
  EXPECT_EQ(stats.memory_usage_bytes(), 900u);
  EXPECT_EQ(stats.memory_limit_bytes(), static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                                            static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

TEST_F(ContainerViewTest, StatsRatesAreBetweenTwoSamplesOfOneCaller) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  shim::v1::StatsResponse raw;
  raw.mutable_read_at()->set_seconds(10);
  raw.set_cpu_usage_nanos(5'000'000);
  Shim(id).SetStats(raw);
  v1::ContainerStats first = Stats({"web"})->containers(0);
  EXPECT_EQ(first.cpu_percent(), 0);
  EXPECT_FALSE(first.has_previous_read_at());

  // The host's clock ticks in hundredths of a second.
  raw.mutable_read_at()->set_seconds(11);
  raw.set_cpu_usage_nanos(9'000'000);
  Shim(id).SetStats(raw);
  previous_.at(id).set_host_cpu_nanos(previous_.at(id).host_cpu_nanos() - 20'000'000);
  const v1::ContainerStats second = Stats({"web"})->containers(0);
  EXPECT_EQ(second.previous_read_at().seconds(), 10);
  EXPECT_EQ(second.previous_cpu_total_nanos(), 5'000'000u);
  const double host = static_cast<double>(second.host_cpu_nanos()) -
                      static_cast<double>(second.previous_host_cpu_nanos());
  ASSERT_GE(host, 20'000'000);
  EXPECT_DOUBLE_EQ(second.cpu_percent(), 4'000'000 / host * second.online_cpus() * 100);

  // A counter that went back, as after a restart of the container, is no rate.
  raw.set_cpu_usage_nanos(1);
  Shim(id).SetStats(raw);
  EXPECT_EQ(Stats({"web"})->containers(0).cpu_percent(), 0);
}

TEST_F(ContainerViewTest, StatsOfNoneNamedAreOfAllThatRun) {
  Make("created");
  const std::string hangs = Make("hangs");
  const std::string runs = Make("runs");
  for (const std::string& id : {hangs, runs}) ASSERT_TRUE(Start(id).ok());
  Shim(hangs).FailCalls("Stats", absl::UnavailableError("no cgroup"));
  absl::StatusOr<v1::StatsResponse> stats = Stats({});
  ASSERT_TRUE(stats.ok()) << stats.status();
  ASSERT_EQ(stats->containers_size(), 1);
  EXPECT_EQ(stats->containers(0).name(), "runs");

  v1::StatsRequest all;
  all.set_all(true);
  stats = view_->Stats(context_, all, previous_);
  ASSERT_TRUE(stats.ok()) << stats.status();
  std::vector<std::pair<std::string, bool>> shown;
  for (const v1::ContainerStats& one : stats->containers())
    shown.emplace_back(one.name(), one.running());
  EXPECT_THAT(shown, UnorderedElementsAre(std::pair("created", false), std::pair("runs", true)));

  // Those that are no longer asked about are forgotten.
  EXPECT_EQ(previous_.count(hangs), 0u);
  ASSERT_TRUE(Stats({"created"}).ok());
  EXPECT_EQ(previous_.count(runs), 0u);
  EXPECT_TRUE(absl::IsNotFound(Stats({"runs", "nobody"}).status()));
}

}  // namespace
}  // namespace gantry::core
