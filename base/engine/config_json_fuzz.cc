// Create bodies: any bytes give a configuration or an error that names a field, and a configuration
// can be shown as a document again.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/engine/config_json.h"
#include "base/engine/engine_json.h"
#include "base/field_error.h"
#include "base/fuzz/fuzz.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {
      R"({"Image":"bb","Cmd":["sh","-c","x"],"Env":["A=1","B"],"ExposedPorts":{"80/tcp":{}},)"
      R"("Entrypoint":[""],"Volumes":{"/d":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1000000},)"
      R"("Labels":{"a":"b"},"StopTimeout":3})",
      R"({"HostConfig":{"Binds":["/a:/b:ro"],"Memory":16777216,"PortBindings":{"80/tcp":)"
      R"([{"HostIp":"::1","HostPort":"8000-8001"}]},"RestartPolicy":{"Name":"on-failure",)"
      R"("MaximumRetryCount":2},"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],)"
      R"("Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"r"}],"Tmpfs":{"/t":"size=1m"}}})",
      R"({"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":1,)"
      R"("Mode":511,"Options":[["noexec"],["uid","7"]]}},{"Type":"volume","Source":"v",)"
      R"("Target":"/y","VolumeOptions":{"DriverConfig":{"Name":"local"}}}],"ConsoleSize":[1,2]},)"
      R"("NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["a"],"IPAMConfig":)"
      R"({"IPv4Address":"10.0.0.1"}}}}})"};
}

void FuzzOne(absl::string_view bytes) {
  const auto config = engine::ConfigFromJson(bytes);
  if (!config.ok()) {
    if (FieldOf(config.status()).empty() || FieldReason(config.status()).empty()) std::abort();
    return;
  }
  for (const v1::Mount& mount : config->mounts()) {
    if (mount.target().empty() || mount.target()[0] != '/') std::abort();
  }
  for (const v1::PortBinding& port : config->port_bindings()) {
    if (port.container_port() < 1 || port.container_port() > 65535) std::abort();
  }
  v1::ContainerDetails details;
  *details.mutable_config() = *config;
  (void)engine::ContainerDocument(details).ToJson();
}

}  // namespace gantry
