#include "ctl/compose/loader.h"

#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ctl/compose/present.h"
#include "ctl/compose/print_yaml.h"

namespace gantry::compose {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A project below /p, its files in memory.
class LoaderTest : public testing::Test {
 protected:
  LoaderTest() {
    options_.current_directory = "/p";
    options_.environment = {{"HOME", "/home/me"}};
    options_.read = [this](const std::string& path) -> absl::StatusOr<std::string> {
      const auto found = files_.find(path);
      if (found == files_.end()) return absl::NotFoundError("no such file");
      return found->second;
    };
  }

  Project Load() {
    absl::StatusOr<Project> project = LoadProject(options_);
    EXPECT_TRUE(project.ok()) << project.status();
    return project.ok() ? *std::move(project) : Project();
  }
  Project Load(const std::string& text) {
    files_["/p/compose.yaml"] = text;
    return Load();
  }
  std::string Error() { return std::string(LoadProject(options_).status().message()); }
  std::string Error(const std::string& text) {
    files_["/p/compose.yaml"] = text;
    return Error();
  }
  // One value of the service web, as JSON.
  static std::string Web(const Project& project, const char* key) {
    const Node* service = project.FindService("web");
    const Node* value = service == nullptr ? nullptr : service->Find(key);
    return value == nullptr ? "(absent)" : PrintJson(*value, 0, {.escape_dollars = false});
  }

