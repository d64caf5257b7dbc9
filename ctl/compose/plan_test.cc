#include "ctl/compose/plan.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ctl/compose/container_config.h"
#include "ctl/compose/loader.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::compose {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PlanTest : public testing::Test {
 protected:
  Project Load(const std::string& text) {
    LoadOptions options;
    options.files = {"compose.yaml"};
    options.current_directory = "/demo";
    options.read = [&](const std::string& path) -> absl::StatusOr<std::string> {
      if (path != "/demo/compose.yaml") return absl::NotFoundError("no such file");
      return text;
    };
    absl::StatusOr<Project> project = LoadProject(options);
    EXPECT_TRUE(project.ok()) << project.status();
    return project.ok() ? *std::move(project) : Project();
  }

  std::vector<std::string> Lines(const Project& project) {
    const absl::StatusOr<Plan> plan = PlanUp(project, observed_, options_);
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<std::string> lines;
    if (!plan.ok()) return lines;
    warnings_ = plan->warnings;
    for (const Step& step : plan->steps) {
      std::string line = DescribeStep(step);
      line.erase(std::unique(line.begin(), line.end(),
                             [](char a, char b) { return a == ' ' && b == ' '; }),
                 line.end());
      lines.push_back(line);
    }
    return lines;
  }

  // Everything as the project wants it, and running.
  void Settle(const Project& project) {
    std::map<std::string, std::string> ids;
    for (const std::string& service : project.ServiceNames())
      ids[service] = absl::StrCat("id-", service, "-1");
    for (const std::string& service : project.ServiceNames()) {
      observed_.images[ImageOf(project, service)] = "sha256:1";
      const Node& node = *project.FindService(service);
      for (int n = 1; n <= ScaleOf(node); ++n) {
        ObservedContainer container;
        container.id = absl::StrCat("id-", service, "-", n);
        container.name = ContainerNameOf(project, {service, n, "", ""});
        container.service = service;
        container.number = n;
        container.hash = ServiceHash(project, service, ids);
        container.image_digest = "sha256:1";
        container.state = State::kRunning;
        for (const std::string& key : UsedNetworks(project, {service}))
          container.networks.push_back(project.model.Find("networks")->Find(key)->TextOf("name"));
        for (const std::string& key : UsedVolumes(project, {service}))
          container.volumes.push_back(project.model.Find("volumes")->Find(key)->TextOf("name"));
        observed_.containers.push_back(container);
      }
    }
    for (const auto& [kind, resources] :
         std::vector<std::pair<std::string, std::map<std::string, ObservedResource>*>>{
             {"networks", &observed_.networks}, {"volumes", &observed_.volumes}}) {
      const Node* section = project.model.Find(kind);
      if (section == nullptr) continue;
      for (const auto& [key, node] : section->entries)
        (*resources)[node.TextOf("name")] = {project.name, ResourceHash(project, kind, key)};
    }
  }

  Observed observed_;
  UpOptions options_;
  std::vector<std::string> warnings_;
};

constexpr char kTwo[] =
    "services: {web: {image: w, depends_on: [db], volumes: ['data:/d']}, db: {image: d}}\n"
    "volumes: {data: }";

TEST_F(PlanTest, FirstUpMakesEverythingInOrder) {
  EXPECT_THAT(Lines(Load(kTwo)),
              ElementsAre("pull image d (not here)", "pull image w (not here)",
                          "create network demo_default", "create volume demo_data",
                          "create container demo-db-1", "create container demo-web-1",
                          "start container demo-db-1", "start container demo-web-1"));
}

TEST_F(PlanTest, StartsWaitForTheirDependencies) {
  const Project project = Load(kTwo);
  const Plan plan = PlanUp(project, observed_, options_).value();
  const Step& web = plan.steps.back();
  ASSERT_EQ(web.object, "demo-web-1");
  EXPECT_THAT(web.after, ElementsAre(5, 6));  // its creation, and the start of db
}

