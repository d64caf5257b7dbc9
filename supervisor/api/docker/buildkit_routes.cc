#include "supervisor/api/docker/buildkit_routes.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/status_macros.h"
#include "supervisor/api/buildkit/buildkit_door.h"
#include "supervisor/api/docker/hijack.h"
#include "supervisor/api/docker/request.h"

namespace gantry::api::docker {
namespace {

// Answers with the upgrade to HTTP/2 that every such client asks for.
absl::StatusOr<UniqueFd> TakeHttp2(Request& request) {
  const std::string& upgrade = request.head().field("upgrade");
  if (!absl::EqualsIgnoreCase(upgrade, "h2c"))
    return absl::InvalidArgumentError(
        absl::StrCat("this path is for clients of BuildKit: ask for an upgrade to \"h2c\", not \"",
                     upgrade, "\""));
  GANTRY_ASSIGN_OR_RETURN(http::Hijacked client, request.Hijack());
  if (!client.read_already.empty()) {
    // They speak only after the answer; what comes before it is of another protocol.
    EndConnection(std::move(client));
    return absl::InvalidArgumentError("bytes before the answer to the upgrade");
  }
  std::string head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n";
  for (const auto& [name, value] : CommonFields())
    absl::StrAppend(&head, name, ": ", value, "\r\n");
  GANTRY_RETURN_IF_ERROR(SendAll(client.fd.get(), absl::StrCat(head, "\r\n")));
  return std::move(client.fd);
}

absl::Status Control(BuildkitDoor& door, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(UniqueFd connection, TakeHttp2(request));
  // The connection is no longer HTTP's: an error of it ends it without an answer.
  if (const absl::Status served = door.ServeControl(std::move(connection)); !served.ok())
    LOG(WARNING) << "BuildKit's clients: " << served;
  return absl::OkStatus();
}

absl::Status OpenSession(BuildkitDoor& door, Request& request) {
  buildkit::SessionOffer offer;
  offer.id = request.head().field("x-docker-expose-session-uuid");
  offer.name = request.head().field("x-docker-expose-session-name");
  offer.shared_key = request.head().field("x-docker-expose-session-sharedkey");
  for (const auto& [name, value] : request.head().fields) {
    if (name == "x-docker-expose-session-grpc-method") offer.methods.push_back(value);
  }
  if (offer.id.empty() || offer.id.size() > 256)
    return absl::InvalidArgumentError("X-Docker-Expose-Session-Uuid names no session");
  GANTRY_ASSIGN_OR_RETURN(UniqueFd connection, TakeHttp2(request));
  if (const absl::Status served = door.ServeSession(offer, std::move(connection)); !served.ok())
    LOG(WARNING) << "BuildKit's clients: " << served;
  return absl::OkStatus();
}

}  // namespace

void AddBuildkitRoutes(Router& router, BuildkitDoor* door) {
  if (door == nullptr) return;
  router.Add("POST", "/grpc", [door](Request& request) { return Control(*door, request); });
  router.Add("POST", "/session", [door](Request& request) { return OpenSession(*door, request); });
}

}  // namespace gantry::api::docker