  std::map<std::string, std::string> files_;
  LoadOptions options_;
};

TEST_F(LoaderTest, NameComesFromTheDirectory) {
  files_["/My App.v2/compose.yaml"] = "services: {web: {image: x}}";
  options_.current_directory = "/My App.v2";
  EXPECT_EQ(Load().name, "myappv2");
}

TEST_F(LoaderTest, NamesByPrecedence) {
  const std::string file = "name: from-file\nservices: {web: {image: 'x:${COMPOSE_PROJECT_NAME}'}}";
  EXPECT_EQ(Load(file).name, "from-file");
  options_.environment["COMPOSE_PROJECT_NAME"] = "from-env";
  EXPECT_EQ(Load(file).name, "from-env");
  options_.project_name = "given";
  EXPECT_EQ(Load(file).name, "given");
  options_.project_name = "My";
  EXPECT_THAT(Error(file),
              HasSubstr("invalid project name \"My\": must consist only of lowercase"));
}

TEST_F(LoaderTest, SearchesUpwardsAndTakesTheOverride) {
  files_["/p/compose.yaml"] = "services: {web: {image: x}}";
  files_["/p/docker-compose.yml"] = "services: {other: {image: x}}";
  files_["/p/compose.override.yaml"] = "services: {web: {user: me}}";
  options_.current_directory = "/p/deep/below";
  const Project project = Load();
  EXPECT_THAT(project.files, ElementsAre("/p/compose.yaml", "/p/compose.override.yaml"));
  EXPECT_EQ(project.directory, "/p");
  EXPECT_EQ(Web(project, "user"), "\"me\"");
  EXPECT_THAT(project.warnings, Contains(HasSubstr("Found multiple config files")));
}

TEST_F(LoaderTest, GivenFileHasNoOverrideAndRulesThePaths) {
  files_["/p/a/compose.yml"] = "services: {web: {image: x}}";
  files_["/p/a/compose.override.yml"] = "services: {web: {user: me}}";
  files_["/p/b/o.yml"] = "services: {web: {volumes: ['./x:/x']}}";
  options_.files = {"a/compose.yml", "b/o.yml"};
  const Project project = Load();
  EXPECT_EQ(Web(project, "user"), "(absent)");
  EXPECT_THAT(Web(project, "volumes"), HasSubstr("\"source\":\"/p/a/x\""));
}

TEST_F(LoaderTest, NoFileIsSaid) {
  EXPECT_EQ(Error(), "no configuration file provided: not found");
  options_.files = {"missing.yml"};
  EXPECT_THAT(Error(), HasSubstr("cannot read /p/missing.yml"));
}

TEST_F(LoaderTest, EnvironmentWinsOverEnvFile) {
  files_["/p/.env"] = "TAG=2\nOTHER=o\n";
  options_.environment["TAG"] = "1";
  const Project project = Load("services: {web: {image: 'x:${TAG}-${OTHER}'}}");
  EXPECT_EQ(Web(project, "image"), "\"x:1-o\"");
}

TEST_F(LoaderTest, LaterEnvFilesWinAndReplaceDotEnv) {
  files_["/p/.env"] = "TAG=0\n";
  files_["/p/e1"] = "TAG=1\nA=1\n";
  files_["/p/e2"] = "TAG=2\n";
  options_.env_files = {"e1", "e2"};
  EXPECT_EQ(Web(Load("services: {web: {image: 'x:$TAG$A'}}"), "image"), "\"x:21\"");
  options_.env_files = {"absent"};
  EXPECT_EQ(Error(), "couldn't find env file: /p/absent");
}

TEST_F(LoaderTest, DotEnvMayNameTheFiles) {
  files_["/p/.env"] = "COMPOSE_FILE=a/one.yaml:two.yaml\nTAG=here\n";
  files_["/p/a/.env"] = "TAG=there\nMORE=${TAG}-more\n";
  files_["/p/a/one.yaml"] = "services: {web: {image: 'x:$TAG', user: '$MORE'}}";
  files_["/p/two.yaml"] = "services: {web: {hostname: two}}";
  const Project project = Load("services: {other: {image: y}}");
  EXPECT_EQ(Web(project, "image"), "\"x:here\"");
  EXPECT_EQ(Web(project, "user"), "\"here-more\"");
  EXPECT_EQ(Web(project, "hostname"), "\"two\"");
  EXPECT_EQ(project.directory, "/p/a");
  options_.environment["COMPOSE_FILE"] = "compose.yaml";
  EXPECT_EQ(Load().ServiceNames(), std::vector<std::string>{"other"});
}

TEST_F(LoaderTest, DotEnvOfTheCurrentDirectoryComesBeforeTheProjects) {
  files_["/p/.env"] = "TAG=upper\nA=upper\n";
  files_["/p/below/.env"] = "TAG=below\nCOMPOSE_PROJECT_NAME=named\n";
  options_.current_directory = "/p/below";
  const Project project = Load("services: {web: {image: 'x:$TAG-$A'}}");
  EXPECT_EQ(Web(project, "image"), "\"x:below-upper\"");
  EXPECT_EQ(project.name, "named");
  files_.erase("/p/compose.yaml");
  EXPECT_EQ(*ProjectNameWithoutFile(options_), "named");
  options_.environment["COMPOSE_DISABLE_ENV_FILE"] = "1";
  EXPECT_EQ(*ProjectNameWithoutFile(options_), "");
}

TEST_F(LoaderTest, CompatibilityIsInNames) {
  files_["/p/.env"] = "COMPOSE_COMPATIBILITY=true\n";
  EXPECT_EQ(ImageOf(Load("services: {web: {build: .}}"), "web"), "p_web");
  files_.clear();
  EXPECT_EQ(ImageOf(Load("services: {web: {build: .}}"), "web"), "p-web");
  options_.compatibility = true;
  EXPECT_EQ(ImageOf(Load("services: {web: {build: .}}"), "web"), "p_web");
}

TEST_F(LoaderTest, UnsetVariableIsWarnedAboutOnce) {
  const Project project = Load("services: {web: {image: 'x${NO}', user: '${NO}'}}");
  EXPECT_THAT(project.warnings,
              ElementsAre("The \"NO\" variable is not set. Defaulting to a blank string."));
}

TEST_F(LoaderTest, RequiredVariableNamesItsPlace) {
  EXPECT_THAT(Error("services:\n  web:\n    image: ${NO:?say it}\n"),
              HasSubstr("/p/compose.yaml:3:5: error while interpolating services.web.image: "
                        "required variable NO is missing a value: say it"));
}

TEST_F(LoaderTest, ContainersEnvironmentIsResolved) {
  files_["/p/web.env"] = "A=file\nB=file\nC=${HOME}\n";
  options_.environment["FROM_HOST"] = "h";
  const Project project =
      Load("services: {web: {image: x, env_file: web.env, environment: [B=own, FROM_HOST, GONE]}}");
  EXPECT_EQ(Web(project, "environment"),
            R"({"A":"file","B":"own","C":"/home/me","FROM_HOST":"h","GONE":null})");
  EXPECT_THAT(Error("services: {web: {image: x, env_file: nowhere}}"),
              HasSubstr("env file /p/nowhere not found"));
  EXPECT_EQ(Web(Load("services: {web: {image: x, env_file: [{path: no, required: false}]}}"),
                "environment"),
            "(absent)");
}

TEST_F(LoaderTest, ShortFormsBecomeLong) {
  const Project project = Load(R"(
services:
  web:
    build: ./dir
    command: sh -c "yarn install && yarn run dev"
    ports: ["127.0.0.1:3000:3000", 5432, "9090-9091:8080-8081/udp"]
    volumes: ["./:/app:ro", "data:/data", "/anon"]
    depends_on: [db]
    healthcheck: {test: exit 0}
    labels: [a=b, c]
  db: {image: y}
volumes: {data: }
)");
  EXPECT_EQ(Web(project, "build"), R"({"context":"/p/dir","dockerfile":"Dockerfile"})");
  EXPECT_EQ(Web(project, "command"), R"(["sh","-c","yarn install && yarn run dev"])");
  EXPECT_EQ(Web(project, "ports"),
            R"([{"mode":"ingress","host_ip":"127.0.0.1","target":3000,"published":"3000",)"
            R"("protocol":"tcp"},{"mode":"ingress","target":5432,"protocol":"tcp"},)"
            R"({"mode":"ingress","target":8080,"published":"9090","protocol":"udp"},)"
            R"({"mode":"ingress","target":8081,"published":"9091","protocol":"udp"}])");
  EXPECT_EQ(Web(project, "volumes"),
            R"([{"type":"bind","source":"/p","target":"/app","read_only":true,)"
            R"("bind":{"create_host_path":true}},{"type":"volume","source":"data",)"
            R"("target":"/data","volume":{}},{"type":"volume","target":"/anon","volume":{}}])");
  EXPECT_EQ(Web(project, "depends_on"),
            R"({"db":{"condition":"service_started","required":true}})");
  EXPECT_EQ(Web(project, "healthcheck"), R"({"test":["CMD-SHELL","exit 0"]})");
  EXPECT_EQ(Web(project, "labels"), R"({"a":"b","c":""})");
  EXPECT_EQ(Web(project, "networks"), R"({"default":null})");
  EXPECT_EQ(project.model.Find("networks")->Find("default")->TextOf("name"), "p_default");
  EXPECT_EQ(project.model.Find("volumes")->Find("data")->TextOf("name"), "p_data");
}

class MergeTest : public LoaderTest {
 protected:
  Project Merged(const std::string& base, const std::string& over) {
    files_["/p/compose.yaml"] = "services: {web: {image: x, " + base + "}}";
    files_["/p/over.yaml"] = "services: {web: {" + over + "}}";
    options_.files = {"compose.yaml", "over.yaml"};
    return Load();
  }
};

TEST_F(MergeTest, PortsAddAndCanBeReplaced) {
  EXPECT_THAT(Web(Merged("ports: ['8080:80']", "ports: ['8081:80']"), "ports"),
              ::testing::AllOf(HasSubstr("8080"), HasSubstr("8081")));
  EXPECT_THAT(Web(Merged("ports: ['8080:80']", "ports: !override ['8081:80']"), "ports"),
              ::testing::Not(HasSubstr("8080")));
  EXPECT_EQ(Web(Merged("ports: ['8080:80']", "ports: !reset []"), "ports"), "(absent)");
}

TEST_F(MergeTest, MountsCollapseByTarget) {
  const std::string merged =
      Web(Merged("volumes: ['./a:/data', './c:/c']", "volumes: ['./b:/data']"), "volumes");
  EXPECT_THAT(merged, HasSubstr("/p/b"));
  EXPECT_THAT(merged, ::testing::Not(HasSubstr("/p/a")));
  EXPECT_LT(merged.find("/p/b"), merged.find("/p/c"));  // at the earlier place
}

TEST_F(MergeTest, CommandsAreReplacedAndMapsJoined) {
  const Project project =
      Merged("command: [a, b], environment: {A: 1, B: 2}", "command: c, environment: [B=3, C=4]");
  EXPECT_EQ(Web(project, "command"), R"(["c"])");
  EXPECT_EQ(Web(project, "environment"), R"({"A":"1","B":"3","C":"4"})");
}

TEST_F(MergeTest, LogOptionsGoWithTheirDriver) {
  EXPECT_EQ(Web(Merged("logging: {driver: local, options: {max-size: 1m}}",
                       "logging: {driver: json-file}"),
                "logging"),
            R"({"driver":"json-file"})");
  EXPECT_EQ(Web(Merged("logging: {driver: local, options: {max-size: 1m}}",
                       "logging: {options: {max-file: '3'}}"),
                "logging"),
            R"({"driver":"local","options":{"max-size":"1m","max-file":"3"}})");
}

TEST_F(MergeTest, NullKeepsAndOtherShapesAreRefused) {
  EXPECT_EQ(Web(Merged("user: me", "user: null"), "user"), "\"me\"");
  files_["/p/compose.yaml"] = "services: {web: {image: x}}\nx-a: {b: 1}";
  files_["/p/over.yaml"] = "x-a: [1]";
  EXPECT_THAT(Error(), HasSubstr("cannot override x-a"));
}

TEST_F(LoaderTest, ExtendsOtherServicesAndFiles) {
  files_["/p/sub/base.yml"] =
      "services: {base: {image: b, environment: {A: base, B: base}, volumes: ['./d:/d']}}";
  const Project project = Load(
      "services: {web: {extends: {file: sub/base.yml, service: base}, environment: {B: own}},"
      " two: {extends: web, user: me}}");
  EXPECT_EQ(Web(project, "environment"), R"({"A":"base","B":"own"})");
  EXPECT_THAT(Web(project, "volumes"), HasSubstr("/p/sub/d"));
  EXPECT_EQ(project.FindService("two")->TextOf("image"), "b");
}

TEST_F(LoaderTest, ExtendsMistakes) {
  EXPECT_THAT(
      Error("services: {web: {extends: no}}"),
      HasSubstr("cannot extend service \"web\" in /p/compose.yaml: service \"no\" not found"));
  EXPECT_THAT(Error("services: {web: {extends: two}, two: {extends: web}}"),
              HasSubstr("Circular reference:"));
}

TEST_F(LoaderTest, IncludesOtherProjects) {
  files_["/p/inc/compose.yaml"] = "services: {db: {image: '${IMG}', volumes: ['./d:/d']}}";
  files_["/p/inc/.env"] = "IMG=postgres\n";
  const Project project = Load("include: [inc/compose.yaml]\nservices: {web: {image: x}}");
  EXPECT_EQ(project.FindService("db")->TextOf("image"), "postgres");
  EXPECT_THAT(PrintJson(*project.FindService("db"), 0), HasSubstr("/p/inc/d"));
}

TEST_F(LoaderTest, IncludeCycleIsNamed) {
  files_["/p/b.yaml"] = "include: [compose.yaml]\nservices: {b: {image: x}}";
  EXPECT_THAT(Error("include: [b.yaml]\nservices: {web: {image: x}}"),
              HasSubstr("include cycle detected:"));
}

TEST_F(LoaderTest, ProfilesSwitchServices) {
  const std::string file =
      "services: {web: {image: x}, debug: {image: x, profiles: [dev]},"
      " dep: {image: x, profiles: [dev], depends_on: [web]}}";
  EXPECT_THAT(Load(file).ServiceNames(), ElementsAre("web"));
  options_.profiles = {"dev"};
  EXPECT_THAT(Load(file).ServiceNames(), ElementsAre("web", "debug", "dep"));
  options_.profiles = {};
  options_.services = {"debug"};
  EXPECT_THAT(Load(file).ServiceNames(), ElementsAre("web", "debug", "dep"));
  options_.services = {};
  options_.environment["COMPOSE_PROFILES"] = "other,dev";
  EXPECT_THAT(Load(file).ServiceNames(), ElementsAre("web", "debug", "dep"));
}

TEST_F(LoaderTest, DependencyThatIsOffByProfileIsExplained) {
  EXPECT_THAT(Error("services: {web: {image: x, depends_on: [db]}, db: {image: y, profiles: [p]}}"),
              HasSubstr("service \"web\" depends on undefined service \"db\""));
  EXPECT_THAT(Load("services: {web: {image: x, depends_on: {db: {condition: service_started, "
                   "required: false}}}, db: {image: y, profiles: [p]}}")
                  .ServiceNames(),
              ElementsAre("web"));
}

TEST_F(LoaderTest, ObsoleteVersionIsAWarning) {
  const Project project = Load("version: '3'\nservices: {web: {image: x}}");
  EXPECT_THAT(project.warnings,
              ElementsAre(HasSubstr("the attribute `version` is obsolete, it will be ignored")));
}

// The sample that people send around: services say `networks`, the file declares none.
TEST_F(LoaderTest, UndeclaredNetworkNamesServiceLineAndRemedy) {
  const std::string error = Error(
      "services:\n  web:\n    image: nginx\n    networks: [hypig_net2]\nnetworks:\n  hypig_net: "
      "{}\n");
  EXPECT_THAT(error, HasSubstr("/p/compose.yaml:4:"));
  EXPECT_THAT(error, HasSubstr("service \"web\" refers to undefined network hypig_net2: invalid "
                               "compose project"));
  EXPECT_THAT(error, HasSubstr("declare it under networks:, or did you mean hypig_net?"));
}

TEST_F(LoaderTest, InconsistentProjectsAreRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"services: {web: {image: x, pull_policy: hourly}}",
       "services.web.pull_policy: \"hourly\": invalid compose project; use always, missing"},
      {"services: {web: {user: x}}", "has neither an image nor a build context specified"},
      {"services: {web: {image: x, volumes: ['v:/d']}}", "refers to undefined volume v"},
      {"services: {web: {image: x, secrets: [s]}}", "refers to undefined secret s"},
      {"services: {web: {image: x, configs: [s]}}", "refers to undefined config s"},
      {"services: {web: {image: x, depends_on: [db]}}", "depends on undefined service \"db\""},
      {"services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}",
       "dependency cycle detected: a -> b -> a"},
      {"services: {web: {image: x, network_mode: host, networks: [default]}}",
       "declares mutually exclusive `network_mode` and `networks`"},
      {"services: {web: {image: x, network_mode: 'service:no'}}", "not found for network_mode"},
      {"services: {web: {image: x, scale: 2, deploy: {replicas: 3}}}", "can't set distinct values"},
      {"services: {web: {image: x, mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}}}",
       "can't set distinct values on 'mem_limit'"},
      {"services: {web: {image: x, container_name: c, scale: 2}}", "container_name"},
      {"services: {a: {image: x, container_name: c}, b: {image: x, container_name: c}}",
       "already in use by service a"},
      {"services: {web: {image: x, volumes: ['./a:/d', './b:/d']}}",
       "target /d already mounted as services.web.volumes[0]"},
      {"services: {web: {image: x, healthcheck: {test: [exit, '0']}}}",
       "healthcheck.test must start either by"},
      {"services: {web: {image: x}}\nsecrets: {s: {}}", "must declare either `file` or"},
      {"services: {web: {image: x}}\nvolumes: {v: {external: true, driver: local}}",
       "conflicting parameters \"external\" and \"driver\" specified"},
  };
  for (const auto& [file, words] : cases) EXPECT_THAT(Error(file), HasSubstr(words)) << file;
}