TEST_F(PlanTest, SecondUpChangesNothing) {
  const Project project = Load(kTwo);
  Settle(project);
  EXPECT_THAT(Lines(project), ElementsAre("keep container demo-db-1 (up to date)",
                                          "keep container demo-web-1 (up to date)"));
  EXPECT_FALSE(PlanUp(project, observed_, options_)->Changes());
}

TEST_F(PlanTest, ChangedServiceAloneIsMadeAnew) {
  Settle(Load(kTwo));
  const Project changed = Load(
      "services: {web: {image: w, depends_on: [db], volumes: ['data:/d'], environment: {A: 1}},"
      " db: {image: d}}\nvolumes: {data: }");
  EXPECT_THAT(Lines(changed), ElementsAre("keep container demo-db-1 (up to date)",
                                          "recreate container demo-web-1 (configuration changed)",
                                          "start container demo-web-1"));
}

TEST_F(PlanTest, BuildAndDependenciesAreNoReason) {
  Settle(Load("services: {web: {image: w}, db: {image: d}}"));
  EXPECT_FALSE(PlanUp(Load("services: {web: {image: w, build: ., depends_on: [db], scale: 1},"
                           " db: {image: d}}"),
                      observed_, options_)
                   ->Changes());
}

TEST_F(PlanTest, NewImageOfTheSameNameIsAReason) {
  const Project project = Load("services: {web: {image: w}}");
  Settle(project);
  observed_.images["w"] = "sha256:2";
  EXPECT_THAT(Lines(project), ElementsAre("recreate container demo-web-1 (image changed)",
                                          "start container demo-web-1"));
}

TEST_F(PlanTest, StoppedOneIsOnlyStarted) {
  const Project project = Load("services: {web: {image: w}}");
  Settle(project);
  observed_.containers[0].state = State::kExited;
  EXPECT_THAT(Lines(project),
              ElementsAre("keep container demo-web-1", "start container demo-web-1"));
}

TEST_F(PlanTest, ScaleTakesTheHighestNumbersAndReusesNone) {
  const Project project = Load("services: {web: {image: w, scale: 3}}");
  Settle(project);
  options_.scale["web"] = 1;
  EXPECT_THAT(Lines(project), ElementsAre("remove container demo-web-3 (scale is 1)",
                                          "remove container demo-web-2 (scale is 1)",
                                          "keep container demo-web-1 (up to date)"));
  options_.scale["web"] = 4;
  EXPECT_THAT(Lines(project), ::testing::Contains("create container demo-web-4"));
}

TEST_F(PlanTest, ScaleDownTakesOutdatedOnesFirst) {
  const Project project = Load("services: {web: {image: w, scale: 2}}");
  Settle(project);
  observed_.containers[0].hash = "old";
  options_.scale["web"] = 1;
  EXPECT_THAT(Lines(project), ElementsAre("remove container demo-web-1 (scale is 1)",
                                          "keep container demo-web-2 (up to date)"));
}

TEST_F(PlanTest, ForceAndNoRecreate) {
  const Project project = Load("services: {web: {image: w}}");
  Settle(project);
  options_.force_recreate = true;
  EXPECT_THAT(Lines(project),
              ElementsAre("recreate container demo-web-1 (forced)", "start container demo-web-1"));
  options_.force_recreate = false;
  options_.no_recreate = true;
  observed_.containers[0].hash = "old";
  EXPECT_THAT(Lines(project), ElementsAre("keep container demo-web-1 (up to date)"));
}

TEST_F(PlanTest, ChangedNetworkTakesItsContainersAlong) {
  Settle(Load("services: {web: {image: w, networks: [n]}}\nnetworks: {n: {}}"));
  EXPECT_THAT(
      Lines(Load("services: {web: {image: w, networks: [n]}}\nnetworks: {n: {internal: true}}")),
      ElementsAre("recreate network demo_n (configuration changed)",
                  "recreate container demo-web-1 (network demo_n is renewed)",
                  "start container demo-web-1"));
}

