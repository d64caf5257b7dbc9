#include "supervisor/api/docker/absent_routes.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "supervisor/api/docker/docker_client.h"
#include "supervisor/api/docker/docker_door.h"

namespace gantry::api::docker {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class AbsentRoutesTest : public testing::Test {
 protected:
  AbsentRoutesTest() {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd.get(), 16), 0);
    EXPECT_TRUE(door_.Serve(std::move(fd)).ok());
  }

  TempDir dir_;
  const std::string path_ = dir_.path() + "/docker.sock";
  DockerDoor door_{Parts()};
};

TEST_F(AbsentRoutesTest, AHostInNoSwarm) {
  for (const char* target : {"/v1.41/swarm", "/v1.41/nodes", "/services", "/v1.30/tasks",
                             "/secrets", "/configs/x", "/services/x/logs"}) {
    const std::string answer = AskDocker(path_, "GET", target);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 ")) << target;
    EXPECT_THAT(answer, HasSubstr("This node is not a swarm manager. Use \\\"docker swarm init"))
        << target;
  }
  EXPECT_THAT(AskDocker(path_, "POST", "/swarm/leave"),
              HasSubstr("This node is not part of a swarm"));
}

TEST_F(AbsentRoutesTest, AHostWithoutPlugins) {
  const std::string answer = AskDocker(path_, "GET", "/v1.41/plugins");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\n[]"));
  EXPECT_THAT(AskDocker(path_, "GET", "/v1.41/plugins/a/b:latest/json"),
              StartsWith("HTTP/1.1 404 "));
}

TEST_F(AbsentRoutesTest, BuildsSayWhatToDoAndTheirCacheIsEmpty) {
  const std::string answer = AskDocker(path_, "POST", "/v1.41/build?t=x");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 501 "));
  EXPECT_THAT(answer, HasSubstr("BuildKit"));
  EXPECT_THAT(AskDocker(path_, "POST", "/v1.41/build/prune"),
              HasSubstr(R"({"CachesDeleted":null,"SpaceReclaimed":0})"));
}

}  // namespace
}  // namespace gantry::api::docker