TEST_F(LoaderTest, SchemaMistakesAreNamedWithTheNearestKey) {
  EXPECT_THAT(Error("services:\n  web:\n    imagee: x\n"),
              HasSubstr("validating /p/compose.yaml: /p/compose.yaml:3:5: services.web additional "
                        "properties 'imagee' not allowed; did you mean image?"));
  EXPECT_THAT(Error("services: {web: {image: [x]}}"),
              HasSubstr("services.web.image must be a string"));
  EXPECT_THAT(Error("services: {web: {image: x, ports: y}}"),
              HasSubstr("services.web.ports must be a array"));
  EXPECT_THAT(Error("servces: {}"), HasSubstr("did you mean services?"));
}

TEST_F(LoaderTest, ExtensionsAreKeptAndServicesMayBeCalledSo) {
  const Project project = Load(
      "x-common: &c {restart: always}\nservices: {x-foo: {image: y, <<: *c}, web: {image: x}}");
  EXPECT_EQ(project.FindService("x-foo")->TextOf("restart"), "always");
  EXPECT_NE(project.model.Find("x-common"), nullptr);
}

TEST_F(LoaderTest, ConfigReadsBackAsItself) {
  const Project first = Load(R"(
services:
  web:
    image: x
    environment: {COST: "$$5", TEXT: "a: b # c", NUM: "08", MULTI: "one\ntwo", EMPTY: ""}
    command: ["echo", "yes", "1.5", "-x", "[", "*"]
    ports: ["80"]
)");
  files_["/p/compose.yaml"] = PrintYaml(first.model);
  const Project second = Load();
  EXPECT_EQ(first.model, second.model) << files_["/p/compose.yaml"];
  EXPECT_THAT(files_["/p/compose.yaml"], HasSubstr("COST: $$5"));
}

