#include "supervisor/api/cri/translate.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/cri/stats.h"

namespace gantry::api::cri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

absl::StatusOr<std::string> NoProfile(const std::string& path) {
  return absl::NotFoundError(path + ": No such file");
}

wire::PodSandboxConfig MinimalPod() {
  wire::PodSandboxConfig config;
  config.mutable_metadata()->set_name("web");
  config.mutable_metadata()->set_uid("u1");
  config.mutable_metadata()->set_namespace_("default");
  return config;
}

wire::ContainerConfig MinimalContainer() {
  wire::ContainerConfig config;
  config.mutable_metadata()->set_name("main");
  config.mutable_image()->set_image("busybox");
  return config;
}

TEST(TranslateTest, ProcessNamespaceOfAPodIsSharedByDefault) {
  wire::PodSandboxConfig config = MinimalPod();
  EXPECT_TRUE(ToPod(config, "")->shared_pid());
  wire::NamespaceOption& options =
      *config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options.set_pid(wire::CONTAINER);
  EXPECT_FALSE(ToPod(config, "")->shared_pid());
  options.set_pid(wire::NODE);
  EXPECT_FALSE(ToPod(config, "")->shared_pid());
  EXPECT_TRUE(ToPod(config, "")->host_pid());
}

TEST(TranslateTest, OnlyPortsOfTheHostArePublished) {
  wire::PodSandboxConfig config = MinimalPod();
  config.add_port_mappings()->set_container_port(80);
  wire::PortMapping& published = *config.add_port_mappings();
  published.set_container_port(53);
  published.set_host_port(5353);
  published.set_protocol(wire::UDP);
  const absl::StatusOr<gantry::v1::PodConfig> pod = ToPod(config, "");
  ASSERT_TRUE(pod.ok()) << pod.status();
  ASSERT_EQ(pod->ports_size(), 1);
  EXPECT_EQ(pod->ports(0).host_port(), "5353");
  EXPECT_EQ(pod->ports(0).protocol(), "udp");
}

TEST(TranslateTest, UserNamespacesHaveOneRangeOrAreTheHosts) {
  wire::PodSandboxConfig config = MinimalPod();
  wire::UserNamespace& users = *config.mutable_linux()
                                    ->mutable_security_context()
                                    ->mutable_namespace_options()
                                    ->mutable_userns_options();
  users.set_mode(wire::POD);
  EXPECT_EQ(FieldOf(ToPod(config, "").status()), "userns_options");
  users.set_mode(wire::CONTAINER);
  EXPECT_EQ(FieldOf(ToPod(config, "").status()), "userns_options");
  users.set_mode(wire::NODE);
  EXPECT_TRUE(ToPod(config, "").ok());
  users.add_uids()->set_length(65536);
  EXPECT_EQ(FieldOf(ToPod(config, "").status()), "userns_options");
}

TEST(TranslateTest, ACommandReplacesTheEntrypointAndArgumentsTheCommand) {
  wire::ContainerConfig config = MinimalContainer();
  config.add_args("--port=80");
  absl::StatusOr<core::PodContainer> container = ToContainer("pod", config, NoProfile);
  ASSERT_TRUE(container.ok()) << container.status();
  EXPECT_FALSE(container->config.has_entrypoint());
  EXPECT_THAT(container->config.command(), ElementsAre("--port=80"));
  config.add_command("/server");
  container = ToContainer("pod", config, NoProfile);
  EXPECT_THAT(container->config.entrypoint().values(), ElementsAre("/server"));
}

TEST(TranslateTest, SeccompIsUnconfinedOnlyWhereNothingIsAskedFor) {
  wire::ContainerConfig config = MinimalContainer();
  wire::LinuxContainerSecurityContext& security =
      *config.mutable_linux()->mutable_security_context();
  EXPECT_THAT(ToContainer("pod", config, NoProfile)->config.security_options(),
              ElementsAre("seccomp=unconfined"));
  security.mutable_seccomp()->set_profile_type(wire::SecurityProfile::RuntimeDefault);
  EXPECT_THAT(ToContainer("pod", config, NoProfile)->config.security_options(), IsEmpty());
  security.mutable_seccomp()->set_profile_type(wire::SecurityProfile::Localhost);
  security.mutable_seccomp()->set_localhost_ref("/profiles/a.json");
  const auto read = [](const std::string& path) -> absl::StatusOr<std::string> {
    return path == "/profiles/a.json" ? "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}" : "";
  };
  EXPECT_THAT(ToContainer("pod", config, read)->config.security_options(),
              ElementsAre("seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"));
  EXPECT_EQ(FieldOf(ToContainer("pod", config, NoProfile).status()), "seccomp");
  security.mutable_seccomp()->set_localhost_ref("relative.json");
  EXPECT_EQ(FieldOf(ToContainer("pod", config, read).status()), "seccomp");
}

