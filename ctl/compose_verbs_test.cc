// The verbs of `ctl compose`, from a command line and a file to calls at a daemon and text.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "ctl/commands/commands.h"
#include "ctl/fake_daemon.h"

namespace gantry::ctl {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct Result {
  int status;
  std::string out;
  std::string err;
};

std::string ReadBack(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  ::lseek(fd, 0, SEEK_SET);
  while ((n = ::read(fd, buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(n));
  return text;
}

constexpr char kProject[] =
    "name: demo\n"
    "services:\n"
    "  web:\n    image: nginx\n    ports: ['8080:80']\n    depends_on: [db]\n"
    "  db: {image: postgres}\n"
    "  debug: {image: busybox, profiles: [tools]}\n";

class ComposeVerbsTest : public ::testing::Test {
 protected:
  ComposeVerbsTest()
      : socket_(directory_.Join("s")), file_(directory_.Join("c.yaml")), daemon_(socket_) {
    Write(kProject);
  }

  void Write(const std::string& text) { EXPECT_TRUE(WriteFile(file_, text).ok()); }

  Result Compose(std::vector<std::string> args) {
    args.insert(args.begin(), {"compose", "-f", file_});
    UniqueFd in(::memfd_create("in", MFD_CLOEXEC));
    UniqueFd out(::memfd_create("out", MFD_CLOEXEC));
    UniqueFd err(::memfd_create("err", MFD_CLOEXEC));
    Context context({in.get(), out.get(), err.get()}, Environment());
    const Verb tree = CommandTree();
    Result result;
    result.status = RunCommandLine(tree, context, args);
    result.out = ReadBack(out.get());
    result.err = ReadBack(err.get());
    return result;
  }

  std::vector<std::string> Completed(const std::vector<std::string>& words) {
    Context context(Context::Streams(), Environment());
    const Verb tree = CommandTree();
    return Complete(tree, context, words);
  }

  std::map<std::string, std::string> Environment() const {
    return {{"GANTRY_ADDRESS", socket_}, {"DOCKER_CONFIG", directory_.path()}, {"HOME", "/root"}};
  }

  void Container(const std::string& service, int number, v1::ContainerState state) {
    v1::ContainerSummary& one = *daemon_.containers.add_containers();
    one.set_id(absl::StrCat("id-", service, "-", number));
    one.set_name(absl::StrCat("demo-", service, "-", number));
    one.set_image("image");
    one.set_state(state);
    auto& labels = *one.mutable_labels();
    labels["com.docker.compose.project"] = "demo";
    labels["com.docker.compose.service"] = service;
    labels["com.docker.compose.container-number"] = absl::StrCat(number);
    labels["com.docker.compose.oneoff"] = "False";
    *daemon_.details[one.id()].mutable_summary() = one;
  }

  TempDir directory_;
  const std::string socket_;
  const std::string file_;
  FakeDaemon daemon_;
};

TEST_F(ComposeVerbsTest, ConfigListsWhatIsInTheFile) {
  EXPECT_EQ(Compose({"config", "--services"}).out, "web\ndb\n");
  EXPECT_EQ(Compose({"config", "--images"}).out, "nginx\npostgres\n");
  EXPECT_EQ(Compose({"config", "--profiles"}).out, "tools\n");
  EXPECT_EQ(Compose({"config", "--networks"}).out, "default\n");
  EXPECT_THAT(Compose({"config", "--format", "json"}).out, HasSubstr("\"published\": \"8080\""));
  EXPECT_EQ(Compose({"config", "-q"}).out, "");
}

TEST_F(ComposeVerbsTest, ConfigListsVariables) {
  Write("services: {web: {image: 'x:${TAG:-1}', hostname: '${NAME:?must}$$NO', user: '$WHO'}}");
  EXPECT_EQ(Compose({"config", "--variables"}).out,
            "NAME                REQUIRED            DEFAULT VALUE       ALTERNATE VALUE\n"
            "NAME                true                                    \n"
            "TAG                 false               1                   \n"
            "WHO                 false                                   \n");
}

TEST_F(ComposeVerbsTest, MistakesEndWithTheirPlace) {
  Write("services:\n  web:\n    imagee: x\n");
  const Result result = Compose({"up", "-d"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("c.yaml:3:5: services.web additional properties 'imagee' not "
                                    "allowed; did you mean image?"));
  EXPECT_THAT(daemon_.calls(), Not(Contains(HasSubstr("create"))));
}

TEST_F(ComposeVerbsTest, WarningsComeBeforeTheMistakeThatEndsAll) {
  Write("version: '3.8'\nservices:\n  web:\n    image: nginx\n    networks: [front]\n");
  const Result result = Compose({"up", "-d"});
  EXPECT_EQ(result.status, 1);
  const size_t warning = result.err.find("the attribute `version` is obsolete");
  const size_t mistake = result.err.find("refers to undefined network front");
  EXPECT_LT(warning, mistake) << result.err;
  EXPECT_NE(mistake, std::string::npos) << result.err;
}

TEST_F(ComposeVerbsTest, PlanShowsStepsAndChangesNothing) {
  const Result result = Compose({"plan"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("pull      image     postgres  (not here)\n"));
  EXPECT_THAT(result.out, HasSubstr("create    container demo-db-1\n"));
  EXPECT_THAT(result.out, HasSubstr("start     container demo-web-1\n"));
  EXPECT_THAT(daemon_.calls(), Not(Contains(HasSubstr("pull"))));
}

TEST_F(ComposeVerbsTest, PsShowsTheProjectsContainers) {
  Container("web", 1, v1::CONTAINER_STATE_RUNNING);
  Container("db", 1, v1::CONTAINER_STATE_RUNNING);
  EXPECT_EQ(Compose({"ps", "--format", "{{.Name}} {{.Service}} {{.State}}"}).out,
            "demo-db-1 db running\ndemo-web-1 web running\n");
  EXPECT_EQ(Compose({"ps", "--services"}).out, "db\nweb\n");
  (*daemon_.containers.mutable_containers(0)->mutable_labels())["com.docker.compose.oneoff"] =
      "True";
  EXPECT_EQ(Compose({"ps", "-q"}).out, "id-db-1\n");
  EXPECT_EQ(Compose({"ps", "absent"}).status, 1);
}

TEST_F(ComposeVerbsTest, StopEndsDependantsFirst) {
  Container("db", 1, v1::CONTAINER_STATE_RUNNING);
  Container("web", 1, v1::CONTAINER_STATE_RUNNING);
  const Result result = Compose({"stop", "-t", "3"});
  EXPECT_EQ(result.status, 0) << result.err;
  std::vector<std::string> stops;
  for (const std::string& call : daemon_.calls()) {
    if (call.rfind("stop", 0) == 0) stops.push_back(call);
  }
  EXPECT_THAT(stops, ElementsAre("stop id-web-1 3", "stop id-db-1 3"));
}

TEST_F(ComposeVerbsTest, StopLeavesWhatTheFileDoesNotHave) {
  Container("web", 1, v1::CONTAINER_STATE_RUNNING);
  Container("gone", 1, v1::CONTAINER_STATE_RUNNING);
  EXPECT_EQ(Compose({"stop"}).status, 0);
  EXPECT_THAT(daemon_.calls(), Contains(HasSubstr("stop id-web-1")));
  EXPECT_THAT(daemon_.calls(), Not(Contains(HasSubstr("id-gone-1"))));
}

TEST_F(ComposeVerbsTest, OptionsThatExcludeEachOtherAreRefused) {
  EXPECT_THAT(Compose({"up", "--force-recreate", "--no-recreate"}).err, HasSubstr("exclude"));
  EXPECT_THAT(Compose({"up", "-d", "--watch"}).err, HasSubstr("--watch needs the output attached"));
  EXPECT_THAT(Compose({"up", "-d", "--abort-on-container-exit"}).err,
              HasSubstr("leave -d and --wait out"));
  EXPECT_THAT(Compose({"up", "-d", "--attach", "web"}).err, HasSubstr("leave -d and --wait out"));
  EXPECT_THAT(Compose({"up", "--exit-code-from", "wbe"}).err, HasSubstr("no such service: wbe"));
  EXPECT_THAT(Compose({"up", "db", "--attach", "web"}).err,
              HasSubstr("--attach: service web is not one that this command brings up"));
  EXPECT_THAT(Compose({"up", "--scale", "web=x"}).err, HasSubstr("expected SERVICE=NUMBER"));
}

TEST_F(ComposeVerbsTest, BuildKeysThatAreNotServedNameTheirPlace) {
  Write("services:\n  web:\n    build:\n      context: .\n      privileged: true\n");
  const Result result = Compose({"build"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("c.yaml:5:7: services.web.build.privileged: builds are not "
                                    "privileged; use entitlements"));
}

TEST_F(ComposeVerbsTest, WatchNeedsSomethingToWatch) {
  EXPECT_THAT(Compose({"watch", "--no-up"}).err, HasSubstr("has anything to watch"));
}

TEST_F(ComposeVerbsTest, CompletionKnowsVerbsFlagsAndServices) {
  EXPECT_THAT(Completed({"compose", "-f", file_, "re"}), ElementsAre("restart"));
  EXPECT_THAT(Completed({"compose", "--file", file_, "up", "--rem"}),
              ElementsAre("--remove-orphans"));
  EXPECT_THAT(Completed({"compose", "-f", file_, "up", ""}), ElementsAre("db", "debug", "web"));
  EXPECT_THAT(Completed({"compose", absl::StrCat("--file=", file_), "logs", "d"}),
              ElementsAre("db", "debug"));
  EXPECT_THAT(Completed({"compose", "-f", file_, "up", "--exit-code-from", "w"}),
              ElementsAre("web"));
  EXPECT_THAT(Completed({"compose", "-f", file_, "--profile", ""}), ElementsAre("tools"));
  EXPECT_THAT(Completed({"compose", "--pro"}),
              ElementsAre("--profile", "--progress", "--project-directory", "--project-name"));
  EXPECT_THAT(Completed({"compose", "-f", ""}), ElementsAre(":files"));
}

}  // namespace
}  // namespace gantry::ctl
