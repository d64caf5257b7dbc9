#include "supervisor/api/docker/system_routes.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/cancel_token.h"
#include "base/engine/engine_json.h"
#include "base/engine/proto_time.h"
#include "base/engine/registry_auth_json.h"
#include "base/engine/system_json.h"
#include "base/engine/units.h"
#include "base/engine/value.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/api/docker/version_table.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/system_service.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

// Before 1.25 a security option was its name alone: "seccomp" of "name=seccomp,profile=builtin".
void KeepNamesOnly(v1::InfoResponse& info) {
  for (std::string& option : *info.mutable_security_options()) {
    absl::string_view name = option;
    absl::ConsumePrefix(&name, "name=");
    option = std::string(name.substr(0, name.find(',')));
  }
}

absl::Status Info(core::SystemService& system, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(v1::InfoResponse info, system.Info(request.context()));
  if (request.version() < ApiVersion{1, 25}) KeepNamesOnly(info);
  return request.Reply(
      200, ForVersion(Document::kInfo, request.version(), engine::EngineInfoDocument(info)));
}

absl::Status Version(core::SystemService& system, Request& request) {
  return request.Reply(200, engine::VersionDocument(system.Version()));
}

absl::Status Auth(core::ImageServices& images, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  v1::LoginRequest asked;
  GANTRY_ASSIGN_OR_RETURN(*asked.mutable_auth(), engine::RegistryAuthFromDocument(body));
  const absl::StatusOr<v1::LoginResponse> answer = images.registry.Login(request.context(), asked);
  // Which of both a registry says of a wrong password is its own taste.
  if (absl::IsPermissionDenied(answer.status()))
    return absl::UnauthenticatedError(answer.status().message());
  GANTRY_RETURN_IF_ERROR(answer.status());
  Value out = Value::EmptyObject();
  out.Set("IdentityToken", answer->identity_token());
  out.Set("Status", answer->status());
  return request.Reply(200, out);
}

// A moment as Unix seconds with a fraction, RFC 3339 or an age.
absl::StatusOr<std::optional<absl::Time>> Moment(const Request& request, absl::string_view name) {
  const std::string& text = request.Query(name);
  if (text.empty()) return std::nullopt;
  absl::StatusOr<absl::Time> time = engine::ParseTimestamp(text, absl::Now());
  if (!time.ok())
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", time.status().message()));
  return *time;
}

// Raised by the bus, and by the client's leaving.
class Bell {
 public:
  void Ring() {
    absl::MutexLock lock(&mu_);
    rung_ = true;
  }
  // Whether it was rung before `deadline`.
  bool WaitUntil(absl::Time deadline) {
    absl::MutexLock lock(&mu_);
    const bool rung = mu_.AwaitWithDeadline(absl::Condition(&rung_), deadline);
    rung_ = false;
    return rung;
  }

 private:
  absl::Mutex mu_;
  bool rung_ ABSL_GUARDED_BY(mu_) = false;
};

absl::Status Events(core::SystemService& system, Request& request) {
  v1::EventsRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<absl::Time> since, Moment(request, "since"));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<absl::Time> until, Moment(request, "until"));
  if (since.has_value() && until.has_value() && *since > *until) {
    return absl::InvalidArgumentError(absl::StrCat("`since` time (", request.Query("since"),
                                                   ") cannot be after `until` time (",
                                                   request.Query("until"), ")"));
  }
  if (since.has_value()) engine::ToProto(*since, asked.mutable_since());
  if (until.has_value()) engine::ToProto(*until, asked.mutable_until());
  const auto bell = std::make_shared<Bell>();
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<core::EventFeed> feed,
                          system.Listen(request.context(), asked, [bell] { bell->Ring(); }));
  const CancelToken::Registration gone = request.cancel().OnCancel([bell] { bell->Ring(); });
  GANTRY_RETURN_IF_ERROR(request.Begin(200, "application/json"));
  const absl::Time deadline = until.value_or(absl::InfiniteFuture());
  while (true) {
    while (const std::optional<v1::Event> event = feed->Next()) {
      GANTRY_RETURN_IF_ERROR(request.Write(engine::EventDocument(*event)));
    }
    // A client that fell too far behind is cut off, and knows that it missed something.
    GANTRY_RETURN_IF_ERROR(feed->status());
    GANTRY_RETURN_IF_ERROR(request.cancel().Check());
    if (request.exchange().stopping() || absl::Now() >= deadline) return request.End();
    bell->WaitUntil(deadline);
  }
}

}  // namespace

void AddSystemRoutes(Router& router, const Parts& parts) {
  core::SystemService* const system = parts.system;
  core::ImageServices* const images = parts.images;
  router.Add("GET", "/info", [system](Request& request) { return Info(*system, request); });
  router.Add("GET", "/version", [system](Request& request) { return Version(*system, request); });
  router.Add("GET", "/events", [system](Request& request) { return Events(*system, request); });
  router.Add("POST", "/auth", [images](Request& request) { return Auth(*images, request); });
}

}  // namespace gantry::api::docker