TEST_F(PlanTest, ChangedVolumeIsKeptAndSaid) {
  Settle(Load("services: {web: {image: w, volumes: ['v:/v']}}\nvolumes: {v: {}}"));
  EXPECT_THAT(Lines(Load("services: {web: {image: w, volumes: ['v:/v']}}\n"
                         "volumes: {v: {labels: [a=b]}}")),
              ElementsAre("keep container demo-web-1 (up to date)"));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("volume \"demo_v\" exists but doesn't match")));
}

TEST_F(PlanTest, OrphansAreSaidOrRemoved) {
  Settle(Load("services: {web: {image: w}, old: {image: w}}"));
  const Project now = Load("services: {web: {image: w}}");
  EXPECT_THAT(Lines(now), ElementsAre("keep container demo-web-1 (up to date)"));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("Found orphan containers (demo-old-1)")));
  options_.remove_orphans = true;
  EXPECT_THAT(Lines(now),
              ElementsAre("remove container demo-old-1 (its service is not in the project)",
                          "keep container demo-web-1 (up to date)"));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(PlanTest, ServicesOfInactiveProfilesAreNoOrphans) {
  Settle(Load("services: {web: {image: w}, debug: {image: w}}"));
  EXPECT_FALSE(PlanUp(Load("services: {web: {image: w}, debug: {image: w, profiles: [dev]}}"),
                      observed_, options_)
                   ->Changes());
}

TEST_F(PlanTest, ExternalResourcesMustBeThere) {
  const Project project =
      Load("services: {web: {image: w, networks: [n]}}\nnetworks: {n: {external: true}}");
  EXPECT_THAT(PlanUp(project, observed_, options_).status().message(),
              HasSubstr("network n declared as external, but could not be found"));
  observed_.networks["n"] = {};
  EXPECT_TRUE(PlanUp(project, observed_, options_).ok());
}

TEST_F(PlanTest, ForeignNetworkIsUsedAndSaid) {
  const Project project = Load("services: {web: {image: w}}");
  observed_.images["w"] = "sha256:1";
  observed_.networks["demo_default"] = {};
  EXPECT_THAT(Lines(project),
              ElementsAre("create container demo-web-1", "start container demo-web-1"));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("exists but was not created for project")));
}

TEST_F(PlanTest, NamedServicesBringTheirDependencies) {
  const Project project = Load(kTwo);
  options_.services = {"db"};
  EXPECT_THAT(Lines(project), ::testing::Not(::testing::Contains(HasSubstr("web"))));
  options_.services = {"web"};
  EXPECT_THAT(Lines(project), ::testing::Contains("create container demo-db-1"));
  options_.no_deps = true;
  EXPECT_THAT(Lines(project), ::testing::Not(::testing::Contains(HasSubstr("db"))));
}

TEST_F(PlanTest, PullPolicies) {
  const Project project = Load("services: {web: {image: w, pull_policy: never}}");
  EXPECT_TRUE(absl::IsFailedPrecondition(PlanUp(project, observed_, options_).status()));
  Settle(project);
  options_.pull = "always";
  EXPECT_THAT(Lines(project), ElementsAre("pull image w (pull policy always)",
                                          "recreate container demo-web-1 (where its image changes)",
                                          "start container demo-web-1"));
  // What has come is what was there.
  options_.images_done = true;
  EXPECT_THAT(Lines(project), ElementsAre("keep container demo-web-1 (up to date)"));
}

TEST_F(PlanTest, ImagesAreRenewedByAge) {
  const Project project = Load("services: {web: {image: w, pull_policy: every_1d12h}}");
  Settle(project);
  observed_.image_ages["w"] = absl::Hours(35);
  EXPECT_FALSE(PlanUp(project, observed_, options_)->Changes());
  observed_.image_ages["w"] = absl::Hours(37);
  EXPECT_THAT(Lines(project), ::testing::Contains("pull image w (pull policy every_1d12h)"));
  for (const char* policy : {"daily", "weekly", "every_5m", "refresh", "build", "never"})
    EXPECT_TRUE(IsPullPolicy(policy)) << policy;
  for (const char* policy : {"", "every_", "every_5", "every_5y", "hourly"})
    EXPECT_FALSE(IsPullPolicy(policy)) << policy;
}