TEST_F(LoaderTest, DependenciesHaveAnOrder) {
  const Project project = Load(
      "services: {web: {image: x, depends_on: [api]}, api: {image: x, depends_on: [db, cache]},"
      " db: {image: x}, cache: {image: x}, other: {image: x}}");
  EXPECT_THAT(InDependencyOrder(project, {}, false).value(),
              ElementsAre("db", "cache", "api", "web", "other"));
  EXPECT_THAT(InDependencyOrder(project, {"api"}, false).value(),
              ElementsAre("db", "cache", "api"));
  EXPECT_THAT(InDependencyOrder(project, {"web", "api"}, true).value(), ElementsAre("api", "web"));
  EXPECT_EQ(InDependencyOrder(project, {"no"}, false).status().message(), "no such service: no");
}

TEST_F(LoaderTest, UnusedResourcesAreToldApart) {
  const Project project = Load(
      "services: {web: {image: x, volumes: ['u:/d'], networks: [n]}}\n"
      "volumes: {u: , v: }\nnetworks: {n: , m: }");
  EXPECT_THAT(UsedVolumes(project, {"web"}), ElementsAre("u"));
  EXPECT_THAT(UsedNetworks(project, {"web"}), ElementsAre("n"));
}

TEST_F(LoaderTest, BadValuesNameTheirPlace) {
  for (const auto& [line, words] : std::vector<std::pair<std::string, std::string>>{
           {"mem_limit: lots", "services.web.mem_limit: \"lots\": expected a size"},
           {"cpus: many", "services.web.cpus: \"many\": expected a number"},
           {"stop_grace_period: soon", "services.web.stop_grace_period: \"soon\": expected a"},
           {"privileged: '${N}'", "services.web.privileged: \"7\": expected true or false"},
           {"scale: '1.5'", "services.web.scale: \"1.5\": expected a whole number"}}) {
    options_.environment["N"] = "7";
    const std::string error = Error("services:\n  web:\n    image: x\n    " + line + "\n");
    EXPECT_THAT(error, HasSubstr("/p/compose.yaml:4:5: " + words)) << line;
  }
}

