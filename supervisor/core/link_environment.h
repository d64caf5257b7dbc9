// Environment variables that tell a container where the containers are that it is linked to on the
// default bridge, as programs written for docker's legacy links expect them.
//
// With the alias "db" and port 5432/tcp exposed: DB_NAME, DB_PORT, DB_PORT_5432_TCP, the same with
// _ADDR, _PORT and _PROTO, for several ports in a row also _PORT_START and _PORT_END, and each
// variable of the other container as DB_ENV_NAME. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_LINK_ENVIRONMENT_H_
#define GANTRY_SUPERVISOR_CORE_LINK_ENVIRONMENT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry::core {

// The other end of a link.
struct LinkedContainer {
  std::string alias;                       // as the container that is linked calls it
  std::string address;                     // on the default bridge
  std::vector<std::string> exposed_ports;  // "5432/tcp"
  std::vector<std::string> env;            // NAME=value
};

// "NAME:ALIAS", or "NAME" for itself; older clients write /NAME:/OWN_NAME/ALIAS.
std::string LinkAlias(absl::string_view link);

// Names and values, for the container called `name`. A port that is none is left out.
std::vector<std::pair<std::string, std::string>> LinkEnvironment(const std::string& name,
                                                                 const LinkedContainer& linked);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LINK_ENVIRONMENT_H_
