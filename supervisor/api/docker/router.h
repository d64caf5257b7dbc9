// Which handler answers a request: one table of method and path.
//
// A pattern is a path whose parts are words, {name} for one part, or {name...} for one part or
// more: image names have slashes in them. The table is walked in the order of its making, and the
// first pattern that fits wins. A path may begin with a version, /v1.41; without one it is the
// newest.
//
// Filled before the first request, immutable from then on.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_ROUTER_H_
#define GANTRY_SUPERVISOR_API_DOCKER_ROUTER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/api/docker/api_version.h"
#include "supervisor/http/request_reader.h"

namespace gantry::http {
class Exchange;
}

namespace gantry::api::docker {

class Request;

class Router {
 public:
  using Handler = std::function<absl::Status(Request&)>;

  // `since`: in older versions of the API there is no such path.
  void Add(absl::string_view method, absl::string_view pattern, Handler handler,
           ApiVersion since = kOldest);

  // The same with a function that is given `parts`, of which the route keeps a copy.
  template <class Parts>
  void Add(absl::string_view method, absl::string_view pattern, const Parts& parts,
           absl::Status (*handle)(const Parts&, Request&), ApiVersion since = kOldest) {
    Add(
        method, pattern, [parts, handle](Request& request) { return handle(parts, request); },
        since);
  }

  struct Match {
    const Handler* handler = nullptr;
    ApiVersion version = kNewest;
    http::Fields parameters;  // decoded
  };
  // `path` as it was sent.
  //   kNotFound         no such path, or not with this method: docker tells both in the same words
  //   kInvalidArgument  a version that is not served; "..", NUL or an encoded slash where it would
  //                     change the meaning of the path
  absl::StatusOr<Match> Find(absl::string_view method, absl::string_view path) const;

  // Answers the request, whatever it is.
  void Serve(http::Exchange& exchange) const;

  // "METHOD PATTERN" of every route, for tests.
  std::vector<std::string> routes() const;

 private:
  struct Part {
    enum Kind { kWord, kOne, kMany } kind;
    std::string text;  // the word or the name
  };
  struct Route {
    std::string method;
    std::string pattern;
    std::vector<Part> parts;
    ApiVersion since;
    Handler handler;
  };

  std::vector<Route> routes_;
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_ROUTER_H_
