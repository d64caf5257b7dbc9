// Services, networks and volumes as docker compose 2 writes them before it takes their hash: JSON
// without blanks, keys in its order, what it leaves out left out.
//
// So that each of the two tools sees the other's containers, networks and volumes as they were
// asked for and leaves them alone. `config --format json` is another document: that one is for
// people and has extensions. Pure.
// Facts: docker compose 2.40, its JSON of a service's configuration.
#ifndef GANTRY_CTL_COMPOSE_DOCKER_JSON_H_
#define GANTRY_CTL_COMPOSE_DOCKER_JSON_H_

#include <map>
#include <string>

#include "ctl/compose/node.h"

namespace gantry::compose {

// `containers`: the id of a container of each service that this one refers to ("service:x" as its
// network_mode, ipc or pid, or in volumes_from); a service that is not in it stays as written.
std::string DockerJsonOfService(const Node& service,
                                const std::map<std::string, std::string>& containers);
std::string DockerJsonOfNetwork(const Node& network);
std::string DockerJsonOfVolume(const Node& volume);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_DOCKER_JSON_H_