TEST(TranslateTest, AGroupNeedsAUser) {
  wire::ContainerConfig config = MinimalContainer();
  wire::LinuxContainerSecurityContext& security =
      *config.mutable_linux()->mutable_security_context();
  security.mutable_run_as_group()->set_value(7);
  EXPECT_THAT(std::string(ToContainer("pod", config, NoProfile).status().message()),
              HasSubstr("is specified without user"));
  security.mutable_run_as_user()->set_value(5);
  EXPECT_EQ(ToContainer("pod", config, NoProfile)->config.user(), "5:7");
  security.set_run_as_username("web");
  EXPECT_EQ(ToContainer("pod", config, NoProfile)->config.user(), "web:7");
}

TEST(TranslateTest, MaskedPathsAreExactlyThoseThatAreGiven) {
  wire::ContainerConfig config = MinimalContainer();
  absl::StatusOr<core::PodContainer> container = ToContainer("pod", config, NoProfile);
  EXPECT_TRUE(container->config.has_masked_paths());
  EXPECT_THAT(container->config.masked_paths().values(), IsEmpty());
  config.mutable_linux()->mutable_security_context()->add_masked_paths("/proc/kcore");
  container = ToContainer("pod", config, NoProfile);
  EXPECT_THAT(container->config.masked_paths().values(), ElementsAre("/proc/kcore"));
}

TEST(TranslateTest, NegativeLimitsAreRefused) {
  wire::LinuxContainerResources resources;
  resources.set_memory_limit_in_bytes(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(ToResources(resources).status()));
  resources.set_memory_limit_in_bytes(0);
  resources.set_cpu_quota(-1);
  EXPECT_EQ(ToResources(resources)->cpu_quota_micros, -1);
  EXPECT_FALSE(ToResources(resources)->memory_limit_bytes.has_value());
}

TEST(TranslateTest, CredentialsAreForTheRegistryThatTheyName) {
  wire::AuthConfig auth;
  auth.set_auth("dXNlcjpwYXNz");  // user:pass
  auth.set_server_address("https://index.docker.io/v1/");
  EXPECT_EQ(ToAuth(auth, "busybox")->username(), "user");
  EXPECT_EQ(ToAuth(auth, "busybox")->password(), "pass");
  EXPECT_EQ(ToAuth(auth, "quay.io/x/y")->username(), "");
  auth.set_server_address("quay.io");
  EXPECT_EQ(ToAuth(auth, "quay.io/x/y")->username(), "user");
  auth.set_auth("not base64!");
  EXPECT_EQ(FieldOf(ToAuth(auth, "quay.io/x/y").status()), "auth");
}

TEST(TranslateTest, NamesAreShownInFull) {
  EXPECT_EQ(FullName("busybox:1"), "docker.io/library/busybox:1");
  EXPECT_EQ(FullName("user/app"), "docker.io/user/app");
  EXPECT_EQ(FullName("registry.k8s.io/pause:3.10"), "registry.k8s.io/pause:3.10");
  EXPECT_EQ(FullName("localhost/app"), "localhost/app");
  EXPECT_EQ(FullName("host:5000/app"), "host:5000/app");
}

ContainerNow Ended(uint32_t code, bool oom, const std::string& error) {
  ContainerNow now;
  core::LoadedContainer& loaded = now.loaded;
  loaded.record.set_id("c1");
  loaded.state.set_status(record::v1::ContainerState::STOPPED);
  loaded.state.set_exit_code(code);
  loaded.state.set_oom_killed(oom);
  loaded.state.set_error(error);
  loaded.state.mutable_started_at()->set_seconds(10);
  loaded.state.mutable_finished_at()->set_seconds(20);
  return now;
}

TEST(TranslateTest, TheReasonOfAnEnd) {
  EXPECT_EQ(ToStatus(Ended(0, false, ""), nullptr).reason(), "Completed");
  EXPECT_EQ(ToStatus(Ended(3, false, ""), nullptr).reason(), "Error");
  EXPECT_EQ(ToStatus(Ended(137, true, ""), nullptr).reason(), "OOMKilled");
  EXPECT_EQ(ToStatus(Ended(255, false, "the machine went down"), nullptr).reason(), "Unknown");
  const wire::ContainerStatus failed = ToStatus(Ended(128, false, "no such file"), nullptr);
  EXPECT_EQ(failed.reason(), "StartError");
  EXPECT_EQ(failed.message(), "no such file");
  EXPECT_EQ(failed.finished_at(), 20000000000);
}