TEST_F(PlanTest, WhatCanBeBuiltIsPulledWhereThatIsAskedFor) {
  const Project project = Load("services: {web: {image: w, build: .}}");
  EXPECT_THAT(Lines(project), ::testing::Contains("build image w (not here)"));
  options_.pull = "always";
  EXPECT_THAT(Lines(project), ::testing::Contains("pull image w (pull policy always)"));
  EXPECT_TRUE(PlanUp(project, observed_, options_)->steps[0].builds);
  options_.pull.clear();
  options_.no_build = true;
  EXPECT_THAT(Lines(project), ::testing::Contains("pull image w (not here)"));
}

TEST_F(PlanTest, BuildsComeAfterThoseTheyStartFrom) {
  const Project project = Load(
      "services:\n"
      "  a: {build: {context: ., additional_contexts: {base: 'service:z'}}}\n"
      "  z: {build: ., profiles: [never]}\n"
      "  b: {image: x, volumes: [{type: image, source: files, target: /f}]}\n");
  // One that is off is not built.
  options_.services = {"b"};
  EXPECT_THAT(Lines(project), ElementsAre("pull image x (not here)", "pull image files (not here)",
                                          "create network demo_default",
                                          "create container demo-b-1", "start container demo-b-1"));
  const Project both = Load(
      "services:\n"
      "  a: {build: {context: ., additional_contexts: {base: 'service:z'}}}\n"
      "  z: {build: .}\n");
  options_.services = {"a"};
  const Plan images = PlanUp(both, observed_, options_)->OnlyImages();
  ASSERT_EQ(images.steps.size(), 2u);
  EXPECT_EQ(images.steps[0].object, "demo-z");
  EXPECT_EQ(images.steps[1].object, "demo-a");
  EXPECT_THAT(images.steps[1].after, ElementsAre(0));
  const Project circle = Load(
      "services:\n"
      "  a: {build: {context: ., additional_contexts: {base: 'service:b'}}}\n"
      "  b: {build: {context: ., additional_contexts: {base: 'service:a'}}}\n");
  options_.services = {};
  EXPECT_THAT(std::string(PlanUp(circle, observed_, options_).status().message()),
              HasSubstr("builds start from each other: a -> b -> a"));
}

TEST_F(PlanTest, BuildsWhatIsMissingOrAskedFor) {
  const Project project = Load("services: {web: {build: .}}");
  EXPECT_THAT(Lines(project), ::testing::Contains("build image demo-web (not here)"));
  Settle(project);
  EXPECT_FALSE(PlanUp(project, observed_, options_)->Changes());
  options_.build = true;
  EXPECT_THAT(Lines(project), ::testing::Contains("build image demo-web (asked for)"));
}

TEST_F(PlanTest, SharedNamespaceFollows) {
  const std::string file =
      "services: {app: {image: w%s}, side: {image: w, network_mode: 'service:app'}}";
  Settle(Load("services: {app: {image: w}, side: {image: w, network_mode: 'service:app'}}"));
  EXPECT_THAT(Lines(Load("services: {app: {image: w, user: me},"
                         " side: {image: w, network_mode: 'service:app'}}")),
              ElementsAre("recreate container demo-app-1 (configuration changed)",
                          "recreate container demo-side-1 (it shares a namespace or volumes with "
                          "app, which is made anew)",
                          "start container demo-app-1", "start container demo-side-1"));
}

constexpr char kPair[] =
    "services:\n"
    "  web: {image: w, depends_on: {db: {condition: service_started, restart: true}}}\n"
    "  db: {image: d}\n";

TEST_F(PlanTest, RestartsWhatDependsOnARenewedService) {
  Settle(Load(kPair));
  const Project changed = Load(
      std::string(kPair).replace(std::string(kPair).find("image: d"), 8, "image: d, tty: true"));
  EXPECT_THAT(Lines(changed),
              ElementsAre("recreate container demo-db-1 (configuration changed)",
                          "keep container demo-web-1 (up to date)", "start container demo-db-1",
                          "restart container demo-web-1 (db, which it depends on, is made anew)"));
}