TEST_F(LoaderTest, ValuesHaveOneSpelling) {
  const Project project = Load(
      "services: {web: {image: x, mem_limit: 1g, cpus: '0.50', stop_grace_period: 90s, privileged: "
      "'yes', ulimits: {nofile: '9'}, pull_policy: if_not_present, environment: {A: 1.50, B: 0x10},"
      " secrets: [s]}}\nsecrets: {s: {file: ./s}}");
  EXPECT_EQ(Web(project, "mem_limit"), "\"1073741824\"");
  EXPECT_EQ(Web(project, "cpus"), "0.5");
  EXPECT_EQ(Web(project, "stop_grace_period"), "\"1m30s\"");
  EXPECT_EQ(Web(project, "ulimits"), "{\"nofile\":9}");
  EXPECT_EQ(Web(project, "pull_policy"), "\"missing\"");
  EXPECT_EQ(Web(project, "environment"), "{\"A\":\"1.5\",\"B\":\"16\"}");
  EXPECT_EQ(Web(project, "secrets"), "[{\"source\":\"s\",\"target\":\"/run/secrets/s\"}]");
}

TEST_F(LoaderTest, VariablesStayWhereTheyAreNotInterpolated) {
  options_.interpolate = false;
  const Project project = Load(
      "services: {web: {image: 'x:${TAG:-1}', ports: ['${P}:80'], privileged: '${T}', volumes: "
      "['${D}:/d']}}");
  EXPECT_EQ(Web(project, "image"), "\"x:${TAG:-1}\"");
  EXPECT_EQ(Web(project, "ports"), "[\"${P}:80\"]");
  EXPECT_EQ(Web(project, "privileged"), "\"${T}\"");
  EXPECT_EQ(Web(project, "volumes"), "[\"${D}:/d\"]");
}

