#include "supervisor/api/docker/router.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/api/docker/docker_client.h"
#include "supervisor/api/docker/docker_door.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/http/server.h"

namespace gantry::api::docker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;

absl::Status Nothing(Request& request) { return request.ReplyEmpty(204); }

Router Example() {
  Router router;
  router.Add("GET", "/containers/json", Nothing);
  router.Add("GET", "/containers/{id}/json", Nothing);
  router.Add("GET", "/images/{name...}/json", Nothing);
  router.Add("GET", "/new", Nothing, {1, 44});
  return router;
}

http::Fields Parameters(const Router& router, absl::string_view path) {
  const absl::StatusOr<Router::Match> match = router.Find("GET", path);
  EXPECT_TRUE(match.ok()) << path << ": " << match.status();
  return match.ok() ? match->parameters : http::Fields();
}

TEST(RouterTest, AVersionMayStandBeforeThePath) {
  const Router router = Example();
  EXPECT_EQ(router.Find("GET", "/containers/json")->version, kNewest);
  EXPECT_EQ(router.Find("GET", "/v1.30/containers/json")->version, (ApiVersion{1, 30}));
  EXPECT_EQ(router.Find("GET", "/v1.23/containers/json").status().message(),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade "
            "your client to a newer version");
  EXPECT_EQ(router.Find("GET", "/v1.99/containers/json").status().message(),
            "client version 1.99 is too new. Maximum supported API version is 1.51");
  EXPECT_TRUE(absl::IsNotFound(router.Find("GET", "/v1/containers/json").status()));
}

TEST(RouterTest, NamesOfImagesHaveSlashes) {
  const Router router = Example();
  EXPECT_THAT(Parameters(router, "/containers/web/json"), ElementsAre(Pair("id", "web")));
  EXPECT_THAT(Parameters(router, "/images/a/b/c:1/json"), ElementsAre(Pair("name", "a/b/c:1")));
  EXPECT_THAT(Parameters(router, "/images/a%2Fb%3A1/json"), ElementsAre(Pair("name", "a/b:1")));
  EXPECT_THAT(Parameters(router, "/containers//web/json"), ElementsAre(Pair("id", "web")));
}

TEST(RouterTest, PathsThatMeanSomethingElseAreRefused) {
  const Router router = Example();
  for (const char* path :
       {"/containers/../json", "/containers/%2e%2e/json", "/images/a/%2E./json",
        "/containers/a%00b/json", "/containers/a%2fb/json", "/images/a%2f..%2fb/json"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(router.Find("GET", path).status())) << path;
  }
}

TEST(RouterTest, AnUnknownPathOrMethodIsAPageNotFound) {
  const Router router = Example();
  for (const char* path : {"/", "", "/containers", "/containers/a/b/json", "/v1.41"})
    EXPECT_EQ(router.Find("GET", path).status(), absl::NotFoundError("page not found")) << path;
  EXPECT_EQ(router.Find("POST", "/containers/json").status(),
            absl::NotFoundError("page not found"));
}

TEST(RouterTest, APathIsMissingInVersionsBeforeIt) {
  const Router router = Example();
  EXPECT_TRUE(router.Find("GET", "/v1.44/new").ok());
  EXPECT_TRUE(absl::IsNotFound(router.Find("GET", "/v1.43/new").status()));
}

// A server of the handler "POST /echo", on a socket.
class RequestTest : public ::testing::Test {
 protected:
  void Serve(Router::Handler handler) {
    router_.Add("POST", "/echo", std::move(handler));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener.get(), 16), 0);
    auto server =
        http::Server::Start(std::move(listener), http::Server::Options(),
                            [this](http::Exchange& exchange) { router_.Serve(exchange); });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  TempDir directory_;
  const std::string path_ = directory_.path() + "/docker.sock";
  Router router_;
  std::unique_ptr<http::Server> server_;
};

absl::Status EchoJson(Request& request) {
  const absl::StatusOr<engine::Value> body = request.Json();
  if (!body.ok()) return body.status();
  return request.Reply(200, *body);
}