TEST_F(PlanTest, RollbackExchangesAServiceAsAWhole) {
  Settle(Load("services: {web: {image: w, scale: 2}, db: {image: d}}"));
  options_.rollback = true;
  const Project changed = Load("services: {web: {image: w, scale: 2, tty: true}, db: {image: d}}");
  EXPECT_THAT(Lines(changed),
              ElementsAre("keep container demo-db-1 (up to date)",
                          "update service web (demo-web-1, demo-web-2; configuration changed; 1 at "
                          "a time, the new one starts first, back on failure)"));
}

TEST_F(PlanTest, UpdateConfigNeedsNoOption) {
  const std::string file =
      "services: {web: {image: w, scale: 2, deploy: {update_config: {parallelism: 0, order: "
      "start-first, failure_action: continue}}}}";
  Settle(Load(file));
  EXPECT_THAT(Lines(Load(file)), Each(HasSubstr("keep container")));
  EXPECT_THAT(Lines(Load(std::string(file).replace(file.find("scale"), 5, "tty: true, scale"))),
              ElementsAre(HasSubstr("update service web (demo-web-1, demo-web-2; configuration "
                                    "changed; all at once, the new one starts first")));
}

TEST_F(PlanTest, ANameLeftByAKilledUpIsPutRight) {
  const Project project = Load("services: {web: {image: w}}");
  Settle(project);
  ObservedContainer old = observed_.containers[0];
  old.id = "id-old";
  old.hash = "other";
  observed_.containers[0].name = "0123456789ab_demo-web-1";
  observed_.containers.push_back(old);
  EXPECT_THAT(Lines(project), ElementsAre("remove container demo-web-1 (its successor is there)",
                                          "rename container demo-web-1 (it is "
                                          "0123456789ab_demo-web-1)",
                                          "keep container demo-web-1 (up to date)"));
}

// The first of two was being made anew when the command was killed.
TEST_F(PlanTest, AnOutdatedContainerGoesWhereItsSuccessorIs) {
  const Project project = Load("services: {web: {image: w, scale: 2}}");
  Settle(project);
  ObservedContainer fresh = observed_.containers[0];
  fresh.id = "fresh";
  fresh.name = "0123456789ab_demo-web-1";
  for (ObservedContainer& old : observed_.containers) old.hash = "old";
  observed_.containers.push_back(fresh);
  EXPECT_THAT(Lines(project),
              ElementsAre("remove container demo-web-1 (its successor is there)",
                          "rename container demo-web-1 (it is 0123456789ab_demo-web-1)",
                          "keep container demo-web-1 (up to date)",
                          "recreate container demo-web-2 (configuration changed)",
                          "start container demo-web-2"));
}

TEST_F(PlanTest, OneServiceSpelledInTwoWaysIsTheSame) {
  Settle(Load("services: {web: {image: w, mem_limit: 1g, environment: {A: '1', B: x}}}"));
  EXPECT_THAT(Lines(Load("services: {web: {environment: [B=x, A=1], mem_limit: 1024m, image: w, "
                         "privileged: false}}")),
              ElementsAre("keep container demo-web-1 (up to date)"));
}

