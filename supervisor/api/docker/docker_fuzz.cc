// Paths of requests, and keys of detach sequences, as any client may send them.
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

#include "base/fuzz/fuzz.h"
#include "supervisor/api/docker/hijack.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"

namespace gantry {
namespace {

namespace docker = api::docker;

absl::Status Nothing(docker::Request& request) { return request.ReplyEmpty(204); }

docker::Router* MakeRouter() {
  auto* router = new docker::Router;
  for (const char* pattern : {"/containers/json", "/containers/{id}/json", "/containers/{id}",
                              "/images/{name...}/json", "/images/{name...}", "/a/{x}/b/{y}"})
    router->Add("GET", pattern, Nothing);
  return router;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {"/v1.41/containers/web/json", "/images/a/b%2Fc:1/json", "/a/x/b/%2e%2e",
          "//containers//x%00y",        "ctrl-p,ctrl-q",          "a,ctrl-@"};
}

void FuzzOne(absl::string_view bytes) {
  static const docker::Router* const router = MakeRouter();
  const auto match = router->Find("GET", bytes);
  if (match.ok()) {
    if (match->handler == nullptr) abort();
    for (const auto& [name, value] : match->parameters) {
      if (value.empty() || value == "." || value == "..") abort();
      if (absl::StrContains(value, absl::string_view("\0", 1))) abort();
      if (name != "name" && absl::StrContains(value.substr(1), '/')) abort();
    }
  }
  const auto keys = docker::ParseDetachKeys(bytes);
  if (!keys.ok()) return;
  // What is let through is what was typed, but for the keys themselves.
  docker::DetachKeys filter(*keys);
  bool detached = false;
  const std::string out = filter.Filter(bytes, &detached);
  if (out.size() > bytes.size() || (!detached && !absl::StartsWith(bytes, out))) abort();
}

}  // namespace gantry
