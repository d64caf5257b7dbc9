#include "ctl/compose/provider.h"

#include <sys/stat.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "ctl/compose/loader.h"

namespace gantry::compose {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Providers are shell scripts in a directory that is the PATH.
class ProviderTest : public testing::Test {
 protected:
  Project Load(const std::string& text) {
    LoadOptions options;
    options.files = {"compose.yaml"};
    options.current_directory = dir_.path();
    options.environment = {{"PATH", dir_.path() + ":/usr/bin:/bin"}, {"HOME", dir_.path()}};
    options.read = [&](const std::string& path) -> absl::StatusOr<std::string> {
      if (path == dir_.Join("compose.yaml")) return text;
      return absl::NotFoundError("no such file");
    };
    absl::StatusOr<Project> project = LoadProject(options);
    EXPECT_TRUE(project.ok()) << project.status();
    return project.ok() ? *std::move(project) : Project();
  }
  void Program(const std::string& name, const std::string& script) {
    const std::string path = dir_.Join(name);
    ASSERT_TRUE(WriteFile(path, "#!/bin/sh\n" + script, 0755).ok());
  }
  static std::string Value(const Project& project, const char* service, const char* variable) {
    const Node* environment = project.FindService(service)->Find("environment");
    return environment == nullptr ? "" : environment->TextOf(variable);
  }
  ProviderOptions Options() {
    ProviderOptions options;
    options.info = [this](const std::string& service, const std::string& text) {
      said_.push_back(service + ": " + text);
    };
    return options;
  }

  TempDir dir_;
  std::vector<std::string> said_;
};

constexpr char kFile[] =
    "name: demo\nservices:\n"
    "  my-db: {provider: {type: cloud, options: {size: 256, names: [a, b]}}}\n"
    "  app: {image: x, depends_on: [my-db], environment: {MY_DB_KEPT: own}}\n"
    "  other: {image: x}\n";

TEST_F(ProviderTest, WhatItSetsReachesWhatDependsOnIt) {
  Program("cloud",
          "[ \"$2\" = metadata ] && exit 1\n"
          "echo '{\"type\":\"info\",\"message\":\"making '\"$*\"'\"}'\n"
          "echo '{\"type\":\"setenv\",\"message\":\"URL=db://x?a=b\"}'\n"
          "echo '{\"type\":\"setenv\",\"message\":\"KEPT=no\"}'\n"
          "echo '{\"type\":\"rawsetenv\",\"message\":\"RAW=r\"}'\n"
          "echo '{\"type\":\"debug\",\"message\":\"d\"}'\n");
  Project project = Load(kFile);
  EXPECT_TRUE(NeedsPrograms(project, {"my-db"}));
  EXPECT_FALSE(NeedsPrograms(project, {"other"}));
  ASSERT_TRUE(RunProviders(project, {"my-db", "app", "other"}, "up", Options()).ok());
  EXPECT_THAT(said_, ElementsAre("my-db: making compose --project-name=demo up --size=256 "
                                 "--names=a --names=b my-db"));
  EXPECT_EQ(Value(project, "app", "MY_DB_URL"), "db://x?a=b");
  EXPECT_EQ(Value(project, "app", "MY_DB_KEPT"), "own");
  EXPECT_EQ(Value(project, "app", "RAW"), "r");
  EXPECT_EQ(Value(project, "other", "RAW"), "");
}

TEST_F(ProviderTest, ItsErrorIsTheCommands) {
  Program("cloud", "echo '{\"type\":\"error\",\"message\":\"no credit\"}'; exit 1\n");
  Project project = Load(kFile);
  EXPECT_THAT(RunProviders(project, {"my-db"}, "up", Options()).message(),
              HasSubstr("service my-db: provider \"cloud\": no credit"));
  Program("cloud", "exit 7\n");
  EXPECT_THAT(RunProviders(project, {"my-db"}, "up", Options()).message(),
              HasSubstr("exit status 7"));
  Program("cloud", "echo hello\n");
  EXPECT_THAT(RunProviders(project, {"my-db"}, "up", Options()).message(),
              HasSubstr("not a line of JSON with type and message: hello"));
}

TEST_F(ProviderTest, MissingProgramNamesThePlace) {
  Project project = Load(kFile);
  const absl::Status status = RunProviders(project, {"my-db"}, "up", Options());
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(status.message(), HasSubstr("compose.yaml:3:11: service my-db: required provider "
                                          "\"cloud\" is not installed"));
  Project self = Load("services: {db: {provider: {type: compose}}}");
  EXPECT_THAT(RunProviders(self, {"db"}, "up", Options()).message(),
              HasSubstr("'compose' is not a valid provider type"));
}

TEST_F(ProviderTest, MetadataSaysWhichOptionsItTakes) {
  Program("cloud",
          "if [ \"$2\" = metadata ]; then echo '{\"up\":{\"parameters\":[{\"name\":\"size\"},"
          "{\"name\":\"region\",\"required\":true}]}}'; exit; fi\n");
  Project project = Load(kFile);
  EXPECT_THAT(RunProviders(project, {"my-db"}, "up", Options()).message(),
              HasSubstr("provider \"cloud\" needs the option region"));
  EXPECT_TRUE(RunProviders(project, {"my-db"}, "down", Options()).ok());
}

constexpr char kModels[] =
    "services:\n"
    "  app: {image: x, models: [llm]}\n"
    "  long: {image: x, models: {llm: {endpoint_var: AT, model_var: NAME}}}\n"
    "models: {llm: {model: ai/small, context_size: 1024, runtime_flags: [--a]}}\n";

TEST_F(ProviderTest, ModelsNeedTheirPlugin) {
  Project project = Load(kModels);
  EXPECT_THAT(ServeModels(project, {"app"}, Options()).message(),
              HasSubstr("'models' support requires Docker Model plugin"));
}

TEST_F(ProviderTest, ServicesLearnWhereTheirModelsAre) {
  ASSERT_EQ(mkdir(dir_.Join(".docker").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(dir_.Join(".docker/cli-plugins").c_str(), 0755), 0);
  Program(
      ".docker/cli-plugins/docker-model",
      "echo \"$*\" >> \"$HOME/calls\"\n"
      "[ \"$1\" = status ] && echo '{\"running\":true,\"endpoint\":\"http://h/v1\"}'\nexit 0\n");
  Project project = Load(kModels);
  ASSERT_TRUE(ServeModels(project, {"app", "long"}, Options()).ok());
  EXPECT_EQ(Value(project, "app", "LLM_URL"), "http://h/v1");
  EXPECT_EQ(Value(project, "app", "LLM_MODEL"), "ai/small");
  EXPECT_EQ(Value(project, "long", "AT"), "http://h/v1");
  EXPECT_EQ(Value(project, "long", "NAME"), "ai/small");
  EXPECT_EQ(ReadFile(dir_.Join("calls"), 1000).value_or(""),
            "pull ai/small\nconfigure --context-size=1024 ai/small -- --a\nstatus --json\n");
}

}  // namespace
}  // namespace gantry::compose