TEST_F(RequestTest, ABodyIsOneJsonDocument) {
  Serve(EchoJson);
  EXPECT_THAT(AskDocker(path_, "POST", "/v1.41/echo", R"({"a":1})"), HasSubstr("{\"a\":1}\n"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo"), HasSubstr("\r\n\r\nnull\n"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo", "{}", "text/plain"),
              HasSubstr("{\"message\":\"unsupported Content-Type header (text/plain): must be "
                        "'application/json'\"}"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo", "{}", "application/json; charset=utf-8"),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(
      AskDocker(path_, "POST", "/echo", "{}", "application/json\r\nContent-Type: text/plain"),
      AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("two Content-Type headers")));
  for (const char* body : {"{", "{}{}", "{\"a\":1,\"a\":2}", "{\"a\":1e999}", "\"\\ud800\""}) {
    EXPECT_THAT(AskDocker(path_, "POST", "/echo", body), StartsWith("HTTP/1.1 400")) << body;
  }
  EXPECT_THAT(AskDocker(path_, "POST", "/echo", std::string(10000, '[')),
              HasSubstr("nested too deep"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo", std::string(kMaxJsonBytes + 1, ' ')),
              AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("larger than 4194304 bytes")));
}

TEST_F(RequestTest, EveryAnswerNamesTheApiAndErrorsAreJson) {
  Serve([](Request&) { return absl::FailedPreconditionError("it runs"); });
  const std::string conflict = AskDocker(path_, "POST", "/echo");
  EXPECT_THAT(conflict, StartsWith("HTTP/1.1 409"));
  EXPECT_THAT(conflict, HasSubstr("Api-Version: 1.51\r\n"));
  EXPECT_THAT(conflict, HasSubstr("Ostype: linux\r\n"));
  EXPECT_THAT(conflict, HasSubstr("Server: Docker/"));
  EXPECT_THAT(conflict, HasSubstr("\r\n\r\n{\"message\":\"it runs\"}\n"));
  EXPECT_THAT(AskDocker(path_, "GET", "/nowhere"), HasSubstr("{\"message\":\"page not found\"}\n"));
}

// Clients look for an id in the message of a conflict.
TEST_F(RequestTest, ErrorsHaveIds) {
  const std::string message = absl::StrCat("in use by container ", std::string(64, 'a'));
  Serve([&](Request&) { return absl::FailedPreconditionError(message); });
  EXPECT_THAT(AskDocker(path_, "POST", "/echo"), HasSubstr(message));
}

TEST_F(RequestTest, TruthIsDockers) {
  Serve([](Request& request) {
    return request.ReplyText(200, absl::StrCat(request.Flag("a"), request.Flag("b", true)));
  });
  EXPECT_THAT(AskDocker(path_, "POST", "/echo"), HasSubstr("\r\n\r\n01"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo?a=1&b=False"), HasSubstr("\r\n\r\n10"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo?a=yes&b=none"), HasSubstr("\r\n\r\n10"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo?a&b=0"), HasSubstr("\r\n\r\n00"));
}

TEST_F(RequestTest, FiltersComeInTwoForms) {
  Serve([](Request& request) -> absl::Status {
    const auto filters = request.Filters();
    if (!filters.ok()) return filters.status();
    std::string text;
    for (const auto& [key, value] : *filters) absl::StrAppend(&text, key, "=", value, ";");
    return request.ReplyText(200, text);
  });
  EXPECT_THAT(AskDocker(path_, "POST",
                        "/echo?filters=%7B%22label%22%3A%7B%22a%22%3Atrue%2C%22b%22%3Afalse%7D%7D"),
              HasSubstr("\r\n\r\nlabel=a;"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo?filters={\"label\":[\"a\",\"b=c\"]}"),
              HasSubstr("\r\n\r\nlabel=a;label=b=c;"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo?filters=[]"), HasSubstr("invalid filters"));
  EXPECT_THAT(AskDocker(path_, "POST", "/echo?filters={\"a\":1}"), HasSubstr("invalid filters"));
}

TEST_F(RequestTest, AClientThatLeavesCancelsItsCall) {
  absl::Notification cancelled;
  Serve([&cancelled](Request& request) {
    // The client leaves while this waits: without the watch it would sleep to its end.
    const absl::Status slept = request.cancel().Sleep(absl::Seconds(20));
    if (!slept.ok()) cancelled.Notify();
    return request.ReplyEmpty(204);
  });
  {
    DockerClient client(path_);
    client.Send("POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n");
  }
  EXPECT_TRUE(cancelled.WaitForNotificationWithTimeout(absl::Seconds(10)));
}

TEST(DockerDoorTest, PingsAreAnswered) {
  TempDir directory;
  const std::string path = directory.path() + "/docker.sock";
  DockerDoor door((Parts()));
  EXPECT_TRUE(door.router().Find("HEAD", "/_ping").ok());
  EXPECT_TRUE(door.router().Find("GET", "/v1.24/_ping").ok());
}

}  // namespace
}  // namespace gantry::api::docker
