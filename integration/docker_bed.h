// A gantryd with a busybox image, asked through its Docker door.
#ifndef GANTRY_INTEGRATION_DOCKER_BED_H_
#define GANTRY_INTEGRATION_DOCKER_BED_H_

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"
#include "supervisor/api/docker/docker_client.h"

namespace gantry::integration {

inline constexpr char kDoorImage[] = "busybox:door";

// Debian's, or a newer one beside it.
inline std::string DockerProgram() {
  for (const char* path : {"/usr/local/bin/docker", "/usr/bin/docker"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return "";
}

// What follows the header of a response.
inline std::string BodyOf(const std::string& response) {
  const size_t at = response.find("\r\n\r\n");
  return at == std::string::npos ? "" : response.substr(at + 4);
}

class DockerDoorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>(options_);
    ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/client", 0755).ok());
    const std::string archive = bed_->scratch() + "/image.tar";
    ASSERT_TRUE(WriteBusyboxArchive(archive, kDoorImage).ok());
    ASSERT_TRUE(Ok(Ctl({"load", "-i", archive})));
  }

  void TearDown() override {
    if (bed_ == nullptr) return;
    const std::vector<std::string> ids =
        absl::StrSplit(Ctl({"ps", "-aq"}).out, '\n', absl::SkipEmpty());
    for (const std::string& id : ids) EXPECT_TRUE(Ok(Ctl({"rm", "-f", id})));
    bed_.reset();
  }

  std::string Socket() const { return bed_->state() + "/docker.sock"; }

  // In the namespace of docker's clients.
  Outcome Ctl(std::vector<std::string> args) const {
    std::vector<std::string> argv = bed_->CtlCommand({});
    for (std::string& word : argv) {
      if (word == bed_->ns()) word = "default";
    }
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv));
  }

  std::string Ask(absl::string_view method, absl::string_view target,
                  absl::string_view body = "") const {
    return api::docker::AskDocker(Socket(), method, target, body);
  }
  // The id of a new container.
  std::string Create(const std::string& body, const std::string& name) const {
    const std::string response =
        Ask("POST", absl::StrCat("/v1.41/containers/create?name=", name), body);
    EXPECT_THAT(response, testing::StartsWith("HTTP/1.1 201"));
    const size_t at = response.find("\"Id\":\"");
    return at == std::string::npos ? "" : response.substr(at + 6, 64);
  }

  // The id of a new exec.
  std::string CreateExec(const std::string& container, const std::string& body) const {
    const std::string response =
        Ask("POST", absl::StrCat("/containers/", container, "/exec"), body);
    EXPECT_THAT(response, testing::StartsWith("HTTP/1.1 201"));
    const size_t at = response.find("\"Id\":\"");
    return at == std::string::npos ? ""
                                   : response.substr(at + 6, response.find('"', at + 6) - at - 6);
  }

  Outcome Docker(std::vector<std::string> args, const std::string& input = "") const {
    std::vector<std::string> argv = {DockerProgram(), "--host", absl::StrCat("unix://", Socket())};
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), input, absl::Seconds(120),
                      {{"DOCKER_CONFIG", bed_->scratch() + "/client"}});
  }
  std::string Out(std::vector<std::string> args) const {
    const Outcome outcome = Docker(std::move(args));
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  // Gives the client a terminal.
  Outcome OnTerminal(const std::string& words) const {
    return RunProgram(
        {"script", "-qec", absl::StrCat(DockerProgram(), " --host unix://", Socket(), " ", words),
         "/dev/null"},
        "", absl::Seconds(120), {{"DOCKER_CONFIG", bed_->scratch() + "/client"}});
  }

  Testbed::Options options_;  // before SetUp()
  std::unique_ptr<Testbed> bed_;
};

}  // namespace gantry::integration

#endif  // GANTRY_INTEGRATION_DOCKER_BED_H_