TEST_F(PlanTest, ServiceBecomesTheContainerThatDockerComposeMakes) {
  const Project project = Load(R"(
services:
  web:
    image: nginx
    command: nginx -g "daemon off;"
    ports: ["8080:80"]
    environment: [A=1, GONE]
    volumes: ["./site:/www:ro", "data:/data"]
    mem_limit: 64m
    cpus: 0.5
    restart: on-failure:3
    stop_grace_period: 1m30s
    networks: {front: {aliases: [www], ipv4_address: 10.9.0.5, priority: 1}, back: {priority: 5}}
    ulimits: {nofile: {soft: 10, hard: 20}}
    healthcheck: {test: curl -f localhost, interval: 5s, retries: 2}
    depends_on: {db: {condition: service_healthy}}
  db: {image: d}
networks: {front: , back: {name: shared}}
volumes: {data: }
)");
  const absl::StatusOr<v1::ContainerConfig> made =
      ContainerConfigOf(project, {"web", 1, "", "sha256:abc"}, {});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_THAT(made->command(), ElementsAre("nginx", "-g", "daemon off;"));
  EXPECT_THAT(made->env(), ElementsAre("A=1", "GONE"));
  ASSERT_EQ(made->mounts_size(), 2);
  EXPECT_EQ(made->mounts(0).source(), "/demo/site");
  EXPECT_TRUE(made->mounts(0).read_only());
  EXPECT_TRUE(made->mounts(0).create_source());
  EXPECT_EQ(made->mounts(1).source(), "demo_data");
  EXPECT_EQ(made->resources().memory_bytes(), 64 << 20);
  EXPECT_EQ(made->resources().nano_cpus(), 500'000'000);
  EXPECT_EQ(made->restart_policy().name(), "on-failure");
  EXPECT_EQ(made->restart_policy().maximum_retry_count(), 3);
  EXPECT_EQ(made->stop_timeout_seconds(), 90);
  ASSERT_EQ(made->networks_size(), 2);
  EXPECT_EQ(made->network_mode(), "shared");  // the highest priority comes first
  EXPECT_EQ(made->networks(1).network(), "demo_front");
  EXPECT_EQ(made->networks(1).ipv4_address(), "10.9.0.5");
  EXPECT_THAT(made->networks(1).aliases(), ElementsAre("demo-web-1", "web", "www"));
  EXPECT_EQ(made->port_bindings(0).host_port(), "8080");
  EXPECT_THAT(made->health_check().test(), ElementsAre("CMD-SHELL", "curl -f localhost"));
  EXPECT_EQ(made->labels().at("com.docker.compose.depends_on"), "db:service_healthy:false");
  EXPECT_EQ(made->labels().at("com.docker.compose.container-number"), "1");
  EXPECT_EQ(made->labels().at("com.docker.compose.oneoff"), "False");
  EXPECT_EQ(made->labels().at("com.docker.compose.project.config_files"), "/demo/compose.yaml");
}

TEST_F(PlanTest, OneOffHasNoPortsAndNoRestarts) {
  const Project project = Load("services: {web: {image: w, ports: ['80:80'], restart: always}}");
  const auto made = ContainerConfigOf(project, {"web", 0, std::string(64, 'a'), ""}, {});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->port_bindings_size(), 0);
  EXPECT_EQ(made->restart_policy().name(), "");
  EXPECT_EQ(made->labels().count("com.docker.compose.container-number"), 0u);
  EXPECT_THAT(made->networks(0).aliases(), ElementsAre("demo-web-run-aaaaaaaaaaaa"));
}

TEST_F(PlanTest, KeysThatFewPeopleUseReachTheContainer) {
  const Project project = Load(
      "services: {web: {image: w, external_links: [redis, 'old_db_1:db'],"
      " networks: {default: {interface_name: eth7}},"
      " deploy: {restart_policy: {condition: unless-stopped}}}}");
  const v1::ContainerConfig config = ContainerConfigOf(project, {"web", 1, "", ""}, {}).value();
  EXPECT_THAT(config.networks(0).links(), ElementsAre("redis:redis", "old_db_1:db"));
  EXPECT_EQ(config.networks(0).driver_options().at("com.docker.network.endpoint.ifname"), "eth7");
  EXPECT_EQ(config.restart_policy().name(), "unless-stopped");
}

TEST_F(PlanTest, WhatHasNoEffectIsSaid) {
  Lines(
      Load("services:\n  web:\n    image: w\n    cpu_count: 2\n    secrets:\n"
           "      - {source: s, mode: 0400}\n      - t\n"
           "secrets: {s: {file: ./s}, t: {file: ./t}}\n"));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("services.web.cpu_count is for Windows"),
                                     HasSubstr("services.web.secrets: s is a file of the "
                                               "host and keeps its owner and mode")));
}