TEST_F(LoaderTest, LabelFilesLieBelowTheOwnLabels) {
  files_["/p/l"] = "a=file\nb=\"two words\"\n";
  const Project project = Load("services: {web: {image: x, label_file: l, labels: {a: own}}}");
  EXPECT_EQ(Web(project, "labels"), "{\"a\":\"own\",\"b\":\"two words\"}");
  EXPECT_EQ(Web(project, "label_file"), "[\"/p/l\"]");
  // `config` prints the labels.
  EXPECT_EQ(Present(project.model).Find("services")->Find("web")->Find("label_file"), nullptr);
}

TEST_F(LoaderTest, BuildArgumentsWithoutValueTakeTheEnvironments) {
  options_.environment["B"] = "set";
  const Project project = Load(
      "services: {web: {build: {context: ., args: [A, B, C=], ssh: [default, 'k=./key'], "
      "additional_contexts: {res: ./r, img: 'docker-image://x', other: 'service:web'}}}}");
  EXPECT_EQ(
      Web(project, "build"),
      "{\"context\":\"/p\",\"args\":{\"B\":\"set\",\"C\":\"\"},\"ssh\":[\"default\",\"k=/p/key\"],"
      "\"additional_contexts\":{\"res\":\"/p/r\",\"img\":\"docker-image://x\",\"other\":\"service:"
      "web\"},\"dockerfile\":\"Dockerfile\"}");
}

