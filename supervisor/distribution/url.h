// URLs as registries use them: http and https, parsed strictly, because they come from answers of
// other machines (Location, token realms) and decide where secrets are sent.
//
// A Url is a value. Free functions and const methods, safe to call from any thread; nothing here
// touches the network. Spec: RFC 3986.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_URL_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_URL_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::distribution {

// An absolute http or https URL in its parts.
struct Url {
  std::string scheme;  // "http", "https"
  // Lower case, with the port unless it is the scheme's own: "r.example:5000", "[::1]:80".
  std::string host;
  std::string target;  // path and query, starts with '/'

  std::string origin() const { return scheme + "://" + host; }
  std::string str() const { return origin() + target; }
  std::string without_query() const;

  // kInvalidArgument: relative, another scheme, user information in it, or characters no URL has.
  static absl::StatusOr<Url> Parse(absl::string_view text);

  // A Location seen in an answer from this URL: absolute, or relative to it.
  absl::StatusOr<Url> Resolve(absl::string_view location) const;
};

// Percent-encodes everything but unreserved characters, and '/' when `keep_slash`.
std::string UrlEncode(absl::string_view text, bool keep_slash = false);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_URL_H_