TEST_F(PlanTest, BadValuesNameServiceAndKey) {
  for (const auto& [key, words] : std::vector<std::pair<std::string, std::string>>{
           {"restart: perhaps", "services.web.restart"},
           {"ports: [{target: 99999}]", "services.web.ports"},
           {"gpus: [{count: 1, device_ids: ['0']}]", "services.web.gpus"}}) {
    const Project project = Load("services: {web: {image: w, " + key + "}}");
    EXPECT_THAT(ContainerConfigOf(project, {"web", 1, "", ""}, {}).status().message(),
                HasSubstr(words))
        << key;
  }
}

TEST_F(PlanTest, GpusAndCdiDevicesAreRequests) {
  const Project project = Load(
      "services: {web: {image: w, gpus: all, devices: ['vendor.com/net=a', /dev/null, "
      "'vendor.com/net=b'], deploy: {resources: {reservations: {devices: [{driver: nvidia, "
      "device_ids: ['3'], capabilities: [gpu, utility]}]}}}}}");
  const auto made = ContainerConfigOf(project, {"web", 1, "", ""}, {});
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_EQ(made->device_requests_size(), 3);
  EXPECT_EQ(made->device_requests(0).driver(), "cdi");
  EXPECT_THAT(made->device_requests(0).device_ids(),
              ElementsAre("vendor.com/net=a", "vendor.com/net=b"));
  EXPECT_EQ(made->device_requests(1).count(), -1);
  EXPECT_THAT(made->device_requests(1).capabilities(0).values(), ElementsAre("gpu"));
  EXPECT_EQ(made->device_requests(2).driver(), "nvidia");
  EXPECT_EQ(made->device_requests(2).count(), 0);
  EXPECT_THAT(made->device_requests(2).device_ids(), ElementsAre("3"));
  EXPECT_THAT(made->device_requests(2).capabilities(0).values(), ElementsAre("gpu", "utility"));
  ASSERT_EQ(made->resources().devices_size(), 1);
  EXPECT_EQ(made->resources().devices(0).host_path(), "/dev/null");
}

TEST_F(PlanTest, SecretsFromTheEnvironmentAreInjected) {
  Project project = Load(
      "services: {web: {image: w, secrets: [token, {source: file, target: f, mode: 0400}]}}\n"
      "secrets: {token: {environment: TOKEN}, file: {file: ./f}}");
  EXPECT_THAT(InjectedFilesOf(project, "web").status().message(),
              HasSubstr("environment variable \"TOKEN\" required by secret \"token\" is not set"));
  project.environment["TOKEN"] = "s3cret";
  const auto files = InjectedFilesOf(project, "web");
  ASSERT_TRUE(files.ok());
  ASSERT_EQ(files->size(), 1u);
  EXPECT_EQ((*files)[0].target, "/run/secrets/token");
  EXPECT_EQ((*files)[0].content, "s3cret");
  EXPECT_EQ((*files)[0].mode, 0444u);
  const auto config = ContainerConfigOf(project, {"web", 1, "", ""}, {});
  ASSERT_EQ(config->mounts_size(), 1);
  EXPECT_EQ(config->mounts(0).target(), "/run/secrets/f");
  EXPECT_TRUE(config->mounts(0).read_only());
}

TEST_F(PlanTest, NetworkIsAskedForWithItsLabels) {
  const Project project = Load(
      "services: {web: {image: w, networks: [n]}}\nnetworks: {n: {internal: true, ipam: {config: "
      "[{subnet: 10.9.0.0/16, gateway: 10.9.0.1}]}, driver_opts: {a: 1}}}");
  const auto request = NetworkRequestOf(project, "n");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->name(), "demo_n");
  EXPECT_TRUE(request->internal());
  EXPECT_EQ(request->pools(0).gateway(), "10.9.0.1");
  EXPECT_EQ(request->options().at("a"), "1");
  EXPECT_EQ(request->labels().at("com.docker.compose.network"), "n");
}

}  // namespace
}  // namespace gantry::compose
