// Values of options: every parser must end, and what it takes must have the parts that it promises.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/fuzz/fuzz.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {"/srv:/www:ro,rslave",
          "type=bind,\"source=/a,b\",target=/x,readonly",
          "type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1770",
          "[::1]:8000-8002:80-82/udp",
          "/t:exec,size=1m",
          "nofile=1024:2048",
          "/dev/sda:/dev/xvda:rw",
          "on-failure:3",
          "name=net,alias=a,ip=10.0.0.1",
          "/dev/sda:10mb",
          "1h30m",
          "2026-11-21T09:00:00Z",
          "label!=keep",
          "sh -c 'a \"b\" \\c'"};
}

void FuzzOne(absl::string_view bytes) {
  const auto absolute = [](const absl::StatusOr<v1::Mount>& mount) {
    if (mount.ok() && (mount->target().empty() || mount->target()[0] != '/')) std::abort();
  };
  absolute(engine::ParseVolume(bytes, "/cwd"));
  absolute(engine::ParseMount(bytes, "/cwd"));
  absolute(engine::ParseTmpfs(bytes));
  const auto ports = engine::ParsePublish(bytes);
  if (ports.ok()) {
    for (const v1::PortBinding& port : *ports) {
      if (port.container_port() < 1 || port.container_port() > 65535) std::abort();
    }
  }
  const auto network = engine::ParseNetwork(bytes);
  if (network.ok() && network->network().empty()) std::abort();
  const auto device = engine::ParseDevice(bytes);
  if (device.ok() && device->permissions().empty()) std::abort();
  (void)engine::ParseDeviceRate(bytes, true);
  (void)engine::ParseUlimit(bytes);
  (void)engine::ParseRestartPolicy(bytes);
  const auto filter = engine::ParseFilter(bytes);
  if (filter.ok() && filter->key().empty()) std::abort();
  (void)engine::ParseExtraHost(bytes);
  (void)engine::SplitWords(bytes);
  (void)engine::ParseBytes(bytes);
  (void)engine::ParseDuration(bytes);
  (void)engine::ParseTimestamp(bytes, absl::UnixEpoch());
  (void)engine::ParseNanoCpus(bytes);
}

}  // namespace gantry
