#include "ctl/compose/docker_json.h"

#include <map>
#include <string>

#include "gtest/gtest.h"

#include "ctl/compose/loader.h"

namespace gantry::compose {
namespace {

// Expected texts are what docker compose 2.40.3 takes its hash of; `./dev test compose-config`
// compares the hashes themselves, over all of its cases.
class DockerJsonTest : public testing::Test {
 protected:
  Node Service(const std::string& text) {
    LoadOptions options;
    options.current_directory = "/p";
    options.read = [&text](const std::string& path) -> absl::StatusOr<std::string> {
      if (path == "/p/compose.yaml") return text;
      if (path == "/p/l") return "a=file\n";
      return absl::NotFoundError("no such file");
    };
    absl::StatusOr<Project> project = LoadProject(options);
    EXPECT_TRUE(project.ok()) << project.status();
    if (!project.ok()) return Node();
    project_ = *std::move(project);
    return *project_.FindService("web");
  }
  std::string Json(const std::string& text) { return DockerJsonOfService(Service(text), {}); }

  Project project_;
};

TEST_F(DockerJsonTest, CommandAndEntrypointAreAlwaysThere) {
  EXPECT_EQ(Json("services: {web: {image: x}}"),
            R"({"command":null,"entrypoint":null,"image":"x","networks":{"default":null}})");
}

TEST_F(DockerJsonTest, WhatMakesNoOtherContainerIsLeftOut) {
  EXPECT_EQ(Json("services: {web: {image: x, build: ., pull_policy: always, scale: 2, "
                 "profiles: [], x-a: 1, depends_on: [db]}, db: {image: y}}"),
            R"({"command":null,"entrypoint":null,"image":"x","networks":{"default":null}})");
}

TEST_F(DockerJsonTest, FreeMapsAreSortedByBytesAndKeepWhatIsEmpty) {
  EXPECT_EQ(Json("services: {web: {image: x, environment: {b: , a10: 1, a2: ''}}}"),
            R"({"command":null,"entrypoint":null,"environment":{"a10":"1","a2":"","b":null},)"
            R"("image":"x","networks":{"default":null}})");
}

TEST_F(DockerJsonTest, TextIsEscapedAsGoDoes) {
  EXPECT_EQ(Json("services: {web: {image: x, network_mode: none, command: ['<&>']}}"),
            R"({"command":["\u003c\u0026\u003e"],"entrypoint":null,"image":"x",)"
            R"("network_mode":"none"})");
}

// `docker compose up` hashes both, its `config --hash` the labels alone.
TEST_F(DockerJsonTest, LabelFilesStandBesideTheirLabels) {
  EXPECT_EQ(Json("services: {web: {image: x, network_mode: none, label_file: l, labels: {b: 1}}}"),
            R"({"command":null,"entrypoint":null,"image":"x","labels":{"a":"file","b":"1"},)"
            R"("label_file":["/p/l"],"network_mode":"none"})");
}

TEST_F(DockerJsonTest, DeployHasResourcesAndPlacementAlways) {
  EXPECT_EQ(Json("services: {web: {image: x, network_mode: none, deploy: {replicas: 3, resources: "
                 "{limits: {cpus: '0.50', memory: 50M}}}}}"),
            R"({"command":null,"deploy":{"resources":{"limits":{"cpus":0.5,"memory":"52428800"}},)"
            R"("placement":{}},"entrypoint":null,"image":"x","network_mode":"none"})");
}

TEST_F(DockerJsonTest, ReferencesToServicesAreContainers) {
  const Node service =
      Service("services: {web: {image: x, network_mode: 'service:db'}, db: {image: y}}");
  EXPECT_EQ(DockerJsonOfService(service, {{"db", "1234"}}),
            R"({"command":null,"entrypoint":null,"image":"x","network_mode":"container:1234"})");
}

TEST_F(DockerJsonTest, NetworksHaveAnIpamAndVolumesADriver) {
  Service("services: {web: {image: x, volumes: ['v:/v']}}\nvolumes: {v: }");
  EXPECT_EQ(DockerJsonOfNetwork(*project_.model.Find("networks")->Find("default")),
            R"({"name":"p_default","ipam":{}})");
  EXPECT_EQ(DockerJsonOfVolume(*project_.model.Find("volumes")->Find("v")),
            R"({"name":"p_v","driver":"local"})");
}

}  // namespace
}  // namespace gantry::compose