TEST_F(LoaderTest, RepeatedItemsCollapseInOneFileToo) {
  EXPECT_EQ(
      Web(Load("services: {web: {image: x, cap_add: [A, B, A], expose: ['80', 80]}}"), "cap_add"),
      "[\"A\",\"B\"]");
  EXPECT_THAT(Error("services: {web: {image: x, volumes: ['/a:/d', '/b:/d']}}"),
              HasSubstr("target /d already mounted as services.web.volumes[0]"));
}

// Files that were written to do harm: an error, in bounded time and memory.

TEST_F(LoaderTest, HostileAliasesThatUnfoldWithoutEnd) {
  std::string bomb = "x-a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    bomb += std::string("x-") + c + ": &" + c + " [";
    for (int i = 0; i < 10; ++i) bomb += "*" + before + (i < 9 ? ", " : "]\n");
  }
  EXPECT_THAT(Error(bomb + "services: {web: {image: x}}\n"),
              HasSubstr("unfolds to more than 500000 values"));
}

TEST_F(LoaderTest, HostileMergeKeysThatUnfoldWithoutEnd) {
  std::string bomb = "x-a: &a {k: [x, x, x, x, x, x, x, x, x, x]}\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    bomb += std::string("x-") + c + ": &" + c + " {";
    for (int i = 0; i < 10; ++i)
      bomb += "k" + std::to_string(i) + ": {<<: *" + before + "}" + (i < 9 ? ", " : "}\n");
  }
  EXPECT_THAT(Error(bomb + "services: {web: {image: x}}\n"), HasSubstr("unfolds to more than"));
}

TEST_F(LoaderTest, HostileDepth) {
  EXPECT_THAT(Error("x-a: " + std::string(200, '[') + std::string(200, ']') +
                    "\nservices: {web: {image: x}}\n"),
              HasSubstr("nested deeper than 100 levels"));
  std::string deep = "x-a:\n";
  for (int i = 1; i < 200; ++i) deep += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_THAT(Error(deep), HasSubstr("nested deeper than 100 levels"));
}

TEST_F(LoaderTest, HostileSize) {
  EXPECT_THAT(Error("services: {web: {image: x}}\n#" + std::string(10 << 20, 'x')),
              HasSubstr("more than the 4194304 accepted"));
}

TEST_F(LoaderTest, HostileCyclesOfServices) {
  EXPECT_THAT(Error("services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [c]}, "
                    "c: {image: x, depends_on: [a]}}"),
              HasSubstr("dependency cycle detected: a -> b -> c -> a"));
  EXPECT_THAT(Error("services: {a: {image: x, network_mode: 'service:b'}, b: {image: x, links: "
                    "[a]}}"),
              HasSubstr("dependency cycle detected"));
  EXPECT_THAT(Error("services: {a: {extends: b}, b: {extends: a}}"),
              HasSubstr("Circular reference"));
  EXPECT_THAT(Error("services: {a: {extends: a}}"), HasSubstr("Circular reference"));
  std::string chain = "services: {s0: {image: x}";
  for (int i = 1; i < 2000; ++i) {
    chain +=
        ", s" + std::to_string(i) + ": {image: x, depends_on: [s" + std::to_string(i - 1) + "]}";
  }
  EXPECT_EQ(Load(chain + "}").ServiceNames().size(), 2000u);
}

