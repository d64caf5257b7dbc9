// A client of a Docker door, for tests: sends bytes to its socket and reads to the end.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_DOCKER_CLIENT_H_
#define GANTRY_SUPERVISOR_API_DOCKER_DOCKER_CLIENT_H_

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"

namespace gantry::api::docker {

class DockerClient {
 public:
  explicit DockerClient(const std::string& path)
      : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    // A door that does not answer fails the test instead of holding it up.
    timeval limit = {20, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }

  int fd() const { return fd_.get(); }

  void Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  void CloseWriting() { shutdown(fd_.get(), SHUT_WR); }

  // What comes up to the end of the connection.
  std::string ReadToEnd() {
    std::string all;
    char buffer[16 << 10];
    ssize_t got;
    while ((got = recv(fd_.get(), buffer, sizeof buffer, 0)) > 0)
      all.append(buffer, static_cast<size_t>(got));
    return all;
  }
  // What comes until `text` is in it.
  std::string ReadUntil(absl::string_view text) {
    std::string all;
    char buffer[16 << 10];
    while (all.find(std::string(text)) == std::string::npos) {
      const ssize_t got = recv(fd_.get(), buffer, sizeof buffer, 0);
      if (got <= 0) break;
      all.append(buffer, static_cast<size_t>(got));
    }
    return all;
  }

 private:
  const UniqueFd fd_;
};

// The response to one request, header and all.
inline std::string AskDocker(const std::string& path, absl::string_view method,
                             absl::string_view target, absl::string_view body = "",
                             absl::string_view content_type = "application/json") {
  DockerClient client(path);
  std::string request =
      absl::StrCat(method, " ", target, " HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
  if (!body.empty()) {
    absl::StrAppend(&request, "Content-Type: ", content_type, "\r\nContent-Length: ", body.size(),
                    "\r\n");
  }
  client.Send(absl::StrCat(request, "\r\n", body));
  return client.ReadToEnd();
}

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_DOCKER_CLIENT_H_
