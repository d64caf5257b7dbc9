// Images that come and go: pull and import, push, load, save.
//
// Archives stream both ways: no more of them is in memory than one piece.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_IMAGE_TRANSFER_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_IMAGE_TRANSFER_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddImageTransferRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_IMAGE_TRANSFER_ROUTES_H_
