// What a service asks for, as the container that gantry.v1 is asked to create.
//
// Pure: the project is complete (complete.h). Labels are docker compose's, so that each tool sees
// the other's projects.
// Spec: compose-spec "Services top-level element"; labels com.docker.compose.*.
#ifndef GANTRY_CTL_COMPOSE_CONTAINER_CONFIG_H_
#define GANTRY_CTL_COMPOSE_CONTAINER_CONFIG_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "ctl/compose/project.h"

namespace gantry::v1 {
class ContainerConfig;
class CreateNetworkRequest;
}  // namespace gantry::v1

namespace gantry::compose {

inline constexpr char kProjectLabel[] = "com.docker.compose.project";
inline constexpr char kServiceLabel[] = "com.docker.compose.service";
inline constexpr char kNumberLabel[] = "com.docker.compose.container-number";
inline constexpr char kOneOffLabel[] = "com.docker.compose.oneoff";
inline constexpr char kHashLabel[] = "com.docker.compose.config-hash";
inline constexpr char kImageLabel[] = "com.docker.compose.image";
inline constexpr char kDependsLabel[] = "com.docker.compose.depends_on";
inline constexpr char kDirectoryLabel[] = "com.docker.compose.project.working_dir";
inline constexpr char kFilesLabel[] = "com.docker.compose.project.config_files";
inline constexpr char kEnvFileLabel[] = "com.docker.compose.project.environment_file";
inline constexpr char kVersionLabel[] = "com.docker.compose.version";
// Of what ctl made.
inline constexpr char kVersionPrefix[] = "gantry-";
inline constexpr char kReplaceLabel[] = "com.docker.compose.replace";
inline constexpr char kSlugLabel[] = "com.docker.compose.slug";
inline constexpr char kNetworkLabel[] = "com.docker.compose.network";
inline constexpr char kVolumeLabel[] = "com.docker.compose.volume";

// One container of a service.
struct Replica {
  std::string service;
  int number = 1;       // from 1; 0 for a one-off
  std::string one_off;  // "" or its 64 hexadecimal digits
  std::string image_digest;
};

// "demo-web-1", or the service's container_name.
std::string ContainerNameOf(const Project& project, const Replica& replica);

// Over what makes a container of this service differ from another: everything but build,
// pull_policy, scale, deploy.replicas, depends_on and profiles. It is docker compose's hash
// (docker_json.h), as each tool compares it with the other's. `containers` as in
// ContainerConfigOf().
std::string ServiceHash(const Project& project, const std::string& service,
                        const std::map<std::string, std::string>& containers = {});
// Of a network or volume ("networks", "volumes").
std::string ResourceHash(const Project& project, const std::string& kind, const std::string& key);

// `containers` has the id of a container of each service that this one refers to by service:X.
//   kInvalidArgument     a value is not of its syntax; names the service and the key
//   kFailedPrecondition  something that a container of ours cannot have; says what instead
absl::StatusOr<v1::ContainerConfig> ContainerConfigOf(
    const Project& project, const Replica& replica,
    const std::map<std::string, std::string>& containers);

// What a service says that has no effect here, a sentence each, with its place.
std::vector<std::string> WithoutEffect(const Project& project, const std::string& service);

// Whether a container of the service can be asked for, before anything is changed. As above.
absl::Status CheckService(const Project& project, const std::string& service);

absl::StatusOr<v1::CreateNetworkRequest> NetworkRequestOf(const Project& project,
                                                          const std::string& key);

// Labels of a network or volume of the project.
std::map<std::string, std::string> ResourceLabels(const Project& project, const std::string& kind,
                                                  const std::string& key);

// Bytes that go into the created container before it starts: secrets and configs that are no files.
struct InjectedFile {
  std::string target;  // absolute
  std::string content;
  uint32_t mode = 0444;
  int64_t uid = 0;
  int64_t gid = 0;
};
//   kFailedPrecondition  external ones, a read-only service, a variable that is not set
absl::StatusOr<std::vector<InjectedFile>> InjectedFilesOf(const Project& project,
                                                          const std::string& service);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_CONTAINER_CONFIG_H_