TEST_F(LoaderTest, HostileNumbersOfThings) {
  std::string many = "services: {web: {image: x, environment: [A=1";
  for (int i = 0; i < 30'000; ++i) many += ", a" + std::to_string(i) + "=1";
  EXPECT_THAT(Error(many + "]}}"), HasSubstr("services.web.environment has 30001 entries"));
  std::string chain = "services: {s0: {image: x}";
  for (int i = 1; i < 6000; ++i) {
    chain +=
        ", s" + std::to_string(i) + ": {image: x, depends_on: [s" + std::to_string(i + 1) + "]}";
  }
  EXPECT_THAT(Error(chain + ", s6000: {image: x}}"), HasSubstr("in a chain of more than 5000"));
}

TEST_F(LoaderTest, HostileCyclesOfFiles) {
  files_["/p/b.yaml"] = "include: [compose.yaml]\nservices: {b: {image: x}}";
  EXPECT_THAT(Error("include: [b.yaml]\nservices: {a: {image: x}}"),
              HasSubstr("include cycle detected"));
  files_["/p/b.yaml"] = "services: {b: {extends: {file: compose.yaml, service: a}}}";
  EXPECT_THAT(Error("services: {a: {extends: {file: b.yaml, service: b}}}"),
              HasSubstr("Circular reference"));
  // Not a cycle: each file includes the next one, without end.
  options_.read = [](const std::string& path) -> absl::StatusOr<std::string> {
    const size_t dot = path.rfind('.');
    if (path == "/p/compose.yaml") return std::string("include: [f.1]\nservices: {}\n");
    int number = 0;
    if (path.rfind("/p/f.", 0) != 0 || !absl::SimpleAtoi(path.substr(dot + 1), &number))
      return absl::NotFoundError("no such file");
    return absl::StrCat("include: [f.", number + 1, "]\n");
  };
  EXPECT_THAT(Error(), HasSubstr("files are included and extended"));
}

TEST_F(LoaderTest, HostileFilesThatIncludeEachOtherTwice) {
  for (int i = 0; i < 40; ++i) {
    files_[absl::StrCat("/p/f", i)] = i == 39
                                          ? "services: {s: {image: x}}"
                                          : absl::StrCat("include: [f", i + 1, ", f", i + 1, "]");
  }
  EXPECT_THAT(Error("include: [f0]\n"), HasSubstr("files are included and extended"));
}

TEST_F(LoaderTest, HostileInterpolation) {
  // A variable that names itself is text, and is not expanded again.
  options_.environment["LOOP"] = "${LOOP}${LOOP}";
  EXPECT_EQ(Web(Load("services: {web: {image: x, hostname: '${LOOP}'}}"), "hostname"),
            "\"${LOOP}${LOOP}\"");
  files_["/p/.env"] = "A=${B}\nB=${A}\n";
  EXPECT_EQ(Web(Load("services: {web: {image: x, hostname: 'h${A}${B}'}}"), "hostname"), "\"h\"");
  std::string nested = "x";
  for (int i = 0; i < 100; ++i) nested = "${N:-" + nested + "}";
  EXPECT_THAT(Error("services: {web: {image: '" + nested + "'}}"),
              HasSubstr("nested deeper than 32 levels"));
  options_.environment["BIG"] = std::string(64 << 10, 'x');
  std::string repeated;
  for (int i = 0; i < 64; ++i) repeated += "${BIG}";
  EXPECT_THAT(Error("services: {web: {image: '" + repeated + "'}}"),
              HasSubstr("larger than 1 MiB"));
}

// Files of the person who types the command may be anywhere: what counts is that it is said.
TEST_F(LoaderTest, HostilePathsAreResolvedNotFollowedBlindly) {
  const Project project =
      Load("services: {web: {image: x, volumes: ['../../../../etc:/e', './a/../../b:/b']}}");
  EXPECT_THAT(Web(project, "volumes"), HasSubstr("\"source\":\"/etc\""));
  EXPECT_THAT(Web(project, "volumes"), HasSubstr("\"source\":\"/b\""));
  EXPECT_THAT(Error("services: {web: {image: x, env_file: ../../../absent}}"),
              HasSubstr("env file /absent not found"));
}

}  // namespace
}  // namespace gantry::compose