TEST(TranslateTest, ARunningContainerHasNoEnd) {
  ContainerNow now;
  now.loaded.state.set_status(record::v1::ContainerState::RUNNING);
  core::Process& task = now.task.emplace();
  task.status = core::ProcessStatus::kRunning;
  task.started_at = absl::FromUnixSeconds(30);
  const wire::ContainerStatus status = ToStatus(now, nullptr);
  EXPECT_EQ(status.state(), wire::CONTAINER_RUNNING);
  EXPECT_EQ(status.started_at(), 30000000000);
  EXPECT_EQ(status.finished_at(), 0);
  EXPECT_EQ(status.reason(), "");
}

TEST(TranslateTest, APodUsesWhatItsGroupUsesAndElseWhatItsContainersUse) {
  core::Pod pod;
  pod.id = "p1";
  pod.config = std::make_shared<gantry::v1::PodConfig>();
  pod.extension = std::make_shared<std::string>();
  ContainerSample sample;
  sample.container = Ended(0, false, "");
  sample.stats.emplace();
  sample.stats->set_cpu_usage_nanos(5);
  sample.stats->set_memory_usage_bytes(100);
  wire::LinuxPodSandboxStats stats = ToPodStats(pod, {sample, sample}, std::nullopt).linux();
  EXPECT_EQ(stats.cpu().usage_core_nano_seconds().value(), 10u);
  EXPECT_EQ(stats.memory().usage_bytes().value(), 200u);
  EXPECT_FALSE(stats.has_io());

  // With a container that has ended, and what the kernel says of waiting.
  PodSample own;
  own.nano_cores = 7;
  own.use.at = absl::FromUnixSeconds(9);
  own.use.v2 = true;
  own.use.cpu_nanos = 30;
  own.use.memory_bytes = 300;
  own.use.memory_limit_bytes = 1000;
  own.use.memory_stat = {{"anon", 150}, {"inactive_file", 60}};
  own.use.tasks = 4;
  own.use.pressures.io.emplace();
  own.use.pressures.io->some.total_nanos = 11;
  own.use.pressures.io->full.share_10 = 0.5;
  stats = ToPodStats(pod, {sample, sample}, own).linux();
  EXPECT_EQ(stats.cpu().usage_core_nano_seconds().value(), 30u);
  EXPECT_EQ(stats.cpu().usage_nano_cores().value(), 7u);
  EXPECT_EQ(stats.cpu().timestamp(), 9000000000);
  EXPECT_EQ(stats.memory().working_set_bytes().value(), 240u);
  EXPECT_EQ(stats.memory().available_bytes().value(), 760u);
  EXPECT_EQ(stats.memory().rss_bytes().value(), 150u);
  EXPECT_EQ(stats.process().process_count().value(), 4u);
  EXPECT_EQ(stats.io().psi().some().total(), 11u);
  EXPECT_EQ(stats.io().psi().full().avg10(), 0.5);
  EXPECT_FALSE(stats.cpu().has_psi());
  EXPECT_EQ(stats.containers_size(), 2);
}

TEST(TranslateTest, EachMetricHasTheLabelsThatItsDescriptorNames) {
  std::map<std::string, int> keys;
  for (const wire::MetricDescriptor& one : MetricDescriptors()) {
    EXPECT_NE(one.help(), "") << one.name();
    keys[one.name()] = one.label_keys_size();
  }
  core::Pod pod;
  pod.id = "p1";
  pod.config = std::make_shared<gantry::v1::PodConfig>();
  pod.extension = std::make_shared<std::string>();
  ContainerSample sample;
  sample.container = Ended(0, false, "");
  sample.stats.emplace();
  sample.stats->add_networks()->set_name("eth0");
  sample.stats->add_block_io()->set_major(8);
  sample.stats->add_hugetlb()->set_page_size("2Mi");
  sample.pressures.io.emplace();
  const wire::PodSandboxMetrics metrics = ToMetrics(pod, {sample});
  ASSERT_EQ(metrics.container_metrics_size(), 1);
  EXPECT_GT(metrics.metrics_size(), 0);
  for (const wire::Metric& one : metrics.metrics())
    EXPECT_EQ(one.label_values_size(), keys[one.name()]) << one.name();
  for (const wire::Metric& one : metrics.container_metrics(0).metrics())
    EXPECT_EQ(one.label_values_size(), keys[one.name()]) << one.name();
}

}  // namespace
}  // namespace gantry::api::cri
