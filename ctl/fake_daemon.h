// A gantry.v1 server on a temporary socket whose answers a test sets: for tests of verbs.
//
// Thread-safe once started; set the answers before.
#ifndef GANTRY_CTL_FAKE_DAEMON_H_
#define GANTRY_CTL_FAKE_DAEMON_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {

class FakeDaemon {
 public:
  // What the fake answers for one process.
  struct Play {
    absl::Status create;  // the answer before anything is created
    absl::Status start;   // after `created`
    std::string out;      // printed at once
    std::string err;
    bool echo = false;  // stdin comes back on stdout, until its end
    uint32_t exit_code = 0;
    int broken_off = 0;  // so many lists of containers are answered as by a daemon that stops
  };

  explicit FakeDaemon(const std::string& socket_path);
  ~FakeDaemon();

  Play play;
  v1::ListContainersResponse containers;
  v1::ListImagesResponse images;
  v1::ListNetworksResponse networks;
  v1::ListVolumesResponse volumes;
  std::vector<std::string> namespaces = {"default"};
  // By name; what is not here is kNotFound.
  std::map<std::string, v1::ContainerDetails> details;

  // What was asked, in order: "create NAME", "pull REFERENCE", "stop NAME", ...
  std::vector<std::string> calls() const;
  v1::ContainerConfig last_config() const;
  v1::CreateNetworkRequest last_network() const;
  v1::ConnectNetworkRequest last_connection() const;
  std::string last_namespace() const;

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_FAKE_DAEMON_H_
