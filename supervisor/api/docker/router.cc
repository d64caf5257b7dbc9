#include "supervisor/api/docker/router.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

#include "base/engine/api_version.h"
#include "base/status_macros.h"
#include "base/trace/span.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/http/server.h"

namespace gantry::api::docker {
namespace {

constexpr char kPageNotFound[] = "page not found";

absl::Status CheckVersion(ApiVersion version, absl::string_view text) {
  if (version < kOldest) {
    return absl::InvalidArgumentError(
        absl::StrCat("client version ", text, " is too old. Minimum supported API version is ",
                     engine::kMinApiVersion, ", please upgrade your client to a newer version"));
  }
  if (version > kNewest) {
    return absl::InvalidArgumentError(absl::StrCat("client version ", text,
                                                   " is too new. Maximum supported API version is ",
                                                   engine::kApiVersion));
  }
  return absl::OkStatus();
}

// The decoded parts. Empty ones, of two slashes in a row, are left out.
absl::StatusOr<std::vector<std::string>> PartsOf(absl::string_view path) {
  std::vector<std::string> parts;
  for (absl::string_view sent : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    std::string part = http::PercentDecode(sent, /*in_query=*/false);
    if (absl::StrContains(part, absl::string_view("\0", 1)))
      return absl::InvalidArgumentError("invalid path: it holds a NUL byte");
    for (const absl::string_view piece : absl::StrSplit(part, '/')) {
      if (piece == "." || piece == "..")
        return absl::InvalidArgumentError("invalid path: \".\" and \"..\" have no meaning in it");
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

void Router::Add(absl::string_view method, absl::string_view pattern, Handler handler,
                 ApiVersion since) {
  Route route{std::string(method), std::string(pattern), {}, since, std::move(handler)};
  for (absl::string_view part : absl::StrSplit(pattern, '/', absl::SkipEmpty())) {
    if (absl::ConsumePrefix(&part, "{") && absl::ConsumeSuffix(&part, "}")) {
      const bool many = absl::ConsumeSuffix(&part, "...");
      route.parts.push_back({many ? Part::kMany : Part::kOne, std::string(part)});
    } else {
      route.parts.push_back({Part::kWord, std::string(part)});
    }
  }
  routes_.push_back(std::move(route));
}

absl::StatusOr<Router::Match> Router::Find(absl::string_view method, absl::string_view path) const {
  GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> parts, PartsOf(path));
  Match match;
  absl::Status version_problem;
  if (!parts.empty() && absl::StartsWith(parts.front(), "v")) {
    const std::string text = parts.front().substr(1);
    if (const auto version = ApiVersion::Parse(text); version.has_value()) {
      match.version = *version;
      version_problem = CheckVersion(*version, text);
      parts.erase(parts.begin());
    }
  }
  for (const Route& route : routes_) {
    // A {name...} takes what the words around it leave.
    const size_t surplus =
        parts.size() >= route.parts.size() ? parts.size() - route.parts.size() : 0;
    if (route.method != method || parts.size() < route.parts.size()) continue;
    http::Fields parameters;
    size_t at = 0;
    bool fits = true;
    bool encoded_slash = false;
    for (const Part& part : route.parts) {
      if (part.kind == Part::kWord) {
        fits = at < parts.size() && parts[at++] == part.text;
      } else {
        const size_t taken = part.kind == Part::kMany ? 1 + surplus : 1;
        std::string value = absl::StrJoin(parts.begin() + static_cast<ptrdiff_t>(at),
                                          parts.begin() + static_cast<ptrdiff_t>(at + taken), "/");
        // A name may begin with a slash, as docker prints it.
        if (part.kind == Part::kOne && absl::StrContains(absl::StripPrefix(value, "/"), '/'))
          encoded_slash = true;
        parameters.emplace_back(part.text, std::move(value));
        at += taken;
      }
      if (!fits) break;
    }
    if (!fits || at != parts.size()) continue;
    GANTRY_RETURN_IF_ERROR(version_problem);
    if (encoded_slash)
      return absl::InvalidArgumentError("invalid path: an encoded slash has no place in this name");
    if (match.version < route.since) break;
    match.handler = &route.handler;
    match.parameters = std::move(parameters);
    return match;
  }
  return absl::NotFoundError(kPageNotFound);
}

void Router::Serve(http::Exchange& exchange) const {
  const http::RequestHead& head = exchange.head();
  absl::StatusOr<Match> match = Find(head.method, head.path);
  if (!match.ok()) {
    Request request(exchange, kNewest, {});
    // A client that does not take its answer needs none.
    (void)request.ReplyError(match.status());
    return;
  }
  Request request(exchange, match->version, std::move(match->parameters));
  std::string name;
  for (const Route& route : routes_) {
    if (trace::Sink() != nullptr && &route.handler == match->handler)
      name = absl::StrCat(route.method, " ", route.pattern);
  }
  const trace::ScopedSpan span(name, head.field("traceparent"));
  const absl::Status status = (*match->handler)(request);
  if (status.ok()) return;
  if (!exchange.begun()) {
    (void)request.ReplyError(status);
    return;
  }
  // The response is cut off, which the client sees. One that left has been told nothing.
  LOG_IF(WARNING, !request.cancel().cancelled())
      << "docker: " << head.method << " " << head.path << ": " << status;
}

std::vector<std::string> Router::routes() const {
  std::vector<std::string> out;
  for (const Route& route : routes_) out.push_back(absl::StrCat(route.method, " ", route.pattern));
  return out;
}

}  // namespace gantry::api::docker
